import t from 'tap';
import { PROFILES, type ProfileName } from './profiles.js';
import { simRun } from './sim-run.js';

t.setTimeout(300_000);

t.test('a seed makes the same run twice, whether or not it is watched (I13)', async (t) => {
  const profiles = Object.keys(PROFILES) as ProfileName[]; // the table's own keys
  for (const [at, profile] of profiles.entries()) {
    const seed = 100 + at;
    const first = await simRun({ seed, profile, isTraced: false });
    const again = await simRun({ seed, profile, isTraced: true });
    t.equal(again.hash, first.hash, `seed ${seed}, profile ${profile}`);
    t.equal(again.events, first.events);
    t.equal(again.failure, first.failure);
  }
  const [one, other] = [1, 2].map((seed) => simRun({ seed, profile: 'calm', isTraced: false }));
  t.not((await one)?.hash, (await other)?.hash, 'another seed makes another run');
});
