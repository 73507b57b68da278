/**
 * Runs the requests of one guest in one session, however they arrive. Each is answered exactly once, unless nobody
 * waits for it; operations that are run once keep their answer in the session.
 */
import {
  asGuarded,
  BODY_BYTES_MAX,
  atEpoch,
  decodeChain,
  decodeFlush,
  decodeGuardRequest,
  decodeListPools,
  decodeListRequest,
  decodeOpenPool,
  emptyObjectRequest,
  encodeChainAnswer,
  encodeExtents,
  encodeListPage,
  encodeOpenPoolAnswer,
  encodePoolNames,
  HEADER_BYTES,
  isEpoched,
  LIST_ENTRIES_MAX,
  OP,
  PAYLOAD_BYTES_MAX,
  pieceCount,
  readChecks,
  readObjectRequest,
  ruleOf,
  STAT_BYTES,
  StoreError,
  WRITE_FLAGS,
  writeAnswerHeader,
  writeChecks,
  writeStat,
  messageOf,
  crc32c,
  readU64,
  type CheckedPool,
  type Clock,
  type Done,
  type FrameHeader,
  type Log,
  type ObjectRef,
  type OpRule,
} from '@store/core';
import { answer, messageBody, statusOf, type AnswerPort } from './answer-port.js';
import type { ServerCounters } from './counters.js';
import { rightObjection, type Guest } from './door.js';
import { ObjectNames } from './object-names.js';
import { OpenPools, type ServedStore } from './open-pools.js';
import type { Session } from './session.js';

/** What a request takes of a budget beside its data. */
export const REQUEST_COST_BYTES = 1024;
const EMPTY = Buffer.alloc(0);
/** Their answers are bodies of any length. */
const LONG_ANSWERS: ReadonlySet<number> = new Set([OP.list, OP.listPools, OP.extents]);

export interface RunnerOptions {
  readonly store: ServedStore;
  readonly guest: Guest;
  readonly session: Session;
  readonly counters: ServerCounters;
  readonly clock: Clock;
  readonly log: Log;
  /** Something was thrown that is no expected failure: a defect of ours. */
  readonly defect: (error: unknown) => void;
}

/** A request on its way. */
interface Running {
  readonly rule: OpRule;
  readonly op: number;
  readonly requestId: number;
  readonly port: AnswerPort;
  readonly startedAt: number;
  /** Of data, for the counters. */
  bytes: number;
  /** Of a read: there is nothing left to cancel. */
  isDone: boolean;
}

export class RequestRunner {
  readonly pools: OpenPools;
  readonly #options: RunnerOptions;
  readonly #names = new ObjectNames();
  readonly #request = emptyObjectRequest();
  /** What the client believes of the object's group; 0: it does not say. Of the request that begins just now. */
  #epoch = 0;
  /** Reads that the client does not want any more. */
  readonly #cancelled = new Set<number>();
  /** Reads that wait for the disk. */
  readonly #reading = new Set<number>();

  constructor(options: RunnerOptions) {
    this.#options = options;
    this.pools = new OpenPools(options.store, options.guest);
  }

