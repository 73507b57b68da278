/** A pool whose operations on objects become requests; where each of them goes is for who extends it. */
import type { Extent, ListOptions, ListPage, ObjectRef, ObjectStat } from '../pool/object-pool.js';
import type { GroupAtEpoch } from '../pool/epoched-pool.js';
import { swapRefusal, WRITE_FLAGS } from '../pool/object-pool.js';
import { crc32c } from '../util/crc32c.js';
import { partsBytes } from '../util/byte-parts.js';
import { promisedWith, StoreError, type Done, type DoneWith } from '../util/errors.js';
import { LIST_PAGE_MAX } from '../util/limits.js';
import { pieceChecksOf } from '../util/piece-checks.js';
import { BodyReader } from '../wire/body-reader.js';
import {
  decodeExtents,
  decodeListPage,
  encodeListRequest,
  readStat,
} from '../wire/object-answers.js';
import { encodeFlush } from '../wire/flush-request.js';
import { OP, type Op } from '../wire/ops.js';
import { ClientRequest, type PoolHandle } from './client-request.js';

export interface RequestPoolFacts {
  readonly name: string;
  readonly objectBytes: number;
  /** Of the chain of layers that data is seen through; 0: none. */
  readonly chain: number;
  /** What requests name the pool by; null: it is found out for each of them, by who takes it. */
  readonly pool: PoolHandle | null;
}

export abstract class RequestPool {
  readonly name: string;
  readonly objectBytes: number;
  protected readonly chain: number;
  readonly #pool: PoolHandle | null;

  constructor({ name, objectBytes, chain, pool }: RequestPoolFacts) {
    this.name = name;
    this.objectBytes = objectBytes;
    this.chain = chain;
    this.#pool = pool;
  }

  /** Takes a request; its `done` is called once, later or before this returns. */
  protected abstract submit(request: ClientRequest): void;

  /** The request has changed something, and that is not durable yet. */
  protected abstract changed(request: ClientRequest): void;

  /** A change was refused, or could not be made. */
  protected failed(_error: StoreError): void {
    // Whoever knows what to make of it says so.
  }

  read(ref: ObjectRef, offset: number, target: Buffer, done: Done): void {
    const refusal = this.#refusal(offset, target.length);
    if (refusal !== null) {
      done(refusal);
      return;
    }
    const request = new ClientRequest(OP.read, this.#pool, ref, offset, target.length, done);
    request.target = target;
    request.extra = this.chain;
    this.submit(request);
  }

  write(ref: ObjectRef, offset: number, parts: readonly Buffer[], flags: number, done: Done): void {
    const bytes = partsBytes(parts);
    const refusal = this.#refusal(offset, bytes);
    if (refusal !== null) {
      done(refusal);
      return;
    }
    const request = this.#change(OP.write, ref, offset, bytes, flags, done);
    request.carry(parts, pieceChecksOf(offset, parts));
    request.extra = this.chain;
    this.submit(request);
  }

  zero(ref: ObjectRef, offset: number, bytes: number, flags: number, done: Done): void {
    const refusal = this.#refusal(offset, bytes);
    if (refusal !== null) {
      done(refusal);
      return;
    }
    const op = (flags & WRITE_FLAGS.allocate) !== 0 ? OP.zero : OP.discard;
    const request = this.#change(op, ref, offset, bytes, flags, done);
    request.extra = this.chain;
    this.submit(request);
  }

  extents(ref: ObjectRef, offset: number, bytes: number, done: DoneWith<Extent[]>): void {
    const refusal = this.#refusal(offset, bytes);
    if (refusal !== null) {
      done(refusal);
      return;
    }
    const request = new ClientRequest(OP.extents, this.#pool, ref, offset, bytes, (error, body) => {
      if (error !== null) done(error);
      else decoded(() => decodeExtents(body, bytes), done);
    });
    request.extra = this.chain;
    this.submit(request);
  }

  /** Others may make objects at any time. */
  absentRun(): null {
    return null;
  }

