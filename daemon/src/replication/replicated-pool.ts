/**
 * A pool of the cluster as its clients use it on one daemon: operations on objects of groups that this daemon is primary of.
 * Each is let in by the group's primary, done by the engine, and answered when all who must have it have it.
 *
 * A read whose bytes do not match their checksum here is answered with those of another member, and mended.
 */
import {
  BLOCK_BYTES,
  BLOCK_STATE,
  BLOCKS_PER_OBJECT,
  OBJECT_KIND,
  promisedWith,
  StoreError,
  WRITE_FLAGS,
  partsBytes,
  type Done,
  type DoneWith,
  type Extent,
  type GroupAtEpoch,
  type GuardChange,
  type GuardedPool,
  type LayerClaim,
  type ListOptions,
  type ListPage,
  type ObjectRef,
  type ObjectStat,
  type PieceChecks,
} from '@store/core';
import { EVERY_BLOCK } from './change.js';
import type { GroupPrimary } from './group-primary.js';
import { rangeOf } from './join.js';
import { changeGuard } from './change-guard.js';
import { mendBlocks } from './read-repair.js';
import type { ReplicaNode } from './replica-node.js';
import type { ReplicaPool } from './replica-pool.js';

/** What all views of one pool share. */
export interface ReplicatedPoolParts {
  readonly pool: number;
  readonly name: string;
  readonly objectBytes: number;
}

/** Views are kept for so many epochs; there are as many as groups that differ in it. */
const VIEWS_MAX = 4096;

export class ReplicatedPool implements GuardedPool {
  readonly name: string;
  readonly objectBytes: number;
  readonly #node: ReplicaNode;
  readonly #parts: ReplicatedPoolParts;
  readonly #epoch: number;
  readonly #views: Map<number, ReplicatedPool>;
  /** Of the writer whose changes these are; null: they are nobody's. */
  readonly #claim: LayerClaim | null;

  /**
   * @param epoch - That whoever asks believes in; 0: it has none
   * @param views - By epoch, of the same claim
   */
  constructor(
    node: ReplicaNode,
    parts: ReplicatedPoolParts,
    epoch = 0,
    views: Map<number, ReplicatedPool> = new Map(),
    claim: LayerClaim | null = null,
  ) {
    this.#node = node;
    this.#parts = parts;
    this.#epoch = epoch;
    this.#views = views;
    this.#claim = claim;
    this.name = parts.name;
    this.objectBytes = parts.objectBytes;
  }

  /** The pool for requests that name this epoch of their group: in another one they are refused. */
  at(epoch: number): ReplicatedPool {
    let view = this.#views.get(epoch);
    if (view === undefined) {
      if (this.#views.size >= VIEWS_MAX) this.#views.clear();
      view = new ReplicatedPool(this.#node, this.#parts, epoch, this.#views, this.#claim);
      this.#views.set(epoch, view);
    }
    return view;
  }

  /** Its views in all epochs are its own: a write costs nothing more for having a claim. */
  claimed(claim: LayerClaim): ReplicatedPool {
    return new ReplicatedPool(this.#node, this.#parts, this.#epoch, new Map(), claim);
  }

  read(ref: ObjectRef, offset: number, target: Buffer, done: Done): void {
    this.readChecked(ref, offset, target, (error) => done(error));
  }

  readChecked(ref: ObjectRef, offset: number, target: Buffer, done: DoneWith<PieceChecks>): void {
    this.#admit(ref, false, done, (primary, store) =>
      this.#readHere(ref, offset, target, primary, store, true, done),
    );
  }

  write(ref: ObjectRef, offset: number, parts: readonly Buffer[], flags: number, done: Done): void {
    const bytes = partsBytes(parts);
    const range = blockRange(ref, offset, bytes);
    this.#whileRoom(ref, offset, bytes, done, () =>
      this.#change(ref, range, flags, done, isOneChange(ref, flags), (store, flagsHere, made) =>
        store.write(ref, offset, parts, flagsHere, made),
      ),
    );
  }

