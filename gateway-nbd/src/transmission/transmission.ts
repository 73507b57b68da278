/**
 * The transmission phase of one connection: requests in, answers out, in whatever order the backend finishes them.
 *
 * Guarantees: every request that was accepted is answered exactly once, or the connection is gone; an answer leaves
 * only after the backend gave its own, so FUA and FLUSH mean what the backend means by them; a READ that fails sends
 * an error and never a byte of data; memory in flight stays within its budget, also when the client does not read
 * its answers; after the connection is gone `settled` waits for what the backend still holds (D4).
 *
 * What a turn of the event loop answers leaves in one `write`.
 */
import {
  invariant,
  WRITE_FLAGS,
  type Clock,
  type Connection,
  type Done,
  type Log,
  type StoreError,
} from '@store/core';
import type { Backend } from '../backend.js';
import { commandName, errorName, NBD_CMD, NBD_CMD_FLAG, NBD_ERROR } from '../protocol/constants.js';
import {
  PAYLOAD_BYTES_MAX,
  PREFETCH_SLICE_BYTES,
  REQUEST_BYTES_MIN,
  UNSENT_BYTES_MAX,
  ZERO_SLICE_BYTES,
} from '../protocol/limits.js';
import type { BufferPool } from './buffer-pool.js';
import { ConnectionBudget, type ServerBudget } from './budget.js';
import { errnoFor } from './errno.js';
import { ReplyOutbox, REPLY_HEADER_BYTES } from './reply-outbox.js';
import { RequestReader, type AfterHeader, type RequestSink } from './request-reader.js';
import { SliceQueue } from './slices.js';
import { validate } from './validate.js';

/** A connection that can place what arrives (`DirectConnection` of `@store/core`), or cannot. */
type MaybeDirect = Connection & { receiveInto?: (target: Buffer) => void };

/** What the owner of the connection provides. */
export interface TransmissionOwner {
  /** The client asks for nothing more while the backend still works for it: see `settled`. */
  inputEnded(): void;
  /** All is answered and the client wants no more, or the server shuts down: end the connection. */
  finished(): void;
  /** The client broke the protocol: close at once. */
  drop(reason: string): void;
}

export interface TransmissionOptions {
  readonly connection: Connection;
  readonly backend: Backend;
  readonly budget: ServerBudget;
  readonly pool: BufferPool;
  readonly clock: Clock;
  readonly log: Log;
  readonly owner: TransmissionOwner;
}

/** What a connection did, for the log. */
export interface TransmissionCounts {
  requests: number;
  errors: number;
  bytesRead: number;
  bytesWritten: number;
}

const LOG_INTERVAL_MS = 1000;

/** What has to be known of a request until it is answered. */
interface Pending {
  readonly type: number;
  readonly offset: number;
  readonly length: number;
  readonly cookieHigh: number;
  readonly cookieLow: number;
  /** Bytes of the budget it holds. */
  readonly charge: number;
}

export class Transmission implements RequestSink {
  readonly counts: TransmissionCounts = { requests: 0, errors: 0, bytesRead: 0, bytesWritten: 0 };

  readonly #connection: MaybeDirect;
  readonly #backend: Backend;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #owner: TransmissionOwner;
  readonly #reader: RequestReader = new RequestReader(this);
  readonly #pool: BufferPool;
  readonly #outbox: ReplyOutbox;
  readonly #budget: ConnectionBudget;
  readonly #slices: SliceQueue;

  #inFlight = 0;
  /** Reply bytes handed to the connection that still count against the budget. */
  #unsentBytes = 0;
  /** What a WRITE holds of the budget while its payload is on its way. */
  #payloadCharge = 0;
  /** The pooled buffer that the present payload is received into. */
  #direct: Buffer | null = null;
  /** Error to answer once the payload of the present request is skipped. */
  #skipError: number = NBD_ERROR.NONE;
  #busy = false;
  #flushScheduled = false;
  #paused = false;
  #inputOver = false;
  #shuttingDown = false;
  #finished = false;
  #gone = false;
  #settled: Promise<void> | null = null;
  #onSettled: (() => void) | null = null;
  #loggedAt = -Infinity;
  #unloggedErrors = 0;

