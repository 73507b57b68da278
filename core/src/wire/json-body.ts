/** Bodies of control messages are JSON objects; their fields are read one by one, with their limits. */
import { StoreError } from '../util/errors.js';

export type JsonFields = Readonly<Record<string, unknown>>;

export function encodeJson(fields: object): Buffer {
  return Buffer.from(JSON.stringify(fields));
}

/** @throws StoreError `E_BAD_FRAME` */
export function decodeJson(body: Buffer): JsonFields {
  let parsed: unknown;
  try {
    parsed = JSON.parse(body.toString());
  } catch (error) {
    throw new StoreError('E_BAD_FRAME', 'The body of a frame is not JSON', { cause: error });
  }
  if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed))
    throw new StoreError('E_BAD_FRAME', 'The body of a frame is not a JSON object');
  return parsed as JsonFields; // an object that JSON.parse made has text as keys
}

/** A whole number from 0 to `max`. */
export function numberIn(fields: JsonFields, name: string, max: number): number {
  const value = fields[name];
  if (typeof value !== 'number' || !Number.isInteger(value) || value < 0 || value > max)
    throw bad(name, `a number from 0 to ${max}`);
  return value;
}

export function booleanIn(fields: JsonFields, name: string): boolean {
  const value = fields[name];
  if (typeof value !== 'boolean') throw bad(name, 'true or false');
  return value;
}

/** Text of at most `bytesMax` bytes of UTF-8. */
export function textIn(fields: JsonFields, name: string, bytesMax: number): string {
  const value = fields[name];
  if (typeof value !== 'string' || Buffer.byteLength(value) > bytesMax)
    throw bad(name, `text of at most ${bytesMax} bytes`);
  return value;
}

/** Bytes, written as base64url; exactly `count`, or with `upTo` at most. */
export function bytesIn(
  fields: JsonFields,
  name: string,
  count: number,
  { upTo = false }: { upTo?: boolean } = {},
): Buffer {
  const value = textIn(fields, name, count * 2);
  const bytes = Buffer.from(value, 'base64url');
  const fits = upTo ? bytes.length <= count : bytes.length === count;
  if (!fits || bytes.toString('base64url') !== value)
    throw bad(name, `${upTo ? 'at most ' : ''}${count} bytes in base64url`);
  return bytes;
}

export function base64(bytes: Buffer): string {
  return bytes.toString('base64url');
}

/** A list of texts. */
export function textsIn(fields: JsonFields, name: string, bytesMax: number): string[] {
  const value = fields[name];
  if (!Array.isArray(value)) throw bad(name, 'a list');
  return value.map((_, index) => textIn(value as unknown as JsonFields, String(index), bytesMax)); // by index
}

function bad(name: string, expected: string): StoreError {
  return new StoreError('E_BAD_FRAME', `Field '${name}' of a message is not ${expected}`);
}