  prefetch(ref: ObjectRef, offset: number, bytes: number, done: Done): void {
    const refusal = this.#refusal(offset, bytes);
    if (refusal !== null) {
      done(refusal);
      return;
    }
    const request = new ClientRequest(OP.prefetch, this.#pool, ref, offset, bytes, done);
    request.extra = this.chain;
    this.submit(request);
  }

  stat(ref: ObjectRef): Promise<ObjectStat | null> {
    return this.#ask(OP.stat, ref, readStat);
  }

  compareAndSwap(ref: ObjectRef, expectedVersion: number, bytes: Buffer): Promise<number> {
    const refusal = swapRefusal(ref.kind, bytes.length, this.objectBytes);
    if (refusal !== null) return Promise.reject(refusal);
    return this.#ask(
      OP.compareAndSwap,
      ref,
      (body) => new BodyReader(body).u64(),
      (request) => {
        request.carry([bytes], Uint32Array.of(crc32c(bytes)));
        request.extra = expectedVersion;
      },
    );
  }

  async delete(ref: ObjectRef, version = 0): Promise<boolean> {
    const sent: ClientRequest[] = [];
    const existed = await this.#ask(
      OP.delete,
      ref,
      (body) => new BodyReader(body).u8() === 1,
      (request) => {
        request.extra = version;
        sent.push(request);
      },
    );
    // One that may have been run before a restart finds nothing the second time. Of one version that says nothing: a
    // restart may have given the object another.
    return existed || (version === 0 && sent.some(({ isInDoubt }) => isInDoubt));
  }

  #change(
    op: Op,
    ref: ObjectRef,
    offset: number,
    bytes: number,
    flags: number,
    done: Done,
  ): ClientRequest {
    const isDurable = (flags & WRITE_FLAGS.durable) !== 0;
    const answered: Done = (error) => {
      if (error !== null) this.failed(error);
      else if (!isDurable) this.changed(request);
      done(error);
    };
    const request = new ClientRequest(op, this.#pool, ref, offset, bytes, answered);
    request.flags = flags;
    return request;
  }

  /** Why a page is not listed; null: it is. */
  protected pageRefusal({ limit = LIST_PAGE_MAX }: ListOptions): StoreError | null {
    if (Number.isInteger(limit) && limit >= 1 && limit <= LIST_PAGE_MAX) return null;
    return new StoreError('E_INVALID', `A page lists 1 to ${LIST_PAGE_MAX} objects, not ${limit}`);
  }

  /** @param prepare - Completes the request before it is submitted */
  #ask<T>(
    op: Op,
    ref: ObjectRef,
    decode: (body: Buffer) => T,
    prepare: (request: ClientRequest) => void = () => undefined,
  ): Promise<T> {
    return promisedWith<T>((done) => {
      const request = new ClientRequest(op, this.#pool, ref, 0, 0, (error, body) => {
        if (error !== null) done(error);
        else decoded(() => decode(body), done);
      });
      prepare(request);
      this.submit(request);
    });
  }

  #refusal(offset: number, bytes: number): StoreError | null {
    const valid = Number.isSafeInteger(offset) && Number.isSafeInteger(bytes);
    if (valid && offset >= 0 && bytes >= 0 && offset + bytes <= this.objectBytes) return null;
    return new StoreError(
      'E_INVALID',
      `Bytes ${offset} to ${offset + bytes} lie outside an object of ${this.objectBytes} bytes`,
    );
  }
}

/**
 * Asks for everything that was answered to be made durable.
 * @param groups - Of these alone; empty: of all that the daemon has of the pool
 */
export function flushRequest(
  pool: PoolHandle,
  groups: readonly GroupAtEpoch[],
  done: Done,
): ClientRequest {
  const request = new ClientRequest(OP.flush, pool, null, 0, 0, done);
  request.body = (handle) => encodeFlush(handle, groups);
  return request;
}

/** Asks for a page of a list. @param groups - As of a flush */
export function listRequest(
  pool: PoolHandle,
  groups: readonly GroupAtEpoch[],
  options: ListOptions,
  done: DoneWith<ListPage>,
): ClientRequest {
  const request = new ClientRequest(OP.list, pool, null, 0, 0, (error, body) => {
    if (error !== null) done(error);
    else decoded(() => decodeListPage(body), done);
  });
  request.body = (handle) => encodeListRequest(handle, options, groups);
  return request;
}

/** What a flush answers when what it should have covered is gone. */
export function lostWrites(pool: string): StoreError {
  return new StoreError(
    'E_LOST_WRITES',
    `The machine of the daemon stopped without warning: writes to pool '${pool}' that were not flushed are lost`,
  );
}

/** Answers with what `decode` makes; what cannot be decoded is an error. */
function decoded<T>(decode: () => T, done: DoneWith<T>): void {
  let result: T;
  try {
    result = decode();
  } catch (error) {
    if (!(error instanceof StoreError)) throw error;
    done(error);
    return;
  }
  done(null, result);
}
