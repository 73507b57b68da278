/**
 * Option reply, big-endian: what the server answers to every option but EXPORT_NAME.
 */
import { wireString } from '../protocol/wire-string.js';
import {
  NBD_FLAG_FIXED_NEWSTYLE,
  NBD_FLAG_NO_ZEROES,
  NBD_INFO,
  NBD_MAGIC,
  NBD_REP,
} from '../protocol/constants.js';
import { BLOCK_BYTES_PREFERRED, PAYLOAD_BYTES_MAX } from '../protocol/limits.js';

const AT_MAGIC_HIGH = 0; //   4
const AT_MAGIC_LOW = 4; //    4
const AT_OPTION = 8; //       4  the option answered
const AT_TYPE = 12; //        4  NBD_REP
const AT_LENGTH = 16; //      4  bytes that follow
const HEADER_BYTES = 20;

/** Zeros after the answer to EXPORT_NAME, unless both sides agreed to leave them out. */
const EXPORT_NAME_ZEROES = 124;

/** H1: what the server says first. */
export function greeting(): Buffer {
  const out = Buffer.alloc(18);
  out.writeUInt32BE(NBD_MAGIC.INIT_PASSWD_HIGH, 0);
  out.writeUInt32BE(NBD_MAGIC.INIT_PASSWD_LOW, 4);
  out.writeUInt32BE(NBD_MAGIC.IHAVEOPT_HIGH, 8);
  out.writeUInt32BE(NBD_MAGIC.IHAVEOPT_LOW, 12);
  out.writeUInt16BE(NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES, 16);
  return out;
}

/** One reply to `option`; `payload` follows its header. */
export function optionReply(option: number, type: number, ...payload: Buffer[]): Buffer {
  const header = Buffer.alloc(HEADER_BYTES);
  header.writeUInt32BE(NBD_MAGIC.OPTION_REPLY_HIGH, AT_MAGIC_HIGH);
  header.writeUInt32BE(NBD_MAGIC.OPTION_REPLY_LOW, AT_MAGIC_LOW);
  header.writeUInt32BE(option, AT_OPTION);
  header.writeUInt32BE(type, AT_TYPE);
  header.writeUInt32BE(
    payload.reduce((bytes, part) => bytes + part.length, 0),
    AT_LENGTH,
  );
  return Buffer.concat([header, ...payload]);
}

export function ackReply(option: number): Buffer {
  return optionReply(option, NBD_REP.ACK);
}

/** An error reply with a sentence for people. */
export function errorReply(option: number, type: number, message: string): Buffer {
  return optionReply(option, type, wireString(message));
}

/** One export of a LIST reply: length of the name, the name, a description for people. */
export function serverReply(option: number, name: string, description: string): Buffer {
  const nameBytes = Buffer.from(name);
  return optionReply(
    option,
    NBD_REP.SERVER,
    uint32(nameBytes.length),
    nameBytes,
    wireString(description),
  );
}

export function infoExportReply(option: number, bytes: number, flags: number): Buffer {
  return optionReply(option, NBD_REP.INFO, uint16(NBD_INFO.EXPORT), uint64(bytes), uint16(flags));
}

/** NBD_INFO_NAME and NBD_INFO_DESCRIPTION. */
export function infoStringReply(option: number, info: number, text: string): Buffer {
  return optionReply(option, NBD_REP.INFO, uint16(info), wireString(text));
}

/** One metadata context; `id` is 0 where contexts are only listed. */
export function metaContextReply(option: number, id: number, name: string): Buffer {
  return optionReply(option, NBD_REP.META_CONTEXT, uint32(id), wireString(name));
}

/** @param blockBytesMin - Smallest block, a power of two up to 4096. */
export function infoBlockSizeReply(option: number, blockBytesMin: number): Buffer {
  return optionReply(
    option,
    NBD_REP.INFO,
    uint16(NBD_INFO.BLOCK_SIZE),
    uint32(blockBytesMin),
    uint32(BLOCK_BYTES_PREFERRED),
    uint32(PAYLOAD_BYTES_MAX),
  );
}

/** The answer to EXPORT_NAME, which has no header. */
export function exportNameReply(bytes: number, flags: number, noZeroes: boolean): Buffer {
  return Buffer.concat([
    uint64(bytes),
    uint16(flags),
    Buffer.alloc(noZeroes ? 0 : EXPORT_NAME_ZEROES),
  ]);
}

function uint16(value: number): Buffer {
  const out = Buffer.alloc(2);
  out.writeUInt16BE(value);
  return out;
}

function uint32(value: number): Buffer {
  const out = Buffer.alloc(4);
  out.writeUInt32BE(value);
  return out;
}

function uint64(value: number): Buffer {
  const out = Buffer.alloc(8);
  out.writeUInt32BE(Math.floor(value / 2 ** 32), 0);
  out.writeUInt32BE(value % 2 ** 32, 4);
  return out;
}
