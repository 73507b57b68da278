/**
 * One object in memory: the truth about it, ahead of what the metadata store says until the next flush.
 */
import {
  BLOCKS_PER_OBJECT,
  BLOCK_BYTES,
  BLOCK_STATE,
  OBJECT_KIND,
  crc32c,
  placeOf,
  type ObjectKind,
  type ObjectRef,
  type ObjectStat,
  type StoreError,
} from '@store/core';
import type { ObjectPlace } from '../replication/change.js';
import type { ChangeTap } from '../replication/replica-pool.js';
import { BlockChecks } from './block-checks.js';
import { BlockLocks } from './block-locks.js';
import {
  BLOCKS_PER_PART,
  NO_SLOT,
  PARTS_PER_OBJECT,
  decodeHead,
  decodeStates,
  encodeHead,
  hasOpenParts,
  isOpenInHead,
  isUnsureHead,
  partOf,
  splitHeadKey,
  stateInHead,
} from './format.js';

/** What may be done with a part, and whether its stored checksums hold. */
export const PART = {
  /** Durably holds no data: may be written at once, a power cut leaves it empty. */
  empty: 0,
  /** Durable data with stored checksums: must be opened before it is overwritten. */
  closed: 1,
  /** Closed, and the transaction that opens it is on its way. */
  opening: 2,
  /** Durably marked as open: may be overwritten, checksums live in memory. */
  open: 3,
  /** Open since before a crash: checksums are made from the disk at the first touch. */
  suspect: 4,
  /** Open, and the transaction that closes it is on its way. */
  closing: 5,
} as const;

/**
 * What a change that is announced, or that another member has announced, makes of its object beside its blocks. Changes of
 * different blocks may be made in another order than they were announced in; what the last one says counts.
 */
export interface ChangeStamp {
  readonly version: number;
  readonly length: number;
  /** Of the changes of this object: grows. */
  readonly order: number;
  /** Its version was given out here, and so stands for what is here. */
  readonly isOurs: boolean;
}

const NO_STATES = new Uint8Array(BLOCKS_PER_OBJECT); // shared by all that do not exist; never written

export class StoredObject {
  readonly poolId: number;
  /** Key, one character a byte. */
  readonly name: string;
  readonly headKey: Buffer;
  readonly locks: BlockLocks = new BlockLocks();
  /** Binds checksums to this object: see `blockTweak`. */
  readonly tweak: number;

  kind: ObjectKind;
  /** 0: does not exist. */
  version = 0;
  objectId = 0;
  slot: number = NO_SLOT;
  length = 0;
  /** A byte for each block. */
  states: Uint8Array = NO_STATES;
  /** Blocks that are not absent. */
  usedBlocks = 0;
  /** Checksum of each data block, as stored: with the tweak. */
  readonly checks: BlockChecks = new BlockChecks();
  parts: Uint8Array = new Uint8Array(PARTS_PER_OBJECT);
  /** Parts changed since the last snapshot for a close. */
  readonly touched: Uint8Array = new Uint8Array(PARTS_PER_OBJECT);
  /** Whole content of an inline object, once loaded. */
  content: Buffer | null = null;
  inline = false;
  /** It grew out of being inline; the next transaction removes the old content. */
  hasStaleContent = false;
  /** Blocks zeroed since their space was last given back. */
  readonly unpunched: Set<number> = new Set<number>();

  /** Head as it is in the metadata store; null if it is not there. */
  durable: Buffer | null = null;
  /** Head as the transaction being built will leave it; undefined when that does not change it. */
  staged: Buffer | null | undefined = undefined;
  /** States, length or existence differ from `durable`. */
  changed = false;
  /** The delete of this object is being committed. */
  deleting = false;
  /** When the object last became open or changed; 0 while it is neither. */
  openedAt = 0;
  openRequests = 0;
  /** Records of it that are on their way to the metadata store: while there are any it stays in memory. */
  snapshots = 0;
  /** Why nothing of this object can be used: its head does not match its checksum. */
  broken: StoreError | null = null;
  /** For the sweep that evicts: looked at since the last one. */
  used = true;
  /** The table it is in; null once it was evicted. */
  table: object | null = null;
  /** The reference that remembers it. */
  foundBy: ObjectRef | null = null;

