import { STRING_BYTES_MAX } from '../protocol/limits.js';

/** What NBD_OPT_INFO and NBD_OPT_GO ask for. */
export interface ExportRequest {
  readonly name: string;
  /** NBD_INFO numbers the client wants; unknown ones mean nothing. */
  readonly infos: ReadonlySet<number>;
}

const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** W2: the string in `bytes`, or why it is none. */
export function decodeName(bytes: Buffer): string | { error: string } {
  if (bytes.length > STRING_BYTES_MAX)
    return { error: `An export name has at most ${STRING_BYTES_MAX} bytes` };
  if (bytes.includes(0)) return { error: 'An export name has no NUL bytes' };
  try {
    return decoder.decode(bytes);
  } catch {
    return { error: 'An export name is UTF-8 text' };
  }
}

/**
 * Decodes the data of INFO and GO: u32 length of the name, name, u16 count, count times u16 info type.
 * @returns The request, or what is wrong with it.
 */
export function decodeExportRequest(data: Buffer): ExportRequest | { error: string } {
  if (data.length < 6) return { error: 'The option is too short' };
  const nameBytes = data.readUInt32BE(0);
  if (nameBytes > data.length - 6) return { error: 'The export name is longer than the option' };
  const name = decodeName(data.subarray(4, 4 + nameBytes));
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
