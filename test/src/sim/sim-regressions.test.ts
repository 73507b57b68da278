import t from 'tap';
import { PROFILES, type ProfileName } from './profiles.js';
import { simRun } from './sim-run.js';

t.setTimeout(600_000);

/**
 * Of each profile the first seeds, and those that have found something since the last change of what a seed means: what
 * is drawn for a run, and in which order.
 */
const FIRST = 4;
const FOUND: Partial<Record<ProfileName, readonly number[]>> = {
  usual: [
    13, 28, 30, 46, 49, 130, 200_892, 201_088, 201_210, 201_216, 223_350, 5_006_068, 5_008_036,
    5_009_938, 6_010_024, 9_109_046, 9_117_841,
  ],
  power: [15, 59, 303_725, 7_011_111],
  damage: [202_675, 202_693, 202_765, 5_008_253],
  full: [3, 200_013],
};

for (const profile of Object.keys(PROFILES) as ProfileName[])
  // the table's own keys
  for (const seed of [
    ...Array.from({ length: FIRST }, (_, at) => at + 1),
    ...(FOUND[profile] ?? []),
  ])
    t.test(`seed ${seed} of profile ${profile} finds nothing`, async (t) => {
      const { failure } = await simRun({ seed, profile, isTraced: false });
      t.equal(failure, null, `replay: make sim SEED=${seed} PROFILE=${profile}`);
    });