  /** Its pool has copies elsewhere: versions are given by a tap, not by this folder. */
  isReplicated = false;
  /** Who hears of its changes. */
  tap: ChangeTap | null = null;
  /**
   * Of replicated objects: it was open at a crash, and may hold other changes than `version` stands for. Until it gets a
   * version that nobody has seen, or was compared, the version says nothing about the bytes.
   */
  isUnsure = false;
  /** Of replicated objects: a change was refused that others have made. Until it was compared. */
  isIncomplete = false;
  #comingVersion = 0;
  #comingLength = 0;
  #ordersGiven = 0;
  #orderMade = 0;
  #place: ObjectPlace | null = null;

  constructor(poolId: number, name: string, key: Buffer, headKey: Buffer, kind: ObjectKind) {
    this.poolId = poolId;
    this.name = name;
    this.headKey = headKey;
    this.kind = kind;
    const pool = Buffer.allocUnsafe(4);
    pool.writeUInt32BE(poolId);
    this.tweak = crc32c(key, crc32c(pool));
  }

  /** An image data object of which nothing is left does not exist, though its head may still be there. */
  get exists(): boolean {
    return this.version > 0 && (this.kind !== OBJECT_KIND.imageData || this.usedBlocks > 0);
  }

  /** Bound into the stored checksum, so that a block of another place never passes for this one. */
  blockTweak(block: number): number {
    return (this.tweak ^ Math.imul(block + 1, 0x9e3779b1)) >>> 0;
  }

  /** The version once all that was announced is made. */
  get latestVersion(): number {
    return this.#orderMade === this.#ordersGiven ? this.version : this.#comingVersion;
  }

  /** The length once all that was announced is made. */
  get latestLength(): number {
    return this.#orderMade === this.#ordersGiven ? this.length : this.#comingLength;
  }

