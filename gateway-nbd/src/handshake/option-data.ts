/**
 * The data of options as clients send it, big-endian. Every length is checked against what is there before it is
 * used; what is wrong comes back as a sentence.
 */
import { STRING_BYTES_MAX } from '../protocol/limits.js';

/** What NBD_OPT_INFO and NBD_OPT_GO ask for. */
export interface ExportRequest {
  readonly name: string;
  /** NBD_INFO numbers the client wants; unknown ones mean nothing. */
  readonly infos: ReadonlySet<number>;
}

/** What NBD_OPT_LIST_META_CONTEXT and NBD_OPT_SET_META_CONTEXT ask for. */
export interface ContextRequest {
  readonly name: string;
  readonly queries: readonly string[];
}

export type Malformed = { readonly error: string };

const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** W2: the string in `bytes`, or why it is none. */
export function decodeString(bytes: Buffer, what = 'An export name'): string | Malformed {
  if (bytes.length > STRING_BYTES_MAX)
    return { error: `${what} has at most ${STRING_BYTES_MAX} bytes` };
  if (bytes.includes(0)) return { error: `${what} has no NUL bytes` };
  try {
    return decoder.decode(bytes);
  } catch {
    return { error: `${what} is UTF-8 text` };
  }
}

/** INFO and GO: u32 length of the name, name, u16 count, count times u16 info type. */
export function decodeExportRequest(data: Buffer): ExportRequest | Malformed {
  if (data.length < 6) return { error: 'The option is too short' };
  const nameBytes = data.readUInt32BE(0);
  if (nameBytes > data.length - 6) return { error: 'The export name is longer than the option' };
  const name = decodeString(data.subarray(4, 4 + nameBytes));
  if (typeof name !== 'string') return name;
  const count = data.readUInt16BE(4 + nameBytes);
  const infosAt = 6 + nameBytes;
  if (data.length !== infosAt + 2 * count)
    return {
      error: `The option has ${data.length} bytes where its fields make ${infosAt + 2 * count}`,
    };
  const infos = new Set<number>();
  for (let at = infosAt; at < data.length; at += 2) infos.add(data.readUInt16BE(at));
  return { name, infos };
}

/** The meta context options: u32 length of the name, name, u32 count, count times (u32 length, query). */
export function decodeContextRequest(data: Buffer): ContextRequest | Malformed {
  if (data.length < 8) return { error: 'The option is too short' };
  const nameBytes = data.readUInt32BE(0);
  if (nameBytes > data.length - 8) return { error: 'The export name is longer than the option' };
  const name = decodeString(data.subarray(4, 4 + nameBytes));
  if (typeof name !== 'string') return name;
  const count = data.readUInt32BE(4 + nameBytes);
  const queries: string[] = [];
  let at = 8 + nameBytes;
  for (let index = 0; index < count; index += 1) {
    if (data.length - at < 4) return { error: `The option ends before query ${index + 1}` };
    const bytes = data.readUInt32BE(at);
    at += 4;
    if (bytes > data.length - at) return { error: 'A query is longer than the option' };
    const query = decodeString(data.subarray(at, at + bytes), 'A query');
    if (typeof query !== 'string') return query;
    queries.push(query);
    at += bytes;
  }
  if (at !== data.length) return { error: `${data.length - at} bytes follow the last query` };
  return { name, queries };
}
