/** Datagrams find their way whatever the daemon is called, and whatever it listens on. */
import { ObjectRef, OBJECT_KIND, StoreError, type DatagramAddress } from '@store/core';
import { codeOf, PoolUser } from '@store/core/testing';
import t from 'tap';
import { ServedFolder, testEnv } from './testing/served-folder.js';
import { ServedMemory } from './testing/served-memory.js';

const ref = new ObjectRef(OBJECT_KIND.imageData, 'layer_0', 'family_0');

for (const [listens, called, alsoLocally] of [
  ['127.0.0.1', 'localhost', false],
  ['::', '127.0.0.1', false],
  ['::', '::1', false],
  ['::1', '::1', false],
  ['127.0.0.1', '127.0.0.1', true],
  ['127.0.0.2', '127.0.0.2', true],
  ['::1', '::1', true],
  ['::ffff:127.0.0.1', '::ffff:127.0.0.1', true],
] as const)
  t.test(`a daemon on ${listens} that is called ${called}`, async (t) => {
    const served = await ServedFolder.open({}, listens, { alsoLocally });
    t.teardown(() => served.remove());
    const { address } = served;
    t.ok('port' in address);
    const port = 'port' in address ? address.port : 0;
    const store = await served.connect({ address: { host: called, port }, datagramBytes: 8192 });
    const user = new PoolUser(await store.openPool('p', { create: true }));
    await user.write(ref, 0, Buffer.alloc(4096, 1));
    t.ok((await user.read(ref, 0, 4096)).equals(Buffer.alloc(4096, 1)));
    const { datagramsOut } = served.server.counters;
    t.ok(datagramsOut >= 2, `${datagramsOut} answers went as datagrams`);
    t.equal(store.counters.connects, 1, 'and nothing had to be done over');
    await store.close();
  });

/** @param takenFor - How many ports others have for datagrams before there is a free one */
function envWhere(asked: number[], takenFor: number): typeof testEnv {
  const { network } = testEnv;
  return {
    ...testEnv,
    network: Object.assign(Object.create(network) as typeof network, {
      openDatagrams: (...args: Parameters<typeof network.openDatagrams>) => {
        const [{ port }]: [DatagramAddress, ...unknown[]] = args;
        asked.push(port);
        if (asked.length <= takenFor)
          return Promise.reject(new StoreError('E_SYSTEM', 'Cannot open UDP: the port is taken'));
        return network.openDatagrams(...args);
      },
    }),
  };
}

t.test('a port that is free for TCP alone is not the one that is chosen', async (t) => {
  const asked: number[] = [];
  const served = await ServedMemory.open({ env: envWhere(asked, 2), datagramBytes: 8192 });
  t.teardown(() => served.close());
  t.equal(asked.length, 3);
  t.match(served.address, { port: asked[2] });
  const store = await served.connect({ datagramBytes: 8192 });
  await store.openPool('p', { create: true });
  await store.close();
});

t.test('a port that was asked for is not exchanged for another one', async (t) => {
  const asked: number[] = [];
  const free = await ServedMemory.open();
  await free.close();
  const served = new ServedMemory({ env: envWhere(asked, 1), datagramBytes: 8192 });
  t.teardown(() => served.close());
  t.equal(await codeOf(served.server.listen(free.address, 'listen')), 'E_SYSTEM');
  t.equal(asked.length, 1);
});
