// Two of three copies are gone, and an operator goes on with the third, which had missed writes: he is told what that costs
// before, all of it is there that was when the copy was in sync, writers hear of the loss, and it is remembered.
import { messageOf, type GroupStatus } from '@store/core';
import { join } from 'node:path';
import t from 'tap';
import { FaultProxy } from '../fault-proxy/fault-proxy.js';
import { waitUntil } from '../host/wait-until.js';
import { NbdClient } from '../nbd-client/nbd-client.js';
import { NBD_EIO } from '../nbd-client/nbd-constants.js';
import { ReplicaStory } from '../replicas/replica-story.js';
import { ProcessCluster, TEST_POOL } from '../server/process-cluster.js';
import { StoreServer } from '../server/store-server.js';

t.setTimeout(600_000);

const GROUPS = 4;
const MIB = 1024 * 1024;
const SIZE: number = 32 * MIB;

/** A MiB of one byte at a time. */
async function fill(client: NbdClient, value: number): Promise<number[]> {
  const errors: number[] = [];
  for (let at = 0; at < SIZE; at += MIB)
    errors.push((await client.write(at, Buffer.alloc(MIB, value))).error);
  return errors.filter((error) => error !== 0);
}

t.test('who only the masters do not reach is not given up', async (t) => {
  let proxy: FaultProxy | null = null;
  const cluster = await ProcessCluster.start(t, 2, {
    // One, so that it certainly has objects: a join without any is over at once.
    pool: ['--groups', '1', '--replicas', '2', '--min-replicas', '1'],
    masterOf: async (daemon, master) => {
      if (daemon === 2) return master.peer;
      const targetPort = Number(master.peer.split(':')[1]);
      proxy = await FaultProxy.start(t, { targetPort, seed: 1 });
      return `127.0.0.1:${proxy.port}`;
    },
  });
  await cluster.healthy(60_000);
  const groups = () => cluster.master.asked<GroupStatus[]>(`pools/${TEST_POOL}/groups`);
  const [inSync, id] = [await cluster.idOf(1), `${await cluster.idOf(2)}`];
  const server = await StoreServer.start(t, {
    image: 'vm1',
    createBytes: SIZE,
    args: cluster.flags,
  });
  const client = await NbdClient.connect(server.uri);
  await cluster.daemon(2).stop();
  t.same(await fill(client, 1), []);
  // Whoever joins has far to go, and is reached meanwhile.
  await cluster.store('recovery', 'set', '--rate', '64K');
  const logged = cluster.daemon(2).log.length;
  await cluster.daemon(2).startAgain();
  await waitUntil('the other one to join', 30_000, async () => {
    const isLinked = cluster.daemon(2).log.includes('There is a link to another daemon', logged);
    const isOne = ({ members }: GroupStatus): boolean =>
      members.every(({ daemon, role }) => role === (daemon === inSync ? 'primary' : 'joining'));
    return isLinked && (await groups()).every(isOne);
  });
  const way = proxy as FaultProxy | null; // set by masterOf
  if (way === null) throw new Error('daemon 1 has reached the master');
  way.isRefusing = true;
  way.cutAll('reset');
  await waitUntil('the masters to miss it', 30_000, async () =>
    (await groups()).every(({ state }) => state === 'down'),
  );
  const said = await cluster
    .store('group', 'accept-data-loss', TEST_POOL, 'all', '--daemon', id, '--yes')
    .catch((error: unknown) => messageOf(error));
  t.match(said, new RegExp(`Daemon ${inSync}, .*only the masters do not reach it`));
  t.equal((await groups()).filter(({ state }) => state === 'down').length, 1, 'nothing is changed');
  way.isRefusing = false;
  await cluster.store('recovery', 'set', '--rate', 'auto');
  await cluster.healthy(60_000);
  t.equal((await client.flush()).error, 0);
});

