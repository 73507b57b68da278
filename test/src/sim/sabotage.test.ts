import t from 'tap';
import { SABOTAGES, type Sabotage } from './sabotage.js';
import { simRun } from './sim-run.js';

t.setTimeout(1_800_000);

/** The first seed that finds a planted bug. */
async function firstFinding(sabotage: Sabotage): Promise<{ seed: number; how: string } | null> {
  for (let seed = 1; seed <= sabotage.seedsMax; seed += 1) {
    const { profile } = sabotage;
    const { failure } = await simRun({ seed, profile, sabotage, isTraced: false });
    if (failure !== null) return { seed, how: failure };
  }
  return null;
}

for (const sabotage of SABOTAGES.filter(({ isRare }) => isRare !== true))
  t.test(`found: ${sabotage.name}`, async (t) => {
    const finding = await firstFinding(sabotage);
    t.ok(finding, finding === null ? 'not found' : `seed ${finding.seed}: ${finding.how}`);
    if (finding === null) return;
    // It was the bug, and nothing else.
    const { profile } = sabotage;
    const { failure } = await simRun({ seed: finding.seed, profile, isTraced: false });
    t.equal(failure, null, `seed ${finding.seed} finds nothing without it`);
  });
