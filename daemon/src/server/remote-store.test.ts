import { DATAGRAM_BYTES_DEFAULT } from '@store/core';
import { objectPoolSuite } from '@store/core/testing';
import t from 'tap';
import { ServedFolder } from './testing/served-folder.js';

t.setTimeout(360_000);

for (const [way, datagramBytes] of [
  ['over TCP', 0],
  ['with datagrams', DATAGRAM_BYTES_DEFAULT],
] as const)
  await objectPoolSuite(t, `RemoteStore ${way}`, async () => {
    const served = await ServedFolder.open();
    t.teardown(() => served.remove());
    const store = await served.connect({ datagramBytes });
    return { store, reopen: () => served.connect({ datagramBytes }) };
  });
