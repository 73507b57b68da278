import type { Done, DoneWith } from '../util/errors.js';
import { StoreError } from '../util/errors.js';
import { locatorHash, type LocatorHash } from '../util/locator-hash.js';
import { BLOCK_BYTES, INLINE_BYTES_MAX, KEY_BYTES_MAX } from '../util/limits.js';

/** What an object is for. `list` filters by it; the number is stored. */
export const OBJECT_KIND = {
  /** Anything a user stores by name. */
  plain: 1,
  /** The header of an image. Always small, changed by compare-and-swap. */
  imageHeader: 2,
  /** A piece of an image. Absent ones read as zeros. */
  imageData: 3,
  /** What a pool of a cluster keeps of the writer of an image (`guard.ts`). Clients neither see nor name one. */
  guard: 4,
} as const;
export type ObjectKind = (typeof OBJECT_KIND)[keyof typeof OBJECT_KIND];

/** Names one object. Make it once and keep it: it is looked up by `id` on every operation. */
export class ObjectRef {
  readonly kind: ObjectKind;
  /** 1..512 bytes, any bytes; never a path. */
  readonly key: Buffer;
  /** Decides the group (and so the daemon) that holds the object; equals `key` for plain objects. */
  readonly locator: Buffer;
  /** `key` as a string of one character a byte. */
  readonly id: string;
  /** The locator is the key. */
  readonly isOwnLocator: boolean;
  /** Hash of the locator: with the key, where the object is. */
  readonly hash: LocatorHash;
  /** Hash and key as a string of one character a byte: what tells two objects of a pool apart. */
  readonly place: string;
  /** For the pool that looked it up last: what it found, to spare it the search. Nobody else's business. */
  found: object | null = null;

  /**
   * @param hash - Of what is not placed by a locator
   * @throws StoreError `E_INVALID` if the key or locator is empty or longer than 512 bytes
   */
  constructor(
    kind: ObjectKind,
    key: Buffer | string,
    locator: Buffer | string = key,
    hash: LocatorHash | null = null,
  ) {
    this.kind = kind;
    this.key = Buffer.from(key);
    this.locator = Buffer.from(locator);
    this.id = this.key.toString('latin1');
    for (const bytes of [this.key.length, this.locator.length])
      if (bytes < 1 || bytes > KEY_BYTES_MAX)
        throw new StoreError(
          'E_INVALID',
          `A key has 1 to ${KEY_BYTES_MAX} bytes, this one has ${bytes}`,
        );
    this.isOwnLocator = this.key.equals(this.locator);
    this.hash = hash ?? locatorHash(this.locator);
    this.place = placeOf(this.hash, this.key);
  }
}

/** See `ObjectRef.place`. */
export function placeOf(hash: LocatorHash, key: Buffer): string {
  const out = Buffer.allocUnsafe(8);
  out.writeUInt32BE(hash.high, 0);
  out.writeUInt32BE(hash.low, 4);
  return out.toString('latin1') + key.toString('latin1');
}

/** Flags of `write` and `zero`, added together. */
export const WRITE_FLAGS = {
  none: 0,
  /** Answer only when this very operation is durable (FUA). */
  durable: 1,
  /** Another layer lies below: what is zeroed must hide it, so it becomes *zero*, not *absent*. */
  layered: 2,
  /** Of `zero`: keep the space reserved, so that writing there later cannot fail for lack of it. */
  allocate: 4,
  /**
   * Of `write`, and of whole blocks of image data only: blocks that are *absent* get their bytes, all others stay as they
   * are. What is copied from a layer below so never overwrites what was written meanwhile.
   */
  ifAbsent: 8,
} as const;

/** Why a write with `ifAbsent` is refused; null if it is not. */
export function ifAbsentRefusal(
  kind: ObjectKind,
  offset: number,
  bytes: number,
): StoreError | null {
  const isWhole = offset % BLOCK_BYTES === 0 && bytes % BLOCK_BYTES === 0;
  if (isWhole && kind === OBJECT_KIND.imageData) return null;
  return new StoreError(
    'E_INVALID',
    `Only whole blocks of ${BLOCK_BYTES} bytes of image data can be written if they are absent, not ${bytes} bytes at ${offset}`,
  );
}

/** Why a compare-and-swap to `bytes` is refused whatever the version; null if it is not. */
export function swapRefusal(
  kind: ObjectKind,
  bytes: number,
  objectBytes: number,
): StoreError | null {
  if (kind === OBJECT_KIND.imageData)
    return new StoreError('E_INVALID', 'Data of an image is written, not compared and swapped');
  const bytesMax = kind === OBJECT_KIND.plain ? objectBytes : INLINE_BYTES_MAX;
  if (bytes <= bytesMax) return null;
  const what = kind === OBJECT_KIND.plain ? 'An object' : 'The header of an image';
  return new StoreError('E_INVALID', `${what} has at most ${bytesMax} bytes, not ${bytes}`);
}

