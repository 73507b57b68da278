import {
  NBD_EXTENDED_REPLY_MAGIC,
  NBD_REPLY_FLAG_DONE,
  NBD_REPLY_TYPE_NONE,
  NBD_REPLY_TYPE_OFFSET_DATA,
  NBD_REPLY_TYPE_OFFSET_HOLE,
  NBD_SIMPLE_REPLY_MAGIC,
  NBD_STRUCTURED_REPLY_MAGIC,
} from './nbd-constants.js';
import type { RawConnection } from './raw-connection.js';

/** One chunk of a structured or extended reply. */
export interface Chunk {
  readonly cookie: bigint;
  readonly isLast: boolean;
  readonly error: number;
  /** Where `data` belongs on the device. */
  readonly offset: number;
  /** Null: the chunk has none. */
  readonly data: Buffer | null;
}

const NONE = { error: 0, offset: 0, data: null };
const ERROR_TYPE = 0x8000;

/** Reads a chunk. @throws Error if it is none, or of a type that no READ and no WRITE is answered with */
export async function readChunk(
  connection: RawConnection,
  headers: 'structured' | 'extended',
): Promise<Chunk> {
  const isExtended = headers === 'extended';
  const start = await connection.read(16);
  // What is not a READ may be answered simply beside structured replies.
  if (!isExtended && start.readUInt32BE(0) === NBD_SIMPLE_REPLY_MAGIC)
    return {
      ...NONE,
      cookie: start.readBigUInt64BE(8),
      isLast: true,
      error: start.readUInt32BE(4),
    };
  const header = Buffer.concat([start, await connection.read(isExtended ? 16 : 4)]);
  const magic = isExtended ? NBD_EXTENDED_REPLY_MAGIC : NBD_STRUCTURED_REPLY_MAGIC;
  if (header.readUInt32BE(0) !== magic)
    throw new Error(`no ${headers} reply: ${header.toString('hex')}`);
  const cookie = header.readBigUInt64BE(8);
  const isLast = (header.readUInt16BE(4) & NBD_REPLY_FLAG_DONE) !== 0;
  const length = isExtended ? Number(header.readBigUInt64BE(24)) : header.readUInt32BE(16);
  const payload = length > 0 ? await connection.read(length) : Buffer.alloc(0);
  return { cookie, isLast, ...contentOf(header.readUInt16BE(6), payload) };
}

function contentOf(type: number, payload: Buffer): Omit<Chunk, 'cookie' | 'isLast'> {
  if (type === NBD_REPLY_TYPE_NONE) return NONE;
  if ((type & ERROR_TYPE) !== 0) return { ...NONE, error: payload.readUInt32BE(0) };
  const offset = Number(payload.readBigUInt64BE(0));
  if (type === NBD_REPLY_TYPE_OFFSET_DATA) return { error: 0, offset, data: payload.subarray(8) };
  if (type === NBD_REPLY_TYPE_OFFSET_HOLE)
    return { error: 0, offset, data: Buffer.alloc(payload.readUInt32BE(8)) };
  throw new Error(`a chunk of type ${type}`);
}
