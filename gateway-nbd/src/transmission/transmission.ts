/**
 * The transmission phase of one connection: requests in, answers out, in whatever order the backend finishes them.
 *
 * Guarantees: every request that was admitted is answered exactly once, or the connection is gone; an answer leaves
 * only after the backend gave its own, so FUA and FLUSH mean what the backend means by them; a READ that fails sends
 * an error and never a byte of data; memory in flight stays within its budget, also when the client does not read
 * its answers; after the connection is gone `settled` waits for what the backend still holds (D4).
 *
 * What a turn of the event loop answers leaves in one `write`.
 */
import { invariant, type Clock, type Connection, type Log, type StoreError } from '@store/core';
import type { Backend } from '../backend.js';
import type { Negotiated, SelectedContext } from '../handshake/negotiated.js';
import { commandName, errorName, NBD_CMD, NBD_ERROR } from '../protocol/constants.js';
import { PAYLOAD_BYTES_MAX, REQUEST_BYTES_MIN, UNSENT_BYTES_MAX } from '../protocol/limits.js';
import type { Stats } from '../stats.js';
import { statusBytesMax } from './block-status.js';
import type { BufferPool } from '@store/core';
import { ConnectionBudget, type ServerBudget } from '@store/core';
import { Commands, type Answers } from './commands.js';
import { errnoFor } from './errno.js';
import {
  replyFormat,
  type ContextStatus,
  type ReadPiece,
  type ReplyFormat,
} from './reply-format.js';
import type { Reply } from '@store/core';
import { ReplyOutbox } from '@store/core';
import {
  HEADER_BYTES_MAX,
  RequestReader,
  type AfterHeader,
  type RequestSink,
} from './request-reader.js';
import { admit, type Admitted, type Request } from './request.js';
import { SliceQueue } from './slices.js';
import { validate, type Door, type Refusal } from './validate.js';

/** A connection that can place what arrives (`DirectConnection` of `@store/core`), or cannot. */
type MaybeDirect = Connection & { receiveInto?: (target: Buffer) => boolean };

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
  /** This client may not write. */
  readonly readOnly: boolean;
  readonly negotiated: Negotiated;
  /** Smallest block of a client that asked for block sizes. */
  readonly blockBytesMin: number;
  readonly budget: ServerBudget;
  readonly pool: BufferPool;
  readonly clock: Clock;
  readonly log: Log;
  /** Counted into: of this connection, of its export. */
  readonly stats: readonly Stats[];
  readonly owner: TransmissionOwner;
}

const LOG_INTERVAL_MS = 1000;
/** Longer payloads are not copied to be kept. */
const COPIED_BYTES_MAX = 64 * 1024;
/** So many requests at a time are a shallow queue: latency is what its client waits for. */
const SHALLOW_REQUESTS_MAX = 2;

/**
 * A chunk of many requests is answered in parts of so many, so that its client works on some answers while we work on
 * the next, instead of the two taking turns.
 */
const ANSWERS_PER_SEND = 8;

/** What any answer without data counts for until it is sent. */
const ANSWER_BYTES = 64;

export class Transmission implements RequestSink, Answers {
  readonly #connection: MaybeDirect;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #stats: readonly Stats[];
  readonly #owner: TransmissionOwner;
  readonly #negotiated: Negotiated;
  readonly #door: Door;
  readonly #format: ReplyFormat;
  readonly #reader: RequestReader;
  readonly #pool: BufferPool;
  readonly #outbox: ReplyOutbox;
  readonly #budget: ConnectionBudget;
  readonly #commands: Commands;

