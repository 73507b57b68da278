/**
 * Judges an object that everybody changes by compare-and-swap. From each version at most one swap goes on, each leads to a
 * greater one, and nobody sees a version older than one that was seen or made before. Swaps are durable when answered, so
 * nothing of this ends where a group lost its unflushed writes. Where an operator gave up a group all of it begins anew, with
 * whatever there was before.
 */
import { MISSING_TAG, type History, type OpRecord, type UsedObject } from '../history.js';

/** @returns what is wrong; null: nothing */
export function judgeSwaps(history: History, object: UsedObject): string | null {
  const eras = new Map<number, OpRecord[]>();
  for (const op of history.ops) {
    if (op.object !== object || op.answeredAt === Infinity || op.isRefused) continue;
    const era = history.givenUpEraOf(object.group, op.epoch);
    const list = eras.get(era);
    if (list === undefined) eras.set(era, [op]);
    else list.push(op);
  }
  for (const [era, ops] of eras) {
    const problem = judgeEra(history, object, era, ops);
    if (problem !== null) return problem;
  }
  return null;
}

function judgeEra(
  history: History,
  object: UsedObject,
  era: number,
  ops: readonly OpRecord[],
): string | null {
  const from = new Map<number, OpRecord>();
  const made: OpRecord[] = [];
  for (const op of ops) {
    if (op.kind !== 'swap') continue;
    const other = from.get(op.expected);
    if (other !== undefined)
      return `Swaps ${other.tag} and ${op.tag} of '${object.ref.id}' both went on from version ${op.expected}`;
    from.set(op.expected, op);
    if (op.version <= op.expected)
      return `Swap ${op.tag} of '${object.ref.id}' led from version ${op.expected} back to ${op.version}`;
    made.push(op);
  }
  const shown = ops.filter((op) => op.kind === 'stat' || op.kind === 'swap');
  shown.sort((a, b) => a.answeredAt - b.answeredAt);
  for (const later of shown)
    for (const earlier of shown) {
      if (earlier.answeredAt >= later.calledAt) break;
      const floor = later.kind === 'swap' ? later.expected : later.version;
      if (earlier.version > floor)
        return `'${object.ref.id}' had version ${earlier.version} at ${earlier.answeredAt.toFixed(2)}, and ${later.client} found ${floor} from ${later.calledAt.toFixed(2)} to ${later.answeredAt.toFixed(2)}`;
    }
  return judgeContents(history, object, era, ops, made);
}

/** What is read comes from a swap that was not over when an even later one had begun and ended before the read. */
function judgeContents(
  history: History,
  object: UsedObject,
  era: number,
  ops: readonly OpRecord[],
  made: readonly OpRecord[],
): string | null {
  for (const read of ops) {
    if (read.kind !== 'read' || read.values === null) continue;
    const tag = read.values[0] ?? MISSING_TAG;
    const source = history.byTag.get(tag);
    const newest = made.filter(({ answeredAt }) => answeredAt < read.calledAt);
    const floor = newest.reduce((most, { version }) => Math.max(most, version), 0);
    const what = `${read.client} read ${tag} of '${object.ref.id}' from ${read.calledAt.toFixed(2)} to ${read.answeredAt.toFixed(2)}`;
    if (tag === MISSING_TAG) {
      if (floor > 0) return `${what}: it is gone, and had version ${floor}`;
      continue;
    }
    if (source?.object !== object) return `${what}, which nobody put there`;
    const isEarlier = history.givenUpEraOf(object.group, source.epoch) < era;
    if (source.answeredAt < Infinity && (isEarlier ? floor > 0 : source.version < floor))
      return `${what}: of version ${source.version}, and it had version ${floor}`;
  }
  return null;
}
