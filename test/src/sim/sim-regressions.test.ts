import t from 'tap';
import type { ProfileName } from './profiles.js';
import { simRun } from './sim-run.js';

t.setTimeout(600_000);

/** Seeds that once found something, and what it was. */
const SEEDS: readonly (readonly [ProfileName, number, string])[] = [
  ['usual', 9, 'a flush at a daemon that is not primary any more succeeded'],
  ['usual', 46, 'a change that was refused was acknowledged when it came again'],
  ['usual', 28, 'a bad block on the primary kept a member from joining'],
  ['usual', 49, 'a member that was full once never joined again'],
  ['usual', 104, 'a sync that was lost was never asked for again'],
  ['usual', 13, 'a joiner made a change again after an epoch had ended'],
  ['power', 15, 'the power fails everywhere, again and again'],
  ['power', 59, 'changes that overtake each other on a slow disk'],
  ['lastReplica', 56, 'an object that is emptied and written at once'],
  ['leases', 6, 'primaries are stopped and cut off'],
  ['joins', 7, 'members join while answers of the masters are lost'],
  ['failover', 12, 'primaries die'],
];

for (const [profile, seed, story] of SEEDS)
  t.test(`${story} (seed ${seed}, ${profile})`, async (t) => {
    const { failure } = await simRun({ seed, profile, isTraced: false });
    t.equal(failure, null, `replay: make sim SEED=${seed} PROFILE=${profile}`);
  });
