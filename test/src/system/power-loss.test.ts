// Power cuts under real LMDB and real files: what was flushed survives; the rest is old or new in each sector.
import t from 'tap';
import type { Test } from 'tap';
import { needs } from '../host/requirements.js';
import { sleep } from '../host/wait-until.js';
import { PowerRig } from '../lossy-device/power-rig.js';
import { NbdClient } from '../nbd-client/nbd-client.js';
import { BLOCK_BYTES, DeviceHistory } from '../tagged-writer/device-history.js';
import { SeededRandom, testSeed } from '../tagged-writer/seeded-random.js';
import type { SyncHabit } from '../tagged-writer/tagged-writer.js';
import { recoverDevice, TaggedWriter } from '../tagged-writer/tagged-writer.js';

t.setTimeout(1_190_000);

const CUTS = 30;
const CUTS_UNTIL_CAUGHT = 10;
const BLOCKS = 10 * 1024 + 77; // the image does not end with an object

const HABITS: readonly SyncHabit[] = ['often', 'rarely', 'never'];

const here = needs({
  root: true,
  fuse: true,
  commands: ['nbdfuse', 'losetup', 'mkfs.ext4', 'fusermount3', 'blockdev', 'xfs_io'],
});

interface Outcome {
  /** What was wrong, first of all cuts; empty if nothing was. */
  readonly problems: readonly string[];
  readonly cuts: number;
  readonly flushes: number;
  readonly lostWrites: number;
  readonly tornWrites: number;
}

/** Cuts the power again and again under a writing client, until something is wrong. */
async function cutPowerUnderWriter(t: Test, cuts: number, flushLies: boolean): Promise<Outcome> {
  const seed = testSeed();
  t.comment(`replay: STORE_SEED=${seed} node test/dist/system/power-loss.test.js`);
  const random = new SeededRandom(seed);
  const history = new DeviceHistory(BLOCKS);
  const writer = new TaggedWriter({ history, random });
  const outcome = { problems: [] as string[], cuts: 0, flushes: 0, lostWrites: 0, tornWrites: 0 };
  const rig = await PowerRig.build(t, { imageBytes: BLOCKS * BLOCK_BYTES, flushLies });
  while (outcome.cuts < cuts && outcome.problems.length === 0) {
    await write(rig, writer, random);
    if (random.chance(33)) {
      // What a killed server had answered is not lost, and a flush after its restart makes it durable.
      const client = await NbdClient.connect((await rig.startServer()).uri);
      outcome.problems.push(...(await recoverDevice(client, history, 'process')));
      const error = random.chance(50) ? await writer.flush(client) : 0;
      if (error !== 0) outcome.problems.push(`a flush after a restart failed with ${error}`);
      client.connection.destroy();
      if (random.chance(50)) await write(rig, writer, random);
    }
    outcome.problems.push(...writer.problems);
    for (const { request, error } of writer.errors)
      outcome.problems.push(`${request} failed with ${error}`);
    const report = await rig.cutPower(random.next32(), random.pick([0, 30, 70]));
    outcome.cuts += 1;
    outcome.lostWrites += report.lost;
    outcome.tornWrites += report.torn;
    try {
      await rig.restorePower();
      const client = await NbdClient.connect(rig.server.uri);
      outcome.problems.push(...(await recoverDevice(client, history, 'power')));
      client.connection.destroy();
    } catch (error) {
      outcome.problems.push(String(error));
    }
  }
  outcome.flushes = writer.flushes;
  return outcome;
}

/** Writes for a while, then kills the server. */
async function write(rig: PowerRig, writer: TaggedWriter, random: SeededRandom): Promise<void> {
  const client = await NbdClient.connect(rig.server.uri);
  const writing = writer.run(client, random.pick(HABITS));
  const endMs = performance.now() + random.between(20, 900);
  while (performance.now() < endMs) {
    await sleep(Math.min(random.between(10, 200), endMs - performance.now()));
    if (random.chance(70)) await rig.leakToDevice();
  }
  await rig.server.kill9();
  await writing;
  if (random.chance(70)) await rig.leakToDevice();
}

t.test('30 power cuts lose nothing that was flushed and invent nothing', here, async (t) => {
  const outcome = await cutPowerUnderWriter(t, CUTS, false);
  t.same(outcome.problems, [], `after cut ${outcome.cuts}`);
  t.ok(outcome.flushes > CUTS, `${outcome.flushes} flushes`);
  t.ok(outcome.lostWrites > 2 * CUTS, `the cuts lost ${outcome.lostWrites} writes to the disk`);
  t.ok(outcome.tornWrites > 2 * CUTS, `and tore ${outcome.tornWrites}`);
});

t.test('the same check catches a disk whose flush lies', here, async (t) => {
  const outcome = await cutPowerUnderWriter(t, CUTS_UNTIL_CAUGHT, true);
  t.not(outcome.problems.length, 0, `caught at cut ${outcome.cuts}`);
  t.comment(outcome.problems[0] ?? '');
});
