/** Frame header, little-endian. Changing it means a new PROTOCOL_VERSION (PROTOCOL.md). */
import { crc32cShort } from '../util/crc32c-short.js';
import { StoreError } from '../util/errors.js';
import { putU16le, putU32le, u16le, u32le } from '../util/integers.js';
import { PROTOCOL_VERSION, U64_MAX } from './wire-limits.js';

const AT_MAGIC = 0; //         4  "stor"
const AT_VERSION = 4; //       1  PROTOCOL_VERSION
const AT_FLAGS = 5; //         1  FRAME_FLAGS
const AT_OP = 6; //            2  OP; of an answer, that of its request
const AT_REQUEST_ID = 8; //    8  grows by one with each request of a session
const AT_FLOOR = 16; //        8  the oldest request without an answer; 0 in an answer
const AT_EPOCH = 24; //        4  of the group of the object, as the sender knows it; 0: not said, and in an answer
const AT_STATUS = 28; //       2  0, or the status of an error (ERRORS); 0 in a request
const AT_ZERO = 30; //         2
const AT_BODY_BYTES = 32; //   4
const AT_PAYLOAD_BYTES = 36; // 4
const AT_BODY_CRC = 40; //     4  CRC-32C of the body
const AT_HEADER_CRC = 44; //   4  CRC-32C of bytes 0..43
export const HEADER_BYTES = 48;

/** The bytes `stor`. */
export const FRAME_MAGIC = 0x726f7473;

export const FRAME_FLAGS = { answer: 1 } as const;

/** What the fields of a frame say. */
export interface FrameHeader {
  version: number;
  isAnswer: boolean;
  op: number;
  requestId: number;
  floor: number;
  epoch: number;
  status: number;
  bodyBytes: number;
  payloadBytes: number;
  bodyCrc: number;
}

/** A header to read into, again and again. */
export function emptyHeader(): FrameHeader {
  return {
    version: 0,
    isAnswer: false,
    op: 0,
    requestId: 0,
    floor: 0,
    epoch: 0,
    status: 0,
    bodyBytes: 0,
    payloadBytes: 0,
    bodyCrc: 0,
  };
}

/** The fields that differ from one request to the next, in the order they are given. */
export function writeRequestHeader(
  out: Buffer,
  at: number,
  op: number,
  requestId: number,
  floor: number,
  bodyBytes: number,
  payloadBytes: number,
  epoch = 0,
): void {
  writeFields(out, at, 0, op, requestId, floor, epoch, 0, bodyBytes, payloadBytes);
}

/** As `writeRequestHeader`. */
export function writeAnswerHeader(
  out: Buffer,
  at: number,
  op: number,
  requestId: number,
  status: number,
  bodyBytes: number,
  payloadBytes: number,
): void {
  writeFields(out, at, FRAME_FLAGS.answer, op, requestId, 0, 0, status, bodyBytes, payloadBytes);
}

/** Writes a header whose body follows it in `out` already: both checksums are made here. */
function writeFields(
  out: Buffer,
  at: number,
  flags: number,
  op: number,
  requestId: number,
  floor: number,
  epoch: number,
  status: number,
  bodyBytes: number,
  payloadBytes: number,
): void {
  putU32le(out, FRAME_MAGIC, at + AT_MAGIC);
  out[at + AT_VERSION] = PROTOCOL_VERSION;
  out[at + AT_FLAGS] = flags;
  putU16le(out, op, at + AT_OP);
  writeU64(out, at + AT_REQUEST_ID, requestId);
  writeU64(out, at + AT_FLOOR, floor);
  putU32le(out, epoch, at + AT_EPOCH);
  putU32le(out, status, at + AT_STATUS); // and AT_ZERO
  putU32le(out, bodyBytes, at + AT_BODY_BYTES);
  putU32le(out, payloadBytes, at + AT_PAYLOAD_BYTES);
  const body = at + HEADER_BYTES;
  putU32le(out, crc32cShort(out, body, body + bodyBytes), at + AT_BODY_CRC);
  putU32le(out, crc32cShort(out, at, at + AT_HEADER_CRC), at + AT_HEADER_CRC);
}

/**
 * Reads `bytes[at, at + HEADER_BYTES)` into `header`.
 * @throws StoreError `E_BAD_FRAME` if it is no header of ours or damaged; its version is for the caller to check
 */
export function readHeader(bytes: Buffer, at: number, header: FrameHeader): void {
  if (u32le(bytes, at + AT_MAGIC) !== FRAME_MAGIC)
    throw new StoreError('E_BAD_FRAME', 'What arrived is not the protocol of store');
  if (u32le(bytes, at + AT_HEADER_CRC) !== crc32cShort(bytes, at, at + AT_HEADER_CRC))
    throw new StoreError('E_BAD_FRAME', 'A frame header does not match its checksum');
  const flags = bytes[at + AT_FLAGS] ?? 0;
  header.version = bytes[at + AT_VERSION] ?? 0;
  header.isAnswer = flags === FRAME_FLAGS.answer;
  header.op = u16le(bytes, at + AT_OP);
  header.requestId = readU64(bytes, at + AT_REQUEST_ID);
  header.floor = readU64(bytes, at + AT_FLOOR);
  header.epoch = u32le(bytes, at + AT_EPOCH);
  header.status = u16le(bytes, at + AT_STATUS);
  header.bodyBytes = u32le(bytes, at + AT_BODY_BYTES);
  header.payloadBytes = u32le(bytes, at + AT_PAYLOAD_BYTES);
  header.bodyCrc = u32le(bytes, at + AT_BODY_CRC);
  if (flags > FRAME_FLAGS.answer || u16le(bytes, at + AT_ZERO) !== 0)
    throw new StoreError('E_BAD_FRAME', 'A frame header has unknown flags');
}

/** @throws StoreError `E_BAD_FRAME` */
export function checkBody(bytes: Buffer, start: number, end: number, header: FrameHeader): void {
  if (crc32cShort(bytes, start, end) !== header.bodyCrc)
    throw new StoreError('E_BAD_FRAME', 'The body of a frame does not match its checksum');
}

/** `value` is an exact integer. */
export function writeU64(out: Buffer, at: number, value: number): void {
  putU32le(out, value >>> 0, at);
  putU32le(out, (value / 2 ** 32) >>> 0, at + 4);
}

/** @throws StoreError `E_BAD_FRAME` if it is beyond what a number holds exactly */
export function readU64(bytes: Buffer, at: number): number {
  const value = u32le(bytes, at + 4) * 2 ** 32 + u32le(bytes, at);
  if (value > U64_MAX)
    throw new StoreError('E_BAD_FRAME', 'A frame holds a number beyond 2^53 - 1');
  return value;
}
