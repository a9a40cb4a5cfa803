/**
 * Strict reading of the XML that servers answer with: no document types, no entities but the five of XML, values stay text, and whoever
 * reads says which elements it wants. A server may send anything: what does not fit is a {@link StoreError} `PROTOCOL`.
 */
import { XMLParser } from 'fast-xml-parser';
import { StoreError } from './object-store.js';

export type XmlNode = Readonly<Record<string, unknown>>;

const parser = new XMLParser({
  ignoreAttributes: true,
  // `D:href` and `lp1:href` are the same name in documents as servers write them.
  removeNSPrefix: true,
  parseTagValue: false,
  trimValues: true,
  htmlEntities: false,
  processEntities: true,
});

/** The root element called `name`. `doing` begins the message of the error. */
export function parseXml(bytes: Uint8Array, name: string, doing: string): XmlNode {
  const document = tryParseXml(bytes);
  if (document && Object.hasOwn(document, name)) {
    const root = document[name];
    // An element without children is its text.
    if (root === '') return {};
    if (isNode(root)) return root;
  }
  throw new StoreError('PROTOCOL', `${doing}: the server's answer is not the ${name} that was expected`);
}

/** The document by the name of its root; `undefined` when it is not XML. */
export function tryParseXml(bytes: Uint8Array): XmlNode | undefined {
  const text = new TextDecoder().decode(bytes);
  if (/<!(?:DOCTYPE|ENTITY)/i.test(text)) return undefined;
  try {
    const document: unknown = parser.parse(text, true);
    return isNode(document) ? document : undefined;
  } catch {
    // What is wrong with a document that a server made up is of no interest to anyone.
    return undefined;
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
