/** Datagrams find their way whatever the daemon is called, and whatever it listens on. */
import { ObjectRef, OBJECT_KIND } from '@store/core';
import { PoolUser } from '@store/core/testing';
import t from 'tap';
import { ServedFolder } from './testing/served-folder.js';

const ref = new ObjectRef(OBJECT_KIND.imageData, 'layer_0', 'family_0');

for (const [listens, called] of [
  ['127.0.0.1', 'localhost'],
  ['::', '127.0.0.1'],
  ['::', '::1'],
  ['::1', '::1'],
] as const)
  t.test(`a daemon on ${listens} that is called ${called}`, async (t) => {
    const served = await ServedFolder.open({}, listens);
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
