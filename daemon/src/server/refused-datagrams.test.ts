/** Datagrams of whoever has to go: they end with the connection's right to be there, not with its socket. */
import { connect } from 'node:net';
import { Blocklist, OP, PlainSealer, PoolSecret, realRandom, SecretRing } from '@store/core';
import t from 'tap';
import { frame, RawClient, writeBody } from './testing/raw-client.js';
import { testEnv } from './testing/served-folder.js';
import { ServedMemory } from './testing/served-memory.js';
import { sleep, until } from './testing/until.js';

t.test('whoever may not stay changes nothing any more, also by datagram', async (t) => {
  const served = await ServedMemory.open({ datagramBytes: 8192 });
  t.teardown(() => served.close());
  const { address } = served;
  if (!('host' in address)) throw new Error('it is an address of a machine');
  // It keeps its side open, so the daemon waits for it.
  const socket = connect({ ...address, allowHalfOpen: true });
  const client = new RawClient(socket);
  await client.hello();
  const { association } = await client.beginSession({ datagramBytes: 8192 });
  await client.openPool('pool');
  const sealer = new PlainSealer(association);
  const lane = await testEnv.network.openDatagrams(
    { host: '127.0.0.1', port: 0 },
    { received: () => undefined, failed: (error) => t.fail(error.message) },
  );
  t.teardown(() => lane.close());
  const payload = Buffer.from('bytes');
  const write = (requestId: number): void => {
    const body = writeBody(client.pool, 'key', 0, payload);
    lane.send([sealer.seal([frame({ op: OP.write, requestId, body, payload })])], address);
  };
  write(100);
  await until(() => served.store.log.length === 1, 'a datagram is served');
  const secret = PoolSecret.create('pool', 1, realRandom);
  served.server.replaceSecrets({ secrets: new SecretRing([secret]), blocklist: new Blocklist() });
  t.equal(served.server.state().connections, 1, 'the connection is not gone yet');
  write(101);
  await until(() => served.server.counters.datagramsIn === 2, 'the datagram has arrived');
  await sleep(20);
  t.equal(served.store.log.length, 1, 'it was not run');
  await client.close();
});