  constructor(options: TransmissionOptions) {
    this.#connection = options.connection;
    this.#backend = options.backend;
    this.#clock = options.clock;
    this.#log = options.log;
    this.#owner = options.owner;
    this.#pool = options.pool;
    this.#outbox = new ReplyOutbox(options.pool);
    this.#budget = new ConnectionBudget(options.budget, () => this.#retry());
    this.#slices = new SliceQueue(options.clock, () => this.#gone);
  }

  get inFlight(): number {
    return this.#inFlight;
  }

  /** A request has begun and its rest does not depend on us: the client has to send it. */
  get awaitsClient(): boolean {
    return this.#reader.isMidRequest && !this.#reader.isWaiting;
  }

  /** Payload bytes the client still has to send for its present request. */
  get missingBytes(): number {
    return this.#reader.missingBytes;
  }

  /** It holds memory that others may be waiting for. */
  get holdsShared(): boolean {
    return this.#budget.holdsShared;
  }

  receive(chunk: Buffer): void {
    if (this.#inputOver || this.#finished) return;
    this.#busy = true;
    this.#reader.receive(chunk);
    this.#busy = false;
    this.#flush();
  }

  /** The client sends nothing more, but may still read. */
  clientEnded(): void {
    this.#endInput();
    this.#finishIfDone();
  }

  /** The connection took everything that was written. */
  drained(): void {
    this.#budget.sent(this.#unsentBytes);
    this.#unsentBytes = 0;
    this.#outbox.sentAllBut(this.#connection.unsentBytes);
    this.#retry();
  }

  /** Requests in flight are finished, new ones answered ESHUTDOWN; then the connection is `finished`. */
  shutDown(): void {
    this.#shuttingDown = true;
    this.#retry();
    this.#finishIfDone();
  }

  /** The connection is gone: nothing more is received or sent. */
  closed(): void {
    this.#gone = true;
    this.#finished = true;
    this.#stopReading();
    this.#endInput();
    this.#budget.leave();
    this.#budget.sent(this.#unsentBytes + this.#outbox.bytes);
    this.#outbox.takeParts();
    this.#unsentBytes = 0;
  }

  /** After the client's last request: resolves when the backend holds nothing of this connection any more. */
  settled(): Promise<void> {
    invariant(this.#inputOver, 'no more requests come');
    this.#settled ??= new Promise((resolve) => (this.#onSettled = resolve));
    this.#settleIfDone();
    return this.#settled;
  }

  /** @internal RequestSink: the door. */
  begin(): AfterHeader {
    const { type, flags, offset, length, cookieHigh, cookieLow } = this.#reader;
    if (type === NBD_CMD.DISC) {
      this.#endInput();
      return 'stop';
    }
    const hasPayload = type === NBD_CMD.WRITE && length > 0;
    if (hasPayload && length > PAYLOAD_BYTES_MAX) {
      this.desync(`A WRITE announces ${length} bytes`);
      return 'stop';
    }
    if (this.#connection.unsentBytes > UNSENT_BYTES_MAX && !this.#shuttingDown) {
      this.#budget.leave();
      return 'wait';
    }
    const error = this.#shuttingDown ? NBD_ERROR.ESHUTDOWN : validate(this.#reader, this.#backend);
    if (error !== NBD_ERROR.NONE) {
      if (hasPayload) {
        this.#skipError = error;
        return 'skip';
      }
      this.#refuse(error);
      return 'next';
    }
    const payloadBytes = type === NBD_CMD.READ || hasPayload ? length : 0;
    const charge = Math.max(REQUEST_BYTES_MIN, payloadBytes + REPLY_HEADER_BYTES);
    if (!this.#budget.take(charge)) return 'wait';
    this.counts.requests += 1;
    if (hasPayload) {
      this.#payloadCharge = charge;
      return 'payload';
    }
    this.#inFlight += 1;
    this.#run({ type, offset, length, cookieHigh, cookieLow, charge }, flags);
    return 'next';
  }

  /** @internal RequestSink */
  payload(parts: Buffer[]): void {
    const { type, flags, offset, length, cookieHigh, cookieLow } = this.#reader;
    const charge = this.#payloadCharge;
    const pending = { type, offset, length, cookieHigh, cookieLow, charge };
    this.#payloadCharge = 0;
    this.#inFlight += 1;
    this.counts.bytesWritten += length;
    const direct = this.#direct;
    this.#direct = null;
    this.#backend.write(offset, parts, durability(flags), (error) => {
      // After an error the backend may still be busy with the buffer.
      if (direct !== null && error === null) this.#pool.release(direct);
      this.#answer(pending, error);
    });
  }

  /** @internal RequestSink */
  receiveDirectly(bytes: number): void {
    if (this.#connection.receiveInto === undefined) return;
    this.#direct = this.#pool.take(bytes);
    this.#connection.receiveInto(this.#direct.subarray(0, bytes));
  }

  /** @internal RequestSink */
  skipped(): void {
    this.#refuse(this.#skipError);
  }

  /** @internal RequestSink */
  desync(reason: string): void {
    this.#owner.drop(reason);
  }

  /** Answers a request that never ran. */
  #refuse(error: number): void {
    const { type, cookieHigh, cookieLow } = this.#reader;
    this.counts.requests += 1;
    this.counts.errors += 1;
    this.#budget.addUnsent(REPLY_HEADER_BYTES);
    this.#outbox.push(this.#outbox.allocate(0), error, cookieHigh, cookieLow);
    this.#log.debug({ command: commandName(type), error: errorName(error) }, 'Request refused');
  }

  #run(pending: Pending, flags: number): void {
    const { type, offset, length } = pending;
    const done: Done = (error) => this.#answer(pending, error);
    if (type === NBD_CMD.READ) this.#read(pending);
    else if (type === NBD_CMD.FLUSH) this.#backend.flush(done);
    else if (length === 0) done(null);
    else if (type === NBD_CMD.CACHE) this.#prefetch(offset, length, done);
    else if (type === NBD_CMD.WRITE) invariant(false, 'a WRITE runs when its payload is here');
    else this.#zero(offset, length, flags, done);
  }

