// Five daemons with three copies of everything, a client that tags what it writes and fio beside it, while processes are killed
// (the client's gateway too) and hang, networks are cut and disks fill up, all at random. Then everything heals: what was
// answered is there, nobody ever read anything else, all copies are equal, and no program has found a defect of ours.
//
// By hand, for longer: make chaos SECONDS=1800 SEED=7
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import type { Test } from 'tap';
import { run, runAnyway } from '../host/command.js';
import { needs } from '../host/requirements.js';
import { tempFolder } from '../host/temp-folder.js';
import { sleep } from '../host/wait-until.js';
import { NBD_ENOSPC } from '../nbd-client/nbd-constants.js';
import { ChaosMonkey } from '../replicas/chaos-monkey.js';
import { CutNetwork } from '../replicas/cut-network.js';
import { ReplicaStory } from '../replicas/replica-story.js';
import { StoreServer } from '../server/store-server.js';
import { SeededRandom, testSeed } from '../tagged-writer/seeded-random.js';

const SECONDS = Number(process.env['CHAOS_SECONDS'] ?? 180);
const DAEMONS = 5;
const SMALL_DISKS = [1, 2];
const SMALL_DISK_BYTES = '700M';
/** Time that a gateway may need to come back before the end. */
const GATEWAY_BACK_MS = 30_000;
const GATEWAY_ATTEMPTS = 10;

t.setTimeout((SECONDS + 480) * 1000);

const here = needs({ root: true, commands: ['ip', 'nsenter', 'fio'] });

t.test(`${SECONDS} s of chaos`, here, async (t) => {
  const seed = testSeed();
  t.comment(`replay: make chaos SECONDS=${SECONDS} SEED=${seed}`);
  const network = await CutNetwork.build(t, DAEMONS + 1);
  const disks = await smallDisks(t);
  const story = await ReplicaStory.begin(t, 'chaos', {
    daemons: DAEMONS,
    depth: 8,
    hostOf: (number) => network.hostOf(number),
    wrapperOf: (number) => network.wrapperOf(number),
    dataOf: (number) => {
      const at = SMALL_DISKS.indexOf(number);
      const disk = disks[at];
      return disk === undefined ? undefined : join(disk, 'data');
    },
  });
  const { cluster, writer } = story;
  const said: string[] = [];
  await story.writes();
  const fio = await fioBeside(t, story);
  const begin = performance.now();
  const say = (what: string): void => {
    said.push(`${((performance.now() - begin) / 1000).toFixed(1)} s: ${what}`);
  };
  const monkey = new ChaosMonkey({
    ...{ cluster, network, random: story.random, smallDisks: disks },
    say,
  });
  writer.longestMs = 0;
  const rage = monkey.rage(SECONDS * 1000);
  try {
    await killGateways(story, begin + SECONDS * 1000, new SeededRandom(seed), say);
  } finally {
    await rage; // it undoes what it did
  }
  t.comment(said.join('\n'));
  t.comment(`the longest request took ${Math.round(writer.longestMs)} ms`);
  await fio();
  t.same(
    writer.errors.filter(({ error }) => error !== NBD_ENOSPC).slice(0, 5),
    [],
    'nobody got an error but of full disks',
  );
  await story.endsWell({ errors: 'some' });
});

/**
 * Kills the gateway of the tagging client again and again, and starts another one, which has to take the image over in the
 * middle of everything. What the dead one was answered is there, and nothing that it had sent lands any more.
 */
async function killGateways(
  story: ReplicaStory,
  untilMs: number,
  random: SeededRandom,
  say: (what: string) => void,
): Promise<void> {
  for (;;) {
    const writesMs = random.between(5_000, 30_000);
    if (performance.now() + writesMs + GATEWAY_BACK_MS > untilMs) return;
    await sleep(writesMs);
    say('the gateway is killed');
    await story.losesServer();
    await sleep(random.between(0, 3_000));
    const begin = performance.now();
    await story.serverAgain(GATEWAY_ATTEMPTS, (why) => say(why.slice(0, 2000)));
    say(`another gateway serves after ${Math.round(performance.now() - begin)} ms`);
    await story.isThere();
    await story.writes('often', 0);
  }
}

async function smallDisks(t: Test): Promise<string[]> {
  const disks: string[] = [];
  for (const number of SMALL_DISKS) {
    const disk = join(tempFolder(t), `disk${number}`);
    mkdirSync(disk);
    await run('mount', ['-t', 'tmpfs', '-o', `size=${SMALL_DISK_BYTES}`, 'none', disk]);
    t.teardown(() => run('umount', ['-l', disk]));
    disks.push(disk);
  }
  return disks;
}

/** Starts fio on an image of its own. @returns Waits for its end, which must be good */
async function fioBeside(t: Test, { cluster }: ReplicaStory): Promise<() => Promise<void>> {
  const server = await StoreServer.start(t, {
    image: 'fio',
    socket: join(cluster.folder, 'fio.sock'),
    createBytes: 32 * 1024 ** 2,
    args: cluster.flags,
  });
  const args = [
    ...['--name=chaos', '--ioengine=nbd', `--uri=${server.uri}`, '--thread', '--rw=randwrite'],
    ...['--bsrange=4k-32k', '--iodepth=4', '--size=24M', '--rate_iops=30', '--fsync=50'],
    ...[
      `--io_size=${Math.max(8, Math.round(SECONDS * 0.15))}M`,
      '--verify=crc32c',
      '--do_verify=1',
    ],
    '--verify_fatal=1',
  ];
  const limitMs = (SECONDS + 300) * 1000;
  const ended = runAnyway('fio', args, { limitMs, cwd: tempFolder(t) });
  ended.catch(() => undefined); // whoever waits for it hears of it
  return async () => {
    const { code, stdout, stderr } = await ended;
    const isFull = /No space left/.test(stdout + stderr);
    t.ok(
      code === 0 || isFull,
      `fio finds what it wrote\n${stdout.slice(-1500)}${stderr.slice(-1500)}`,
    );
    await server.stop();
  };
}
