/** A pool that a daemon serves. See `DaemonClient` for what happens when the way to it breaks. */
import type {
  Extent,
  ListOptions,
  ListPage,
  ObjectPool,
  ObjectRef,
  ObjectStat,
} from '../pool/object-pool.js';
import { WRITE_FLAGS } from '../pool/object-pool.js';
import { crc32c } from '../util/crc32c.js';
import { StoreError, type Done, type DoneWith } from '../util/errors.js';
import { INLINE_BYTES_MAX, LIST_PAGE_MAX } from '../util/limits.js';
import { pieceChecksOf, pieceCount, verifyPieces } from '../util/piece-checks.js';
import { BodyReader } from '../wire/body-reader.js';
import {
  decodeExtents,
  decodeListPage,
  encodeListRequest,
  readStat,
} from '../wire/object-answers.js';
import { readChecks } from '../wire/object-request.js';
import { OP } from '../wire/ops.js';
import { ClientRequest, type RequestFields } from './client-request.js';
import type { ClientPool, DaemonClient } from './daemon-client.js';

export interface RemotePoolFacts {
  readonly name: string;
  readonly objectBytes: number;
  readonly handle: number;
}

export class RemotePool implements ObjectPool, ClientPool {
  readonly name: string;
  readonly objectBytes: number;
  handle: number;
  failure: StoreError | null = null;
  readonly #client: DaemonClient;
  #lineage: Buffer | null = null;
  /** Writes that were answered, and how many of them a flush has covered. */
  #answeredWrites = 0;
  #flushedWrites = 0;
  /** Answered writes are gone; the next flush says so. */
  #hasLost = false;

  constructor(client: DaemonClient, { name, objectBytes, handle }: RemotePoolFacts) {
    this.#client = client;
    this.name = name;
    this.objectBytes = objectBytes;
    this.handle = handle;
  }

  /** Something was written that no flush has covered. */
  get isDirty(): boolean {
    return this.#answeredWrites > this.#flushedWrites;
  }

