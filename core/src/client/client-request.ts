/** One request of a client, from the call to the answer. It may be sent several times, always under the same id. */
import type { PieceChecks } from '../pool/checked-pool.js';
import { OBJECT_KIND, type ObjectRef } from '../pool/object-pool.js';
import type { StoreError } from '../util/errors.js';
import type { Op } from '../wire/ops.js';
import type { Gated } from './conflict-gate.js';

/** A pool as requests name it: its handle is another one on each connection. */
export interface PoolHandle {
  handle: number;
  /** It cannot be opened any more: why. */
  failure: StoreError | null;
}

/** Ends a request: with an error, or the body of the answer. */
export type RequestDone = (error: StoreError | null, body: Buffer) => void;

export interface RequestFields {
  readonly op: Op;
  readonly done: RequestDone;
  readonly pool?: PoolHandle;
  readonly ref?: ObjectRef;
  readonly flags?: number;
  readonly offset?: number;
  readonly bytes?: number;
  readonly extra?: number;
  /** Payload of the request. */
  readonly parts?: readonly Buffer[];
  /** Checksums of the payload. */
  readonly checks?: PieceChecks;
  /** Where the payload of the answer belongs. */
  readonly target?: Buffer;
  /** Whether the payload of the answer matches the checksums in its body. */
  readonly verify?: (body: Buffer) => boolean;
  /** The whole body, of an operation that is not about one object. */
  readonly body?: (pool: number) => Buffer;
  /** It changes what is stored. */
  readonly changes?: boolean;
  /** It is about the whole object, whatever its bytes. */
  readonly isWhole?: boolean;
}

const NO_PARTS: readonly Buffer[] = [];
const NO_CHECKS: PieceChecks = new Uint32Array(0);

export class ClientRequest implements Gated {
  readonly op: Op;
  readonly done: RequestDone;
  readonly pool: PoolHandle | null;
  readonly ref: ObjectRef | null;
  readonly flags: number;
  readonly offset: number;
  readonly bytes: number;
  readonly extra: number;
  readonly parts: readonly Buffer[];
  readonly payloadBytes: number;
  readonly checks: PieceChecks;
  readonly target: Buffer | null;
  readonly verify: ((body: Buffer) => boolean) | null;
  readonly body: ((pool: number) => Buffer) | null;
  readonly place: string;
  readonly from: number;
  readonly to: number;
  readonly changes: boolean;
  isThrough = false;
  /** 0: it has not been sent. */
  id = 0;
  /** By the clock: given up then. */
  deadline = 0;
  /** It may have reached a daemon that cannot be asked any more. */
  isInDoubt = false;
  isAnswered = false;
  /** Asked by the client itself, for one connection. */
  isInternal = false;
  /** How often what it brought had to be thrown away. */
  damagedCount = 0;
  /** As datagrams: how often it was sent, and when it is sent again; 0 tries: it goes over the connection. */
  tries = 0;
  resendAt = 0;
  sentAt = 0;

  constructor(fields: RequestFields) {
    this.op = fields.op;
    this.done = fields.done;
    this.pool = fields.pool ?? null;
    this.ref = fields.ref ?? null;
    this.flags = fields.flags ?? 0;
    this.offset = fields.offset ?? 0;
    this.bytes = fields.bytes ?? 0;
    this.extra = fields.extra ?? 0;
    this.parts = fields.parts ?? NO_PARTS;
    let payloadBytes = 0;
    for (const part of this.parts) payloadBytes += part.length;
    this.payloadBytes = payloadBytes;
    this.checks = fields.checks ?? NO_CHECKS;
    this.target = fields.target ?? null;
    this.verify = fields.verify ?? null;
    this.body = fields.body ?? null;
    this.changes = fields.changes ?? false;
    // Whether an object exists is asked of all of its bytes; image data alone reads as zeros where there is none.
    const isNamed = this.ref !== null && this.ref.kind !== OBJECT_KIND.imageData;
    const isWhole = fields.isWhole ?? isNamed;
    this.place = this.ref?.place ?? '';
    this.from = isWhole ? 0 : this.offset;
    this.to = isWhole ? Infinity : this.offset + this.bytes;
  }
}
