/** A daemon that stops: what it has begun is answered, whichever way it came or comes next. */
import { ObjectRef, OBJECT_KIND } from '@store/core';
import { codeOf, PoolUser } from '@store/core/testing';
import t from 'tap';
import { CutProxy } from './testing/cut-proxy.js';
import { ServedMemory } from './testing/served-memory.js';
import { until } from './testing/until.js';

const ref = new ObjectRef(OBJECT_KIND.imageData, 'object');

for (const datagramBytes of [0, 8192])
  t.test(`what runs is answered before it stops, datagrams of ${datagramBytes}`, async (t) => {
    const served = await ServedMemory.open({ datagramBytes: 8192 });
    t.teardown(() => served.close());
    const remote = await served.connect({ datagramBytes, deadlineMs: 1000 });
    const user = new PoolUser(await remote.openPool('pool', { create: true }));
    served.store.isHolding = true;
    const write = user.write(ref, 0, Buffer.alloc(512, 'a'));
    await until(() => served.store.held.length === 1, 'it has begun');
    t.equal(served.server.counters.datagramsIn > 0, datagramBytes > 0);
    let isClosed = false;
    const closed = served.server.close({ drainMs: 5000 }).then(() => (isClosed = true));
    await until(() => !isClosed, 'it waits');
    served.store.release();
    await write;
    await closed;
    t.equal(remote.counters.resent, 0, 'the answer came the first time');
    t.equal(await codeOf(remote.close()), 'E_TIMEOUT', 'nobody is left to make it durable');
  });

t.test('thousands of requests that wait for a pool that is gone are all told so', async (t) => {
  const served = await ServedMemory.open();
  const proxy = await CutProxy.open(served.address);
  const remote = await served.connect({ address: proxy.address });
  const pool = await remote.openPool('pool', { create: true });
  const user = new PoolUser(pool);
  // The next one has no such pool.
  const other = await ServedMemory.open({ identity: served.identity });
  t.teardown(async () => {
    await remote.close();
    await proxy.close();
    await other.close();
    await served.close();
  });
  served.store.isHolding = true;
  const reads = Array.from({ length: 8000 }, () => codeOf(user.read(ref, 0, 4096)));
  await until(() => served.store.held.length > 0, 'some have arrived');
  proxy.to = other.address;
  proxy.cut();
  t.strictSame(new Set(await Promise.all(reads)), new Set(['E_NOT_FOUND']));
});

t.test('a daemon that takes nothing any more is not asked again and again at once', async (t) => {
  const served = await ServedMemory.open();
  t.teardown(() => served.server.close({ drainMs: 500 }));
  const remote = await served.connect({ deadlineMs: 1000 });
  const user = new PoolUser(await remote.openPool('pool', { create: true }));
  await served.store.close();
  const before = served.server.counters.connections;
  t.equal(await codeOf(user.read(ref, 0, 4096)), 'E_TIMEOUT');
  const connects = served.server.counters.connections - before;
  t.ok(connects >= 2 && connects <= 20, `${connects} connections in a second`);
  await remote.close();
});