  /**
   * How much an answer may hold, before the request is run; 0 for all that is small, and for what no object can answer:
   * there would never be room for it, and the request is refused when it is run.
   * @throws StoreError `E_BAD_FRAME`
   */
  answerBytes(header: FrameHeader, body: Buffer): number {
    if (LONG_ANSWERS.has(header.op)) return BODY_BYTES_MAX;
    if (header.op !== OP.read) return 0;
    readObjectRequest(body, this.#request);
    const { bytes } = this.#request;
    return bytes > PAYLOAD_BYTES_MAX ? 0 : bytes;
  }

  /**
   * Runs a request whose frame is good.
   * @param body - Used before this returns.
   * @param payload - The runner's until it has answered.
   * @throws StoreError `E_BAD_FRAME` if the frame breaks the rules: whoever sent it is not trusted further
   */
  run(header: FrameHeader, body: Buffer, payload: readonly Buffer[], port: AnswerPort): void {
    const { op, requestId, floor } = header;
    const rule = ruleOf(op);
    if (rule === undefined) throw new StoreError('E_BAD_FRAME', `There is no operation ${op}`);
    if (floor > requestId)
      throw new StoreError('E_BAD_FRAME', 'A request lies below its own floor');
    const { session, counters, clock, guest } = this.#options;
    const objection = rightObjection(guest, rule.right, rule.name);
    if (objection !== null) {
      // Nothing is kept of it: who may do nothing fills no memory with that.
      counters.ended(rule.name, 0, 0, objection.code);
      answer(port, op, requestId, statusOf(objection), messageBody(objection));
      return;
    }
    if (rule.runsOnce) {
      const admission = session.admit(requestId, floor);
      if (admission === 'drop') {
        counters.dropped += 1;
        port.nothing();
        return;
      }
      if (admission !== 'run') {
        counters.repeated += 1;
        answer(port, op, requestId, admission.status, admission.body);
        return;
      }
    } else if (!session.admitAgain(requestId, floor)) {
      counters.dropped += 1;
      port.nothing();
      return;
    }
    this.#epoch = header.epoch;
    const startedAt = clock.now();
    const bytes = header.payloadBytes;
    const running: Running = { rule, op, requestId, port, startedAt, bytes, isDone: false };
    try {
      this.#start(running, body, payload);
    } catch (error) {
      if (!(error instanceof StoreError)) throw error;
      // Whoever breaks the rules still gets an answer; what it asked for has not begun.
      this.#fail(running, error);
      if (error.code === 'E_BAD_FRAME') throw error;
    }
  }

  #start(running: Running, body: Buffer, payload: readonly Buffer[]): void {
    switch (running.op) {
      case OP.read:
        this.#read(running, body);
        return;
      case OP.write:
        this.#write(running, body, payload);
        return;
      case OP.zero:
      case OP.discard:
        this.#zero(running, body);
        return;
      case OP.extents:
        this.#extents(running, body);
        return;
      case OP.flush:
        this.#flush(running, body);
        return;
      case OP.raiseGuard: {
        const { pool, change, groups } = decodeGuardRequest(body);
        asGuarded(this.#pool(pool)).changeGuards(groups, change, this.#ends(running));
        return;
      }
      case OP.prefetch: {
        const { pool, ref } = this.#data(body);
        pool.prefetch(ref, this.#request.offset, this.#request.bytes, this.#ends(running));
        return;
      }
      case OP.ping:
        this.#finish(running, 0, EMPTY);
        return;
      case OP.cancel:
        this.#cancel(body);
        this.#finish(running, 0, EMPTY);
        return;
      case OP.stat:
        this.#later(running, this.#stat(body));
        return;
      case OP.list:
        this.#later(running, this.#list(body));
        return;
      case OP.compareAndSwap:
        this.#later(running, this.#compareAndSwap(body, payload));
        return;
      case OP.delete:
        this.#later(running, this.#delete(body));
        return;
      case OP.openPool:
        this.#later(running, this.#openPool(body));
        return;
      case OP.listPools:
        this.#later(running, this.#listPools(body));
        return;
      case OP.registerChain: {
        const chain = decodeChain(body);
        this.pools.register(chain);
        this.#finish(running, 0, encodeChainAnswer(chain));
        return;
      }
      default:
        throw new StoreError('E_BAD_FRAME', `Operation ${running.op} has no place here`);
    }
  }

  /** The object that `body` names; its other fields are in `#request`. */
  #object(body: Buffer): { pool: CheckedPool; ref: ObjectRef } {
    readObjectRequest(body, this.#request);
    const pool = atEpoch(this.#pool(this.#request.pool), this.#epoch);
    return { pool, ref: this.#names.refOf(body, this.#request) };
  }

  /** As `#object`, seen through the chain of layers that the request names, if it does. */
  #data(body: Buffer): { pool: CheckedPool; ref: ObjectRef } {
    readObjectRequest(body, this.#request);
    const { extra, pool: handle } = this.#request;
    const whole = this.#pool(handle);
    const pool =
      extra === 0
        ? atEpoch(whole, this.#epoch)
        : this.pools.layered(whole, handle, extra, this.#epoch);
    return { pool, ref: this.#names.refOf(body, this.#request) };
  }

  #pool(handle: number): CheckedPool {
    const pool = this.pools.get(handle);
    if (pool === undefined)
      throw new StoreError('E_BAD_FRAME', `No pool was opened as number ${handle}`);
    return pool;
  }

  #read(running: Running, body: Buffer): void {
    const { pool, ref } = this.#data(body);
    const { offset, bytes } = this.#request;
    checkRange(pool, offset, bytes);
    const { op, requestId, port } = running;
    const checksBytes = pieceCount(offset, bytes) * 4;
    const reply = port.allocate(HEADER_BYTES + checksBytes + bytes);
    const target = reply.view(HEADER_BYTES + checksBytes);
    running.bytes = bytes;
    pool.readChecked(ref, offset, target, (error, checks) => {
      running.isDone = true;
      const cancellation = this.#cancellation(requestId);
      const failed = error ?? cancellation;
      if (failed !== null || checks === undefined) {
        port.abandon(reply, error !== null);
        this.#fail(running, failed ?? new StoreError('E_CHECKSUM', 'A read has no checksums'));
        return;
      }
      writeChecks(reply.memory, reply.at + HEADER_BYTES, checks);
      writeAnswerHeader(reply.memory, reply.at, op, requestId, 0, checksBytes, bytes);
      this.#count(running, null);
      port.push(reply, true);
    });
    // Most have what they read from the page cache, and are done by now.
    if (!running.isDone) this.#reading.add(requestId);
  }

  #write(running: Running, body: Buffer, payload: readonly Buffer[]): void {
    const { pool, ref } = this.#data(body);
    const { offset, bytes, flags, namesEnd } = this.#request;
    if (bytes !== running.bytes)
      throw new StoreError('E_BAD_FRAME', 'A write does not hold as many bytes as it says');
    const checks = readChecks(body, namesEnd);
    pool.writeChecked(ref, offset, payload, checks, flags, this.#ends(running));
  }

  #zero(running: Running, body: Buffer): void {
    const { pool, ref } = this.#data(body);
    const { offset, bytes, flags } = this.#request;
    if (running.op === OP.discard && (flags & WRITE_FLAGS.allocate) !== 0)
      throw new StoreError('E_INVALID', 'A discard keeps no space');
    running.bytes = bytes;
    pool.zero(ref, offset, bytes, flags, this.#ends(running));
  }

  #extents(running: Running, body: Buffer): void {
    const { pool, ref } = this.#data(body);
    const { offset, bytes } = this.#request;
    pool.extents(ref, offset, bytes, (error, extents = []) => {
      if (error !== null) this.#fail(running, error);
      else this.#finish(running, 0, encodeExtents(extents));
    });
  }

  #flush(running: Running, body: Buffer): void {
    const { pool: handle, groups } = decodeFlush(body);
    const pool = this.#pool(handle);
    if (groups.length > 0 && isEpoched(pool)) pool.flushGroups(groups, this.#ends(running));
    else pool.flush(this.#ends(running));
  }

  async #stat(body: Buffer): Promise<Buffer> {
    const { pool, ref } = this.#object(body);
    const stat = await pool.stat(ref);
    if (stat === null) return EMPTY;
    const out = Buffer.allocUnsafe(STAT_BYTES);
    writeStat(out, 0, stat);
    return out;
  }

  async #list(body: Buffer): Promise<Buffer> {
    const { pool: handle, options, groups } = decodeListRequest(body);
    // A page of the largest keys fits into a frame; whoever wants more goes on from the cursor.
    const limit = Math.min(options.limit ?? LIST_ENTRIES_MAX, LIST_ENTRIES_MAX);
    const pool = this.#pool(handle);
    const asked = { ...options, limit };
    const isOfGroups = groups.length > 0 && isEpoched(pool);
    return encodeListPage(await (isOfGroups ? pool.listGroups(groups, asked) : pool.list(asked)));
  }

  async #compareAndSwap(body: Buffer, payload: readonly Buffer[]): Promise<Buffer> {
    const { pool, ref } = this.#object(body);
    const { extra: expected, namesEnd } = this.#request;
    const bytes = Buffer.concat(payload);
    const [check, ...more] = readChecks(body, namesEnd);
    if (check === undefined || more.length > 0)
      throw new StoreError('E_BAD_FRAME', 'A compare-and-swap has one checksum');
    if (crc32c(bytes) !== check)
      throw new StoreError(
        'E_CHECKSUM',
        'The bytes of a compare-and-swap were damaged on their way',
      );
    const version = await pool.compareAndSwap(ref, expected, bytes);
    const out = Buffer.allocUnsafe(8);
    out.writeBigUInt64LE(BigInt(version));
    return out;
  }

  async #delete(body: Buffer): Promise<Buffer> {
    const { pool, ref } = this.#object(body);
    const { extra: version } = this.#request;
    return Buffer.from([(await pool.delete(ref, version)) ? 1 : 0]);
  }

  async #openPool(body: Buffer): Promise<Buffer> {
    const { name, create } = decodeOpenPool(body);
    const { handle, pool } = await this.pools.open(name, create);
    return encodeOpenPoolAnswer({ pool: handle, objectBytes: pool.objectBytes });
  }

