import t from 'tap';
import { PLANTED_BUGS, lifeOfCrashes, type PlantedBug } from './crash/planted-bugs.js';

t.setTimeout(900_000);
const CONTROL_SEEDS = 3;

for (const bug of PLANTED_BUGS) {
  void t.test(`found: ${bug.name}`, async (t) => {
    const { prepare = () => undefined, run = lifeOfCrashes } = bug;
    for (let seed = 1; seed <= CONTROL_SEEDS; seed += 1)
      await run({ seed, prepare, sabotage: () => undefined });
    t.pass(`without it, ${CONTROL_SEEDS} seeds pass`);
    const { seeds, how } = await firstFailure(bug);
    t.ok(how !== null, how === null ? `not found in ${seeds} seeds` : `seed ${seeds}: ${how}`);
  });
}

/** The first seed that fails with the bug planted, and how. */
async function firstFailure(bug: PlantedBug): Promise<{ seeds: number; how: string | null }> {
  const { plant, prepare = () => undefined, run = lifeOfCrashes, seedFirst = 1 } = bug;
  for (let seed = seedFirst; seed < seedFirst + bug.seedsMax; seed += 1) {
    try {
      await run({ seed, prepare, sabotage: plant });
    } catch (error) {
      return {
        seeds: seed,
        how: (error instanceof Error ? error.message : String(error)).replace(/[^\x20-\x7e]/g, '.'),
      };
    }
  }
  return { seeds: bug.seedsMax, how: null };
}