  /** A change to this version and length takes its place in the order of changes. */
  stamp(version: number, length: number, isOurs: boolean): ChangeStamp {
    this.#ordersGiven += 1;
    this.#comingVersion = version;
    this.#comingLength = length;
    return { version, length, order: this.#ordersGiven, isOurs };
  }

  /** That change is made. */
  take(stamp: ChangeStamp): void {
    if (stamp.order < this.#orderMade) return; // a later one was quicker
    this.#orderMade = stamp.order;
    this.version = stamp.version;
    this.length = stamp.length;
    if (stamp.isOurs) this.isUnsure = false;
  }

  /** It is what its version says. */
  compared(): void {
    this.isUnsure = false;
    this.isIncomplete = false;
  }

  /** That change left nothing whose version or length it could be. */
  pass(stamp: ChangeStamp): void {
    this.#orderMade = Math.max(this.#orderMade, stamp.order);
  }

  /** Where it is, for other members. */
  placeAs(kind: ObjectKind): ObjectPlace {
    if (this.#place?.kind !== kind) {
      const { hash, key } = splitHeadKey(this.headKey);
      this.#place = { kind, key, hash, place: placeOf(hash, key) };
    }
    return this.#place;
  }

  /**
   * Takes over a head of the metadata store.
   * @param startVersion - what `versionInHead` needs
   */
  load(head: Buffer, startVersion: number): void {
    const fields = decodeHead(head);
    this.kind = fields.kind;
    this.version = this.isReplicated ? fields.version : versionInHead(head, startVersion);
    this.isUnsure = this.isReplicated && isUnsureHead(head);
    this.isIncomplete = false;
    this.objectId = fields.objectId;
    this.slot = fields.slot;
    this.length = fields.length;
    this.inline = fields.inline;
    this.durable = head;
    this.states = new Uint8Array(BLOCKS_PER_OBJECT);
    decodeStates(head, this.states);
    this.usedBlocks = 0;
    for (let part = 0; part < PARTS_PER_OBJECT; part += 1) {
      let hasData = false;
      for (let block = part * BLOCKS_PER_PART; block < (part + 1) * BLOCKS_PER_PART; block += 1) {
        const state = this.states[block];
        if (state !== BLOCK_STATE.absent) this.usedBlocks += 1;
        if (state === BLOCK_STATE.data) hasData = true;
      }
      this.parts[part] = isOpenInHead(head, part)
        ? PART.suspect
        : hasData
          ? PART.closed
          : PART.empty;
    }
  }

  /**
   * Begins a life; the version starts at the id, which is neither another id nor a version. If versions are given by a
   * tap it starts below all of them, and nobody sees it before the first change is made.
   */
  create(kind: ObjectKind, objectId: number): void {
    this.kind = kind;
    this.objectId = objectId;
    this.version = this.isReplicated ? 1 : objectId;
    if (this.states === NO_STATES) this.states = new Uint8Array(BLOCKS_PER_OBJECT);
  }

  /** Ends a life: as if it had never been. Locks and waiting operations stay. */
  reset(): void {
    this.version = 0;
    this.objectId = 0;
    this.slot = NO_SLOT;
    this.length = 0;
    this.states = NO_STATES;
    this.usedBlocks = 0;
    this.checks.clear();
    this.parts.fill(PART.empty);
    this.content = null;
    this.inline = false;
    this.hasStaleContent = false;
    this.unpunched.clear();
    this.durable = null;
    this.changed = false;
    this.deleting = false;
    this.broken = null;
    this.compared();
    this.openRequests = 0;
  }

  /** Does a part of blocks `first..last` wait for its checksums since a crash? */
  hasSuspect(first: number, last: number): boolean {
    for (let part = partOf(first); part <= partOf(last); part += 1)
      if (this.parts[part] === PART.suspect) return true;
    return false;
  }

  stat(): ObjectStat {
    let dataBlocks = 0;
    if (this.inline) dataBlocks = Math.ceil(this.length / BLOCK_BYTES);
    else for (const state of this.states) if (state === BLOCK_STATE.data) dataBlocks += 1;
    const { kind, length, version } = this;
    return { kind, length, version, allocatedBytes: dataBlocks * BLOCK_BYTES };
  }

  setState(block: number, state: number): void {
    const before = this.states[block];
    if (before === state) return;
    if (before === BLOCK_STATE.absent) this.usedBlocks += 1;
    if (state === BLOCK_STATE.absent) this.usedBlocks -= 1;
    this.states[block] = state;
  }

  /** The head as it is in memory now, nothing open, not sealed. */
  encode(): Buffer {
    // A later change of other blocks may be made before an earlier one, and its version would stand for both.
    const isUnsure = this.isUnsure || this.isIncomplete || this.locks.hasWriters;
    return encodeHead(this, this.states, this.isReplicated && isUnsure);
  }
}

/** A change that was announced is not made here: the object has to be compared before its version counts again. */
export function notMade(object: StoredObject, kind: ObjectKind): void {
  object.isIncomplete = true;
  object.tap?.notMade(object.placeAs(kind), true);
}

/**
 * The version of an object whose head was found at a start. What is open may have been overwritten without a record of
 * it, so such an object has a version that nobody can have seen.
 * @param startVersion - greater than all that earlier starts gave out
 */
export function versionInHead(head: Buffer, startVersion: number): number {
  const { version } = decodeHead(head);
  return hasOpenParts(head) ? Math.max(version, startVersion) : version;
}

export function partHasData(head: Buffer | null, part: number): boolean {
  if (head === null) return false;
  for (let block = part * BLOCKS_PER_PART; block < (part + 1) * BLOCKS_PER_PART; block += 1)
    if (stateInHead(head, block) === BLOCK_STATE.data) return true;
  return false;
}
