/** What comes from a master is checked as well: a damaged map is refused, and everybody goes on with the one that is there. */
import { CONTROL, encodeMap, ClusterStore, type StorageMap } from '@store/core';
import t from 'tap';
import { SeededRandom, testSeed } from '../tagged-writer/seeded-random.js';
import { FakeMaster } from './fake-master.js';
import { LiveCluster, liveEnv, until } from './live-cluster.js';
import { NotedLog } from './noted-log.js';
import { PoolTraffic } from './pool-traffic.js';

const seed = testSeed();
t.comment(`replay: STORE_SEED=${seed} node test/dist/live-cluster/damaged-map.test.js`);

const FLIPS = 40;

t.setTimeout(270_000);

t.test(
  'a damaged map is refused by daemons and clients, which keep the one they have',
  async (t) => {
    const random = new SeededRandom(seed);
    const cluster = await LiveCluster.start(t, 0);
    const log = new NotedLog();
    const env = { ...liveEnv, log };
    const daemon = await cluster.newDaemon(undefined, { env }).join();
    const guide = await cluster.guide(null, null, { env });
    await guide.createPool('p');
    const store = new ClusterStore({
      ...{ env, guide, name: 'test', tls: null, deadlineMs: 20_000, datagramBytes: 0 },
    });
    const traffic = new PoolTraffic(await store.openPool('p', { create: false }));
    await until('the daemon has it', () => daemon.member.view?.poolNamed('p') !== undefined);

    const [live] = cluster.masters;
    if (live === undefined) throw new Error('there is a master');
    const { map } = live.master.state;
    const parts = { clusterId: map.clusterId, map: encodeMap(map), daemonId: 1 };
    const secrets = Buffer.from(JSON.stringify(live.master.secretsFor(1)));
    await live.stop();
    const fakes = [
      await FakeMaster.start(t, live.peer, { ...parts, secrets }),
      await FakeMaster.start(t, live.listen, { ...parts, secrets }),
    ];
    await until('both believe in the fake', () => fakes.every((one) => one.connectionCount === 1));
    await until('they are through', () => daemon.member.isConnected);
    const push = async (bytes: Buffer): Promise<(string | null)[]> =>
      (await Promise.all(fakes.map((fake) => fake.push(CONTROL.map, bytes)))).flat();
    await until('both are asked', async () => (await push(parts.map)).join() === ',');

    const next: StorageMap = { ...map, version: map.version + 1 };
    const good = encodeMap(next);
    const bad = new Map<string, Buffer>([
      ['nothing', Buffer.alloc(1)],
      ['not a map', Buffer.from('{"version":7}')],
      ['half of it', good.subarray(0, good.length / 2)],
      ['more than it', Buffer.concat([good, Buffer.alloc(8)])],
      ['of another cluster', encodeMap({ ...next, clusterId: 'f'.repeat(32) })],
    ]);
    for (let flip = 0; flip < FLIPS; flip += 1) {
      const bit = random.between(0, good.length * 8 - 1);
      const flipped = Buffer.from(good);
      flipped.writeUInt8(flipped.readUInt8(bit >> 3) ^ (1 << (bit & 7)), bit >> 3);
      bad.set(`bit ${bit}`, flipped);
    }
    for (const [what, bytes] of bad) {
      const before = log.errors.length;
      const answers = await push(bytes);
      if (answers.includes(null) || answers.length !== 2)
        t.fail(`${what} was taken: ${answers.join(', ')}`);
      if (log.errors.length !== before + 2) t.fail(`${what} was not noted twice`);
    }
    t.equal(log.errors.length, 2 * bad.size, 'each refusal is one line');
    t.match(log.errors[0], /A map from the master was refused, the old one stays: /);
    t.equal(daemon.member.view?.map.version, map.version);
    t.equal(guide.view.map.version, map.version);
    for (const text of ['', '{', '[]', 'null', '{"secrets":[7],"removed":[]}', '{"secrets":[]}'])
      t.same(await fakes[0]?.push(CONTROL.secrets, Buffer.from(text)), ['E_BAD_FRAME'], text);

    t.same(await push(good), [null, null], 'the next good one is taken');
    t.equal(daemon.member.view?.map.version, next.version);
    t.equal(guide.view.map.version, next.version);
    await traffic.stop();
    t.same(traffic.problems, []);
    await store.close();
  },
);