  #requestCount = 0;
  /** Answers in the outbox, of requests answered at once. */
  #unsentAnswers = 0;
  /** Requests in the last chunk. */
  #chunkRequests = 0;
  /** WRITEs whose payload lies in the connection's own memory. */
  #lentCount = 0;
  /** The backend did not answer the last WRITE at once: it keeps payloads for longer than chunks can wait. */
  #keepsPayloads = false;
  /** A request failed since the last chunk arrived: the backend may still be busy with its payload. */
  #hasFailed = false;
  /** Answered while the present chunk was handled, and not counted yet. */
  readonly #answeredNow: Admitted[] = [];
  /** When the present chunk arrived: what its requests count their time from. */
  #startedAt = 0;
  #inFlight = 0;
  /** What the outbox held before the answer that is being written. */
  #outboxBefore = 0;
  /** What a WRITE holds of the budget while its payload is on its way. */
  #payloadCharge = 0;
  /** The pooled buffer that the present payload is received into. */
  #direct: Buffer | null = null;
  /** Where a header lands that is received alone. */
  readonly #headerRoom: Buffer = Buffer.allocUnsafeSlow(HEADER_BYTES_MAX);
  /** What to answer once the payload of the present request is skipped. */
  #refusal: Refusal | null = null;
  #busy = false;
  #flushScheduled = false;
  #paused = false;
  #inputOver = false;
  #shuttingDown = false;
  #suspended = false;
  #finished = false;
  #gone = false;
  #settled: Promise<void> | null = null;
  #onSettled: (() => void) | null = null;
  #loggedAt = -Infinity;
  #unloggedErrors = 0;

