/** A pool that a daemon serves. See `DaemonClient` for what happens when the way to it breaks. */
import { checkChain, type Chain } from '../pool/chain.js';
import type {
  Extent,
  ListOptions,
  ListPage,
  ObjectPool,
  ObjectRef,
  ObjectStat,
} from '../pool/object-pool.js';
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
import { OP, type Op } from '../wire/ops.js';
import { ClientRequest } from './client-request.js';
import type { ClientPool, DaemonClient } from './daemon-client.js';
import { WriteTally, type Losses } from './write-tally.js';

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
  /** Of the chain that data is seen through; 0: none. */
  readonly #chain: number;
  /** The pool that this one is a view of, or itself: it alone is opened again on each connection. */
  readonly #whole: RemotePool;
  #lineage: Buffer | null = null;
  readonly #losses: Losses;
  readonly #tally: WriteTally;
  #hasWritten = false;

  /** @param view - Seen through that chain: another view of a pool that is open */
  constructor(
    client: DaemonClient,
    { name, objectBytes, handle }: RemotePoolFacts,
    view: { whole: RemotePool; chain: number } | null = null,
  ) {
    this.#client = client;
    this.#whole = view?.whole ?? this;
    this.#chain = view?.chain ?? 0;
    this.#losses = view === null ? { count: 0 } : view.whole.#losses;
    this.#tally = new WriteTally(this.#losses);
    this.name = name;
    this.objectBytes = objectBytes;
    this.handle = handle;
  }

  /**
   * This pool as the newest layer of a chain: the daemon resolves the layers below, in one request however many there are.
   * @throws StoreError `E_INVALID`; or why the daemon cannot be asked
   */
  async layered(chain: Chain): Promise<ObjectPool> {
    checkChain(chain);
    return this.#view(await this.#client.registerChain(chain));
  }

  forUser(): ObjectPool {
    return this.#view(this.#chain);
  }

  #view(chain: number): RemotePool {
    return new RemotePool(this.#client, this.#whole, { whole: this.#whole, chain });
  }

  /** Something was written through it or a view of it. */
  get hasWritten(): boolean {
    return this.#whole.#hasWritten;
  }

  lineageIs(lineage: Buffer): void {
    if (this.#lineage !== null && !this.#lineage.equals(lineage)) this.#losses.count += 1;
    this.#lineage = lineage;
  }

  read(ref: ObjectRef, offset: number, target: Buffer, done: Done): void {
    const refusal = this.#refusal(offset, target.length);
    if (refusal !== null) {
      done(refusal);
      return;
    }
    const request = new ClientRequest(OP.read, this.#whole, ref, offset, target.length, done);
    request.target = target;
    request.extra = this.#chain;
    this.#client.submit(request);
  }

  write(ref: ObjectRef, offset: number, parts: readonly Buffer[], flags: number, done: Done): void {
    const bytes = partsBytes(parts);
    const refusal = this.#refusal(offset, bytes);
    if (refusal !== null) {
      done(refusal);
      return;
    }
    const request = new ClientRequest(
      OP.write,
      this.#whole,
      ref,
      offset,
      bytes,
      this.#counted(flags, done),
    );
    request.carry(parts, pieceChecksOf(offset, parts));
    request.flags = flags;
    request.extra = this.#chain;
    this.#client.submit(request);
  }

  zero(ref: ObjectRef, offset: number, bytes: number, flags: number, done: Done): void {
    const refusal = this.#refusal(offset, bytes);
    if (refusal !== null) {
      done(refusal);
      return;
    }
    const op = (flags & WRITE_FLAGS.allocate) !== 0 ? OP.zero : OP.discard;
    const request = new ClientRequest(
      op,
      this.#whole,
      ref,
      offset,
      bytes,
      this.#counted(flags, done),
    );
    request.flags = flags;
    request.extra = this.#chain;
    this.#client.submit(request);
  }

  extents(ref: ObjectRef, offset: number, bytes: number, done: DoneWith<Extent[]>): void {
    const refusal = this.#refusal(offset, bytes);
    if (refusal !== null) {
      done(refusal);
      return;
    }
    const request = new ClientRequest(
      OP.extents,
      this.#whole,
      ref,
      offset,
      bytes,
      (error, body) => {
        if (error !== null) done(error);
        else decoded(() => decodeExtents(body, bytes), done);
      },
    );
    request.extra = this.#chain;
    this.#client.submit(request);
  }

  /** Others may make objects at any time. */
  absentRun(): null {
    return null;
  }

  flush(done: Done): void {
    const ticket = this.#tally.flushCalled();
    const request = new ClientRequest(OP.flush, this.#whole, null, 0, 0, (error) => {
      if (error !== null) {
        this.#tally.flushFailed(ticket);
        done(error);
      } else done(this.#tally.flushed(ticket) ? null : this.#lostError());
    });
    request.body = u32;
    this.#client.submit(request);
  }

  #lostError(): StoreError {
    return new StoreError(
      'E_LOST_WRITES',
      `The machine of the daemon stopped without warning: writes to pool '${this.name}' that were not flushed are lost`,
    );
  }

  prefetch(ref: ObjectRef, offset: number, bytes: number, done: Done): void {
    const refusal = this.#refusal(offset, bytes);
    if (refusal !== null) {
      done(refusal);
      return;
    }
    const request = new ClientRequest(OP.prefetch, this.#whole, ref, offset, bytes, done);
    request.extra = this.#chain;
    this.#client.submit(request);
  }

  stat(ref: ObjectRef): Promise<ObjectStat | null> {
    return this.#ask(OP.stat, ref, readStat);
  }

  list(options: ListOptions): Promise<ListPage> {
    const { limit = LIST_PAGE_MAX } = options;
    if (!Number.isInteger(limit) || limit < 1 || limit > LIST_PAGE_MAX)
      return Promise.reject(
        new StoreError('E_INVALID', `A page lists 1 to ${LIST_PAGE_MAX} objects, not ${limit}`),
      );
    return this.#ask(OP.list, null, decodeListPage, (request) => {
      request.body = (pool) => encodeListRequest(pool, options);
    });
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

  /** Counts a change that was answered before it was durable. */
  #counted(flags: number, done: Done): Done {
    if ((flags & WRITE_FLAGS.durable) !== 0) return done;
    return (error) => {
      if (error === null) {
        this.#tally.answered();
        this.#whole.#hasWritten = true;
      }
      done(error);
    };
  }

  /** @param prepare - Completes the request before it is submitted */
  #ask<T>(
    op: Op,
    ref: ObjectRef | null,
    decode: (body: Buffer) => T,
    prepare: (request: ClientRequest) => void = () => undefined,
  ): Promise<T> {
    return promisedWith<T>((done) => {
      const request = new ClientRequest(op, this.#whole, ref, 0, 0, (error, body) => {
        if (error !== null) done(error);
        else decoded(() => decode(body), done);
      });
      prepare(request);
      this.#client.submit(request);
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
