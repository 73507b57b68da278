import { execFileSync } from 'node:child_process';
import { env } from 'node:process';
import t from 'tap';
import { PROFILES, type ProfileName } from './profiles.js';
import { simRun } from './sim-run.js';

const SECONDS = Number(env['STORE_SIM_SECONDS'] ?? 120);
t.setTimeout((SECONDS + 120) * 1000);

/** What must have happened among many runs, or nobody has tried it (I14). */
const SOMETIMES = [
  'take was decided',
  'joined was decided',
  'remove was decided',
  'a group lost unflushed writes',
  'a flush said that writes were lost',
  'a disk was lost',
  'an answer of a master was lost',
  'a swap succeeded',
  'a writer role was taken',
  'an old writer was refused',
  'an image was opened by a gateway',
  'an image was resized',
  'a gateway lost its role',
  'a gateway was killed',
  'a daemon that had stopped counted nowhere',
];

/** Another part of all seeds for each commit. */
function firstSeed(): number {
  if (env['SIM_SEED'] !== undefined) return Number(env['SIM_SEED']);
  try {
    const commit = execFileSync('git', ['rev-parse', 'HEAD'], { encoding: 'utf8' });
    return Number.parseInt(commit.slice(0, 7), 16);
  } catch {
    return 1_000_000; // no repository: a package that was unpacked
  }
}

/**
 * Silent damage has its own profile and the fixed seeds. Beside a loss of all power it finds what is not decided yet: a block
 * that is good nowhere, and marked so, is forgotten to be bad when its mark was written to a part that was open.
 */
const WITHOUT = ['rot', 'lostWrite', 'misdirectedWrite', 'readError'];

t.test('fresh seeds find nothing', async (t) => {
  const first = firstSeed();
  t.comment(`SIM_SEED=${first}`);
  const profiles = Object.keys(PROFILES) as ProfileName[]; // the table's own keys
  const counters = new Map<string, number>();
  const end = performance.now() + SECONDS * 1000;
  let seed = first;
  let failures = 0;
  for (; performance.now() < end && failures < 3; seed += 1) {
    const other = profiles[((seed - 1) / 2) % profiles.length] ?? 'usual';
    const profile = seed % 2 === 0 ? 'usual' : other;
    const { failure, counters: seen } = await simRun({
      seed,
      profile,
      without: WITHOUT,
      isTraced: false,
    });
    for (const [name, times] of seen) counters.set(name, (counters.get(name) ?? 0) + times);
    if (failure === null) continue;
    failures += 1;
    t.fail(
      `${failure}\nreplay: make sim SEED=${seed} PROFILE=${profile} WITHOUT=${WITHOUT.join(',')}`,
    );
  }
  t.pass(`${seed - first} seeds from ${first} on`);
  if (seed - first < 300) t.comment('too few runs to say what did not happen');
  else for (const name of SOMETIMES) t.ok((counters.get(name) ?? 0) > 0, name);
});
