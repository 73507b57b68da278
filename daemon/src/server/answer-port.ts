/** Where answers go: the outbox of a connection, or a datagram. */
import {
  ERRORS,
  HEADER_BYTES,
  MESSAGE_BYTES_MAX,
  Reply,
  writeAnswerHeader,
  type StoreError,
} from '@store/core';

export interface AnswerPort {
  /** Room for an answer of exactly `bytes`. */
  allocate(bytes: number): Reply;
  /** Sends what `allocate` gave and the caller has filled. `isGood`: nobody uses the request's payload any more. */
  push(reply: Reply, isGood: boolean): void;
  /** It will not be sent; somebody may still write to it if `isInDoubt`. */
  abandon(reply: Reply, isInDoubt: boolean): void;
  /** There will be no answer: nobody waits for it. */
  nothing(): void;
}

/** Sends an answer without a payload. */
export function answer(
  port: AnswerPort,
  op: number,
  requestId: number,
  status: number,
  body: Buffer,
): void {
  const reply = port.allocate(HEADER_BYTES + body.length);
  body.copy(reply.memory, reply.at + HEADER_BYTES);
  writeAnswerHeader(reply.memory, reply.at, op, requestId, status, body.length, 0);
  port.push(reply, status === 0);
}

export function statusOf(error: StoreError): number {
  return ERRORS[error.code].status;
}

/** The text of a failure, cut where it would be too long. */
export function messageBody(error: StoreError): Buffer {
  return cutText(Buffer.from(error.message), MESSAGE_BYTES_MAX);
}

/** The beginning of a text, not cut within a character. */
export function cutText(text: Buffer, bytesMax: number): Buffer {
  if (text.length <= bytesMax) return text;
  let end = bytesMax;
  while (end > 0 && ((text[end] ?? 0) & 0xc0) === 0x80) end -= 1;
  return text.subarray(0, end);
}
