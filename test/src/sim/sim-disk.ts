/**
 * What one simulated disk holds: objects as the engine keeps them, each as memory shows it and as it is after the power
 * was lost. It outlives the processes that serve it. It stands for the engine with its folder, so what it forgets at a
 * crash is what the rules of the engine allow:
 *
 * - kill -9 loses nothing that was answered; an operation under way has happened to some of its blocks, or not.
 * - Power loss takes the metadata back to the last commit; a block that was data before and after has its old bytes or the
 *   new ones. Whole objects and deletes are durable once answered.
 */
import { BLOCK_BYTES, BLOCK_STATE, crc32c, OBJECT_KIND, type BlockState } from '@store/core';
import type { SimRandom } from '@store/core/sim';
import { BlockLocks, type ObjectPlace, type ScrubTimes } from '@store/daemon/testing';

/** Of the objects of simulated pools: as few as the map allows. */
export const SIM_OBJECT_BYTES: number = 64 * 1024;
export const SIM_BLOCKS: number = SIM_OBJECT_BYTES / BLOCK_BYTES;

/** An object at one moment. Buffers in it are never changed, only replaced. */
export interface ObjectImage {
  exists: boolean;
  version: number;
  length: number;
  readonly states: Uint8Array;
  readonly blocks: (Buffer | null)[];
  /** CRC-32C of the bytes that should be there. */
  readonly checks: Uint32Array;
  /** Of objects that are kept as a whole. */
  content: Buffer | null;
}

/** What is done to some blocks of an object at once, when it reaches the disk. */
export interface BlockEdit {
  readonly object: SimObject;
  readonly first: number;
  readonly state: BlockState;
  /** For each block its bytes; null: none. */
  readonly blocks: readonly (Buffer | null)[];
  readonly checks: Uint32Array;
}

export class SimObject {
  readonly object: ObjectPlace;
  readonly locks = new BlockLocks();
  now: ObjectImage = emptyImage();
  durable: ObjectImage = emptyImage();
  /** Something of `now` is not in `durable`. */
  isDirty = false;
  /** Its blocks may differ from what is stored of them: see `InventoryEntry.isClosed`. */
  isOpen = false;
  /**
   * Its version says nothing of its bytes: it was open at a crash, and what was on its way may be there or not. Until it gets
   * a version of its own, or was compared.
   */
  isUnsure = false;
  /** A change that others have made could not be made here: it has to be compared before its version counts again. */
  isIncomplete = false;
  /** Blocks that are known to be bad. */
  readonly bad = new Set<number>();
  /** Counts what was done to it. */
  changeCount = 0;
  /** Of that, as much as is durable. */
  durableCount = 0;

  #ordersGiven = 0;
  #orderMade = 0;

  constructor(object: ObjectPlace) {
    this.object = object;
  }

  /** A change takes its place in the order of changes. */
  nextOrder(): number {
    this.#ordersGiven += 1;
    return this.#ordersGiven;
  }

