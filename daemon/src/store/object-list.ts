/** What there is in a pool, in the order of the metadata store: by the hash of the locator, then by key. */
import {
  LIST_PAGE_MAX,
  OBJECT_KIND,
  StoreError,
  promised,
  type DoneWith,
  type ListOptions,
  type ListPage,
  type ObjectStat,
} from '@store/core';
import type { HashRange, InventoryEntry, InventoryPage } from '../replication/replica-pool.js';
import type { Engine } from './engine.js';
import {
  decodeHead,
  hashHeadsStart,
  hashHighIn,
  isUnsureHead,
  poolHeadsStart,
  splitHeadKey,
  unseal,
} from './format.js';
import type { ObjectTable } from './object-table.js';
import type { Persister } from './persister.js';
import { PART, type StoredObject } from './stored-object.js';
import type { Zeroer } from './zeroer.js';

const POOL_START_BYTES = poolHeadsStart(0).length;

export const ALL_HASHES: HashRange = { from: 0, to: 0xffffffff };

export interface ObjectListParts {
  readonly engine: Engine;
  readonly table: ObjectTable;
  readonly persister: Persister;
  readonly zeroer: Zeroer;
}

/** Keys `[start, end)`. */
interface KeyRange {
  readonly start: Buffer;
  readonly end: Buffer;
}

export class ObjectList {
  readonly #poolId: number;
  readonly #parts: ObjectListParts;

  constructor(poolId: number, parts: ObjectListParts) {
    this.#poolId = poolId;
    this.#parts = parts;
  }

