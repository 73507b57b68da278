/**
 * Judges cells that several clients write, by unique tags: Gibbons and Korach, "Testing Shared Memories", SIAM J. Comput.
 * 1997. All operations on one value form a zone, from the first answer among them to the last call. If the answer comes
 * first the value held all that time (a forward zone): no two such zones may overlap. If not the value held at some moment
 * between (a backward zone): it may not lie within a forward zone. A write without an answer ends at infinity, and is left
 * out if nobody has read it.
 *
 * Where a group has lost its unflushed writes an era ends; the next one begins with a value of the era before.
 */
import { ZERO_TAG, type History, type OpRecord, type UsedObject } from '../history.js';

interface Zone {
  readonly tag: number;
  /** The first answer. */
  start: number;
  /** The last call. */
  end: number;
}

/** @returns what is wrong; null: nothing */
export function judgeZones(history: History, object: UsedObject): string | null {
  const ops = history.ops.filter((op) => op.object === object && !op.isRefused);
  const cells = ops.reduce((most, { to }) => Math.max(most, to), 0);
  for (let cell = 0; cell < cells; cell += 1) {
    const touching = ops.filter(({ from, to }) => from <= cell && cell < to);
    const writes = new Map<number, OpRecord>();
    const eras = new Map<number, OpRecord[]>();
    for (const op of touching) {
      if (op.kind === 'write') writes.set(op.tag, op);
      if (op.kind === 'read' ? op.values === null : op.answeredAt === Infinity) continue;
      const era = history.eraOf(object.group, op.epoch);
      const list = eras.get(era) ?? [];
      list.push(op);
      eras.set(era, list);
    }
    for (const [era, list] of eras) {
      const problem = judgeEra(history, era, list, writes, cell);
      if (problem !== null)
        return `Cell ${cell} of '${object.ref.id}' (group ${object.group}): ${problem}`;
    }
  }
  return null;
}

function judgeEra(
  history: History,
  era: number,
  ops: readonly OpRecord[],
  writes: ReadonlyMap<number, OpRecord>,
  cell: number,
): string | null {
  const zones = new Map<number, Zone>();
  let first: number | null = era === 0 ? ZERO_TAG : null;
  for (const op of ops) {
    const tag = op.kind === 'read' ? (op.values?.[cell - op.from] ?? ZERO_TAG) : op.tag;
    const write = writes.get(tag);
    if (tag !== ZERO_TAG && write === undefined)
      return `${op.client} read ${tag} at ${op.answeredAt.toFixed(2)}, which nobody wrote there`;
    const isWithin =
      write !== undefined &&
      (write.answeredAt === Infinity || history.eraOf(write.object.group, write.epoch) === era);
    if (!isWithin) {
      if (first !== null && first !== tag)
        return `it began era ${era} with two values, ${first} and ${tag}`;
      first = tag;
      const lost = [...writes.values()].find(
        (one) =>
          history.isKept(one, op.epoch) &&
          history.eraOf(one.object.group, one.epoch) < era &&
          one.calledAt > (write?.answeredAt ?? -Infinity),
      );
      if (lost !== undefined) return `${lost.tag} was flushed, and after a loss ${tag} was read`;
    }
    let zone = zones.get(tag);
    if (zone === undefined) {
      const start = isWithin ? write.answeredAt : -Infinity;
      zone = { tag, start, end: isWithin ? write.calledAt : -Infinity };
      zones.set(tag, zone);
    }
    if (isWithin && op.answeredAt < write.calledAt)
      return `${op.client} read ${tag} at ${op.answeredAt.toFixed(2)}, before it was written`;
    zone.start = Math.min(zone.start, op.answeredAt);
    zone.end = Math.max(zone.end, op.calledAt);
  }
  return judgeZoneList([...zones.values()]);
}

function judgeZoneList(zones: readonly Zone[]): string | null {
  const forward = zones.filter(({ start, end }) => start < end).sort((a, b) => a.start - b.start);
  for (let at = 1; at < forward.length; at += 1) {
    const [a, b] = [forward[at - 1], forward[at]];
    if (a !== undefined && b !== undefined && b.start < a.end)
      return `values ${a.tag} (${span(a)}) and ${b.tag} (${span(b)}) both held at once`;
  }
  for (const zone of zones) {
    if (zone.start < zone.end) continue;
    const around = forward.find(({ start, end }) => start < zone.end && zone.start < end);
    if (around !== undefined)
      return `value ${zone.tag} (${span(zone)}) lies within the time that ${around.tag} held (${span(around)})`;
  }
  return null;
}

function span({ start, end }: Zone): string {
  const [from, to] = [Math.min(start, end), Math.max(start, end)];
  return `${from.toFixed(2)} to ${to.toFixed(2)}`;
}
