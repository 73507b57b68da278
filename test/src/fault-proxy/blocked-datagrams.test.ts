// A wall that lets TCP through and no datagrams costs a client of UDP some seconds, and nothing else.
import { randomBytes } from 'node:crypto';
import { OBJECT_KIND, ObjectRef } from '@store/core';
import { PoolUser } from '@store/core/testing';
import t from 'tap';
import { ProxiedStore } from './proxied-store.js';

t.setTimeout(180_000);

const LIMIT_MS = 20_000;
const ref = new ObjectRef(OBJECT_KIND.imageData, Buffer.from('wall_0'));

t.test('a client of UDP goes on over TCP when no datagram gets through', async (t) => {
  const served = await ProxiedStore.start(t, { seed: 1, datagrams: { dropPercent: 100 } });
  const store = await served.connect({ isUdp: true });
  const user = new PoolUser(await store.openPool('wall', { create: true }));
  const bytes = randomBytes(4096);
  const startedMs = performance.now();
  await Promise.all([user.write(ref, 0, bytes), user.write(ref, 8192, bytes)]);
  const firstMs = performance.now() - startedMs;
  t.ok(firstMs < LIMIT_MS, `written after ${Math.round(firstMs)} ms`);
  const { datagramsSent } = store.counters;
  t.ok(datagramsSent > 0, 'datagrams were tried');
  await user.flush();
  t.ok((await user.read(ref, 8192, 4096)).equals(bytes));
  t.equal(store.counters.datagramsSent, datagramsSent, 'and then no more');
  t.equal(store.counters.connects, 2);
  await store.close();
});
