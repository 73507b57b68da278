/**
 * What one client does with a few hot objects: reads, writes of whole blocks and of pieces, zeroes, flushes, swaps,
 * deletes, several at a time, none that conflicts with another one of its own. All of it goes into the history.
 */
import {
  groupOf,
  locatorHash,
  OBJECT_KIND,
  ObjectRef,
  pieceChecksOf,
  WRITE_FLAGS,
  type StoreError,
} from '@store/core';
import type { SimRandom } from '@store/core/sim';
import {
  CELL_BYTES,
  CELLS_PER_BLOCK,
  fillCells,
  MISSING_TAG,
  tagsOf,
  ZERO_TAG,
  type History,
  type OpRecord,
  type UsedObject,
} from './history.js';
import type { CallResult, ClientCall, SimClient } from './sim-client.js';
import { SIM_BLOCKS } from './sim-disk.js';
import { exponential, type SimWorld } from './sim-world.js';

const CELLS: number = SIM_BLOCKS * CELLS_PER_BLOCK;
/** Blocks at the beginning of each object that most operations are about. */
const HOT_BLOCKS = 6;

/** Who is told of what happens, to look at all copies at that moment. */
export interface WorkWatcher {
  /** A flush has made these writes durable, it says. */
  flushed(writes: readonly OpRecord[]): void;
  /** `E_CHECKSUM` has come through to a client. */
  unreadable(read: OpRecord): void;
}

export interface WorkloadOptions {
  readonly world: SimWorld;
  readonly client: SimClient;
  readonly history: History;
  readonly watcher: WorkWatcher;
  /** Operations at a time. */
  readonly depth: number;
  /** More of them that only read: they are not held up by a write that waits. */
  readonly readDepth: number;
  /** Between two operations of one lane, on average. */
  readonly pauseMs: number;
  readonly durability: 'flush' | 'write';
}

/** The objects that all clients of a run use. */
export function makeObjects(
  random: SimRandom,
  clients: readonly string[],
  groups: number,
): UsedObject[] {
  const pool = { groups: { length: groups } as never }; // nothing else of it is looked at
  const objects: UsedObject[] = [];
  const add = (use: UsedObject['use'], ref: ObjectRef, owner: string): void => {
    objects.push({ index: objects.length, ref, use, owner, group: groupOf(pool, ref.hash) });
  };
  for (const client of clients) {
    const layer = `l${client}`;
    for (let index = 0; index < 2; index += 1) {
      const locator = `f${random.below(1000)}_${index}`;
      add('own', new ObjectRef(OBJECT_KIND.imageData, `${layer}_${index}`, locator), client);
    }
    add('plain', new ObjectRef(OBJECT_KIND.plain, `p${client}${random.below(100)}`), client);
  }
  add('shared', new ObjectRef(OBJECT_KIND.imageData, 's_0', `f${random.below(1000)}`), '');
  add('header', new ObjectRef(OBJECT_KIND.imageHeader, `h${random.below(100)}`), '');
  return objects;
}

/** An object in each group, for whoever must name one. */
export function refsOfGroups(
  objects: readonly UsedObject[],
  groups: number,
): Map<number, ObjectRef> {
  const refs = new Map(objects.map(({ group, ref }) => [group, ref]));
  for (let at = 0; refs.size < groups; at += 1) {
    const hash = locatorHash(Buffer.from(`g${at}`));
    const group = groupOf({ groups: { length: groups } as never }, hash); // as above
    if (!refs.has(group)) refs.set(group, new ObjectRef(OBJECT_KIND.plain, `g${at}`));
  }
  return refs;
}

interface Busy {
  readonly object: UsedObject;
  readonly from: number;
  readonly to: number;
  readonly changes: boolean;
}

export class Workload {
  readonly #options: WorkloadOptions;
  readonly #random: SimRandom;
  readonly #busy = new Set<Busy>();
  /** Answered, and not covered by a flush. */
  #unflushed: OpRecord[] = [];
  #refs: Map<number, ObjectRef> = new Map();
  #isFlushing = false;
  #isStopped = false;
  /** Version of each header, as it was last seen. */
  readonly #versions = new Map<UsedObject, number>();

