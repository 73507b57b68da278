/**
 * Objects in memory. Those that are open, changed or in use stay; the others leave when room is needed.
 */
import {
  BLOCK_BYTES,
  OBJECT_KIND,
  StoreError,
  placeOf,
  type ObjectKind,
  type ObjectRef,
  type ObjectStat,
} from '@store/core';
import type { ObjectPlace } from '../replication/change.js';
import type { ChangeTap } from '../replication/replica-pool.js';
import type { Engine } from './engine.js';
import {
  BLOCKS_PER_CHUNK,
  checksKey,
  copyHead,
  countData,
  decodeHead,
  headKey,
  isUnsureHead,
  splitHeadKey,
  unseal,
} from './format.js';
import { PresentObjects } from './present-objects.js';
import { PART, StoredObject, versionInHead } from './stored-object.js';

/** What checksums are filled with when their record cannot be read: matches a block once in 4 billion. */
export const UNREADABLE_CHECKSUM = 0x5bad5bad;

export class ObjectTable {
  readonly #engine: Engine;
  /** By pool id, then by `ObjectRef.place`. */
  readonly #pools = new Map<number, Map<string, StoredObject>>();
  /**
   * Image data that exists or may be about to: all that is in this table or has a head in the metadata store. The
   * folder has one owner, so nothing comes into the one but through `#add`, and into the other but from here or before
   * the start.
   */
  readonly present: PresentObjects = new PresentObjects();
  /** Pools with copies elsewhere, and who hears of their changes, if anybody does yet. */
  readonly #replicated = new Map<number, ChangeTap | null>();
  #count = 0;
  #sweepAt: number;

  constructor(engine: Engine) {
    this.#engine = engine;
    this.#sweepAt = engine.limits.cachedObjectsMax;
  }

  /** Versions of this pool's objects are not given by this folder. Known before any of them is in memory. */
  replicate(poolId: number): void {
    if (!this.#replicated.has(poolId)) this.#replicated.set(poolId, null);
  }

  /** Changes of this pool's objects are announced from now on, and get their versions so. */
  announce(poolId: number, tap: ChangeTap): void {
    this.#replicated.set(poolId, tap);
    for (const object of this.#pool(poolId).values()) {
      if (!object.isReplicated) object.isUnsure = object.parts.includes(PART.suspect);
      object.isReplicated = true;
      object.tap = tap;
    }
  }

  /**
   * The object of that name, which may not exist (yet).
   * @throws StoreError `E_DISK_FAILED` if the metadata cannot be read
   */
  find(poolId: number, ref: ObjectRef): StoredObject {
    return this.findExisting(poolId, ref) ?? this.#addNew(poolId, ref, null);
  }

  /**
   * As `find`; null if there is no such object, nor an operation that may be about to make it. Nothing is kept of a
   * name that was only looked at, so reading all of an empty terabyte costs no memory.
   */
  findExisting(poolId: number, ref: ObjectRef): StoredObject | null {
    const { found } = ref;
    if (found instanceof StoredObject && found.table === this && found.poolId === poolId) {
      found.used = true;
      return found;
    }
    const known = this.#pool(poolId).get(ref.place);
    if (known !== undefined) return this.#remember(known, ref);
    const value = this.#engine.meta.get(headKey(poolId, ref.hash, ref.key));
    return value === null ? null : this.#addNew(poolId, ref, value);
  }

  /** As `find`, for whoever has no reference. */
  findPlace(poolId: number, place: ObjectPlace): StoredObject {
    const known = this.#pool(poolId).get(place.place);
    if (known === undefined)
      return this.findByHeadKey(headKey(poolId, place.hash, place.key), place.kind);
    known.used = true;
    return known;
  }

  /** As `findExisting`, for whoever has no reference. */
  findExistingPlace(poolId: number, place: ObjectPlace): StoredObject | null {
    const isKnown = this.#pool(poolId).has(place.place);
    if (!isKnown && this.#engine.meta.get(headKey(poolId, place.hash, place.key)) === null)
      return null;
    return this.findPlace(poolId, place);
  }

  #newObject(
    poolId: number,
    name: string,
    key: Buffer,
    head: Buffer,
    kind: ObjectKind,
  ): StoredObject {
    const object = new StoredObject(poolId, name, key, head, kind);
    const tap = this.#replicated.get(poolId);
    if (tap !== undefined) {
      object.isReplicated = true;
      object.tap = tap;
    }
    return object;
  }

  #addNew(poolId: number, ref: ObjectRef, value: Buffer | null): StoredObject {
    const key = headKey(poolId, ref.hash, ref.key);
    const object = this.#newObject(poolId, ref.id, ref.key, key, ref.kind);
    if (value !== null) this.#load(object, value);
    else this.present.add(poolId, ref.id);
    this.#add(this.#pool(poolId), ref.place, object);
    return this.#remember(object, ref);
  }