  async #listPools(body: Buffer): Promise<Buffer> {
    return encodePoolNames(await this.pools.list(decodeListPools(body)));
  }

  #cancel(body: Buffer): void {
    if (body.length !== 8) throw new StoreError('E_BAD_FRAME', 'A cancel names one request');
    const requestId = readU64(body, 0);
    if (this.#reading.has(requestId)) this.#cancelled.add(requestId);
  }

  /** A read has come to its end: was it cancelled? */
  #cancellation(requestId: number): StoreError | null {
    if (this.#reading.size > 0) this.#reading.delete(requestId);
    return this.#cancelled.size > 0 && this.#cancelled.delete(requestId)
      ? new StoreError('E_CANCELLED', 'The request was cancelled')
      : null;
  }

  /** Answers when `work` is done. */
  #later(running: Running, work: Promise<Buffer>): void {
    work.then(
      (body) => this.#finish(running, 0, body),
      (error: unknown) => {
        if (error instanceof StoreError) this.#fail(running, error);
        else this.#options.defect(error);
      },
    );
  }

  #ends(running: Running): Done {
    return (error) => {
      if (error === null) this.#finish(running, 0, EMPTY);
      else this.#fail(running, error);
    };
  }

  #fail(running: Running, error: StoreError): void {
    this.#options.log.debug(
      { op: running.rule.name, code: error.code },
      `A request failed: ${messageOf(error)}`,
    );
    this.#finish(running, statusOf(error), messageBody(error), error.code);
  }

  #finish(running: Running, status: number, body: Buffer, error: string | null = null): void {
    const { rule, op, requestId, port } = running;
    this.#count(running, error);
    if (rule.runsOnce) this.#options.session.finished(requestId, { status, body });
    answer(port, op, requestId, status, body);
  }

  #count({ rule, startedAt, bytes }: Running, error: string | null): void {
    const { counters, clock } = this.#options;
    counters.ended(rule.name, clock.now() - startedAt, error === null ? bytes : 0, error);
  }
}

/** The engine checks too; but an answer is allocated first. */
function checkRange(pool: CheckedPool, offset: number, bytes: number): void {
  if (offset + bytes > pool.objectBytes)
    throw new StoreError(
      'E_INVALID',
      `Bytes ${offset} to ${offset + bytes} lie outside an object of ${pool.objectBytes} bytes`,
    );
}