  constructor(options: WorkloadOptions) {
    this.#options = options;
    this.#random = options.world.fork(`work ${options.client.name}`);
  }

  start(groups: number): void {
    this.#refs = refsOfGroups(this.#options.history.objects, groups);
    for (let lane = 0; lane < this.#options.depth; lane += 1) this.#next();
    for (let lane = 0; lane < this.#options.readDepth; lane += 1) this.#nextRead();
  }

  /** Begins nothing more. */
  stop(): void {
    this.#isStopped = true;
  }

  /** Reads all that there is, to the end. */
  readAll(): void {
    for (const object of this.#options.history.objects) {
      const cells = object.use === 'own' || object.use === 'shared' ? CELLS : 1;
      for (let from = 0; from < cells; from += 4 * CELLS_PER_BLOCK)
        this.#read(object, from, Math.min(cells, from + 4 * CELLS_PER_BLOCK), () => undefined);
      if (object.use === 'header') this.#look(object, () => undefined);
    }
  }

  #next(): void {
    const { client, pauseMs } = this.#options;
    client.process.timers.after(exponential(this.#random, pauseMs), () => {
      if (this.#isStopped) return;
      this.#begin(() => this.#next());
    });
  }

  #nextRead(): void {
    const { client, pauseMs, history } = this.#options;
    client.process.timers.after(exponential(this.#random, pauseMs), () => {
      if (this.#isStopped) return;
      const object = this.#random.pick(history.objects);
      const isWhole = object.use === 'header' || object.use === 'plain';
      const [from, to] = isWhole ? [0, 1] : this.#blocks();
      this.#read(object, from, to, () => this.#nextRead());
    });
  }

  #begin(done: () => void): void {
    const random = this.#random;
    const { history, client } = this.#options;
    if (random.chance(0.08)) {
      this.#flush();
      done();
      return;
    }
    const object = random.pick(history.objects);
    const isMine = object.owner === client.name;
    if (object.use === 'header') {
      if (random.chance(0.3)) this.#read(object, 0, 1, done);
      else if (random.chance(0.3) || !this.#versions.has(object)) this.#look(object, done);
      else this.#swap(object, done);
    } else if (object.use === 'plain') {
      if (!isMine || random.chance(0.3)) this.#read(object, 0, 1, done);
      else if (random.chance(0.25)) this.#change(object, 'delete', 0, 1, done);
      else this.#change(object, 'write', 0, 1, done);
    } else if (random.chance(0.4) || (object.use === 'own' && !isMine)) {
      const [from, to] = this.#blocks();
      this.#read(object, from, to, done);
    } else if (object.use === 'own' && random.chance(0.12)) {
      const [from, to] = random.chance(0.15) ? [0, CELLS] : this.#range();
      this.#change(object, 'zero', from, to, done);
    } else {
      const [from, to] = this.#range();
      this.#change(object, 'write', from, to, done);
    }
  }

  /** Whole blocks mostly, else a few cells. */
  #range(): [number, number] {
    if (this.#random.chance(0.65)) return this.#blocks();
    const from = this.#random.below(HOT_BLOCKS * CELLS_PER_BLOCK);
    return [from, Math.min(CELLS, from + 1 + this.#random.below(6))];
  }

  #blocks(): [number, number] {
    const hot = this.#random.chance(0.9) ? HOT_BLOCKS : SIM_BLOCKS;
    const first = this.#random.below(hot);
    const count = Math.min(SIM_BLOCKS - first, 1 + this.#random.below(3));
    return [first * CELLS_PER_BLOCK, (first + count) * CELLS_PER_BLOCK];
  }

  #change(
    object: UsedObject,
    kind: 'write' | 'zero' | 'delete',
    from: number,
    to: number,
    done: () => void,
  ): void {
    const busy = this.#enter(object, from, to, true);
    if (busy === null) {
      done();
      return;
    }
    const { world, history, client, durability } = this.#options;
    const tag = kind === 'write' ? history.nextTag() : kind === 'zero' ? ZERO_TAG : MISSING_TAG;
    const isDurable = this.#random.chance(0.1);
    const record = history.add({
      ...{ kind, client: client.name, object, from, to, tag, calledAt: world.now },
    });
    const bytes = (to - from) * CELL_BYTES;
    const offset = from * CELL_BYTES;
    const data = kind === 'write' ? Buffer.allocUnsafe(bytes) : null;
    if (data !== null) fillCells(data, tag);
    const call: ClientCall = {
      ...{ op: kind, ref: object.ref, offset, bytes, data, version: 0 },
      checks: data === null ? null : pieceChecksOf(offset, [data]),
      flags: isDurable ? WRITE_FLAGS.durable : 0,
      isRetried: object.use !== 'shared',
    };
    if (world.isTraced)
      world.trace(
        client.name,
        `${kind} ${tag} to '${object.ref.id}' cells ${from}-${to - 1}${isDurable ? ' durably' : ''}`,
      );
    client.call(call, (error, result) => {
      this.#leave(busy);
      if (error === null && result !== undefined) {
        this.#answered(record, result);
        const isWhole = object.use === 'plain';
        if (isDurable || durability === 'write' || isWhole) {
          record.isFlushed = true;
          this.#options.watcher.flushed([record]);
        } else {
          this.#unflushed.push(record);
          client.changed(object.group, result.epoch);
        }
      } else if (error?.code === 'E_NO_SPACE') world.sometimes('a write found no space');
      this.#say(record, error);
      done();
    });
  }

  #read(object: UsedObject, from: number, to: number, done: () => void): void {
    const busy = this.#enter(object, from, to, false);
    if (busy === null) {
      done();
      return;
    }
    const { world, history, client, watcher } = this.#options;
    const record = history.add({
      ...{ kind: 'read', client: client.name, object, from, to, tag: ZERO_TAG },
      calledAt: world.now,
    });
    const call = this.#plainCall('read', object.ref, from, to);
    client.call(call, (error, result) => {
      this.#leave(busy);
      if (error === null && result !== undefined) this.#seen(record, result);
      else if (error?.code === 'E_NOT_FOUND') {
        record.values = new Uint32Array(to - from).fill(MISSING_TAG);
        record.answeredAt = world.now;
        record.epoch = this.#epochOf(object.group);
      } else if (error?.code === 'E_CHECKSUM') watcher.unreadable(record);
      this.#say(record, error);
      done();
    });
  }

  #seen(record: OpRecord, result: CallResult): void {
    const { data, checks } = result.answer;
    if (data === null || checks === null) return;
    const offset = record.from * CELL_BYTES;
    const sums = pieceChecksOf(offset, [data]);
    const { world } = this.#options;
    if (sums.some((sum, at) => sum !== checks[at]))
      world.fail(`${record.client} got bytes of '${record.object.ref.id}' without their checksums`);
    record.values = tagsOf(data);
    if (record.values === null)
      world.fail(`${record.client} read a torn cell of '${record.object.ref.id}'`);
    else this.#lookForTornBlocks(record, record.values);
    this.#answered(record, result);
  }

  /** Two cells of a block from two writes of which each wrote both: no order of them leaves the block so. */
  #lookForTornBlocks({ object, from }: OpRecord, values: Uint32Array): void {
    const { history, world } = this.#options;
    for (let at = 0; at + CELLS_PER_BLOCK <= values.length; at += CELLS_PER_BLOCK)
      for (let cell = at + 1; cell < at + CELLS_PER_BLOCK; cell += 1) {
        const [a = 0, b = 0] = [values[cell - 1], values[cell]];
        if (a === b) continue;
        const [one, other] = [history.byTag.get(a), history.byTag.get(b)];
        if (one === undefined || other === undefined) continue;
        const covers = (op: OpRecord): boolean => op.from < from + cell && op.to > from + cell;
        if (covers(one) && covers(other))
          world.fail(`A block of '${object.ref.id}' was read with parts of writes ${a} and ${b}`);
      }
  }

