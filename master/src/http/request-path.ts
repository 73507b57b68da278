/** The target of a request, taken apart by hand: `URL` would resolve `..`, and read bytes that are no text as text. */
import { HttpFailure } from './http-failure.js';

export interface RequestPath {
  /** Decoded one by one, after they were cut: a name may contain `%2F`. */
  readonly segments: readonly string[];
  /** The values as they came. */
  readonly query: ReadonlyMap<string, string>;
}

/** @throws HttpFailure 400 */
export function requestPath(target: string): RequestPath {
  if (!target.startsWith('/')) throw bad('The request does not name a path');
  const [path = '', ...rest] = target.split('?');
  const segments = path.slice(1).split('/').map(text);
  const query = new Map<string, string>();
  for (const part of rest.join('?').split('&')) {
    if (part === '') continue;
    const [name = '', ...value] = part.split('=');
    if (query.has(text(name))) throw bad(`The query says ${text(name)} twice`);
    query.set(text(name), value.join('='));
  }
  return { segments, query };
}

/** A value of a query as text. @throws HttpFailure 400 if it is not UTF-8 */
export function queryText(value: string): string {
  return text(value.replaceAll('+', ' '));
}

/** A value of a query as bytes: keys of objects are not all text. @throws HttpFailure 400 */
export function queryBytes(value: string): Buffer {
  if (/%(?![\da-f]{2})/i.test(value)) throw bad('A % in the query begins no byte: write it as %25');
  const plain = Buffer.from(value.replaceAll('+', ' ')).toString('latin1');
  const bytes = plain.replace(/%([\da-f]{2})/gi, (_, digits: string) =>
    String.fromCharCode(Number.parseInt(digits, 16)),
  );
  return Buffer.from(bytes, 'latin1');
}

function text(encoded: string): string {
  try {
    return decodeURIComponent(encoded);
  } catch {
    throw bad('The address of the request is not percent-encoded UTF-8');
  }
}

function bad(message: string): HttpFailure {
  return new HttpFailure(400, 'E_INVALID', message);
}
