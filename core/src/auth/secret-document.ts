/**
 * The files that hold secrets: one small JSON document with a format marker and known fields only.
 *
 * What is wrong with one is said without showing anything that stands in it. The error of `JSON.parse` quotes the
 * text it stumbled over, so it is not even kept as the cause: logs print causes.
 */
import { StoreError } from '../util/errors.js';

/** No secret of ours is longer; whoever reads a file for one need not read more. */
export const SECRET_FILE_BYTES_MAX = 4096;

/**
 * The fields of a document, all of them there, none unknown.
 * @param path - For messages.
 * @throws StoreError `E_INVALID` saying what it is not
 */
export function parseSecretDocument(
  path: string,
  text: string,
  expected: { what: string; format: string; fields: readonly string[] },
): Record<string, unknown> {
  const { what, format, fields } = expected;
  if (Buffer.byteLength(text) > SECRET_FILE_BYTES_MAX)
    throw invalid(`${path} is too long to be a ${what}`);
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch {
    throw invalid(`${path} is not a ${what}: it is not JSON, or only a part of it is left`);
  }
  if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed))
    throw invalid(`${path} is not a ${what}`);
  const document: Record<string, unknown> = { ...parsed };
  if (document['format'] !== format)
    throw invalid(`${path} is not a ${what}: its "format" is not "${format}"`);
  for (const field of fields)
    if (document[field] === undefined) throw invalid(`${path}: "${field}" is missing`);
  if (Object.keys(document).length !== fields.length + 1)
    throw invalid(`${path}: it has other fields than "format", "${fields.join('", "')}"`);
  return document;
}

/**
 * Bytes written as base64url, the one way there is to write them.
 * @returns Null if `value` is anything else
 */
export function parseBase64url(value: unknown): Buffer | null {
  if (typeof value !== 'string') return null;
  const bytes = Buffer.from(value, 'base64url');
  return bytes.toString('base64url') === value ? bytes : null;
}

function invalid(message: string): StoreError {
  return new StoreError('E_INVALID', message);
}
