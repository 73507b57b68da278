/**
 * Clients that take the writer role of one image from each other, at random and without asking, and write to it whether
 * they still have it or not. The header of the image is a model that never fails: a token that grows, and whether the guards
 * were raised to it. What is looked for:
 *
 * - I15: a write with a lower token that was sent after the role was *ready* for a higher one is never answered as made;
 * - I16: after *ready* nothing of an older writer appears: whoever has just taken the role looks at all that there is, and
 *   from then on a block shows what it showed then, or something newer;
 * - I17: who has the role is not told that he has not.
 */
import { groupOf, OBJECT_KIND, ObjectRef, pieceChecksOf, type LayerClaim } from '@store/core';
import type { SimRandom } from '@store/core/sim';
import {
  CELL_BYTES,
  CELLS_PER_BLOCK,
  fillCells,
  tagsOf,
  ZERO_TAG,
  type History,
} from './history.js';
import type { CallResult, ClientCall, SimClient } from './sim-client.js';
import { exponential, type SimWorld } from './sim-world.js';

const IMAGE = 'image';
const LAYER = 'wr';
/** Few, so that writes wait for each other in a daemon. */
const OBJECTS = 3;
const CELLS: number = 4 * CELLS_PER_BLOCK;
/** Of each client. */
const LANES = 5;

interface Busy {
  readonly object: WrittenObject;
  readonly from: number;
  readonly to: number;
}

interface Write {
  readonly tag: number;
  readonly token: number;
}

/** What a cell may show to who asks after `since`. */
interface Floor {
  readonly token: number;
  /** Something older that was there when the role was taken; none: it was written over since. */
  readonly older: number | null;
  readonly since: number;
  /** Losses of unflushed writes of the group until then: what was there before may come back with one. */
  readonly losses: number;
}

interface WrittenObject {
  readonly ref: ObjectRef;
  readonly group: number;
  readonly floors: (Floor | null)[];
}

/** What all writers share. */
export class RoleWorld {
  readonly world: SimWorld;
  readonly history: History;
  readonly groups: number;
  readonly pauseMs: number;
  readonly objects: readonly WrittenObject[];
  /** Of each group an object, to name it by. */
  readonly groupRefs: ReadonlyMap<number, ObjectRef>;
  readonly writes = new Map<number, Write>();
  /** Of the last one who has begun to take the role, and of the last for whom it was ready. */
  token = 0;
  readyToken = 0;
  readyAt = 0;

  constructor(
    parts: Pick<RoleWorld, 'world' | 'history' | 'groups' | 'pauseMs'>,
    groupRefs: ReadonlyMap<number, ObjectRef>,
  ) {
    this.world = parts.world;
    this.history = parts.history;
    this.groups = parts.groups;
    this.pauseMs = parts.pauseMs;
    this.groupRefs = groupRefs;
    const pool = { groups: { length: parts.groups } as never }; // nothing else of it is looked at
    this.objects = Array.from({ length: OBJECTS }, (_, index) => {
      const ref = new ObjectRef(OBJECT_KIND.imageData, `${LAYER}_${index}`, `role_${index}`);
      const floors = Array.from({ length: CELLS }, () => null);
      return { ref, group: groupOf(pool, ref.hash), floors };
    });
  }

  lossesOf(group: number): number {
    return this.history.losses.get(group)?.length ?? 0;
  }

  /** The role was taken, and the cells `from...` of an object show this. */
  sawAll(object: WrittenObject, from: number, tags: Uint32Array, token: number): void {
    for (const [at, tag] of tags.entries()) this.#raise(object, from + at, token, tag);
  }

  /** A write was answered. */
  wrote(object: WrittenObject, from: number, to: number, token: number): void {
    for (let cell = from; cell < to; cell += 1) this.#raise(object, cell, token, null);
  }

  #raise(object: WrittenObject, cell: number, token: number, older: number | null): void {
    const losses = this.lossesOf(object.group);
    const before = object.floors[cell] ?? null;
    if (before?.losses === losses) {
      if (before.token > token) return;
      // It was written over before somebody looked.
      if (before.token === token && before.older === null) return;
    }
    object.floors[cell] = { token, older, since: this.world.now, losses };
  }

  /** Somebody has asked for this at `calledAt`, and this is the answer. */
  check(object: WrittenObject, from: number, tags: Uint32Array, calledAt: number): void {
    for (const [at, tag] of tags.entries()) {
      const floor = object.floors[from + at] ?? null;
      if (floor === null || floor.since > calledAt) continue;
      if (floor.losses !== this.lossesOf(object.group) || tag === floor.older) continue;
      const token = tag === ZERO_TAG ? 0 : (this.writes.get(tag)?.token ?? 0);
      if (token < floor.token)
        this.world.fail(
          `I16: cell ${from + at} of '${object.ref.id}' shows write ${tag} of writer ${token}, after writer ${floor.token} had taken over`,
        );
    }
  }
}

export class RoleWork {
  readonly #shared: RoleWorld;
  readonly #client: SimClient;
  readonly #random: SimRandom;
  /** Writes under way: none of one client touches the cells of another. */
  readonly #busy = new Set<Busy>();
  /** That this client believes to have; 0: none yet. */
  #token = 0;
  #isTaking = false;
  #isStopped = false;