  constructor(options: TransmissionOptions) {
    const { connection, backend, negotiated, clock, pool } = options;
    this.#connection = connection;
    this.#clock = clock;
    this.#log = options.log;
    this.#stats = options.stats;
    this.#owner = options.owner;
    this.#pool = pool;
    this.#negotiated = negotiated;
    const readOnly = options.readOnly || backend.readOnly;
    const blockBytes = negotiated.knowsBlockSizes ? options.blockBytesMin : 1;
    this.#door = { backend, readOnly, negotiated, blockBytes };
    this.#format = replyFormat(negotiated.headers);
    this.#reader = new RequestReader(this, negotiated.headers);
    this.#outbox = new ReplyOutbox(pool);
    this.#budget = new ConnectionBudget(options.budget, () => this.#retry());
    const isGone = (): boolean => this.#gone;
    const slices = new SliceQueue(clock, isGone);
    const { outbox, format } = { outbox: this.#outbox, format: this.#format };
    this.#commands = new Commands({
      backend,
      clock,
      slices,
      format,
      outbox,
      answers: this,
      isGone,
    });
  }

  get inFlight(): number {
    return this.#inFlight;
  }

  /** Requests that arrived so far. */
  get requestCount(): number {
    return this.#requestCount;
  }

  /** A request has begun and its rest does not depend on us: the client has to send it. */
  get awaitsClient(): boolean {
    return this.#reader.isMidRequest && !this.#reader.isWaiting;
  }

  /** It holds memory that others may be waiting for. */
  get holdsShared(): boolean {
    return this.#budget.holdsShared;
  }

  /** For a client that asks little at a time and waits for it: whether the next move is its own or ours. */
  get awaits(): 'peer' | 'answer' | null {
    if (Math.max(this.#chunkRequests, this.#inFlight) > SHALLOW_REQUESTS_MAX) return null;
    return this.#inFlight === 0 ? 'peer' : 'answer';
  }

  /** @returns True if nothing of the chunk is needed any more */
  receive(chunk: Buffer): boolean {
    if (this.#inputOver || this.#finished) return true;
    const before = this.#requestCount;
    this.#hasFailed = false;
    this.#busy = true;
    this.#startedAt = this.#clock.now();
    this.#reader.receive(chunk);
    this.#busy = false;
    this.#chunkRequests = this.#requestCount - before;
    this.#flush();
    return !this.#needsChunk();
  }

  /** The client sends nothing more, but may still read. */
  clientEnded(): void {
    this.#endInput();
    this.#finishIfDone();
  }

  /** The connection took everything that was written. */
  drained(): void {
    this.#countSent();
    this.#retry();
  }

  /** Requests in flight are finished, new ones answered ESHUTDOWN; then the connection is `finished`. */
  shutDown(): void {
    this.#shuttingDown = true;
    this.#retry();
    this.#finishIfDone();
  }

  /**
   * Executes no more requests, for another process to go on with them; those that were admitted are answered. The
   * connection is not read from now on.
   */
  suspend(): void {
    this.#suspended = true;
    this.#connection.pause();
    this.#budget.leave();
  }

  /** After `suspend`: everything admitted was answered and handed to the operating system. */
  get isQuiet(): boolean {
    const isAnswered = this.#inFlight === 0 && this.#outbox.bytes === 0;
    return this.#suspended && isAnswered && this.#connection.unsentBytes === 0;
  }

  /** When it `isQuiet`: bytes received and not executed, for the `receive` of another transmission. */
  leftover(): Buffer {
    return this.#reader.leftover();
  }

  /** Goes on after `suspend`, as if nothing had happened. */
  resume(): void {
    this.#suspended = false;
    this.#paused = false;
    this.#connection.resume();
    this.#retry();
  }

  /** The connection is gone: nothing more is received or sent. */
  closed(): void {
    this.#gone = true;
    this.#finished = true;
    this.#stopReading();
    this.#endInput();
    this.#budget.leave();
    this.#budget.sent(this.#outbox.close());
    if (this.#direct !== null) this.#pool.release(this.#direct);
    this.#direct = null;
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
    const reader = this.#reader;
    if (this.#suspended) return 'wait';
    if (reader.type === NBD_CMD.DISC) {
      this.#endInput();
      return 'stop';
    }
    const { hasPayload } = reader;
    if (hasPayload && reader.length > PAYLOAD_BYTES_MAX) {
      this.desync(`${commandName(reader.type)} announces ${reader.length} bytes`);
      return 'stop';
    }
    if (this.#connection.unsentBytes > UNSENT_BYTES_MAX && !this.#shuttingDown) {
      this.#budget.leave();
      return 'wait';
    }
    const refusal = this.#shuttingDown
      ? { error: NBD_ERROR.ESHUTDOWN, message: 'The server is shutting down' }
      : validate(reader, hasPayload, this.#door);
    if (refusal !== null) {
      if (hasPayload) {
        this.#refusal = refusal;
        return 'skip';
      }
      this.#refuse(reader, refusal);
      return 'next';
    }
    const charge = this.#chargeFor(reader, hasPayload);
    if (!this.#budget.take(charge)) return 'wait';
    if (hasPayload) {
      this.#payloadCharge = charge;
      return 'payload';
    }
    const request = this.#admit(charge);
    if (request.type === NBD_CMD.BLOCK_STATUS)
      this.#commands.status(request, request.length, this.#negotiated.contexts);
    else this.#commands.run(request);
    return 'next';
  }

  /** @internal RequestSink */
  payload(parts: Buffer[]): void {
    const direct = this.#direct;
    this.#direct = null;
    const request = this.#admit(this.#payloadCharge);
    this.#payloadCharge = 0;
    if (request.type === NBD_CMD.BLOCK_STATUS) {
      this.#runStatusWithPayload(request, Buffer.concat(parts));
      return;
    }
    if (direct !== null) this.#expectHeader();
    const copy = direct === null ? this.#copyOf(parts, request.length) : null;
    const own = direct ?? copy;
    if (own === null) this.#lentCount += 1;
    let isAnswered = false;
    this.#commands.write(
      request,
      copy === null ? parts : [copy.subarray(0, request.length)],
      (error) => {
        isAnswered = true;
        if (error !== null) this.#hasFailed = true;
        if (own === null) this.#lentCount -= 1;
        else if (error === null) this.#pool.release(own);
      },
    );
    this.#keepsPayloads = !isAnswered;
  }

  /**
   * A short payload in memory that may be kept while more arrives; null: it stays where it is. A backend far away answers
   * later, and a chunk that waits for that is lost to the connection: a whole slab for a few KiB.
   */
  #copyOf(parts: readonly Buffer[], bytes: number): Buffer | null {
    if (!this.#keepsPayloads || bytes > COPIED_BYTES_MAX) return null;
    const own = this.#pool.take(bytes);
    let at = 0;
    for (const part of parts) at += part.copy(own, at);
    return own;
  }

  /** @internal RequestSink */
  receiveDirectly(bytes: number): void {
    if (this.#connection.receiveInto === undefined) return;
    const target = this.#pool.take(bytes);
    // Outside of a chunk (a request that waited goes on) the payload lands in the connection's own memory.
    if (this.#connection.receiveInto(target.subarray(0, bytes))) this.#direct = target;
    else this.#pool.release(target);
  }

  /**
   * After a large payload another one is likely: its header is received alone, so that all of the payload can be
   * placed, and none of it lies in a chunk that was made for many small requests.
   */
  #expectHeader(): void {
    this.#connection.receiveInto?.(this.#headerRoom.subarray(0, this.#reader.headerBytes));
  }

  /** @internal RequestSink */
  skipped(): void {
    const refusal = this.#refusal;
    invariant(refusal !== null, 'a payload is skipped for a reason');
    this.#refusal = null;
    this.#refuse(this.#reader, refusal);
  }

  /** @internal RequestSink */
  desync(reason: string): void {
    this.#owner.drop(reason);
  }

  /** @internal Answers */
  success(request: Admitted): void {
    if (this.#finish(request, payloadBytes(request), false)) {
      this.#format.success(this.#outbox, request);
      this.#answered(request);
    }
  }

  /** @internal Answers */
  failure(request: Admitted, error: StoreError): void {
    const errno = errnoFor(error);
    this.#logError(request, error, errno);
    if (this.#finish(request, 0, true)) {
      this.#format.failure(this.#outbox, request, errno, error.message);
      this.#answered(request);
    }
  }

  /** @internal Answers */
  data(request: Admitted, reply: Reply): void {
    if (this.#finish(request, request.length, false)) {
      this.#format.data(this.#outbox, request, reply);
      this.#answered(request);
    } else this.#outbox.discard(reply);
  }

  /** @internal Answers: a piece leaves at once, for the client to take while the next is read. */
  piece(request: Admitted, piece: ReadPiece, isLast: boolean): void {
    if (isLast) {
      if (this.#finish(request, request.length, false)) {
        this.#format.piece(this.#outbox, request, piece, true);
        this.#answered(request);
      } else if (piece.kind === 'data') this.#outbox.discard(piece.reply);
    } else if (!this.#gone) {
      const before = this.#outbox.bytes;
      this.#format.piece(this.#outbox, request, piece, false);
      // From here on its bytes count as an answer, and no longer as part of the request.
      const bytes = piece.kind === 'data' ? piece.reply.bytes - this.#format.dataRoom : piece.bytes;
      request.charge -= bytes;
      this.#budget.finishPiece(bytes, this.#outbox.bytes - before);
      this.#send();
    } else if (piece.kind === 'data') this.#outbox.discard(piece.reply);
  }

  /** @internal Answers */
  status(request: Admitted, contexts: readonly ContextStatus[]): void {
    if (this.#finish(request, 0, false)) {
      this.#format.status(this.#outbox, request, contexts);
      this.#answered(request);
    }
  }

  /** Somebody may still look at what the last chunk brought. */
  #needsChunk(): boolean {
    return this.#lentCount > 0 || this.#hasFailed || this.#reader.holdsChunks;
  }

  /** Answers a request that never ran. */
  #refuse(request: Request, { error, message }: Refusal): void {
    this.#requestCount += 1;
    for (const stats of this.#stats) stats.refused += 1;
    this.#outboxBefore = this.#outbox.bytes;
    this.#format.failure(this.#outbox, request, error, message);
    this.#budget.addUnsent(this.#outbox.bytes - this.#outboxBefore);
    const fields = { command: commandName(request.type), error: errorName(error) };
    this.#log.debug(fields, `Request refused: ${message}`);
  }

  /** Bytes of the budget that a request holds until it is answered. */
  #chargeFor({ type, length }: Request, hasPayload: boolean): number {
    const { headers, contexts } = this.#negotiated;
    if (type === NBD_CMD.BLOCK_STATUS)
      return REQUEST_BYTES_MIN + contexts.length * statusBytesMax(headers);
    const payloadBytes = type === NBD_CMD.READ || hasPayload ? length : 0;
    return Math.max(REQUEST_BYTES_MIN, payloadBytes + ANSWER_BYTES);
  }

  #admit(charge: number): Admitted {
    this.#requestCount += 1;
    this.#inFlight += 1;
    for (const stats of this.#stats) stats.inFlight += 1;
    return admit(this.#reader, charge, this.#startedAt);
  }

  /** E7: u64 effect length, then u32 ids of the contexts that are asked about. */
  #runStatusWithPayload(request: Admitted, payload: Buffer): void {
    const bytes = payload.readUInt32BE(0) * 2 ** 32 + payload.readUInt32BE(4);
    const contexts: SelectedContext[] = [];
    for (let at = 8; at < payload.length; at += 4) {
      const id = payload.readUInt32BE(at);
      const context = this.#negotiated.contexts.find((selected) => selected.id === id);
      if (context !== undefined && !contexts.includes(context)) contexts.push(context);
    }
    const asked = (payload.length - 8) / 4;
    const { backend, blockBytes } = this.#door;
    const isOutside = bytes === 0 || request.offset + bytes > backend.bytes;
    const isAligned = request.offset % blockBytes === 0 && bytes % blockBytes === 0;
    if (contexts.length === asked && !isOutside && isAligned) {
      this.#commands.status(request, bytes, contexts);
      return;
    }
    let message = 'BLOCK_STATUS asks about contexts that were not selected, or twice about one';
    if (isOutside)
      message = `BLOCK_STATUS of ${bytes} bytes at ${request.offset} does not lie within the export`;
    else if (!isAligned) message = `Offset and length are multiples of ${blockBytes} bytes`;
    if (this.#finish(request, 0, true)) {
      this.#format.failure(this.#outbox, request, NBD_ERROR.EINVAL, message);
      this.#answered(request);
    }
  }

  /** The backend is done with a request. @returns True if it is to be answered. */
  #finish(request: Admitted, bytes: number, failed: boolean): boolean {
    this.#inFlight -= 1;
    invariant(this.#inFlight >= 0, 'a request is answered once');
    if (this.#busy && !failed) this.#answeredNow.push(request);
    else this.#count(request, this.#clock.now(), bytes, failed);
    this.#outboxBefore = this.#outbox.bytes;
    if (!this.#gone) return true;
    this.#budget.finish(request.charge, 0);
    this.#settleIfDone();
    return false;
  }

  #count(request: Admitted, now: number, bytes: number, failed: boolean): void {
    for (const stats of this.#stats) {
      stats.inFlight -= 1;
      stats.add(request.type, now - request.startedAt, bytes, failed);
    }
  }

  /** What was answered within one chunk leaves together, and reading the clock is not free: they share one time. */
  #countAnsweredNow(): void {
    const answered = this.#answeredNow;
    if (answered.length === 0) return;
    const now = this.#clock.now();
    for (const request of answered) this.#count(request, now, payloadBytes(request), false);
    answered.length = 0;
  }

  /** Its answer is in the outbox. */
  #answered(request: Admitted): void {
    this.#budget.finish(request.charge, this.#outbox.bytes - this.#outboxBefore);
    if (!this.#busy) this.#scheduleFlush();
    else if (++this.#unsentAnswers >= ANSWERS_PER_SEND) this.#send();
  }

  /** A failing disk fails thousands of requests a second: one line a second is enough. */
  #logError(request: Admitted, error: StoreError, errno: number): void {
    const now = this.#clock.now();
    if (now - this.#loggedAt < LOG_INTERVAL_MS) {
      this.#unloggedErrors += 1;
      return;
    }
    const { type, offset, length } = request;
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
      this.#startedAt = this.#clock.now();
      this.#reader.resume();
      this.#busy = false;
    }
    this.#flush();
  }

  #flush(): void {
    this.#countAnsweredNow();
    if (this.#gone) return;
    this.#send();
    if (this.#reader.isWaiting !== this.#paused) {
      this.#paused = this.#reader.isWaiting;
      if (this.#paused || this.#suspended) this.#connection.pause();
      else this.#connection.resume();
    }
    this.#finishIfDone();
  }

  /** Hands the connection what is in the outbox. */
  #send(): void {
    const bytes = this.#outbox.bytes;
    this.#unsentAnswers = 0;
    if (bytes === 0) return;
    // Whether there is room shows in `unsentBytes`; what stays there is told of when it has left (`drained`).
    this.#connection.write(this.#outbox.takeParts());
    // A request may have waited for what leaves here, and nothing else would ask about it again.
    if (this.#countSent() && this.#reader.isWaiting && !this.#suspended) this.#scheduleFlush();
  }

  /** @returns True if an answer has left since it was asked last */
  #countSent(): boolean {
    const sentBytes = this.#outbox.sentAllBut(this.#connection.unsentBytes);
    this.#budget.sent(sentBytes);
    return sentBytes > 0;
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

/** What a request that succeeded moved. */
function payloadBytes({ type, length }: Request): number {
  return type === NBD_CMD.READ || type === NBD_CMD.WRITE ? length : 0;
}
