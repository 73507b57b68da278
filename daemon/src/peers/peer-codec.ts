/**
 * Frames of messages between daemons (PROTOCOL.md, section 10). Heads are cut from slabs; blocks and contents stay where
 * they are, from the client's socket to the other daemon's, and from there to its disk. They have a checksum each,
 * which the engine compares when it makes the change, or one that is compared here.
 */
import {
  crc32c,
  HEADER_BYTES,
  invariant,
  partsBytes,
  writeRequestHeader,
  type ByteParts,
} from '@store/core';
import type { Ack, PeerMessage, Prepare } from '../replication/peer-message.js';
import {
  ackBytes,
  BEHIND_BYTES,
  GRANT_BYTES,
  HEARTBEAT_BYTES,
  prepareBytes,
  putAck,
  putBehind,
  putHeartbeat,
  putPrepare,
  putRefusal,
  readAck,
  readBehind,
  readGrant,
  readHeartbeat,
  readPrepare,
  readRefusal,
  REFUSAL_BYTES,
} from './change-codec.js';
import { ACKS_MAX, PEER } from './peer-ops.js';
import { decodeQuestion, encodeQuestion } from './question-codec.js';

const SLAB_BYTES = 64 * 1024;
const NOTHING: ByteParts = [];

export class PeerEncoder {
  #slab: Buffer = Buffer.alloc(0);
  #at = 0;
  #runStart = 0;
  #parts: Buffer[] = [];
  #bytes = 0;

  /** Bytes that wait for `take`. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Appends the frame of a message. Its blocks or content are passed on as they are. */
  add(message: PeerMessage): void {
    switch (message.type) {
      case 'prepare':
        this.#prepare(message);
        break;
      case 'ack':
        this.#ack(message);
        break;
      case 'heartbeat':
      case 'grant': {
        const isGrant = message.type === 'grant';
        const bytes = isGrant ? GRANT_BYTES : HEARTBEAT_BYTES;
        const body = this.#room(bytes);
        putHeartbeat(this.#slab, body, message);
        this.#finish(PEER[message.type], body, bytes, NOTHING, 0);
        break;
      }
      case 'refusal': {
        const body = this.#room(REFUSAL_BYTES);
        putRefusal(this.#slab, body, message);
        this.#finish(PEER.refusal, body, REFUSAL_BYTES, NOTHING, 0);
        break;
      }
      case 'behind': {
        const body = this.#room(BEHIND_BYTES);
        putBehind(this.#slab, body, message);
        this.#finish(PEER.behind, body, BEHIND_BYTES, NOTHING, 0);
        break;
      }
      default: {
        const { body, payload } = encodeQuestion(message);
        this.addRaw(PEER[message.type], body, payload);
      }
    }
  }

  /** Appends a frame with this body, which is copied. */
  addRaw(op: number, body: Buffer, payload: ByteParts): void {
    const at = this.#room(body.length);
    body.copy(this.#slab, at);
    this.#finish(op, at, body.length, payload, partsBytes(payload));
  }

  /** Everything that was added, in order; slices that are the taker's until they are sent. */
  take(): Buffer[] {
    this.#endRun();
    const parts = this.#parts;
    this.#parts = [];
    this.#bytes = 0;
    return parts;
  }

  #prepare(message: Prepare): void {
    const { change } = message;
    let payload = NOTHING;
    let crc = 0;
    if (change.op === 'write') payload = change.blocks;
    else if (change.op === 'whole' && change.content.length > 0) {
      payload = [change.content];
      crc = crc32c(change.content);
    }
    const bytes = prepareBytes(message);
    const body = this.#room(bytes);
    putPrepare(this.#slab, body, message, crc);
    this.#finish(PEER.prepare, body, bytes, payload, partsBytes(payload));
  }

  #ack(message: Ack): void {
    const count = message.indexes.length;
    for (let from = 0; from < count; from += ACKS_MAX) {
      const to = Math.min(count, from + ACKS_MAX);
      const bytes = ackBytes(to - from);
      const body = this.#room(bytes);
      putAck(this.#slab, body, message, from, to);
      this.#finish(PEER.ack, body, bytes, NOTHING, 0);
    }
  }

  /** Room for a header and a body. @returns where the body begins in the slab */
  #room(bodyBytes: number): number {
    const bytes = HEADER_BYTES + bodyBytes;
    if (this.#slab.length - this.#at < bytes) {
      this.#endRun();
      this.#slab = Buffer.allocUnsafeSlow(Math.max(SLAB_BYTES, bytes));
      this.#at = 0;
      this.#runStart = 0;
    }
    const at = this.#at + HEADER_BYTES;
    this.#at += bytes;
    return at;
  }

  /** The header, when the body is there. */
  #finish(
    op: number,
    body: number,
    bodyBytes: number,
    payload: ByteParts,
    payloadBytes: number,
  ): void {
    writeRequestHeader(this.#slab, body - HEADER_BYTES, op, 0, 0, bodyBytes, payloadBytes);
    this.#bytes += HEADER_BYTES + bodyBytes + payloadBytes;
    if (payloadBytes === 0) return;
    this.#endRun();
    for (const part of payload) this.#parts.push(part);
  }

  #endRun(): void {
    if (this.#at > this.#runStart) this.#parts.push(this.#slab.subarray(this.#runStart, this.#at));
    this.#runStart = this.#at;
  }
}

/** By the number of the operation. */
const TYPES: ReadonlyMap<number, PeerMessage['type']> = new Map(
  (Object.entries(PEER) as [keyof typeof PEER, number][]) // the table's own keys
    .filter(
      (entry): entry is [PeerMessage['type'], number] =>
        entry[0] !== 'meet' && entry[0] !== 'pulse',
    )
    .map(([type, op]) => [op, type]),
);

/**
 * The message of a frame whose header was checked (`checkPeerFrame`). What it holds of `body` is copied; `payload` is
 * the message's.
 * @throws StoreError `E_BAD_FRAME`
 */
export function decodePeerMessage(op: number, body: Buffer, payload: ByteParts): PeerMessage {
  const type = TYPES.get(op);
  invariant(type !== undefined, 'the header was checked');
  if (type === 'prepare') return readPrepare(body, payload);
  switch (type) {
    case 'ack':
      return readAck(body);
    case 'heartbeat':
      return readHeartbeat(body);
    case 'grant':
      return readGrant(body);
    case 'refusal':
      return readRefusal(body);
    case 'behind':
      return readBehind(body);
    default:
      return decodeQuestion(type, body, payload);
  }
}
