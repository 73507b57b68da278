import { invariant, putU32be } from '@store/core';
import { NBD_ERROR, NBD_MAGIC } from '../protocol/constants.js';
import type { Reply } from '@store/core';
import type { ReplyFormat } from './reply-format.js';
import type { ReplyOutbox } from '@store/core';
import type { Request } from './request.js';

// Simple reply, big-endian.
const AT_MAGIC = 0; //        4  NBD_MAGIC.SIMPLE_REPLY
const AT_ERROR = 4; //        4  NBD_ERROR
const AT_COOKIE_HIGH = 8; //  4
const AT_COOKIE_LOW = 12; //  4  data of a successful READ follows
export const SIMPLE_REPLY_BYTES = 16;

/** R1: a header, and the data of a READ that succeeded. */
export const simpleReplies: ReplyFormat = {
  dataRoom: SIMPLE_REPLY_BYTES,
  hasChunks: false,
  success: (outbox, request) => simpleReply(outbox, request, NBD_ERROR.NONE),
  failure: (outbox, request, error) => simpleReply(outbox, request, error),
  data(outbox, request, reply) {
    writeHeader(reply, request, NBD_ERROR.NONE);
    outbox.push(reply);
  },
  piece() {
    invariant(false, 'a simple reply has all its data');
  },
  status() {
    invariant(false, 'BLOCK_STATUS needs a context, and a context structured replies');
  },
};

/** An answer without data. */
export function simpleReply(outbox: ReplyOutbox, request: Request, error: number): void {
  const reply = outbox.allocate(SIMPLE_REPLY_BYTES);
  writeHeader(reply, request, error);
  outbox.push(reply);
}

function writeHeader({ memory, at }: Reply, request: Request, error: number): void {
  putU32be(memory, NBD_MAGIC.SIMPLE_REPLY, at + AT_MAGIC);
  putU32be(memory, error, at + AT_ERROR);
  putU32be(memory, request.cookieHigh, at + AT_COOKIE_HIGH);
  putU32be(memory, request.cookieLow, at + AT_COOKIE_LOW);
}
