/**
 * Structured and extended replies: answers of one or more chunks. They differ in the header of a chunk and in the
 * extents of BLOCK_STATUS, which are 32 or 64 bits wide.
 *
 * A chunk is queued when all of it is known to be right. If a later piece of the same READ fails, a chunk of its own
 * says so at the end, and no chunk of data before it said that it was the last (R9, R11).
 */
import {
  NBD_CMD,
  NBD_ERROR,
  NBD_MAGIC,
  NBD_REPLY_FLAG_DONE,
  NBD_REPLY_TYPE,
} from '../protocol/constants.js';
import { wireString } from '../protocol/wire-string.js';
import { putU16be, putU32be, type Reply } from '@store/core';
import type { ContextStatus, ReplyFormat } from './reply-format.js';
import type { ReplyOutbox } from '@store/core';
import type { Request } from './request.js';
import { simpleReply } from './simple-replies.js';

// Header of a chunk, big-endian.
const AT_MAGIC = 0; //         4  NBD_MAGIC.STRUCTURED_REPLY or EXTENDED_REPLY
const AT_FLAGS = 4; //         2  NBD_REPLY_FLAG_DONE on the last one
const AT_TYPE = 6; //          2  NBD_REPLY_TYPE
const AT_COOKIE_HIGH = 8; //   4
const AT_COOKIE_LOW = 12; //   4
const AT_LENGTH = 16; //       4  structured: bytes that follow
const STRUCTURED_HEADER_BYTES = 20;
const AT_EXTENDED_OFFSET = 16; //  8  the offset of the request, whatever the chunk is about (E5)
const AT_EXTENDED_LENGTH = 24; //  8  bytes that follow
const EXTENDED_HEADER_BYTES = 32;

const OFFSET_BYTES = 8;
const HOLE_BYTES = 12; //   offset and u32 size
const ERROR_BYTES = 6; //   u32 error and u16 length of the message

/** Replies of a client that negotiated structured replies or, `isExtended`, extended headers. */
export function chunkReplies(isExtended: boolean): ReplyFormat {
  return isExtended ? extended : structured;
}

const structured: ReplyFormat = {
  ...chunks(false),
  // R2: what is no READ may be answered with the shorter form.
  success(outbox, request) {
    if (request.type === NBD_CMD.READ) none(outbox, request, false);
    else simpleReply(outbox, request, NBD_ERROR.NONE);
  },
};

const extended: ReplyFormat = {
  ...chunks(true),
  success: (outbox, request) => none(outbox, request, true),
};

function chunks(isExtended: boolean): Omit<ReplyFormat, 'success'> {
  const headerBytes = isExtended ? EXTENDED_HEADER_BYTES : STRUCTURED_HEADER_BYTES;
  const writeHeader = isExtended ? writeExtendedHeader : writeStructuredHeader;
  const { OFFSET_DATA, OFFSET_HOLE, ERROR, ERROR_OFFSET } = NBD_REPLY_TYPE;
  const dataRoom = headerBytes + OFFSET_BYTES;

  const writeDataHeader = (reply: Reply, request: Request, flags: number, from: number): void => {
    writeHeader(reply, request, flags, OFFSET_DATA, reply.bytes - headerBytes);
    writeUint64(reply.memory, from, reply.at + headerBytes);
  };

  return {
    dataRoom,
    hasChunks: true,
    failure(outbox, request, error, message) {
      // R11: what failed in the backend failed somewhere in this range.
      const hasPlace = error === NBD_ERROR.EIO && request.length > 0;
      const text = wireString(message);
      const bytes = ERROR_BYTES + text.length + (hasPlace ? OFFSET_BYTES : 0);
      const reply = outbox.allocate(headerBytes + bytes);
      const type = hasPlace ? ERROR_OFFSET : ERROR;
      writeHeader(reply, request, NBD_REPLY_FLAG_DONE, type, bytes);
      const body = reply.view(headerBytes);
      putU32be(body, error, 0);
      putU16be(body, text.length, 4);
      text.copy(body, ERROR_BYTES);
      if (hasPlace) writeUint64(body, request.offset, ERROR_BYTES + text.length);
      outbox.push(reply);
    },
    data(outbox, request, reply) {
      writeDataHeader(reply, request, NBD_REPLY_FLAG_DONE, request.offset);
      outbox.push(reply);
    },
    piece(outbox, request, piece, isLast) {
      const flags = isLast ? NBD_REPLY_FLAG_DONE : 0;
      if (piece.kind === 'data') {
        writeDataHeader(piece.reply, request, flags, piece.offset);
        outbox.push(piece.reply);
        return;
      }
      const reply = outbox.allocate(headerBytes + HOLE_BYTES);
      writeHeader(reply, request, flags, OFFSET_HOLE, HOLE_BYTES);
      const body = reply.view(headerBytes);
      writeUint64(body, piece.offset, 0);
      putU32be(body, piece.bytes, OFFSET_BYTES);
      outbox.push(reply);
    },
    status(outbox, request, contexts) {
      contexts.forEach((context, index) => {
        const flags = index === contexts.length - 1 ? NBD_REPLY_FLAG_DONE : 0;
        const payload = isExtended ? extendedStatus(context) : structuredStatus(context);
        const type = isExtended ? NBD_REPLY_TYPE.BLOCK_STATUS_EXT : NBD_REPLY_TYPE.BLOCK_STATUS;
        const reply = outbox.allocate(headerBytes + payload.length);
        writeHeader(reply, request, flags, type, payload.length);
        payload.copy(reply.view(headerBytes));
        outbox.push(reply);
      });
    },
  };
}

