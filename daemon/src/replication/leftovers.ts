/**
 * Copies of groups that have moved away from this daemon: erased when the group has not been here for a while and has all
 * its replicas elsewhere, one object after the other, looking at the map before each.
 */
import { invariant, type MapGroup, type MapPool, type MapView } from '@store/core';
import type { ObjectPlace } from './change.js';
import { rangeOf } from './join.js';
import type { ReplicaPool } from './replica-pool.js';

/** So long a group must have been elsewhere. */
export const KEEP_MS = 600_000;
const PAGE = 64;
const LOOK_MS = 30_000;

export interface LeftoversHost {
  readonly now: number;
  readonly self: { readonly daemon: number };
  storeOf(pool: number): ReplicaPool | null;
  soon(run: () => void): void;
  readonly log: { info(fields: object, text: string): void };
}

interface Target {
  readonly pool: number;
  readonly group: number;
}

export class Leftovers {
  readonly #host: LeftoversHost;
  readonly #keepMs: number;
  /** Since when a group is not here, as far as this start knows. */
  readonly #goneSince = new Map<string, number>();
  #view: MapView | null = null;
  #queue: Target[] = [];
  #erasing: Target | null = null;
  #lookedAt = -Infinity;
  erasedObjects = 0;

  constructor(host: LeftoversHost, keepMs: number = KEEP_MS) {
    this.#host = host;
    this.#keepMs = keepMs;
  }

  mapIs(view: MapView): void {
    this.#view = view;
  }

  /** Something of this group is being erased just now: nobody may be told what is here. */
  isErasing(pool: number, group: number): boolean {
    return this.#erasing?.pool === pool && this.#erasing.group === group;
  }

  /** To be called often. */
  tick(): void {
    const view = this.#view;
    const { now } = this.#host;
    if (view === null || now - this.#lookedAt < Math.min(LOOK_MS, this.#keepMs / 4)) return;
    this.#lookedAt = now;
    for (const pool of view.map.pools)
      pool.groups.forEach((group, number) => this.#look(pool, group, number, now));
    if (this.#erasing === null) this.#next();
  }

  #look(pool: MapPool, group: MapGroup, number: number, now: number): void {
    const key = `${pool.id}/${number}`;
    if (!this.#mayErase(pool, group)) {
      this.#goneSince.delete(key);
      return;
    }
    const since = this.#goneSince.get(key) ?? now;
    this.#goneSince.set(key, since);
    if (now - since < this.#keepMs) return;
    // Looked at again only after it was here once more.
    this.#goneSince.set(key, Infinity);
    this.#queue.push({ pool: pool.id, group: number });
  }

  #mayErase({ replicas }: MapPool, { members, hasPrimary }: MapGroup): boolean {
    const isHere = members.some(({ daemon }) => daemon === this.#host.self.daemon);
    const inSync = members.filter((member) => member.inSync !== null).length;
    return !isHere && hasPrimary && inSync >= replicas;
  }

  #next(): void {
    const target = this.#queue.shift();
    if (target !== undefined) this.#erase(target, null);
  }

  #erase(target: Target, after: Buffer | null): void {
    const pool = this.#view?.poolById(target.pool);
    const group = pool?.groups[target.group];
    const store = this.#host.storeOf(target.pool);
    this.#erasing = null;
    if (
      pool === undefined ||
      group === undefined ||
      store === null ||
      !this.#mayErase(pool, group)
    ) {
      this.#next();
      return;
    }
    this.#erasing = target;
    store.inventory(rangeOf(pool, target.group), after, PAGE, (error, page) => {
      if (error !== null || page === undefined) {
        this.#erasing = null;
        return;
      }
      const objects = page.entries.map(({ object }) => object);
      this.#eraseObjects(target, store, objects, () => {
        if (page.next !== null) this.#erase(target, page.next);
        else {
          this.#erasing = null;
          if (objects.length > 0)
            this.#host.log.info(target, 'What was left of a group that has moved away is erased');
          this.#next();
        }
      });
    });
  }

  /** One after the other, as long as the group stays elsewhere. */
  #eraseObjects(
    target: Target,
    store: ReplicaPool,
    objects: ObjectPlace[],
    done: () => void,
  ): void {
    const object = objects.shift();
    const pool = this.#view?.poolById(target.pool);
    const group = pool?.groups[target.group];
    const mayGoOn = pool !== undefined && group !== undefined && this.#mayErase(pool, group);
    if (object === undefined || !mayGoOn) {
      done();
      return;
    }
    invariant(this.isErasing(target.pool, target.group), 'one group is erased at a time');
    store.erase(object, (error) => {
      if (error === null) this.erasedObjects += 1;
      this.#host.soon(() => this.#eraseObjects(target, store, objects, done));
    });
  }
}
