/**
 * What clients did and saw, with virtual times: what the checkers judge. Each write has a tag of its own, repeated over
 * all bytes of each kibibyte that it writes (a *cell*), so every cell that is read names the write it comes from.
 */
import { BLOCK_BYTES, type ObjectRef } from '@store/core';

export const CELL_BYTES = 1024;
export const CELLS_PER_BLOCK: number = BLOCK_BYTES / CELL_BYTES;
/** What a cell shows that was never written, or zeroed. */
export const ZERO_TAG = 0;
/** What a cell shows of an object that does not exist, where that is an error. */
export const MISSING_TAG = 0xffff_ffff;

/** How an object is used. */
export type ObjectUse =
  /** One client writes, everybody reads. A request is sent again until it is answered. */
  | 'own'
  /** Everybody writes whole cells. What is in doubt is not sent again. */
  | 'shared'
  /** Everybody swaps. */
  | 'header'
  /** A plain object that one client writes and deletes. */
  | 'plain';

export interface UsedObject {
  readonly index: number;
  readonly ref: ObjectRef;
  readonly use: ObjectUse;
  readonly group: number;
  /** Who writes, of `own` and `plain`. */
  readonly owner: string;
}

export type OpKind = 'write' | 'zero' | 'delete' | 'read' | 'swap' | 'stat';

export interface OpRecord {
  readonly kind: OpKind;
  readonly client: string;
  readonly object: UsedObject;
  /** Cells `from..to - 1`. */
  readonly from: number;
  readonly to: number;
  /** What it leaves in its cells, of what changes any. */
  readonly tag: number;
  readonly calledAt: number;
  /** Infinity: not yet, or never. */
  answeredAt: number;
  /** Of the group when it was answered. */
  epoch: number;
  /** It was refused for good, and has changed nothing. */
  isRefused: boolean;
  /** A flush that was called after its answer has succeeded, or it was durable by itself. */
  isFlushed: boolean;
  /** Epoch of its group when the flush was answered there; 0: that says no more than the epoch of the operation. */
  flushedEpoch: number;
  /** What was read, a tag for each cell. */
  values: Uint32Array | null;
  /** Swaps: what was expected, and what came of it; looks: what was seen. */
  expected: number;
  version: number;
}

/** All of one run, in the order of their calls. */
export class History {
  readonly ops: OpRecord[] = [];
  readonly objects: UsedObject[] = [];
  /** By tag. */
  readonly byTag = new Map<number, OpRecord>();
  /** Epochs at which answered writes that were not flushed were lost, by group, in order. */
  readonly losses = new Map<number, number[]>();
  /** Those of them at which an operator gave up more: also what was flushed may be lost. */
  readonly givenUps = new Map<number, number[]>();
  #tag = 0;

  /** Never given before; neither {@link ZERO_TAG} nor {@link MISSING_TAG}. */
  nextTag(): number {
    this.#tag += 1;
    return this.#tag;
  }

  add(
    op: Pick<OpRecord, 'kind' | 'client' | 'object' | 'from' | 'to' | 'tag' | 'calledAt'>,
  ): OpRecord {
    const record: OpRecord = {
      ...op,
      answeredAt: Infinity,
      epoch: 0,
      isRefused: false,
      isFlushed: false,
      flushedEpoch: 0,
      values: null,
      expected: 0,
      version: 0,
    };
    this.ops.push(record);
    if (op.tag !== ZERO_TAG && op.tag !== MISSING_TAG) this.byTag.set(op.tag, record);
    return record;
  }

  /** How many times the group had lost writes by that epoch. */
  eraOf(group: number, epoch: number): number {
    let era = 0;
    for (const lostAt of this.losses.get(group) ?? []) if (lostAt <= epoch) era += 1;
    return era;
  }

  /** How many times an operator had given up the group by that epoch. */
  givenUpEraOf(group: number, epoch: number): number {
    return (this.givenUps.get(group) ?? []).filter((givenUpAt) => givenUpAt <= epoch).length;
  }

  /** Whether what an operation left in its group, flushed, must be there in a later epoch. */
  isKept({ object, isFlushed, epoch, flushedEpoch }: OpRecord, later: number): boolean {
    if (!isFlushed) return false;
    const givenUps = this.givenUps.get(object.group) ?? [];
    const since = Math.max(epoch, flushedEpoch);
    return !givenUps.some((givenUpAt) => since < givenUpAt && givenUpAt <= later);
  }

  lost(group: number, epoch: number): void {
    note(this.losses, group, epoch);
  }

  givenUp(group: number, epoch: number): void {
    note(this.givenUps, group, epoch);
  }
}

function note(epochs: Map<number, number[]>, group: number, epoch: number): void {
  const list = epochs.get(group);
  if (list === undefined) epochs.set(group, [epoch]);
  else if (!list.includes(epoch)) list.push(epoch);
}

/** Fills cells with a tag. */
export function fillCells(bytes: Buffer, tag: number): void {
  for (let at = 0; at < 4; at += 1) bytes[at] = (tag >>> (8 * at)) & 0xff;
  // Doubling: the bytes already there are copied after themselves.
  for (let filled = 4; filled < bytes.length; filled *= 2) bytes.copy(bytes, filled, 0, filled);
}

/** @returns the tag of each cell; null: one of them is torn, and no write has left it so */
export function tagsOf(bytes: Buffer): Uint32Array | null {
  const tags = new Uint32Array(bytes.length / CELL_BYTES);
  for (let cell = 0; cell < tags.length; cell += 1) {
    const start = cell * CELL_BYTES;
    const tag = bytes.readUInt32LE(start);
    for (const at of [CELL_BYTES / 2, CELL_BYTES - 4])
      if (bytes.readUInt32LE(start + at) !== tag) return null;
    tags[cell] = tag;
  }
  return tags;
}
