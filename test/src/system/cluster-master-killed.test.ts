// The only master is killed again and again under a writing client, and nobody who has an image open learns of it. Then
// daemons are killed: writes go on with the other copies while they are away, and the master says what happened.
import t from 'tap';
import { waitUntil, sleep } from '../host/wait-until.js';
import { NbdClient } from '../nbd-client/nbd-client.js';
import { ProcessCluster } from '../server/process-cluster.js';
import { StoreServer } from '../server/store-server.js';
import { BLOCK_BYTES, DeviceHistory } from '../tagged-writer/device-history.js';
import { SeededRandom, testSeed } from '../tagged-writer/seeded-random.js';
import { StallMeter } from '../tagged-writer/stall-meter.js';
import { recoverDevice, TaggedWriter } from '../tagged-writer/tagged-writer.js';

t.setTimeout(600_000);

const seed = testSeed();
t.comment(`replay: STORE_SEED=${seed} node test/dist/system/cluster-master-killed.test.js`);

const DAEMONS = 3;
const BLOCKS = 5 * 1024 + 77; // the image does not end with an object
const MASTER_KILLS = 5;
const DAEMON_KILLS = 3;
/** Writes do not need a master; a machine that is busy with starting one holds them up for a moment. */
const STALL_MS_MAX = 10_000;
const ADMINISTRATION_MS_MAX = 30_000;
const GOES_ON_MS = 60_000;

t.test('kills of the master, then of daemons, cost no write', async (t) => {
  const random = new SeededRandom(seed);
  const cluster = await ProcessCluster.start(t, DAEMONS);
  const server = await StoreServer.start(t, {
    image: 'vm1',
    createBytes: BLOCKS * BLOCK_BYTES,
    args: cluster.flags,
  });
  const client = await NbdClient.connect(server.uri);
  const history = new DeviceHistory(BLOCKS);
  const writer = new TaggedWriter({ history, random: new SeededRandom(random.next32()) });
  const writing = writer.run(client);
  await waitUntil('the writer to write', GOES_ON_MS, () => writer.answers > 100);

  await t.test(`the master is killed ${MASTER_KILLS} times`, async (t) => {
    const before = writer.answers;
    const meter = new StallMeter(writer);
    const administrationMs: number[] = [];
    for (let kill = 1; kill <= MASTER_KILLS; kill += 1) {
      await sleep(random.between(20, 800));
      await cluster.master.kill9();
      await sleep(random.between(0, 1500));
      await cluster.master.startAgain();
      const servesAtMs = performance.now();
      t.match(await cluster.store('pool', 'ls'), /testpool/);
      const listedAtMs = performance.now();
      await cluster.image('create', `new${kill}`, '--size', '1G');
      administrationMs.push(listedAtMs - servesAtMs, performance.now() - listedAtMs);
    }
    meter.stop();
    t.comment(
      `longest stall ${Math.round(meter.longestMs)} ms; after a restart a list of pools, and a new image: ${administrationMs.map(Math.round).join(', ')} ms; ${writer.answers - before} answers meanwhile`,
    );
    t.ok(meter.longestMs < STALL_MS_MAX, `no write waited for more than ${STALL_MS_MAX} ms`);
    t.ok(Math.max(...administrationMs) < ADMINISTRATION_MS_MAX, 'administration went on soon');
    t.same(writer.errors, [], `nobody got an error\n${server.log.slice(-3000)}`);
    t.match(await cluster.image('ls'), /new1[\s\S]*new5/);
  });

  await t.test(`daemons are killed ${DAEMON_KILLS} times`, async (t) => {
    const states = async (): Promise<string> =>
      (await cluster.status()).daemons.map(({ state }) => state).join(' ');
    await waitUntil(
      'all daemons to be up',
      GOES_ON_MS,
      async () => (await states()) === 'up up up',
    );
    for (let kill = 1; kill <= DAEMON_KILLS; kill += 1) {
      const daemon = random.pick(cluster.daemons);
      await sleep(random.between(20, 600));
      await daemon.kill9();
      await waitUntil('the master to see it down', GOES_ON_MS, async () =>
        /down/.test(await states()),
      );
      const answers = writer.answers;
      await waitUntil(
        'writes to go on without it',
        GOES_ON_MS,
        () => writer.answers > answers + 200,
      );
      await daemon.startAgain();
      await waitUntil('all copies to be in sync', GOES_ON_MS, async () => {
        const { daemons, pools } = await cluster.status();
        const isWhole = pools.every(({ groupsDegraded }) => groupsDegraded === 0);
        return isWhole && daemons.every(({ state }) => state === 'up');
      });
    }
    t.same(writer.errors, [], `nobody got an error\n${server.log.slice(-3000)}`);
  });

  writer.stop();
  await writing;
  t.same(writer.problems, [], 'all reads were right');
  t.same(await recoverDevice(client, history, 'process'), [], 'all is there in the end');
  t.comment(`${writer.answers} answers, ${writer.flushes} flushes`);
  await client.disconnect();
  await server.stop();
  await cluster.stop();
});