  writeChecked(
    ref: ObjectRef,
    offset: number,
    parts: readonly Buffer[],
    checks: PieceChecks,
    flags: number,
    done: Done,
  ): void {
    const bytes = partsBytes(parts);
    const range = blockRange(ref, offset, bytes);
    this.#whileRoom(ref, offset, bytes, done, () =>
      this.#change(ref, range, flags, done, isOneChange(ref, flags), (store, flagsHere, made) =>
        store.writeChecked(ref, offset, parts, checks, flagsHere, made),
      ),
    );
  }

  zero(ref: ObjectRef, offset: number, bytes: number, flags: number, done: Done): void {
    const range = blockRange(ref, offset, bytes);
    this.#change(ref, range, flags, done, false, (store, flagsHere, made) =>
      store.zero(ref, offset, bytes, flagsHere, made),
    );
  }

  extents(ref: ObjectRef, offset: number, bytes: number, done: DoneWith<Extent[]>): void {
    const { first, last } = blockRange(ref, offset, bytes);
    this.#admit(ref, false, done, (primary, store) => {
      primary.running += 1;
      store.extents(ref, offset, bytes, (error, extents) => {
        primary.running -= 1;
        primary.proveRead(ref, first, last, (late) => {
          if (late === null && error === null) done(null, extents);
          else done(late ?? (error === null ? null : toOthers(primary, error)));
        });
      });
    });
  }

  prefetch(ref: ObjectRef, offset: number, bytes: number, done: Done): void {
    this.#admit(ref, false, done, (_, store) => store.prefetch(ref, offset, bytes, done));
  }

  /** Other clients make objects as well. */
  absentRun(): null {
    return null;
  }

  /** The engine fails as a whole; what a group has lost the map says. */
  forUser(): this {
    return this;
  }

  /** Of all that this daemon is primary of now; whoever needs certainty names his groups. */
  flush(done: Done): void {
    this.#flush(this.#node.primariesOf(this.#parts.pool), done);
  }

  flushGroups(groups: readonly GroupAtEpoch[], done: Done): void {
    const primaries = this.#primariesAt(groups);
    if (primaries instanceof StoreError) {
      done(primaries);
      return;
    }
    this.#flush(primaries, (error) => {
      // What was promised is promised in these epochs.
      const late = this.#primariesAt(groups);
      done(error ?? (late instanceof StoreError ? late : null));
    });
  }

  #flush(primaries: readonly GroupPrimary[], done: Done): void {
    let left = primaries.length + 1;
    let failed: StoreError | null = null;
    const admitted = (error: StoreError | null): void => {
      failed ??= error;
      left -= 1;
      if (left > 0) return;
      if (failed !== null) done(failed);
      else
        this.#node.flush(this.#parts.pool, primaries, (error) =>
          done(error === null ? null : toOthersOf(primaries, error)),
        );
    };
    // Below `minReplicas` copies writes and flushes wait.
    for (const primary of primaries) primary.admit(0, true, () => admitted(null), admitted);
    admitted(null);
  }

  changeGuards(groups: readonly GroupAtEpoch[], change: GuardChange, done: Done): void {
    const { pool } = this.#parts;
    const primaries = this.#primariesAt(groups);
    const store = this.#node.storeOf(pool);
    const groupCount = this.#node.poolOf(pool)?.groups.length ?? 0;
    if (primaries instanceof StoreError || store === null || groupCount === 0) {
      done(primaries instanceof StoreError ? primaries : notServed(this.name));
      return;
    }
    let left = primaries.length;
    let failed: StoreError | null = null;
    const changed: Done = (error) => {
      failed ??= error;
      left -= 1;
      if (left > 0) return;
      if (failed !== null) done(toOthersOf(primaries, failed));
      // All that was answered before is durable with it.
      else this.flushGroups(groups, done);
    };
    for (const [index, primary] of primaries.entries())
      changeGuard(primary, {
        ...{ store, groupCount, change, epoch: groups[index]?.epoch ?? 0 },
        done: changed,
      });
  }

  /** Those of groups that this daemon serves in these very epochs. */
  #primariesAt(groups: readonly GroupAtEpoch[]): GroupPrimary[] | StoreError {
    const { pool } = this.#parts;
    const primaries: GroupPrimary[] = [];
    for (const { group, epoch } of groups) {
      const primary = this.#node.group({ pool, group })?.primary ?? null;
      if (primary === null) return notServed(this.name);
      const refusal = primary.epochRefusal(epoch);
      if (refusal !== null) return refusal;
      primaries.push(primary);
    }
    return primaries;
  }

  stat(ref: ObjectRef): Promise<ObjectStat | null> {
    return this.#ask(ref, false, (store) => store.stat(ref));
  }

  compareAndSwap(ref: ObjectRef, expectedVersion: number, bytes: Buffer): Promise<number> {
    return this.#ask(ref, true, (store) => store.compareAndSwap(ref, expectedVersion, bytes));
  }

  delete(ref: ObjectRef, version = 0): Promise<boolean> {
    return this.#ask(ref, true, (store) => store.delete(ref, version), version);
  }

  /** Of all groups that this daemon serves. */
  list(options: ListOptions): Promise<ListPage> {
    const primaries = this.#node.primariesOf(this.#parts.pool).filter((one) => one.isServing);
    return this.#list(primaries, options);
  }

  async listGroups(groups: readonly GroupAtEpoch[], options: ListOptions): Promise<ListPage> {
    const primaries = this.#primariesAt(groups);
    if (primaries instanceof StoreError) throw primaries;
    const page = await this.#list(primaries, options);
    const late = this.#primariesAt(groups);
    if (late instanceof StoreError) throw late;
    return page;
  }

  async #list(primaries: readonly GroupPrimary[], options: ListOptions): Promise<ListPage> {
    const { pool } = this.#parts;
    const map = this.#node.poolOf(pool);
    const store = this.#node.storeOf(pool);
    if (map === undefined || store === null) throw notServed(this.name);
    for (const primary of primaries)
      await promisedWith<null>((done) => primary.admit(0, false, () => done(null, null), done));
    const ranges = primaries.map(({ number }) => rangeOf(map, number));
    const page = await store.listIn(ranges, options);
    for (const primary of primaries)
      await promisedWith<null>((done) =>
        primary.proveLease((error) => {
          if (error === null) done(null, null);
          else done(error);
        }),
      );
    return page;
  }

  /** @param mends - Whether a bad block may be asked for elsewhere: once */
  #readHere(
    ref: ObjectRef,
    offset: number,
    target: Buffer,
    primary: GroupPrimary,
    store: ReplicaPool,
    mends: boolean,
    done: DoneWith<PieceChecks>,
  ): void {
    const { first, last } = blockRange(ref, offset, target.length);
    const startedAt = this.#node.now;
    primary.running += 1;
    store.readChecked(ref, offset, target, (error, checks) => {
      primary.running -= 1;
      this.#node.joins.pace.tookMs(this.#node.now - startedAt);
      if (error?.code === 'E_CHECKSUM' && mends) {
        // Whether it could be mended or not: it may have been written, or mended by somebody else, meanwhile.
        mendBlocks(this.#node, primary, store, ref, { first, last }, () =>
          this.#readHere(ref, offset, target, primary, store, false, done),
        );
        return;
      }
      primary.proveRead(ref, first, last, (late) => {
        if (late !== null) done(late);
        else if (error !== null) done(toOthers(primary, error));
        else done(null, checks);
      });
    });
  }

  /**
   * While the disk of a member is nearly full, only what is there already may be written: the engine of this daemon knows
   * its own disk, and not those of others, which hold the same blocks.
   */
  #whileRoom(ref: ObjectRef, offset: number, bytes: number, done: Done, write: () => void): void {
    const { pool } = this.#parts;
    const primary = this.#node.groupOf(pool, ref.hash)?.primary ?? null;
    if (primary?.hasFullMember !== true) {
      write();
      return;
    }
    this.#admit(ref, false, done, (_, store) =>
      store.extents(ref, offset, bytes, (error, extents = []) => {
        const isThere = error === null && extents.every(({ state }) => state === BLOCK_STATE.data);
        if (isThere) write();
        else
          done(
            new StoreError(
              'E_NO_SPACE',
              `The disk of a daemon that holds this group of pool '${this.name}' is nearly full; delete something, or add daemons`,
            ),
          );
      }),
    );
  }

  /**
   * @param isOne - It is announced as one change: if it must be durable, members say so with their acknowledgements, and nobody
   *   is asked for a flush after it
   */
  #change(
    ref: ObjectRef,
    { first, last }: { first: number; last: number },
    flags: number,
    done: Done,
    isOne: boolean,
    make: (store: ReplicaPool, flags: number, made: Done) => void,
  ): void {
    const { pool } = this.#parts;
    this.#admit(ref, true, done, (primary, store) => {
      const { durable } = WRITE_FLAGS;
      const isDurable = (flags & durable) !== 0 || this.#node.poolOf(pool)?.durability === 'write';
      const flagsHere = isDurable && isOne ? flags | durable : flags & ~durable;
      const refusal = primary.guards.refusal(this.#claim, ref);
      if (refusal !== null) {
        primary.proveLease((late) => done(late ?? refusal));
        return;
      }
      const round = primary.rounds.begin();
      const startedAt = this.#node.now;
      primary.running += 1;
      make(store, flagsHere, (error) => {
        primary.running -= 1;
        if (error !== null) {
          // What is refused may be refused because of what nobody else has yet.
          primary.proveRead(ref, first, last, (late) => {
            primary.rounds.end(round);
            done(late ?? toOthers(primary, error));
          });
          return;
        }
        primary.whenCommitted(ref, first, last, (late) => {
          primary.rounds.end(round);
          this.#node.joins.pace.tookMs(this.#node.now - startedAt);
          if (late !== null || !isDurable || isOne) done(late);
          else
            this.#node.flush(pool, [primary], (error) =>
              done(error === null ? null : toOthers(primary, error)),
            );
        });
      });
    });
  }

  /** @param version - That a delete names; 0: none, or it is none */
  #ask<T>(
    ref: ObjectRef,
    changes: boolean,
    work: (store: ReplicaPool) => Promise<T>,
    version = 0,
  ): Promise<T> {
    const { first, last } = EVERY_BLOCK;
    return promisedWith<T>((done) =>
      this.#admit(ref, changes, done, (primary, store) => {
        const refusal = changes ? primary.guards.refusal(this.#claim, ref, version) : null;
        if (refusal !== null) {
          primary.proveLease((late) => done(late ?? refusal));
          return;
        }
        const round = changes ? primary.rounds.begin() : null;
        primary.running += 1;
        const prove = (answer: () => void, isMade: boolean): void => {
          primary.running -= 1;
          primary.proveRead(ref, first, last, (late) => {
            if (round !== null) primary.rounds.end(round);
            if (late === null) answer();
            else done(isMade ? inDoubt(this.name, late) : late);
          });
        };
        work(store).then(
          (value) => prove(() => done(null, value), changes),
          (error: unknown) =>
            prove(
              () => done(error instanceof StoreError ? toOthers(primary, error) : asDefect(error)),
              false,
            ),
        );
      }),
    );
  }

  #admit<T>(
    ref: ObjectRef,
    changes: boolean,
    done: DoneWith<T>,
    run: (primary: GroupPrimary, store: ReplicaPool) => void,
  ): void {
    const { pool } = this.#parts;
    const primary = this.#node.groupOf(pool, ref.hash)?.primary ?? null;
    const store = this.#node.storeOf(pool);
    if (primary === null || store === null) {
      done(notServed(this.name));
      return;
    }
    primary.admit(
      this.#epoch,
      changes,
      () => run(primary, store),
      (error) => done(error ?? notServed(this.name)),
    );
  }
}