/** R5 */
function none(outbox: ReplyOutbox, request: Request, isExtended: boolean): void {
  const reply = outbox.allocate(isExtended ? EXTENDED_HEADER_BYTES : STRUCTURED_HEADER_BYTES);
  const writeHeader = isExtended ? writeExtendedHeader : writeStructuredHeader;
  writeHeader(reply, request, NBD_REPLY_FLAG_DONE, NBD_REPLY_TYPE.NONE, 0);
  outbox.push(reply);
}

/** R13: u32 context id, then for each extent u32 length and u32 status. */
function structuredStatus({ id, runs }: ContextStatus): Buffer {
  const out = Buffer.allocUnsafe(4 + 8 * runs.length);
  putU32be(out, id, 0);
  runs.forEach(({ bytes, status }, index) => {
    putU32be(out, bytes, 4 + 8 * index);
    putU32be(out, status, 8 + 8 * index);
  });
  return out;
}

/** E6: u32 context id, u32 count, then for each extent u64 length and u64 status. */
function extendedStatus({ id, runs }: ContextStatus): Buffer {
  const out = Buffer.alloc(8 + 16 * runs.length);
  putU32be(out, id, 0);
  putU32be(out, runs.length, 4);
  runs.forEach(({ bytes, status }, index) => {
    writeUint64(out, bytes, 8 + 16 * index);
    putU32be(out, status, 8 + 16 * index + 12);
  });
  return out;
}

function writeStructuredHeader(
  { memory, at }: Reply,
  request: Request,
  flags: number,
  type: number,
  bytes: number,
): void {
  putU32be(memory, NBD_MAGIC.STRUCTURED_REPLY, at + AT_MAGIC);
  putU16be(memory, flags, at + AT_FLAGS);
  putU16be(memory, type, at + AT_TYPE);
  putU32be(memory, request.cookieHigh, at + AT_COOKIE_HIGH);
  putU32be(memory, request.cookieLow, at + AT_COOKIE_LOW);
  putU32be(memory, bytes, at + AT_LENGTH);
}

function writeExtendedHeader(
  { memory, at }: Reply,
  request: Request,
  flags: number,
  type: number,
  bytes: number,
): void {
  putU32be(memory, NBD_MAGIC.EXTENDED_REPLY, at + AT_MAGIC);
  putU16be(memory, flags, at + AT_FLAGS);
  putU16be(memory, type, at + AT_TYPE);
  putU32be(memory, request.cookieHigh, at + AT_COOKIE_HIGH);
  putU32be(memory, request.cookieLow, at + AT_COOKIE_LOW);
  putU32be(memory, request.offsetHigh, at + AT_EXTENDED_OFFSET);
  putU32be(memory, request.offsetLow, at + AT_EXTENDED_OFFSET + 4);
  writeUint64(memory, bytes, at + AT_EXTENDED_LENGTH);
}

function writeUint64(out: Buffer, value: number, at: number): void {
  putU32be(out, (value / 2 ** 32) >>> 0, at);
  putU32be(out, value >>> 0, at + 4);
}