/** State of a 4 KiB block; the number is stored. */
export const BLOCK_STATE = {
  /** Nothing here: the layer below shows through, or zeros. */
  absent: 0,
  data: 1,
  /** Zeros, hiding the layer below. */
  zero: 2,
} as const;
export type BlockState = (typeof BLOCK_STATE)[keyof typeof BLOCK_STATE];

/** A run of bytes in one state. */
export interface Extent {
  readonly bytes: number;
  readonly state: BlockState;
}

export interface ObjectStat {
  readonly kind: ObjectKind;
  /** End of the last byte written. */
  readonly length: number;
  /**
   * Grows with every change; what compare-and-swap and delete compare. At least 1. A key never has the same version
   * twice: not after it was deleted and made again, nor after the pool was closed, killed or lost its power.
   */
  readonly version: number;
  /** Bytes that take space. */
  readonly allocatedBytes: number;
}

export interface ListOptions {
  readonly kind?: ObjectKind;
  readonly prefix?: Buffer;
  /** Where the last page ended. */
  readonly cursor?: Buffer;
  /** 1..1000. */
  readonly limit?: number;
}

export interface ListPage {
  readonly entries: readonly { readonly key: Buffer; readonly stat: ObjectStat }[];
  /** Give it to the next call; absent after the last page. The order of entries means nothing. */
  readonly cursor?: Buffer;
}

/**
 * A pool of objects: what images and gateways stand on. Implemented by the local engine and by the client
 * over the network; both pass `objectPoolSuite`.
 *
 * Operations on one 4 KiB block take effect one after another, in the order they were called. The frequent
 * ones take a callback, which may run before the call returns: a promise for each 4 KiB would cost more than
 * the work. A buffer passed in belongs to the pool until it answers.
 *
 * Every operation fails with `E_DISK_FAILED` after the first failed write or sync, `E_CLOSED` after close.
 */
export interface ObjectPool {
  readonly name: string;
  /** No object is longer. A power of two. */
  readonly objectBytes: number;

  /**
   * Fills `target` from byte `offset`; bytes never written are zeros. An absent image data object is all zeros,
   * an absent object of another kind is `E_NOT_FOUND`. `E_CHECKSUM`: nothing in `target` can be trusted.
   */
  read(ref: ObjectRef, offset: number, target: Buffer, done: Done): void;

  /** Writes the parts one after the other from byte `offset`, creating the object. `flags`: `durable`, `ifAbsent`. */
  write(ref: ObjectRef, offset: number, parts: readonly Buffer[], flags: number, done: Done): void;

  /**
   * Makes a range read as zeros and gives its space back, down to the whole object. Never creates an object
   * unless `layered` or `allocate` ask for it. `flags`: `durable`, `layered`, `allocate`. Discard is the same.
   */
  zero(ref: ObjectRef, offset: number, bytes: number, flags: number, done: Done): void;

  /** Runs of equal state that cover exactly `[offset, offset + bytes)`; equal neighbours are merged. */
  extents(ref: ObjectRef, offset: number, bytes: number, done: DoneWith<Extent[]>): void;

  /**
   * How many of the image data objects `<prefix><first>`, `<prefix><first + 1>`, … certainly do not exist, one after
   * the other and at most `count` (1 or more): now, after all operations called before. It is answered from memory,
   * so it may be fewer than there are, never more, and 0 says nothing. It spares a reader of a large and almost empty
   * image the question to each object.
   *
   * Null: this pool cannot tell, the objects must be asked. Only who knows of each object before it comes to be can
   * tell. The local engine owns its folder, so it does; a client over the network does not know what other clients
   * create, and answers null unless it holds something that keeps them from it.
   * @param prefix - What the keys of a layer's data begin with, one character a byte.
   */
  absentRun(prefix: string, first: number, count: number): number | null;

  /** Everything answered before this call is durable when it is answered. */
  flush(done: Done): void;

  /** Asks for a range to be read into memory; answers when that was done or given up. */
  prefetch(ref: ObjectRef, offset: number, bytes: number, done: Done): void;

  /** Null if the object does not exist. */
  stat(ref: ObjectRef): Promise<ObjectStat | null>;

  list(options: ListOptions): Promise<ListPage>;

  /**
   * Replaces a whole object if its version is `expectedVersion` (0: if it does not exist): a plain one of any size, or a
   * header of up to 64 KiB. Whatever happens the object is the old one or the new one, never a mixture, and never gone.
   * Durable when answered.
   * @returns The new version.
   * @throws StoreError `E_VERSION`
   */
  compareAndSwap(ref: ObjectRef, expectedVersion: number, bytes: Buffer): Promise<number>;

  /**
   * The same pool for one more user of it, who hears by himself what became of what he wrote: a flush of his covers his
   * writes, and fails if they were lost. A pool that cannot lose what it has answered is its own.
   */
  forUser(): ObjectPool;

  /**
   * Removes the object, durably.
   * @param version - Only if it has this version, so that what was written since somebody looked stays; 0 or absent: any.
   * @returns false if there was no object, or not of this version: nothing was removed. To ask again after an answer was
   * lost is harmless, as no version of an object ever comes back.
   */
  delete(ref: ObjectRef, version?: number): Promise<boolean>;
}
