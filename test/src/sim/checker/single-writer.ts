/**
 * Judges cells that one client writes, one write after the other, and everybody reads. The order of the writes is known,
 * so each read says how far it has come: not before the last write that was answered before the read was called, not after
 * the last one that was called before the read was answered, and not before what an earlier read has seen.
 *
 * Where a group has lost its unflushed writes an *era* ends. The next one begins with one value, whichever, that is not
 * older than the last write that was flushed; from then on the same holds. Where an operator gave up a group, that value may
 * be as old as it likes.
 */
import type { History, OpRecord, UsedObject } from '../history.js';
import { ZERO_TAG, MISSING_TAG } from '../history.js';

/** @returns what is wrong; null: nothing */
export function judgeSingleWriter(history: History, object: UsedObject): string | null {
  const ops = history.ops.filter((op) => op.object === object && !op.isRefused);
  const cells = ops.reduce((most, { to }) => Math.max(most, to), 0);
  for (let cell = 0; cell < cells; cell += 1) {
    const touching = ops.filter(({ from, to }) => from <= cell && cell < to);
    const problem = new CellJudge(history, object, cell).judge(touching);
    if (problem !== null) return problem;
  }
  return null;
}

interface Seen {
  readonly answeredAt: number;
  readonly index: number;
}

class CellJudge {
  readonly #history: History;
  readonly #object: UsedObject;
  readonly #cell: number;
  /** In the order of the writer. */
  readonly #writes: OpRecord[] = [];

  constructor(history: History, object: UsedObject, cell: number) {
    this.#history = history;
    this.#object = object;
    this.#cell = cell;
  }

  judge(ops: readonly OpRecord[]): string | null {
    const reads: OpRecord[] = [];
    for (const op of ops)
      if (op.kind === 'read') {
        if (op.values !== null && op.answeredAt < Infinity) reads.push(op);
      } else this.#writes.push(op);
    const eras = new Map<number, OpRecord[]>();
    for (const read of reads) {
      const era = this.#eraOf(read);
      const list = eras.get(era);
      if (list === undefined) eras.set(era, [read]);
      else list.push(read);
    }
    for (const [era, list] of eras) {
      list.sort((a, b) => a.answeredAt - b.answeredAt || a.calledAt - b.calledAt);
      const problem = this.#judgeEra(era, list);
      if (problem !== null) return problem;
    }
    return null;
  }

  #judgeEra(era: number, reads: readonly OpRecord[]): string | null {
    const seen: Seen[] = [];
    /** Of the writes answered in earlier eras, the one that this era begins with. */
    let first: number | null = null;
    for (const read of reads) {
      let least = this.#leastIndex(read, era);
      for (const { answeredAt, index } of seen)
        if (answeredAt < read.calledAt) least = Math.max(least, index);
      const index = this.#indexOf(read, least);
      if (index === null) return this.#complaint(read, least);
      seen.push({ answeredAt: read.answeredAt, index });
      // Zeros may be from several writes; then the read says nothing of how the era began.
      if (this.#indexOf(read, index + 1) !== null) continue;
      const write = this.#writes[index - 1];
      const isEarlier =
        write === undefined || (this.#isAnswered(write) && this.#eraOf(write) < era);
      if (era > 0 && isEarlier) {
        if (first !== null && first !== index && this.#tagAt(first) !== this.#tagAt(index))
          return `${this.#name()} began again with two values: ${this.#tagAt(first)} and ${this.#tagAt(index)}`;
        first = index;
      }
    }
    return null;
  }

  /** Number of the write (from 1 on; 0: none) that a read cannot be before. */
  #leastIndex(read: OpRecord, era: number): number {
    for (let index = this.#writes.length; index > 0; index -= 1) {
      const write = this.#writes[index - 1];
      if (write === undefined || !this.#isAnswered(write)) continue;
      const itsEra = this.#eraOf(write);
      const isBefore = write.answeredAt < read.calledAt;
      const isKept = this.#history.isKept(write, read.epoch);
      if (isBefore && (itsEra === era || isKept)) return index;
      // It was lost, and yet a flush said that it was not.
      if (itsEra < era && isKept) return index;
    }
    return 0;
  }

  #indexOf(read: OpRecord, least: number): number | null {
    const value = read.values?.[this.#cell - read.from];
    for (let index = least; index <= this.#writes.length; index += 1) {
      const write = this.#writes[index - 1];
      if (write !== undefined && write.calledAt >= read.answeredAt) continue;
      if (this.#tagAt(index) === value) return index;
    }
    return null;
  }

  #tagAt(index: number): number {
    const write = this.#writes[index - 1];
    if (write !== undefined) return write.tag;
    return this.#object.use === 'plain' ? MISSING_TAG : ZERO_TAG;
  }

  #isAnswered(op: OpRecord): boolean {
    return op.answeredAt < Infinity;
  }

  #eraOf(op: OpRecord): number {
    return this.#history.eraOf(this.#object.group, op.epoch);
  }

  #complaint(read: OpRecord, least: number): string {
    const value = read.values?.[this.#cell - read.from] ?? 0;
    const source = this.#history.byTag.get(value);
    const from =
      source === undefined
        ? 'no write'
        : source.object === this.#object
          ? `the write called at ${source.calledAt.toFixed(2)} and answered at ${source.answeredAt.toFixed(2)}`
          : `another object, ${source.object.ref.id}`;
    const floor = this.#writes[least - 1];
    const atLeast =
      floor === undefined
        ? 'nothing'
        : `${floor.tag} (answered at ${floor.answeredAt.toFixed(2)} in epoch ${floor.epoch}${floor.isFlushed ? ', flushed' : ''})`;
    return `${this.#name()}: ${read.client} read ${value} from ${read.calledAt.toFixed(2)} to ${read.answeredAt.toFixed(2)} in epoch ${read.epoch}, which is from ${from}; it must show ${atLeast} or what came after it`;
  }

  #name(): string {
    return `Cell ${this.#cell} of '${this.#object.ref.id}' (group ${this.#object.group})`;
  }
}