  /**
   * That change is made. Of several that overtake each other the last one says what the object is.
   * @param isOurs - The version was given here: nobody else has other bytes by that name.
   */
  stamp(order: number, version: number, length: number, isOurs: boolean): void {
    if (order < this.#orderMade) return;
    this.#orderMade = order;
    if (isOurs) this.isUnsure = false;
    this.now.version = version;
    this.now.length = length;
  }

  /** It is what its version says. */
  compared(): void {
    this.isUnsure = false;
    this.isIncomplete = false;
  }

  /** It is kept as a whole, in the metadata. */
  get isInline(): boolean {
    return this.object.kind !== OBJECT_KIND.imageData;
  }

  /** The bytes of a block, if they are good; zeros if it is none of data; null if they are not. */
  goodBytes(block: number): Buffer | null {
    if (this.now.states[block] !== BLOCK_STATE.data) return ZEROS;
    const bytes = this.now.blocks[block] ?? ZEROS;
    return crc32c(bytes) === this.now.checks[block] ? bytes : null;
  }

  touched(): void {
    this.isDirty = true;
    this.changeCount += 1;
  }
}

export const ZEROS: Buffer = Buffer.alloc(BLOCK_BYTES);

export function emptyImage(): ObjectImage {
  return {
    exists: false,
    version: 0,
    length: 0,
    states: new Uint8Array(SIM_BLOCKS),
    blocks: new Array<Buffer | null>(SIM_BLOCKS).fill(null),
    checks: new Uint32Array(SIM_BLOCKS),
    content: null,
  };
}

export function copyImage(image: ObjectImage): ObjectImage {
  return {
    ...image,
    states: image.states.slice(),
    blocks: [...image.blocks],
    checks: image.checks.slice(),
  };
}

/** Something that goes wrong once, with the next operation that it can go wrong with. */
export type DiskFault =
  'lostWrite' | 'misdirectedWrite' | 'writeError' | 'syncError' | 'readError' | 'notMade';

/** Objects of one pool. */
export class SimShelf {
  readonly objects = new Map<string, SimObject>();
  #sorted: SimObject[] | null = null;

  objectAt(object: ObjectPlace): SimObject {
    let found = this.objects.get(object.place);
    if (found === undefined) {
      const { kind, key, hash, place } = object;
      // A copy of its own: what names an object in a message is lent.
      found = new SimObject({ kind, key: Buffer.from(key), hash, place });
      this.objects.set(place, found);
      this.#sorted = null;
    }
    return found;
  }

  /** In the order of (hash, key). */
  sorted(): readonly SimObject[] {
    this.#sorted ??= [...this.objects.values()].sort((a, b) =>
      a.object.place < b.object.place ? -1 : 1,
    );
    return this.#sorted;
  }
}

export class SimDisk {
  readonly diskId: string;
  readonly random: SimRandom;
  readonly shelves = new Map<number, SimShelf>();
  /** What a daemon keeps of the cluster: the newest map, as bytes. Durable at once. */
  keptMap: Buffer | null = null;
  /** When groups were scrubbed, as a daemon keeps it. */
  scrubTimes: ReadonlyMap<string, ScrubTimes> = new Map();
  /** Its next operation fails, and every one after it. */
  isFailed = false;
  /** Clients get no more room. */
  isFull = false;
  /** Everything takes so many times as long. */
  slowness = 1;
  /** Its power was lost with something that was not flushed, and nobody was told yet. */
  hasLostUnflushed = false;
  /** Whether a block of this disk may be damaged now: another good copy is left. */
  mayDamage: (poolId: number, object: SimObject, block: number) => boolean = () => false;
  /** Whether it may fail now: nothing is lost that nobody else has. */
  mayFail: () => boolean = () => false;
  /** What is under way, and what becomes of it when the process dies. */
  readonly inFlight = new Set<() => void>();
  readonly #faults: DiskFault[] = [];

  constructor(diskId: string, random: SimRandom) {
    this.diskId = diskId;
    this.random = random;
  }

  shelf(poolId: number): SimShelf {
    let shelf = this.shelves.get(poolId);
    if (shelf === undefined) {
      shelf = new SimShelf();
      this.shelves.set(poolId, shelf);
    }
    return shelf;
  }

  /** Something goes wrong, once and soon. */
  inject(fault: DiskFault): void {
    this.#faults.push(fault);
  }

  /** Nothing more goes wrong. */
  calm(): void {
    this.#faults.length = 0;
    this.slowness = 1;
    this.isFull = false;
  }

