/** What a client does when it is not answered for long: where nothing listens, and where no datagram gets through. */
import { ObjectRef, OBJECT_KIND } from '@store/core';
import { codeOf, PoolUser } from '@store/core/testing';
import t from 'tap';
import { CutProxy } from './testing/cut-proxy.js';
import { ServedMemory } from './testing/served-memory.js';
import { sleep } from './testing/until.js';

const ref = new ObjectRef(OBJECT_KIND.imageData, 'object');

t.test('where no datagram gets through everything goes over the connection', async (t) => {
  const served = await ServedMemory.open({ datagramBytes: 8192 });
  // It carries TCP only: behind its port nobody hears datagrams.
  const proxy = await CutProxy.open(served.address);
  const remote = await served.connect({ address: proxy.address, datagramBytes: 8192 });
  t.teardown(async () => {
    await remote.close();
    await proxy.close();
    await served.close();
  });
  const user = new PoolUser(await remote.openPool('pool', { create: true }));
  const bytes = Buffer.alloc(4096, 'a');
  await user.write(ref, 0, bytes);
  t.ok(remote.counters.datagramsSent > 1, 'it has tried');
  t.equal(served.server.counters.datagramsIn, 0);
  const sent = remote.counters.datagramsSent;
  t.ok((await user.read(ref, 0, 4096)).equals(bytes));
  t.equal(remote.counters.datagramsSent, sent, 'it does not try again at once');
  t.equal(remote.counters.connects, 2);
  t.equal(remote.counters.timeouts, 0);
});

t.test('requests do not make a client that cannot connect try more often', async (t) => {
  const served = await ServedMemory.open();
  const proxy = await CutProxy.open(served.address);
  const remote = await served.connect({ address: proxy.address, deadlineMs: 1000 });
  t.teardown(async () => {
    await remote.close();
    await proxy.close();
    await served.close();
  });
  const user = new PoolUser(await remote.openPool('pool', { create: true }));
  proxy.isDown = true;
  proxy.cut();
  const before = proxy.connections;
  const began = performance.now();
  const reads: Promise<unknown>[] = [];
  for (let count = 0; count < 100; count += 1) {
    reads.push(codeOf(user.read(ref, 0, 4096)));
    await sleep(10);
  }
  const connections = proxy.connections - before;
  const seconds = (performance.now() - began) / 1000;
  t.ok(connections <= 15 * seconds, `${connections} connections in ${seconds.toFixed(1)} s`);
  t.ok(connections > 0, 'it tries');
  proxy.isDown = false;
  await Promise.all(reads);
});
