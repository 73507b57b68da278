/**
 * What is known of the images of a run: who wrote what, with which token, in which order, and what everybody saw. Each piece
 * of an image is judged like cells of one writer: tokens say who wrote first, and within a token the order of the calls.
 *
 * - I10: what was removed stays removed, and no image shows bytes of another one;
 * - I15: a write with a lower token that was called after an image was opened with a higher one is never answered as made;
 * - I16: from the moment an image is open for a writer, a cell shows what it showed then, or something newer;
 * - I17: who has the role is not told that he has not.
 */
import { dataRef, type ImageHeader } from '@store/core/testing';
import { groupOf, type StoreError } from '@store/core';
import { judgeSingleWriter } from './checker/single-writer.js';
import { CELL_BYTES, History, ZERO_TAG, type OpRecord, type UsedObject } from './history.js';
import { SIM_OBJECT_BYTES } from './sim-disk.js';
import type { SimWorld } from './sim-world.js';

export const OBJECT_CELLS: number = SIM_OBJECT_BYTES / CELL_BYTES;

/** What is done to cells of one data object. */
export interface PieceOp extends OpRecord {
  readonly token: number;
  /** Of the group when it was called. */
  readonly epochBefore: number;
  /** It was called when the image was open for a newer writer already. */
  readonly isTooLate: boolean;
  /** A newer writer has the image since this epoch, so it is durable; 0: not so. */
  settledIn: number;
}

/** The data behind a new end goes. */
interface Shrink {
  readonly token: number;
  readonly cells: number;
  readonly calledAt: number;
  answeredAt: number;
}

/** What a cell has shown to somebody who asked after the image was opened for the writer of `token`. */
interface Shown {
  readonly token: number;
  readonly tag: number;
  readonly seenAt: number;
  readonly losses: number;
}

export interface ModelImage {
  readonly name: string;
  readonly header: ImageHeader;
  readonly pieces: Map<number, UsedObject>;
  readonly ops: PieceOp[];
  readonly shrinks: Shrink[];
  readonly shown: Map<string, Shown>;
  /** Somebody has begun to take the role with it. */
  tokenCalled: number;
  /** Newest that the image is open with, and since when. */
  readyToken: number;
  readyFor: string;
  readyAt: number;
  /** Raises of guards that nobody knows the end of: who asked has died, or has heard nothing. */
  openRaises: number;
  createdAt: number;
  removeCalledAt: number;
  removedAt: number;
}

export class ImageModel {
  readonly world: SimWorld;
  readonly #history: History;
  readonly #groups: number;
  readonly images = new Map<string, ModelImage>();
  #pieceCount = 0;

  constructor(world: SimWorld, history: History, groups: number) {
    this.world = world;
    this.#history = history;
    this.#groups = groups;
  }

  nextTag(): number {
    return this.#history.nextTag();
  }

  imageOf(name: string, header: ImageHeader): ModelImage {
    let image = this.images.get(header.id);
    if (image === undefined) {
      image = {
        ...{ name, header, pieces: new Map(), ops: [], shrinks: [], shown: new Map() },
        ...{ tokenCalled: 0, readyToken: 0, readyFor: '', readyAt: Infinity },
        ...{ openRaises: 0, createdAt: Infinity },
        ...{ removeCalledAt: Infinity, removedAt: Infinity },
      };
      this.images.set(header.id, image);
    }
    return image;
  }

  /** Somebody has read a header. */
  saw(name: string, header: ImageHeader, calledAt: number): void {
    const image = this.imageOf(name, header);
    if (image.removedAt < calledAt)
      this.world.fail(`I10: image ${header.id} ('${name}') is there again after it was removed`);
  }

  /** Somebody wants the header to be this. */
  swaps(name: string, header: ImageHeader): void {
    const image = this.imageOf(name, header);
    const { now } = this.world;
    const token = header.writer?.token ?? 0;
    image.tokenCalled = Math.max(image.tokenCalled, token);
    if (header.state === 'removing') image.removeCalledAt = Math.min(image.removeCalledAt, now);
    if (header.state === 'shrinking')
      image.shrinks.push({
        ...{ token, cells: header.size / CELL_BYTES, calledAt: now, answeredAt: Infinity },
      });
  }

