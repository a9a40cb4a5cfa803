/**
 * The comments of a TypeScript file as the compiler finds them, without lookalikes in strings, templates and patterns.
 */
import ts from 'typescript';

export interface SourceComment {
  /** Offsets into the text of the file. */
  readonly start: number;
  readonly end: number;
}

/** In the order of the file. */
export function sourceComments(path: string, text: string): SourceComment[] {
  const file = ts.createSourceFile(path, text, ts.ScriptTarget.ES2023, false);
  const ends = new Map<number, number>();
  const visit = (node: ts.Node): void => {
    const before = ts.getLeadingCommentRanges(text, node.getFullStart()) ?? [];
    const after = ts.getTrailingCommentRanges(text, node.getEnd()) ?? [];
    for (const { pos, end } of [...before, ...after]) ends.set(pos, end);
    for (const child of node.getChildren(file)) visit(child);
  };
  visit(file);
  return [...ends].map(([start, end]) => ({ start, end })).toSorted((a, b) => a.start - b.start);
}