  lineageIs(lineage: Buffer): void {
    const isNew = this.#lineage !== null && !this.#lineage.equals(lineage);
    this.#lineage = lineage;
    if (isNew && this.#answeredWrites > this.#flushedWrites) this.#hasLost = true;
  }

  read(ref: ObjectRef, offset: number, target: Buffer, done: Done): void {
    const refusal = this.#refusal(offset, target.length);
    if (refusal !== null) {
      done(refusal);
      return;
    }
    const bytes = target.length;
    const verify = (body: Buffer): boolean => {
      const checks = readChecks(body, 0);
      return (
        checks.length === pieceCount(offset, bytes) && verifyPieces(offset, [target], checks) < 0
      );
    };
    this.#send({ op: OP.read, ref, offset, bytes, target, verify, done });
  }

  write(ref: ObjectRef, offset: number, parts: readonly Buffer[], flags: number, done: Done): void {
    let bytes = 0;
    for (const part of parts) bytes += part.length;
    const refusal = this.#refusal(offset, bytes);
    if (refusal !== null) {
      done(refusal);
      return;
    }
    const checks = pieceChecksOf(offset, parts);
    this.#change({ op: OP.write, ref, offset, bytes, parts, checks, flags, done }, done);
  }

  zero(ref: ObjectRef, offset: number, bytes: number, flags: number, done: Done): void {
    const refusal = this.#refusal(offset, bytes);
    if (refusal !== null) {
      done(refusal);
      return;
    }
    const op = (flags & WRITE_FLAGS.allocate) !== 0 ? OP.zero : OP.discard;
    this.#change({ op, ref, offset, bytes, flags, done }, done);
  }

  extents(ref: ObjectRef, offset: number, bytes: number, done: DoneWith<Extent[]>): void {
    const refusal = this.#refusal(offset, bytes);
    if (refusal !== null) {
      done(refusal);
      return;
    }
    this.#send({
      op: OP.extents,
      ref,
      offset,
      bytes,
      done: (error, body) => {
        if (error !== null) done(error);
        else decoded(() => decodeExtents(body, bytes), done);
      },
    });
  }

  /** Others may make objects at any time. */
  absentRun(): null {
    return null;
  }

  flush(done: Done): void {
    const covered = this.#answeredWrites;
    this.#send({
      op: OP.flush,
      body: u32,
      done: (error) => {
        if (error !== null) {
          done(error);
          return;
        }
        if (this.#hasLost) {
          this.#hasLost = false;
          this.#flushedWrites = this.#answeredWrites;
          done(
            new StoreError(
              'E_LOST_WRITES',
              `The machine of the daemon stopped without warning: writes to pool '${this.name}' that were not flushed are lost`,
            ),
          );
          return;
        }
        this.#flushedWrites = Math.max(this.#flushedWrites, covered);
        done(null);
      },
    });
  }

  prefetch(ref: ObjectRef, offset: number, bytes: number, done: Done): void {
    const refusal = this.#refusal(offset, bytes);
    if (refusal !== null) done(refusal);
    else this.#send({ op: OP.prefetch, ref, offset, bytes, done });
  }

  stat(ref: ObjectRef): Promise<ObjectStat | null> {
    return this.#ask({ op: OP.stat, ref, isWhole: true }, readStat);
  }

  list(options: ListOptions): Promise<ListPage> {
    const { limit = LIST_PAGE_MAX } = options;
    if (!Number.isInteger(limit) || limit < 1 || limit > LIST_PAGE_MAX)
      return Promise.reject(
        new StoreError('E_INVALID', `A page lists 1 to ${LIST_PAGE_MAX} objects, not ${limit}`),
      );
    return this.#ask(
      { op: OP.list, body: (pool) => encodeListRequest(pool, options) },
      decodeListPage,
    );
  }

  compareAndSwap(ref: ObjectRef, expectedVersion: number, bytes: Buffer): Promise<number> {
    if (bytes.length > INLINE_BYTES_MAX)
      return Promise.reject(
        new StoreError(
          'E_INVALID',
          `Compare-and-swap takes up to ${INLINE_BYTES_MAX} bytes, not ${bytes.length}`,
        ),
      );
    const checks = Uint32Array.of(crc32c(bytes));
    return this.#ask(
      {
        op: OP.compareAndSwap,
        ref,
        bytes: bytes.length,
        extra: expectedVersion,
        parts: [bytes],
        checks,
        changes: true,
        isWhole: true,
      },
      (body) => new BodyReader(body).u64(),
    );
  }

  delete(ref: ObjectRef): Promise<boolean> {
    // One that may have been run before a restart finds nothing the second time.
    const { promise, request } = this.#asked(
      { op: OP.delete, ref, changes: true, isWhole: true },
      (body) => new BodyReader(body).u8() === 1,
    );
    return promise.then((existed) => existed || request.isInDoubt);
  }

  #change(fields: RequestFields, done: Done): void {
    this.#send({
      ...fields,
      changes: true,
      done: (error) => {
        if (error === null) this.#answeredWrites += 1;
        done(error);
      },
    });
  }

  #send(fields: RequestFields): void {
    this.#client.submit(new ClientRequest({ ...fields, pool: this }));
  }

  #ask<T>(fields: Omit<RequestFields, 'done'>, decode: (body: Buffer) => T): Promise<T> {
    return this.#asked(fields, decode).promise;
  }

  #asked<T>(
    fields: Omit<RequestFields, 'done'>,
    decode: (body: Buffer) => T,
  ): { promise: Promise<T>; request: ClientRequest } {
    let done: DoneWith<T> = () => undefined;
    const promise = new Promise<T>((resolve, reject) => {
      done = (error, result) => {
        if (error === null)
          resolve(result as T); // without an error there is a result
        else reject(error);
      };
    });
    const request = new ClientRequest({
      ...fields,
      pool: this,
      done: (error, body) => {
        if (error !== null) done(error);
        else decoded(() => decode(body), done);
      },
    });
    this.#client.submit(request);
    return { promise, request };
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

function u32(value: number): Buffer {
  const out = Buffer.alloc(4);
  out.writeUInt32LE(value);
  return out;
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