  /** The header is this now. */
  swapped(name: string, header: ImageHeader): void {
    if (header.state !== 'ready') return;
    const image = this.imageOf(name, header);
    const { now } = this.world;
    const token = header.writer?.token ?? 0;
    for (const shrink of image.shrinks)
      if (shrink.token === token && shrink.cells === header.size / CELL_BYTES)
        shrink.answeredAt = Math.min(shrink.answeredAt, now);
  }

  /** It is open for the writer of `token`, who began to take the role at `calledAt`. */
  ready(
    image: ModelImage,
    { name, token, calledAt }: { name: string; token: number; calledAt: number },
    epochOf: (group: number) => number,
  ): void {
    if (token === image.readyToken && name !== image.readyFor)
      this.world.fail(
        `I15: image '${image.name}' is open for ${name} with token ${token}, which ${image.readyFor} has`,
      );
    if (token <= image.readyToken) return;
    image.readyToken = token;
    image.readyFor = name;
    image.readyAt = this.world.now;
    this.world.sometimes('an image was opened by a gateway');
    for (const op of image.ops)
      if (op.kind !== 'read' && op.token < token && op.answeredAt < calledAt && op.settledIn === 0)
        op.settledIn = epochOf(op.object.group);
  }

  /** Somebody writes to cells of the image, or reads them: an operation for each object that they lie in. */
  called(
    image: ModelImage,
    what: {
      readonly kind: 'write' | 'zero' | 'read';
      readonly client: string;
      readonly token: number;
      readonly from: number;
      readonly to: number;
      readonly tag: number;
      readonly epochOf: (group: number) => number;
    },
  ): PieceOp[] {
    const { kind, client, token, from, to, tag, epochOf } = what;
    const ops: PieceOp[] = [];
    for (let at = from; at < to;) {
      const index = Math.floor(at / OBJECT_CELLS);
      const end = Math.min(to, (index + 1) * OBJECT_CELLS);
      const object = this.#piece(image, index);
      const first = index * OBJECT_CELLS;
      const calledAt = this.world.now;
      const op: PieceOp = {
        ...{ kind, client, object, from: at - first, to: end - first, tag, calledAt },
        ...{ answeredAt: Infinity, epoch: 0, isRefused: false, isFlushed: false, values: null },
        flushedEpoch: 0,
        ...{ expected: 0, version: 0, token, epochBefore: epochOf(object.group), settledIn: 0 },
        isTooLate: kind !== 'read' && token < image.readyToken,
      };
      image.ops.push(op);
      if (kind === 'write') this.#history.byTag.set(tag, op);
      ops.push(op);
      at = end;
    }
    return ops;
  }

  /** @param tags - What was read */
  answered(
    image: ModelImage,
    ops: readonly PieceOp[],
    epochOf: (group: number) => number,
    tags: Uint32Array | null,
  ): void {
    const { world } = this;
    let at = 0;
    for (const op of ops) {
      op.answeredAt = world.now;
      op.epoch = epochOf(op.object.group);
      const cells = op.to - op.from;
      if (tags !== null) {
        op.values = tags.slice(at, at + cells);
        this.#look(image, op, op.values);
      } else if (image.readyToken > op.token && image.readyAt <= op.calledAt)
        world.fail(
          `I15: ${op.kind} ${op.tag} of writer ${op.token} was made, and called after image '${image.name}' was open for writer ${image.readyToken}`,
        );
      at += cells;
    }
  }

  /** A gateway with this token was told that it is not the writer. */
  fenced(image: ModelImage, token: number, error: StoreError): void {
    this.world.sometimes('a gateway lost its role');
    if (image.tokenCalled <= token)
      this.world.fail(`I17: the writer of '${image.name}' is refused: ${error.message}`);
  }

  /** @returns what is wrong; null: nothing */
  judge(): string | null {
    for (const image of this.images.values())
      for (const [index, object] of image.pieces) {
        const problem = this.#judgePiece(image, index, object);
        if (problem !== null) return `I7: image '${image.name}' ${image.header.id}: ${problem}`;
      }
    return null;
  }