  /** Whether that goes wrong now; it is used up then. */
  takes(fault: DiskFault): boolean {
    if (this.#faults.length === 0) return false;
    const index = this.#faults.indexOf(fault);
    if (index < 0) return false;
    if ((fault === 'writeError' || fault === 'syncError') && !this.mayFail()) return false;
    this.#faults.splice(index, 1);
    return true;
  }

  /** The process is gone; the machine goes on. */
  kill(): void {
    for (const orphan of this.inFlight) orphan();
    this.inFlight.clear();
    this.#forget();
  }

  /** The machine is gone. */
  powerCut(): void {
    this.kill();
    for (const shelf of this.shelves.values())
      for (const object of shelf.objects.values())
        if (object.isDirty) {
          this.hasLostUnflushed = true;
          this.#lose(object);
        }
  }

  /** A bit of a block is another one now. @returns false if there is no data that may be damaged */
  rot(): boolean {
    for (let attempt = 0; attempt < 8; attempt += 1) {
      const place = this.#anyBlock();
      if (place === null) return false;
      const { poolId, object, block } = place;
      if (!this.mayDamage(poolId, object, block)) continue;
      const bytes = Buffer.from(object.now.blocks[block] ?? ZEROS);
      const at = this.random.below(BLOCK_BYTES);
      bytes[at] = (bytes[at] ?? 0) ^ (1 << this.random.below(8));
      if (object.durable.blocks[block] === object.now.blocks[block])
        object.durable.blocks[block] = bytes;
      object.now.blocks[block] = bytes;
      return true;
    }
    return false;
  }

  /** A block of data, somewhere. */
  #anyBlock(): { poolId: number; object: SimObject; block: number } | null {
    const pools = [...this.shelves.keys()];
    if (pools.length === 0) return null;
    const poolId = this.random.pick(pools);
    const objects = this.shelf(poolId)
      .sorted()
      .filter(({ now, isInline }) => now.exists && !isInline);
    if (objects.length === 0) return null;
    const object = this.random.pick(objects);
    const blocks = [...object.now.states.keys()].filter(
      (block) => object.now.states[block] === BLOCK_STATE.data,
    );
    return blocks.length === 0 ? null : { poolId, object, block: this.random.pick(blocks) };
  }

  /** What only memory knew: nobody holds a block any more, and what was open is found so. */
  #forget(): void {
    for (const shelf of this.shelves.values())
      for (const [place, object] of shelf.objects) {
        const next = new SimObject(object.object);
        next.now = object.now;
        next.durable = object.durable;
        next.isDirty = object.isDirty;
        next.isOpen = object.isOpen;
        // The record of one that is incomplete says that it is unsure.
        next.isUnsure = object.isUnsure || object.isOpen || object.isIncomplete;
        shelf.objects.set(place, next);
      }
    // The lists in order hold the old ones.
    for (const [poolId, shelf] of this.shelves) {
      const fresh = new SimShelf();
      for (const [place, object] of shelf.objects) fresh.objects.set(place, object);
      this.shelves.set(poolId, fresh);
    }
  }

  #lose(object: SimObject): void {
    const { now, durable } = object;
    const fate = this.random.below(3);
    const next = copyImage(durable);
    for (let block = 0; block < SIM_BLOCKS; block += 1) {
      const { data } = BLOCK_STATE;
      if (now.states[block] !== data || durable.states[block] !== data) continue;
      const isNew = fate === 0 ? this.random.chance(0.5) : fate === 1;
      if (!isNew) continue;
      next.blocks[block] = now.blocks[block] ?? null;
      next.checks[block] = now.checks[block] ?? 0;
    }
    object.now = next;
    object.durable = copyImage(next);
    object.isDirty = false;
    object.isOpen = true;
    object.isUnsure = true;
  }
}

/** An edit that was under way when its process died reached the disk, or some of its blocks did. */
export function landSome(edit: BlockEdit, random: SimRandom): void {
  for (let at = 0; at < edit.blocks.length; at += 1) if (random.chance(0.5)) landBlock(edit, at);
}

/** One block of an edit reaches the disk. */
export function landBlock({ object, first, state, blocks, checks }: BlockEdit, at: number): void {
  const block = first + at;
  if (block >= SIM_BLOCKS) return;
  object.now.states[block] = state;
  object.now.blocks[block] = blocks[at] ?? null;
  object.now.checks[block] = state === BLOCK_STATE.data ? (checks[at] ?? 0) : 0;
  object.bad.delete(block);
}