  #swap(object: UsedObject, done: () => void): void {
    const busy = this.#enter(object, 0, 1, true);
    if (busy === null) {
      done();
      return;
    }
    const { world, history, client } = this.#options;
    const tag = history.nextTag();
    const record = history.add({
      ...{ kind: 'swap', client: client.name, object, from: 0, to: 1, tag, calledAt: world.now },
    });
    record.expected = this.#versions.get(object) ?? 0;
    const data = Buffer.allocUnsafe(CELL_BYTES);
    fillCells(data, tag);
    const call: ClientCall = {
      ...{
        op: 'swap',
        ref: object.ref,
        offset: 0,
        bytes: CELL_BYTES,
        data,
        checks: null,
        flags: 0,
      },
      ...{ version: record.expected, isRetried: false },
    };
    client.call(call, (error, result) => {
      this.#leave(busy);
      this.#versions.delete(object);
      if (error === null && result !== undefined) {
        this.#answered(record, result);
        record.version = result.answer.version;
        record.isFlushed = true;
        this.#versions.set(object, record.version);
        world.sometimes('a swap succeeded');
      } else if (error?.code === 'E_VERSION') record.isRefused = true;
      this.#say(record, error);
      done();
    });
  }

  #look(object: UsedObject, done: () => void): void {
    const busy = this.#enter(object, 0, 1, false);
    if (busy === null) {
      done();
      return;
    }
    const { world, history, client } = this.#options;
    const record = history.add({
      ...{ kind: 'stat', client: client.name, object, from: 0, to: 1, tag: ZERO_TAG },
      calledAt: world.now,
    });
    client.call(this.#plainCall('stat', object.ref, 0, 1), (error, result) => {
      this.#leave(busy);
      if (error === null && result !== undefined) {
        this.#answered(record, result);
        record.version = result.answer.version;
        this.#versions.set(object, record.version);
      }
      done();
    });
  }

  #flush(): void {
    if (this.#isFlushing) return;
    this.#isFlushing = true;
    const { world, client, watcher } = this.#options;
    const covered = this.#unflushed;
    this.#unflushed = [];
    world.trace(client.name, `flush of ${covered.length} writes`);
    client.flush(this.#refs, (error, epochs) => {
      this.#isFlushing = false;
      world.trace(client.name, `flush: ${error?.code ?? 'done'}`);
      if (error === null) {
        for (const record of covered) {
          record.isFlushed = true;
          record.flushedEpoch = epochs.get(record.object.group) ?? 0;
        }
        watcher.flushed(covered);
      } else if (error.code !== 'E_LOST_WRITES') this.#unflushed = [...covered, ...this.#unflushed];
    });
  }

  #answered(record: OpRecord, { epoch }: CallResult): void {
    record.answeredAt = this.#options.world.now;
    record.epoch = epoch;
  }

  #epochOf(group: number): number {
    return this.#options.client.view?.map.pools[0]?.groups[group]?.epoch ?? 0;
  }

  #plainCall(op: 'read' | 'stat', ref: ObjectRef, from: number, to: number): ClientCall {
    const offset = from * CELL_BYTES;
    const bytes = (to - from) * CELL_BYTES;
    return {
      ...{ op, ref, offset, bytes, data: null, checks: null, flags: 0, version: 0 },
      isRetried: true,
    };
  }

  #say({ kind, tag, object, values, from }: OpRecord, error: StoreError | null): void {
    const { world, client } = this.#options;
    if (!world.isTraced) return;
    const what = kind === 'read' ? `read ${from}: ${values?.join(',') ?? ''}` : `${kind} ${tag}`;
    world.trace(client.name, `${what} of '${object.ref.id}': ${error?.code ?? 'done'}`);
  }

  #enter(object: UsedObject, from: number, to: number, changes: boolean): Busy | null {
    for (const other of this.#busy)
      if (
        other.object === object &&
        (changes || other.changes) &&
        (object.use === 'plain' || (other.from < to && from < other.to))
      )
        return null;
    const busy = { object, from, to, changes };
    this.#busy.add(busy);
    return busy;
  }

  #leave(busy: Busy): void {
    this.#busy.delete(busy);
  }
}
