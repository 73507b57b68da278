/** Judges the history of a run: each object by the rules of how it was used. */
import type { History } from '../history.js';
import { judgeSingleWriter } from './single-writer.js';
import { judgeSwaps } from './swaps.js';
import { judgeZones } from './zones.js';

/** @returns what is wrong (I7 to I10); null: nothing */
export function judge(history: History): string | null {
  for (const object of history.objects) {
    const problem =
      object.use === 'header'
        ? judgeSwaps(history, object)
        : object.use === 'shared'
          ? judgeZones(history, object)
          : judgeSingleWriter(history, object);
    if (problem !== null) return `I7: ${problem}`;
  }
  return null;
}