/** A write of which others hear once, by all of its blocks. */
function isOneChange({ kind }: ObjectRef, flags: number): boolean {
  return kind === OBJECT_KIND.imageData && (flags & WRITE_FLAGS.ifAbsent) === 0;
}

/** Blocks that an operation is about; all of an object that is not image data, as whether it exists matters. */
function blockRange(
  ref: ObjectRef,
  offset: number,
  bytes: number,
): { first: number; last: number } {
  if (ref.kind !== OBJECT_KIND.imageData || bytes === 0) return EVERY_BLOCK;
  return {
    first: Math.floor(offset / BLOCK_BYTES),
    last: Math.min(BLOCKS_PER_OBJECT, Math.floor((offset + bytes - 1) / BLOCK_BYTES)),
  };
}

function notServed(name: string): StoreError {
  return new StoreError(
    'E_STALE_MAP',
    `This daemon does not serve that group of pool '${name}', by its map`,
  );
}

/** The disk has failed and this daemon ends; whoever asked is told to ask another one that has everything. */
function toOthers(primary: GroupPrimary, error: StoreError): StoreError {
  if (error.code !== 'E_DISK_FAILED' || !primary.hasOthers) return error;
  return new StoreError('E_STALE_MAP', `Another daemon takes over: ${error.message}`, {
    cause: error,
  });
}

function toOthersOf(primaries: readonly GroupPrimary[], error: StoreError): StoreError {
  const alone = primaries.find((primary) => !primary.hasOthers);
  const [any] = primaries;
  return alone !== undefined || any === undefined ? error : toOthers(any, error);
}

/** It was made here, and nobody knows whether whoever leads now has it. */
function inDoubt(name: string, cause: StoreError): StoreError {
  return new StoreError(
    'E_IN_DOUBT',
    `The change was begun, and another daemon leads its group of pool '${name}' now: it was made, or it was not`,
    { cause },
  );
}

function asDefect(error: unknown): never {
  throw error;
}