t.test('a group goes on with a copy that missed writes, when an operator says so', async (t) => {
  const story = await ReplicaStory.begin(t, 'accepted-loss', {
    pool: ['--groups', `${GROUPS}`],
    blocks: SIZE / 512,
  });
  const { cluster, client } = story;
  const idleServer = await StoreServer.start(t, {
    image: 'vm2',
    socket: join(cluster.folder, 'idle.sock'),
    createBytes: MIB,
    args: cluster.flags,
  });
  const idle = await NbdClient.connect(idleServer.uri);
  t.equal((await idle.flush()).error, 0, 'which writes nothing');
  t.same(await fill(client, 1), []);
  t.equal((await client.flush()).error, 0);
  const [old, ...others] = cluster.daemons;
  const id = `${await cluster.idOf(1)}`;
  await old?.stop();
  t.same(await fill(client, 2), []);
  t.equal((await client.flush()).error, 0, 'flushed, on the other two');
  t.equal((await client.write(0, Buffer.alloc(MIB, 3))).error, 0, 'and not flushed');
  await Promise.all(others.map((daemon) => daemon.kill9()));
  await old?.startAgain();
  const groups = () => cluster.master.asked<GroupStatus[]>(`pools/${TEST_POOL}/groups`);
  const isStale = ({ state, members }: GroupStatus): boolean =>
    state === 'down' &&
    members.some((one) => `${one.daemon}` === id && one.role === 'joining' && one.state === 'up');
  await waitUntil('the old copy to be up, and nobody to go on with it', 30_000, async () =>
    (await groups()).every(isStale),
  );

  const accept = (...words: string[]): Promise<string> =>
    cluster.store('group', 'accept-data-loss', TEST_POOL, '--daemon', id, ...words);
  const said = (await accept('all', '--dry-run')).split(/(?=^Group)/m);
  t.equal(said.length, GROUPS);
  const told =
    /lacks what was written to this group since 20\d\d-\d\d-\d\d \d\d:\d\d:\d\d UTC \(\d+ min ago\).* gone for good/;
  t.same(
    said.filter((text) => !told.test(text)),
    [],
    'it says since when',
  );
  const objects = said.map((text) => Number(/image 'vm1' \((\d+)\)/.exec(text)?.[1] ?? '0'));
  t.equal(
    objects.reduce((a, b) => a + b, 0),
    SIZE / (4 * MIB),
    'and how many objects of which image there are',
  );
  t.equal((await groups()).filter(({ state }) => state === 'down').length, GROUPS, 'no more');
  await accept('0', '1', '--yes');
  await accept('all', '--yes');

  const { incidents } = await cluster.status();
  t.equal(incidents.length, GROUPS);
  t.match(incidents[0], { pool: TEST_POOL, what: /In sync were daemon .*lacks what was written/ });
  await Promise.all(others.map((daemon) => daemon.startAgain()));
  await cluster.healthy(60_000);
  t.equal((await idle.flush()).error, NBD_EIO, 'who has flushed everything hears of it');
  t.equal((await idle.flush()).error, 0, 'once');
  await idle.disconnect();
  await idleServer.stop();
  t.equal((await client.flush()).error, NBD_EIO, 'and the writer');
  t.equal((await client.flush()).error, 0, 'once as well');
  t.match(
    story.server.log,
    /An operator had 4 groups of pool 'testpool' go on|An operator had a group/,
  );
  await client.disconnect();
  await story.losesServer();
  await story.serverAgain();
  const { client: reader } = story;
  for (let at = 0; at < SIZE; at += MIB) {
    const { error, data } = await reader.read(at, MIB);
    if (error !== 0 || !data.equals(Buffer.alloc(MIB, 1))) t.fail(`byte ${at} is another one`);
  }
  t.equal((await reader.write(MIB, Buffer.alloc(MIB, 4))).error, 0, 'and it goes on');
  t.equal((await reader.flush()).error, 0);
  await reader.disconnect();
  await story.server.stop();
  await story.copiesAreEqual();
  story.hasNoDefects();
});