  #remember(object: StoredObject, ref: ObjectRef): StoredObject {
    object.used = true;
    if (object.foundBy !== null) object.foundBy.found = null;
    object.foundBy = ref;
    ref.found = object;
    return object;
  }

  /** As `find`, by the key of its head. */
  findByHeadKey(headKeyBytes: Buffer, kind: ObjectKind): StoredObject {
    const { poolId, hash, key } = splitHeadKey(headKeyBytes);
    const pool = this.#pool(poolId);
    const place = placeOf(hash, key);
    let object = pool.get(place);
    if (object === undefined) {
      const [name, head] = [key.toString('latin1'), Buffer.from(headKeyBytes)];
      object = this.#newObject(poolId, name, Buffer.from(key), head, kind);
      const value = this.#engine.meta.get(head);
      if (value !== null) this.#load(object, value);
      else this.present.add(poolId, name);
      this.#add(pool, place, object);
    }
    object.used = true;
    return object;
  }

  /** The object if it is in memory. */
  cached(headKeyBytes: Buffer): StoredObject | undefined {
    const { poolId, hash, key } = splitHeadKey(headKeyBytes);
    return this.#pools.get(poolId)?.get(placeOf(hash, key));
  }

  #add(pool: Map<string, StoredObject>, place: string, object: StoredObject): void {
    if (this.#count >= this.#sweepAt) this.#sweep();
    pool.set(place, object);
    object.table = this;
    this.#count += 1;
  }

  /** What is known of a listed object, from memory if it is there; null if it does not exist or cannot be read. */
  statOf(headKeyBytes: Buffer, value: Buffer): ObjectStat | null {
    const known = this.cached(headKeyBytes);
    if (known !== undefined) return known.exists && known.broken === null ? known.stat() : null;
    const head = unseal(headKeyBytes, value);
    if (head === null) return null;
    const { kind, length, inline } = decodeHead(head);
    const isReplicated = this.#replicated.has(splitHeadKey(headKeyBytes).poolId);
    const version = isReplicated
      ? decodeHead(head).version
      : versionInHead(head, this.#engine.startVersion);
    const dataBlocks = inline ? Math.ceil(length / BLOCK_BYTES) : countData(head);
    return { kind, length, version, allocatedBytes: dataBlocks * BLOCK_BYTES };
  }

  /** Its version says nothing about its bytes, but can be given one that does: see `StoredObject.isUnsure`. */
  isUnsure(headKeyBytes: Buffer, value: Buffer): boolean {
    const tap = this.#replicated.get(splitHeadKey(headKeyBytes).poolId) ?? null;
    if (tap === null) return false;
    const known = this.cached(headKeyBytes);
    if (known !== undefined) return known.isUnsure;
    const head = unseal(headKeyBytes, value);
    return head !== null && isUnsureHead(head);
  }

  /** How many are in memory. */
  get count(): number {
    return this.#count;
  }

  /** Those of one pool that are in memory. */
  objectsOf(poolId: number): Iterable<StoredObject> {
    return this.#pool(poolId).values();
  }

  *objects(): Generator<StoredObject> {
    for (const pool of this.#pools.values()) yield* pool.values();
  }

  /** Brings the checksums of a chunk into memory. If they cannot be read the engine has failed, and nothing can be verified. */
  loadChecks(object: StoredObject, chunk: number): void {
    if (object.checks.isLoaded(chunk)) return;
    const checks = new Uint32Array(BLOCKS_PER_CHUNK);
    object.checks.load(chunk, checks);
    if (object.durable === null) return; // nothing stored yet
    const key = checksKey(object.objectId, chunk);
    let value: Buffer | null;
    try {
      value = this.#engine.meta.get(key);
    } catch (error) {
      this.#engine.failFrom(error);
      checks.fill(UNREADABLE_CHECKSUM);
      return;
    }
    if (value === null) return; // never closed: every part with data is open
    const body = unseal(key, value);
    if (body === null) {
      this.#engine.log.error(
        { object: printable(object.name), chunk },
        'Checksums of an object do not match their own checksum; its blocks cannot be verified',
      );
      checks.fill(UNREADABLE_CHECKSUM);
      return;
    }
    for (let index = 0; index < BLOCKS_PER_CHUNK; index += 1)
      checks[index] = body.readUInt32LE(index * 4);
  }

  /** The record of a chunk's checksums, to be sealed. */
  encodeChecks(object: StoredObject, chunk: number): Buffer {
    const value = Buffer.allocUnsafe(BLOCKS_PER_CHUNK * 4 + 4);
    const first = chunk * BLOCKS_PER_CHUNK;
    for (let index = 0; index < BLOCKS_PER_CHUNK; index += 1)
      value.writeUInt32LE(object.checks.get(first + index) ?? 0, index * 4);
    return value;
  }

  #pool(poolId: number): Map<string, StoredObject> {
    let pool = this.#pools.get(poolId);
    if (pool === undefined) {
      pool = new Map<string, StoredObject>();
      this.#pools.set(poolId, pool);
    }
    return pool;
  }

  /** @param value - The sealed head, as the metadata store has it. */
  #load(object: StoredObject, value: Buffer): void {
    const head = unseal(object.headKey, value);
    if (head === null) {
      object.version = 1;
      object.broken = new StoreError(
        'E_CHECKSUM',
        `The record of object '${printable(object.name)}' does not match its checksum; what it holds is unknown`,
      );
      this.#engine.log.error({ object: object.name }, object.broken.message);
      return;
    }
    object.load(copyHead(value), this.#engine.startVersion); // with room for the seal, as it is staged again
  }

  /** Evicts what was not looked at since the last sweep and has nothing in memory only. */
  #sweep(): void {
    for (const pool of this.#pools.values()) {
      for (const [place, object] of pool) {
        if (object.used) object.used = false;
        else if (this.#isEvictable(object)) {
          pool.delete(place);
          if (object.durable === null && !this.#isStored(object))
            this.present.remove(object.poolId, object.name);
          object.table = null;
          if (object.foundBy !== null) object.foundBy.found = null;
          this.#count -= 1;
        }
      }
    }
    // When most were in use, look again only after some more came.
    const { cachedObjectsMax } = this.#engine.limits;
    this.#sweepAt = Math.max(cachedObjectsMax, this.#count + cachedObjectsMax / 4);
  }

  #isStored({ headKey: key }: StoredObject): boolean {
    try {
      return this.#engine.meta.get(key) !== null;
    } catch (error) {
      this.#engine.failFrom(error);
      return true;
    }
  }

  #isEvictable(object: StoredObject): boolean {
    return (
      !object.changed &&
      !object.isIncomplete &&
      object.broken === null &&
      object.openedAt === 0 &&
      object.snapshots === 0 &&
      object.staged === undefined &&
      !object.deleting &&
      object.locks.idle
    );
  }
}

export function isImageData(kind: ObjectKind): boolean {
  return kind === OBJECT_KIND.imageData;
}

/** A key for messages: unprintable bytes escaped. */
export function printable(name: string): string {
  return name.replace(
    /[^\x20-\x7e]/g,
    (char) => `\\x${char.charCodeAt(0).toString(16).padStart(2, '0')}`,
  );
}