  #read(pending: Pending): void {
    const reply = this.#outbox.allocate(pending.length);
    if (pending.length === 0) {
      this.#answer(pending, null, reply);
      return;
    }
    this.#backend.read(pending.offset, reply.subarray(REPLY_HEADER_BYTES), (error) => {
      if (error === null) this.counts.bytesRead += pending.length;
      this.#answer(pending, error, error === null ? reply : undefined);
    });
  }

  #prefetch(offset: number, bytes: number, done: Done): void {
    this.#slices.run({
      offset,
      bytes,
      sliceBytes: PREFETCH_SLICE_BYTES,
      step: (at, count, next) => this.#backend.prefetch(at, count, next),
      done,
    });
  }

  /** TRIM and WRITE_ZEROES. What takes several pieces is made durable once, at the end. */
  #zero(offset: number, bytes: number, flags: number, done: Done): void {
    const whole =
      Math.floor(offset / ZERO_SLICE_BYTES) === Math.floor((offset + bytes - 1) / ZERO_SLICE_BYTES);
    const allocate = (flags & NBD_CMD_FLAG.NO_HOLE) !== 0 ? WRITE_FLAGS.allocate : WRITE_FLAGS.none;
    const durable = durability(flags);
    this.#slices.run({
      offset,
      bytes,
      sliceBytes: ZERO_SLICE_BYTES,
      step: (at, count, next) =>
        this.#backend.zero(at, count, allocate | (whole ? durable : 0), next),
      done: (error) => {
        if (error !== null || whole || durable === WRITE_FLAGS.none) done(error);
        else this.#backend.flush(done);
      },
    });
  }

  #answer(pending: Pending, error: StoreError | null, data?: Buffer): void {
    this.#inFlight -= 1;
    invariant(this.#inFlight >= 0, 'a request is answered once');
    let errno: number = NBD_ERROR.NONE;
    if (error !== null) {
      errno = errnoFor(error);
      this.counts.errors += 1;
      this.#logError(pending, error, errno);
    }
    if (this.#gone) {
      this.#budget.finish(pending.charge, 0);
      this.#settleIfDone();
      return;
    }
    const reply = data ?? this.#outbox.allocate(0);
    this.#budget.finish(pending.charge, reply.length);
    this.#outbox.push(reply, errno, pending.cookieHigh, pending.cookieLow);
    if (!this.#busy) this.#scheduleFlush();
  }

  /** A failing disk fails thousands of requests a second: one line a second is enough. */
  #logError(pending: Pending, error: StoreError, errno: number): void {
    const now = this.#clock.now();
    if (now - this.#loggedAt < LOG_INTERVAL_MS) {
      this.#unloggedErrors += 1;
      return;
    }
    const { type, offset, length } = pending;
    const fields = {
      command: commandName(type),
      offset,
      length,
      code: error.code,
      answered: errorName(errno),
      unloggedErrors: this.#unloggedErrors,
    };
    this.#log.error(fields, `Request failed: ${error.message}`);
    this.#loggedAt = now;
    this.#unloggedErrors = 0;
  }

  /** Several completions of one turn share one `write`. */
  #scheduleFlush(): void {
    if (this.#flushScheduled) return;
    this.#flushScheduled = true;
    queueMicrotask(() => {
      this.#flushScheduled = false;
      this.#retry();
    });
  }

  #endInput(): void {
    if (this.#inputOver) return;
    this.#inputOver = true;
    if (this.#inFlight > 0 || this.#reader.isWaiting) this.#owner.inputEnded();
  }

  #settleIfDone(): void {
    if (this.#inFlight === 0 && !this.#reader.isWaiting) this.#onSettled?.();
  }

  /** What was half received is forgotten. */
  #stopReading(): void {
    this.#reader.stop();
    if (this.#payloadCharge > 0) this.#budget.finish(this.#payloadCharge, 0);
    this.#payloadCharge = 0;
  }

  /** Goes on with a request that had to wait, if it may. */
  #retry(): void {
    if (this.#gone) return;
    if (this.#reader.isWaiting) {
      this.#busy = true;
      this.#reader.resume();
      this.#busy = false;
    }
    this.#flush();
  }

  #flush(): void {
    if (this.#gone) return;
    const bytes = this.#outbox.bytes;
    if (bytes > 0) {
      this.#unsentBytes += bytes;
      const room = this.#connection.write(this.#outbox.takeParts());
      this.#outbox.sentAllBut(this.#connection.unsentBytes);
      const left = room ? 0 : Math.min(this.#unsentBytes, this.#connection.unsentBytes);
      this.#budget.sent(this.#unsentBytes - left);
      this.#unsentBytes = left;
    }
    if (this.#reader.isWaiting !== this.#paused) {
      this.#paused = this.#reader.isWaiting;
      if (this.#paused) this.#connection.pause();
      else this.#connection.resume();
    }
    this.#finishIfDone();
  }

  #finishIfDone(): void {
    this.#settleIfDone();
    const over = this.#shuttingDown || (this.#inputOver && !this.#reader.isWaiting);
    if (!over || this.#finished || this.#busy) return;
    if (this.#inFlight > 0 || this.#outbox.bytes > 0) return;
    this.#finished = true;
    this.#stopReading();
    this.#owner.finished();
  }
}

function durability(flags: number): number {
  return (flags & NBD_CMD_FLAG.FUA) !== 0 ? WRITE_FLAGS.durable : WRITE_FLAGS.none;
}
