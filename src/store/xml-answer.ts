/**
 * A strict, incremental parser for the XML that servers send: no document types, only the five entities of XML, values
 * stay text, and the caller names the elements that it wants. A server may send anything, for any length of time:
 * depth, attributes, names, texts and kept content are bounded, and anything beyond is a {@link StoreError} `PROTOCOL`.
 */
import sax from 'sax';
import { StoreError } from './object-store.js';

export type XmlNode = Readonly<Record<string, unknown>>;

const depthMax = 32;
const attributesMax = 64;
/** In characters. A key is shorter even when each of its characters is escaped. */
const nameMax = 256;
const textMax = 16 * 1024;
/** Characters of names and texts that are kept at once, of one record and of what stands beside the records. */
const keptMax = 256 * 1024;
/** The parser looks at its own bounds once for each piece. */
const pieceSize = 16 * 1024;

/** Without `strictEntities`, which its types lack, the parser knows the entities of HTML. */
const parserOptions: sax.SAXOptions & { readonly strictEntities: boolean } = { xmlns: false, strictEntities: true };

/** An element that has begun and not ended. */
interface OpenElement {
  readonly name: string;
  /** Its children by their names, once it has any. */
  children: Record<string, unknown> | undefined;
  text: string;
}

/** What is wrong with a document that a server made up is of no interest to anyone. */
class NotXml extends Error {}

/** Reads one document. */
class DocumentReader {
  readonly #record: string | undefined;
  readonly #onRecord: (record: XmlNode) => void;
  readonly #decoder = new TextDecoder();
  readonly #parser = sax.parser(true, parserOptions);
  readonly #open: OpenElement[] = [];
  #attributeCount = 0;
  #kept = 0;
  /** What was kept before the record that is being read. */
  #keptBefore = 0;
  #root: OpenElement | undefined;

  /** Children of the root that are called `record` go to `onRecord`, and are forgotten; the others are kept. */
  constructor(record?: string, onRecord: (record: XmlNode) => void = () => {}) {
    this.#record = record;
    this.#onRecord = onRecord;
    const refuse = (): never => {
      throw new NotXml();
    };
    Object.assign<sax.SAXParser, Partial<sax.SAXParser>>(this.#parser, {
      onerror: refuse,
      ondoctype: refuse,
      onsgmldeclaration: refuse,
      onopentagstart: ({ name }) => {
        if (name.length > nameMax || this.#open.length >= depthMax) refuse();
        this.#attributeCount = 0;
      },
      onattribute: ({ name }) => {
        if (name.length > nameMax || ++this.#attributeCount > attributesMax) refuse();
      },
      onopentag: ({ name }) => this.#begin(name),
      ontext: (text) => this.#add(text),
      oncdata: (text) => this.#add(text),
      onclosetag: () => this.#finish(),
    });
  }

  /** Throws {@link NotXml}, and what `onRecord` throws. */
  write(piece: Uint8Array): void {
    for (let at = 0; at < piece.byteLength; at += pieceSize) {
      this.#parser.write(this.#decoder.decode(piece.subarray(at, at + pieceSize), { stream: true }));
    }
  }

  /** The root. Throws {@link NotXml}. */
  end(): { readonly name: string; readonly node: XmlNode } {
    this.#parser.write(this.#decoder.decode()).close();
    if (!this.#root) throw new NotXml();
    return { name: this.#root.name, node: this.#root.children ?? {} };
  }

  #begin(qualified: string): void {
    // `D:href` and `lp1:href` are the same name in documents as servers write them.
    const name = qualified.slice(qualified.indexOf(':') + 1);
    if (this.#open.length === 1 && name === this.#record) this.#keptBefore = this.#kept;
    // An element without a text takes memory, too.
    this.#keep(name.length + 64);
    this.#open.push({ name, children: undefined, text: '' });
  }

  #add(text: string): void {
    const element = this.#open.at(-1);
    // Between elements there is white space, which nobody wants.
    if (!element || (element.text === '' && text.trim() === '')) return;
    if (element.text.length + text.length > textMax) throw new NotXml();
    this.#keep(text.length);
    element.text += text;
  }

  #finish(): void {
    const element = this.#open.pop();
    const above = this.#open.at(-1);
    if (!element) return;
    if (!above) {
      this.#root = element;
      return;
    }
    const value = element.children ?? element.text.trim();
    if (this.#open.length === 1 && element.name === this.#record) {
      this.#kept = this.#keptBefore;
      if (isNode(value)) this.#onRecord(value);
      return;
    }
    // Without a prototype no name means anything else.
    const siblings = (above.children ??= Object.create(null) as Record<string, unknown>);
    const { name } = element;
    const before = siblings[name];
    if (before === undefined) siblings[name] = value;
    else if (Array.isArray(before)) before.push(value);
    else siblings[name] = [before, value];
  }

  #keep(characters: number): void {
    this.#kept += characters;
    if (this.#kept > keptMax) throw new NotXml();
  }
}

/** Reads the document of one answer as it arrives. */
export class XmlReader {
  readonly #name: string;
  readonly #doing: string;
  readonly #reader: DocumentReader;

  /**
   * The root is called `name`; its children called `record` go to `onRecord` one by one. `doing` begins the message of
   * the error.
   */
  constructor(name: string, record: string, doing: string, onRecord: (record: XmlNode) => void) {
    this.#name = name;
    this.#doing = doing;
    this.#reader = new DocumentReader(record, onRecord);
  }

  /** Throws {@link StoreError} `PROTOCOL`, and what `onRecord` throws. */
  write(piece: Uint8Array): void {
    this.#try(() => this.#reader.write(piece));
  }

  /** The root with all of its children that are no records. Throws {@link StoreError} `PROTOCOL`. */
  end(): XmlNode {
    const { name, node } = this.#try(() => this.#reader.end());
    if (name !== this.#name) throw this.#error();
    return node;
  }

  #try<T>(read: () => T): T {
    try {
      return read();
    } catch (error) {
      throw error instanceof NotXml ? this.#error() : error;
    }
  }

  #error(): StoreError {
    return new StoreError('PROTOCOL', `${this.#doing}: the server's answer is not the ${this.#name} that was expected`);
  }
}

/** A short document that may be anything, by the name of its root; `undefined` when it is not XML. */
export function tryParseXml(bytes: Uint8Array): XmlNode | undefined {
  const reader = new DocumentReader();
  try {
    reader.write(bytes);
    const { name, node } = reader.end();
    return { [name]: node };
  } catch (error) {
    if (error instanceof NotXml) return undefined;
    throw error;
  }
}

export const isNode = (value: unknown): value is XmlNode => typeof value === 'object' && value !== null && !Array.isArray(value);

/** The children called `name`: none, one or many. Those that are not elements with children are left out. */
export function childrenOf(node: XmlNode, name: string): XmlNode[] {
  const value = Object.hasOwn(node, name) ? node[name] : undefined;
  return (Array.isArray(value) ? (value as unknown[]) : [value]).filter(isNode);
}

/** The text of the only child called `name`. */
export function childText(node: XmlNode, name: string): string | undefined {
  const value = Object.hasOwn(node, name) ? node[name] : undefined;
  return typeof value === 'string' ? value : undefined;
}
