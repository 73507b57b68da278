/** Answered writes that are gone: everybody who waits for a flush meanwhile is told. */
import { ObjectRef, OBJECT_KIND } from '@store/core';
import { codeOf, PoolUser } from '@store/core/testing';
import t from 'tap';
import { CutProxy } from './testing/cut-proxy.js';
import { ServedMemory } from './testing/served-memory.js';

const ref = new ObjectRef(OBJECT_KIND.imageData, 'object');

t.test('each flush that a loss came between says so', async (t) => {
  const memory = await ServedMemory.open();
  const proxy = await CutProxy.open(memory.address);
  const remote = await memory.connect({ address: proxy.address });
  const pool = await remote.openPool('pool', { create: true });
  const user = new PoolUser(pool);
  const [another, idle] = [new PoolUser(pool.forUser()), new PoolUser(pool.forUser())];
  await user.write(ref, 0, Buffer.alloc(4096, 'a'));
  await another.write(ref, 4096, Buffer.alloc(4096, 'a'));
  // The same disk, after a power cut.
  const other = await ServedMemory.open({
    store: memory.store,
    identity: { ...memory.identity, startId: Buffer.alloc(16, 2), lineage: Buffer.alloc(16, 2) },
  });
  t.teardown(async () => {
    await remote.close();
    await proxy.close();
    await other.server.close({ drainMs: 500 });
    await memory.close();
  });
  proxy.to = other.address;
  proxy.cut();
  const flushes = [codeOf(user.flush()), codeOf(user.flush())];
  t.strictSame(await Promise.all(flushes), ['E_LOST_WRITES', 'E_LOST_WRITES']);
  t.equal(await codeOf(user.flush()), null, 'it is said, and over');
  t.equal(await codeOf(idle.flush()), null, 'who wrote nothing has lost nothing');
  t.equal(await codeOf(another.flush()), 'E_LOST_WRITES', 'each user of the pool hears of it');
  t.equal(await codeOf(another.flush()), null);
});