  /** See `ReplicaPool.listIn`. */
  async list(ranges: readonly HashRange[], options: ListOptions): Promise<ListPage> {
    const { engine, persister, table } = this.#parts;
    engine.mustServe();
    const limit = options.limit ?? LIST_PAGE_MAX;
    if (!Number.isInteger(limit) || limit < 1 || limit > LIST_PAGE_MAX)
      throw new StoreError('E_INVALID', `A page lists 1 to ${LIST_PAGE_MAX} objects, not ${limit}`);
    // What lives only in memory is brought into the order of the metadata store first.
    if (options.cursor === undefined) await promised((done) => persister.flush(done));
    const cursor = options.cursor ?? poolHeadsStart(this.#poolId);
    if (
      cursor.compare(poolHeadsStart(this.#poolId)) < 0 ||
      cursor.compare(poolHeadsStart(this.#poolId + 1)) >= 0
    )
      throw new StoreError('E_INVALID', 'The cursor does not come from a list of this pool');
    const entries: { key: Buffer; stat: ObjectStat }[] = [];
    for (const { start: first, end } of keyRanges(this.#poolId, ranges)) {
      let start = first.compare(cursor) < 0 ? cursor : first;
      while (start.compare(end) < 0) {
        const heads = engine.meta.range(start, end, LIST_PAGE_MAX);
        for (const { key: headKey, value } of heads) {
          start = keyAfter(headKey);
          const { key } = splitHeadKey(headKey);
          if (options.prefix !== undefined && !startsWith(key, options.prefix)) continue;
          if (table.isUnsure(headKey, value)) await this.#settle(headKey);
          const stat = table.statOf(headKey, value);
          if (stat === null || stat.kind === OBJECT_KIND.guard) continue;
          if (options.kind !== undefined && stat.kind !== options.kind) continue;
          entries.push({ key: Buffer.from(key), stat });
          if (entries.length === limit) return { entries, cursor: start };
        }
        if (heads.length < LIST_PAGE_MAX) break;
        // A big pool has many pages; others have work to do.
        await engine.env.timers.sleep(0);
        engine.mustServe();
      }
    }
    return { entries };
  }

  /** Its version is about to be told. */
  #settle(headKey: Buffer): Promise<void> {
    const { table, zeroer } = this.#parts;
    const object = table.findByHeadKey(headKey, OBJECT_KIND.plain);
    return promised((done) => zeroer.settleFree(object, done));
  }

  /** See `ReplicaPool.inventory`. What is only in memory, or about to be, is merged in. */
  inventory(
    range: HashRange,
    after: Buffer | null,
    limit: number,
    done: DoneWith<InventoryPage>,
  ): void {
    const { engine } = this.#parts;
    const [keys] = keyRanges(this.#poolId, [range]);
    const start =
      after === null ? keys?.start : Buffer.concat([poolHeadsStart(this.#poolId), after]);
    if (engine.refusal !== null) done(engine.refusal);
    else if (keys === undefined || start === undefined || limit < 1)
      done(new StoreError('E_INVALID', 'There is no such inventory'));
    else {
      const end = keys.end;
      let heads: { key: Buffer; value: Buffer }[];
      try {
        heads = start.compare(end) < 0 ? engine.meta.range(start, end, limit + 1) : [];
      } catch (error) {
        done(engine.failFrom(error));
        return;
      }
      const entries = new Map<string, { key: Buffer; entry: InventoryEntry | null }>();
      for (const { key, value } of heads)
        entries.set(key.toString('latin1'), { key, entry: this.#stored(key, value) });
      for (const object of this.#parts.table.objectsOf(this.#poolId)) {
        const { headKey } = object;
        const high = hashHighIn(headKey);
        if (high < range.from || high > range.to || headKey.compare(start) < 0) continue;
        const entry = inventoryEntry(object);
        entries.set(headKey.toString('latin1'), { key: headKey, entry });
      }
      const sorted = Array.from(entries.values())
        .filter(({ entry }) => entry !== null)
        .sort((left, right) => left.key.compare(right.key));
      done(null, pageOf(sorted, heads.length > limit ? heads.at(-1)?.key : undefined, limit));
    }
  }

  /** What the record of an object says; it is not in memory, or that knows better. */
  #stored(headKey: Buffer, value: Buffer): InventoryEntry {
    const { hash, key } = splitHeadKey(headKey);
    const head = unseal(headKey, value);
    const fields = head === null ? null : decodeHead(head);
    const kind = fields?.kind ?? OBJECT_KIND.plain;
    const place = headKey.subarray(POOL_START_BYTES).toString('latin1');
    return {
      object: { kind, key: Buffer.from(key), hash, place },
      version: fields?.version ?? 0,
      length: fields?.length ?? 0,
      isClosed: head !== null && !isUnsureHead(head),
      isBroken: head === null,
    };
  }
}

/** @param bound - heads from this key on were not read */
function pageOf(
  sorted: readonly { key: Buffer; entry: InventoryEntry | null }[],
  bound: Buffer | undefined,
  limit: number,
): InventoryPage {
  const entries: InventoryEntry[] = [];
  for (const { key, entry } of sorted) {
    if (entry === null) continue;
    const isBeyond = bound !== undefined && key.compare(bound) >= 0;
    if (isBeyond) break;
    if (entries.length === limit) return { entries, next: key.subarray(POOL_START_BYTES) };
    entries.push(entry);
  }
  return { entries, next: bound?.subarray(POOL_START_BYTES) ?? null };
}

/** Null: it does not exist, and nothing that was begun can make it. */
function inventoryEntry(object: StoredObject): InventoryEntry | null {
  const isBusy = !object.locks.idle;
  const isBroken = object.broken !== null;
  if (!object.exists && !isBusy && !isBroken) return null;
  return {
    object: object.placeAs(object.kind),
    version: isBroken ? 0 : object.version,
    length: isBroken ? 0 : object.length,
    isClosed: !isBusy && isClosed(object),
    isBroken,
  };
}

/** Nothing of it is in memory alone, and what is stored is its checksums. */
function isClosed(object: StoredObject): boolean {
  return (
    object.durable !== null &&
    !object.changed &&
    !object.isUnsure &&
    !object.isIncomplete &&
    !object.deleting &&
    object.broken === null &&
    object.snapshots === 0 &&
    object.staged === undefined &&
    object.parts.every((part) => part === PART.empty || part === PART.closed)
  );
}

/** The ranges of head keys, in order, none twice. */
function keyRanges(poolId: number, ranges: readonly HashRange[]): KeyRange[] {
  const keys: KeyRange[] = [];
  let end = 0;
  for (const { from, to } of ranges.toSorted((left, right) => left.from - right.from)) {
    const start = Math.max(from, end);
    if (to < start) continue;
    end = to + 1;
    keys.push({ start: hashHeadsStart(poolId, start), end: hashHeadsStart(poolId, end) });
  }
  return keys;
}

/** The next possible key. */
function keyAfter(key: Buffer): Buffer {
  return Buffer.concat([key, Buffer.from([0])]);
}

function startsWith(key: Buffer, prefix: Buffer): boolean {
  return (
    key.length >= prefix.length && key.compare(prefix, 0, prefix.length, 0, prefix.length) === 0
  );
}
