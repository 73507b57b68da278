// Daemons that stop, come back and move to another address, and masters that are gone.
import {
  makeTicket,
  PoolSecret,
  realRandom,
  SecretRing,
  TicketFile,
  type ObjectRef,
} from '@store/core';
import { codeOf, PoolUser } from '@store/core/testing';
import t from 'tap';
import { refsIn } from './group-refs.js';
import { POOL, TestCluster } from './test-cluster.js';

function firstRef({ map }: TestCluster): ObjectRef {
  const [pool] = map.pools;
  const [ref] = pool === undefined ? [] : refsIn(pool, 0);
  if (ref === undefined) throw new Error('a group has objects');
  return ref;
}

t.test('a daemon that was started again at another address is found there', async (t) => {
  const cluster = await TestCluster.start({ groups: 4 });
  t.teardown(() => cluster.close());
  const store = cluster.open();
  const user = new PoolUser(await store.openPool(POOL, { create: false }));
  const ref = firstRef(cluster);
  await user.write(ref, 0, Buffer.alloc(4096, 1));
  const [daemon, other] = [cluster.daemon(1), cluster.daemon(2)];
  const before = daemon.address;
  await daemon.stop();
  const write = user.write(ref, 0, Buffer.alloc(4096, 2));
  const read = user.read(ref, 0, 4096);
  daemon.start = 2;
  await daemon.run();
  t.not(daemon.address, before);
  cluster.change();
  await write;
  t.ok((await read).equals(Buffer.alloc(4096, 2)));
  await user.flush();
  t.equal(other.mapped.flushCount, 1);
});

t.test('a daemon that is back is asked as soon as the map says so', async (t) => {
  const cluster = await TestCluster.start({ groups: 4 });
  t.teardown(() => cluster.close());
  const store = cluster.open({ deadlineMs: 30_000 });
  const user = new PoolUser(await store.openPool(POOL, { create: false }));
  const ref = firstRef(cluster);
  await user.write(ref, 0, Buffer.alloc(4096, 1));
  const daemon = cluster.daemon(1);
  const { address } = daemon;
  await daemon.stop();
  const read = user.read(ref, 0, 4096);
  // By now it is tried every second or two.
  await new Promise((resolve) => setTimeout(resolve, 4000));
  daemon.start = 2;
  await daemon.run(address);
  cluster.nextEpoch(0);
  const started = performance.now();
  await read;
  t.ok(performance.now() - started < 1000);
});

t.test('another daemon at the address of one is not taken for it', async (t) => {
  const cluster = await TestCluster.start({ groups: 4 });
  t.teardown(() => cluster.close());
  const user = new PoolUser(
    await cluster.open({ deadlineMs: 1000 }).openPool(POOL, { create: false }),
  );
  const { daemons } = cluster.map;
  const wrong = daemons.map((daemon) =>
    daemon.id === 1 ? { ...daemon, address: cluster.daemon(2).address } : daemon,
  );
  cluster.change({ daemons: wrong });
  await t.rejects(user.read(firstRef(cluster), 0, 4096), {
    code: 'E_TIMEOUT',
    message:
      /^Group 0 of pool 'pool' is with daemon 1: .*is another one \(disk 0202.*instead of 0101/,
  });
  cluster.change();
  t.equal((await user.read(firstRef(cluster), 0, 4096)).length, 4096);
});

t.test('without masters all that is open goes on', async (t) => {
  const cluster = await TestCluster.start({ groups: 4 });
  t.teardown(() => cluster.close());
  const user = new PoolUser(await cluster.open().openPool(POOL, { create: false }));
  cluster.guide.isCutOff = true;
  const ref = firstRef(cluster);
  await user.write(ref, 0, Buffer.alloc(4096, 1));
  await user.flush();
  const daemon = cluster.daemon(1);
  const { address } = daemon;
  await daemon.stop();
  const read = user.read(ref, 0, 4096);
  await daemon.run(address);
  t.ok((await read).equals(Buffer.alloc(4096, 1)));
});

t.test('a daemon that is down is an error with its name after the deadline', async (t) => {
  const cluster = await TestCluster.start({ groups: 4 });
  t.teardown(() => cluster.close());
  const user = new PoolUser(
    await cluster.open({ deadlineMs: 800 }).openPool(POOL, { create: false }),
  );
  await cluster.daemon(1).stop();
  await t.rejects(user.read(firstRef(cluster), 0, 4096), {
    code: 'E_TIMEOUT',
    message: /^Group 0 of pool 'pool' is with daemon 1: The daemon at 127.0.0.1:\d+ did not answer/,
  });
  await t.rejects(user.flush(), { message: /^Pool 'pool' is with daemon 1: / });
  const { groups } = cluster.map.pools[0] ?? { groups: [] };
  const [elsewhere] = refsIn({ groups }, 1);
  if (elsewhere !== undefined) await user.write(elsewhere, 0, Buffer.alloc(4096, 3));
  await cluster.daemon(1).run();
  cluster.change();
  t.equal(await codeOf(user.read(firstRef(cluster), 0, 4096)), null, 'it is there again');
  t.equal(await codeOf(user.flush()), null);
});

t.test('the ticket is asked for before each connection', async (t) => {
  const cluster = await TestCluster.start({ groups: 4 });
  t.teardown(() => cluster.close());
  const user = new PoolUser(await cluster.open().openPool(POOL, { create: false }));
  const { ticketsAsked } = cluster.guide;
  t.strictSame(ticketsAsked, [POOL], 'when the pool is opened, to say who may not');
  await user.read(firstRef(cluster), 0, 4096);
  t.strictSame(ticketsAsked, [POOL, POOL]);
  const { address } = cluster.daemon(1);
  await cluster.daemon(1).stop();
  await cluster.daemon(1).run(address);
  await user.read(firstRef(cluster), 0, 4096);
  t.ok(ticketsAsked.length > 2);
});

t.test('a session outlives its ticket: the next connection shows the one of then', async (t) => {
  const secret = PoolSecret.create(POOL, 1, realRandom);
  const ticketUntil = (expires: number): TicketFile =>
    TicketFile.of(
      secret,
      makeTicket(
        secret,
        { client: 'vm1', rights: 'rw', issued: expires - 5000, expires },
        realRandom,
      ),
    );
  const secrets = new SecretRing([secret]);
  const cluster = await TestCluster.start({ groups: 4, secrets });
  t.teardown(() => cluster.close());
  const now = Math.floor(Date.now() / 1000);
  cluster.guide.ticket = ticketUntil(now + 4);
  const store = cluster.open();
  const user = new PoolUser(await store.openPool(POOL, { create: false }));
  const ref = firstRef(cluster);
  await user.write(ref, 0, Buffer.alloc(4096, 1));
  cluster.guide.ticket = ticketUntil(now + 3600);
  await new Promise((resolve) => setTimeout(resolve, 5500));
  t.ok((await user.read(ref, 0, 4096)).equals(Buffer.alloc(4096, 1)));
  t.equal(store.counters.connects, 2);
  cluster.guide.ticket = null;
  const { address } = cluster.daemon(1);
  await cluster.daemon(1).stop();
  await cluster.daemon(1).run(address);
  t.equal(await codeOf(user.read(ref, 0, 4096)), 'E_DENIED', 'without one nobody comes in');
});
