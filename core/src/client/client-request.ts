/**
 * One request of a client, from the call to the answer. It may be sent several times, always under the same id. There is
 * one for each 4 KiB that somebody reads: it is made without spreading objects or closures of its own, and its numbers
 * are small integers.
 */
import type { PieceChecks } from '../pool/checked-pool.js';
import { OBJECT_KIND, type ObjectRef } from '../pool/object-pool.js';
import type { StoreError } from '../util/errors.js';
import { partsBytes } from '../util/byte-parts.js';
import { crc32cOf } from '../util/crc32c.js';
import { u32le } from '../util/integers.js';
import { pieceCount, verifyPieces } from '../util/piece-checks.js';
import { readChecks } from '../wire/object-request.js';
import { OP, type Op } from '../wire/ops.js';
import type { Gated } from './conflict-gate.js';
import type { Listed } from './request-list.js';

/** A pool as requests name it: its handle is another one on each connection. */
export interface PoolHandle {
  handle: number;
  /** It cannot be opened any more: why. */
  failure: StoreError | null;
}

/** Ends a request: with an error, or the body of the answer, which is good until this returns. */
export type RequestDone = (error: StoreError | null, body: Buffer) => void;

const NO_PARTS: readonly Buffer[] = [];
const NO_CHECKS: PieceChecks = new Uint32Array(0);
/** Behind every byte of an object. */
const END = 0x3fffffff;
/** Not reached. */
const NEVER = 0x3fffffff;
const CHANGING: ReadonlySet<Op> = new Set([
  ...[OP.write, OP.zero, OP.discard],
  ...[OP.compareAndSwap, OP.delete],
]);
const ABOUT_ALL: ReadonlySet<Op> = new Set([OP.stat, OP.compareAndSwap, OP.delete]);

/** How a request travels as datagrams. */
export interface Flight {
  tries: number;
  sentAt: number;
  resendAt: number;
}

export class ClientRequest implements Gated, Listed<ClientRequest> {
  readonly op: Op;
  readonly done: RequestDone;
  /** Where requests have a choice of daemons, of the one that it is with. */
  pool: PoolHandle | null;
  /** Null: it is not about one object. */
  readonly ref: ObjectRef | null;
  readonly offset: number;
  readonly bytes: number;
  readonly place: string;
  readonly from: number;
  readonly to: number;
  readonly changes: boolean;
  flags = 0;
  /** See `ObjectRequest.extra`. */
  extra = 0;
  /**
   * Of the object's group, by the map of who sent it to this daemon; 0: not said. It stays the same while the request is
   * with one daemon, however often it is sent there: a daemon refuses it once the group has another, so a copy that is
   * late changes nothing.
   */
  epoch = 0;
  /** Payload, with its checksums. */
  parts: readonly Buffer[] = NO_PARTS;
  payloadBytes = 0;
  checks: PieceChecks = NO_CHECKS;
  /** Where the payload of the answer belongs. */
  target: Buffer | null = null;
  /** Makes the body where `ref` is null. */
  body: ((pool: number) => Buffer) | null = null;
  /** Where requests have a choice of daemons, of what is not about one object: it is for another one by now. */
  isElsewhere: (() => boolean) | null = null;
  /** May go, for all the gate knows. */
  isThrough = false;
  /** 0: it has not been sent. */
  id = 0;
  /** Number of the look around at which it is given up. */
  deadline = 0;
  /** When it is given up, whoever it is with by then; 0: it has the time that everybody has. */
  lateAt = 0;
  /** Number of the last look for slow requests before it was taken; as it is here, it is never slow. */
  since = NEVER;
  /** It may have reached a daemon that cannot be asked any more. */
  isInDoubt = false;
  isAnswered = false;
  /** Asked by the client itself, for one connection. */
  isInternal = false;
  /** How often what it brought or took arrived damaged. */
  damagedCount = 0;
  /** How often its chain was registered anew. */
  registrations = 0;
  flight: Flight | null = null;
  before: ClientRequest | null = null;
  after: ClientRequest | null = null;

  constructor(
    op: Op,
    pool: PoolHandle | null,
    ref: ObjectRef | null,
    offset: number,
    bytes: number,
    done: RequestDone,
  ) {
    this.op = op;
    this.pool = pool;
    this.ref = ref;
    this.offset = offset;
    this.bytes = bytes;
    this.done = done;
    this.place = ref === null ? '' : ref.place;
    this.changes = CHANGING.has(op);
    // Whether it exists matters to all operations on an object that is not image data.
    const isWhole = ref?.kind !== OBJECT_KIND.imageData || ABOUT_ALL.has(op);
    this.from = isWhole ? 0 : offset;
    this.to = isWhole ? END : offset + bytes;
  }

  /** @param checks - Of the parts */
  carry(parts: readonly Buffer[], checks: PieceChecks): void {
    this.parts = parts;
    this.payloadBytes = partsBytes(parts);
    this.checks = checks;
  }

  /** Whether the payload of the answer, now in its place, matches the checksums in its body. */
  isGood(body: Buffer): boolean {
    const { target, offset, bytes } = this;
    if (target === null) return true;
    if (pieceCount(offset, bytes) === 1)
      return body.length === 4 && crc32cOf(target, 0, bytes) === u32le(body, 0);
    const checks = readChecks(body, 0);
    return (
      checks.length === pieceCount(offset, bytes) && verifyPieces(offset, [target], checks) < 0
    );
  }
}