  constructor(shared: RoleWorld, client: SimClient) {
    this.#shared = shared;
    this.#client = client;
    this.#random = shared.world.fork(`role ${client.name}`);
  }

  start(): void {
    for (let lane = 0; lane < LANES; lane += 1) this.#next();
  }

  stop(): void {
    this.#isStopped = true;
  }

  /** Looks at all that there is once more. */
  readAll(): void {
    for (const object of this.#shared.objects) this.#read(object, () => undefined);
  }

  #next(): void {
    const { pauseMs } = this.#shared;
    this.#client.process.timers.after(exponential(this.#random, pauseMs), () => {
      if (!this.#isStopped) this.#begin(() => this.#next());
    });
  }

  #begin(done: () => void): void {
    const random = this.#random;
    const object = random.pick(this.#shared.objects);
    if (random.chance(0.05) && !this.#isTaking) this.#take(done);
    else if (this.#token === 0 || random.chance(0.4)) this.#read(object, done);
    else this.#write(object, done);
  }

  #take(done: () => void): void {
    const { world, groupRefs } = this.#shared;
    this.#isTaking = true;
    const token = this.#shared.token + 1;
    this.#shared.token = token;
    world.trace(this.#client.name, `takes the role with token ${token}`);
    let left = groupRefs.size;
    let isLost = false;
    for (const ref of groupRefs.values()) {
      const call: ClientCall = {
        ...this.#plain('raise', ref, 0, 0),
        guard: { image: IMAGE, token, layer: 0, layerId: LAYER },
      };
      this.#client.call(call, (error) => {
        if (error !== null) isLost = true;
        if (error?.code === 'E_FENCED' && this.#shared.token === token)
          world.fail(
            `I17: ${this.#client.name} cannot raise a guard to ${token}: ${error.message}`,
          );
        left -= 1;
        if (left > 0) return;
        this.#isTaking = false;
        if (!isLost && this.#shared.token === token) this.#ready(token);
        done();
      });
    }
  }

  #ready(token: number): void {
    const shared = this.#shared;
    shared.readyToken = token;
    shared.readyAt = shared.world.now;
    this.#token = token;
    shared.world.sometimes('a writer role was taken');
    shared.world.trace(this.#client.name, `has the role with token ${token}`);
    for (const object of shared.objects)
      this.#read(
        object,
        () => undefined,
        (tags) => {
          if (shared.readyToken === token) shared.sawAll(object, 0, tags, token);
        },
      );
  }

  #write(object: WrittenObject, done: () => void): void {
    const shared = this.#shared;
    const { world } = shared;
    const [name, token, calledAt] = [this.#client.name, this.#token, world.now];
    const from = this.#random.below(CELLS - 1);
    const to = Math.min(CELLS, from + 1 + this.#random.below(6));
    for (const other of this.#busy)
      if (other.object === object && other.from < to && from < other.to) {
        done();
        return;
      }
    const busy = { object, from, to };
    const tag = shared.history.nextTag();
    shared.writes.set(tag, { tag, token });
    const data = Buffer.allocUnsafe((to - from) * CELL_BYTES);
    fillCells(data, tag);
    const claim: LayerClaim = { image: IMAGE, token, layer: 0, keyPrefix: `${LAYER}_` };
    const call: ClientCall = {
      ...this.#plain('write', object.ref, from, to),
      ...{ data, checks: pieceChecksOf(from * CELL_BYTES, [data]), claim },
    };
    this.#busy.add(busy);
    world.trace(
      name,
      `write ${tag} of writer ${token} to '${object.ref.id}' cells ${from}-${to - 1}`,
    );
    this.#client.call(call, (error) => {
      this.#busy.delete(busy);
      world.trace(name, `write ${tag} of writer ${token}: ${error?.code ?? 'done'}`);
      if (error === null) {
        if (shared.readyToken > token && shared.readyAt <= calledAt)
          world.fail(
            `I15: write ${tag} of writer ${token} was made, and sent after writer ${shared.readyToken} had taken over`,
          );
        shared.wrote(object, from, to, token);
      } else if (error.code === 'E_FENCED') {
        world.sometimes('an old writer was refused');
        if (shared.token === token)
          world.fail(`I17: ${name} has the role, and is refused: ${error.message}`);
      }
      done();
    });
  }

  #read(object: WrittenObject, done: () => void, seen?: (tags: Uint32Array) => void): void {
    const { world } = this.#shared;
    const calledAt = world.now;
    this.#client.call(this.#plain('read', object.ref, 0, CELLS), (error, result) => {
      const tags = this.#tagsIn(object, result);
      if (error === null && tags !== null) {
        this.#shared.check(object, 0, tags, calledAt);
        seen?.(tags);
      }
      done();
    });
  }

  #tagsIn(object: WrittenObject, result: CallResult | undefined): Uint32Array | null {
    const data = result?.answer.data ?? null;
    if (data === null) return null;
    const tags = tagsOf(data);
    if (tags === null) this.#shared.world.fail(`A cell of '${object.ref.id}' is torn`);
    return tags;
  }

  #plain(op: ClientCall['op'], ref: ObjectRef, from: number, to: number): ClientCall {
    return {
      ...{ op, ref, offset: from * CELL_BYTES, bytes: (to - from) * CELL_BYTES },
      ...{ data: null, checks: null, flags: 0, version: 0, isRetried: true },
    };
  }
}