  #piece(image: ModelImage, index: number): UsedObject {
    let object = image.pieces.get(index);
    if (object === undefined) {
      const { layers, family } = image.header;
      const ref = dataRef({ layer: layers[0].id, family }, index);
      const group = groupOf({ groups: { length: this.#groups } as never }, ref.hash); // nothing else is looked at
      object = { index: this.#pieceCount, ref, use: 'own', group, owner: '' };
      this.#pieceCount += 1;
      image.pieces.set(index, object);
    }
    return object;
  }

  #losses(group: number): number {
    return this.#history.losses.get(group)?.length ?? 0;
  }

  #look(image: ModelImage, op: PieceOp, values: Uint32Array): void {
    const { readyToken, readyAt, shown } = image;
    if (readyAt > op.calledAt || this.#isOfTwoEras(op)) return;
    const { object, calledAt } = op;
    const losses = this.#losses(object.group);
    for (const [at, tag] of values.entries()) {
      const token = this.#tokenOf(tag);
      if (tag !== ZERO_TAG && token >= readyToken) continue;
      const key = `${object.index} ${op.from + at}`;
      const before = shown.get(key);
      const isSame = before?.token === readyToken && before.losses === losses;
      if (isSame && before.seenAt <= calledAt && tag !== ZERO_TAG && tag !== before.tag)
        this.world.fail(
          `I16: cell ${op.from + at} of piece '${object.ref.id}' shows write ${tag} of writer ${token}, after it had shown ${before.tag} to who asked when writer ${readyToken} had taken over`,
        );
      if (!isSame || before.seenAt <= calledAt)
        shown.set(key, { token: readyToken, tag, seenAt: this.world.now, losses });
    }
  }

  #tokenOf(tag: number): number {
    const op = this.#history.byTag.get(tag);
    return op !== undefined && 'token' in op ? (op as PieceOp).token : 0;
  }

  /** Nobody can say whether it was answered before its group lost writes, or after. */
  #isOfTwoEras({ object: { group }, epoch, epochBefore }: PieceOp): boolean {
    return this.#history.eraOf(group, epoch) !== this.#history.eraOf(group, epochBefore);
  }

  #judgePiece(image: ModelImage, index: number, object: UsedObject): string | null {
    const judged = new History();
    for (const [group, epochs] of this.#history.losses) judged.losses.set(group, epochs);
    for (const [tag, op] of this.#history.byTag) judged.byTag.set(tag, op);
    const writes: PieceOp[] = [];
    for (const op of image.ops) {
      if (op.object !== object) continue;
      if (op.kind !== 'read') writes.push(this.#settled(op));
      else if (op.values !== null && !this.#isOfTwoEras(op)) judged.ops.push(op);
    }
    writes.push(...this.#vanished(image, index, object));
    writes.sort((a, b) => a.token - b.token || a.calledAt - b.calledAt);
    judged.ops.push(...writes);
    return judgeSingleWriter(judged, object);
  }

  #settled(op: PieceOp): PieceOp {
    const { object, epoch, settledIn, answeredAt } = op;
    const era = (at: number): number => this.#history.eraOf(object.group, at);
    const isDoubtful = this.#isOfTwoEras(op);
    const isSettled = settledIn > 0 && !isDoubtful && era(settledIn) === era(epoch);
    const isFlushed = op.isFlushed || isSettled;
    const isLost = isDoubtful && !isFlushed;
    return {
      ...op,
      ...{ isFlushed, isRefused: op.isTooLate, answeredAt: isLost ? Infinity : answeredAt },
    };
  }

  /** What shrinks and the removal of the image do to a piece. */
  #vanished(image: ModelImage, index: number, object: UsedObject): PieceOp[] {
    const zeroed = (
      token: number,
      from: number,
      calledAt: number,
      answeredAt: number,
    ): PieceOp => ({
      ...{ kind: 'zero', client: '', object, from, to: OBJECT_CELLS, tag: ZERO_TAG },
      ...{ calledAt, answeredAt, isRefused: false, isFlushed: true, values: null },
      flushedEpoch: 0,
      epoch: Number.MAX_SAFE_INTEGER,
      ...{ expected: 0, version: 0, token, epochBefore: 0, settledIn: 0, isTooLate: false },
    });
    const found: PieceOp[] = [];
    for (const { token, cells, calledAt, answeredAt } of image.shrinks) {
      const from = Math.max(0, cells - index * OBJECT_CELLS);
      if (from < OBJECT_CELLS) found.push(zeroed(token, from, calledAt, answeredAt));
    }
    if (image.removeCalledAt < Infinity)
      found.push(zeroed(Number.MAX_SAFE_INTEGER, 0, image.removeCalledAt, image.removedAt));
    return found;
  }
}
