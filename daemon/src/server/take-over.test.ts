import { OP } from '@store/core';
import t from 'tap';
import { frame, RawClient, writeBody } from './testing/raw-client.js';
import { ServedMemory } from './testing/served-memory.js';
import { sleep, until } from './testing/until.js';

const session = Buffer.alloc(16, 'take over');

t.test('who goes while it waits to take over leaves the session to others', async (t) => {
  const served = await ServedMemory.open();
  t.teardown(() => served.close());
  const first = await RawClient.open(served.address, { session, incarnation: 1 });
  served.store.isHolding = true;
  const payload = Buffer.from('held');
  const body = writeBody(first.pool, 'key', 0, payload);
  first.send(frame({ op: OP.write, requestId: 100, body, payload }));
  await until(() => served.store.held.length === 1, 'the write is held');
  const second = await RawClient.connect(served.address);
  await second.hello();
  const begun = second.beginSession({ session, incarnation: 2 }).catch(() => null);
  await sleep(30);
  t.equal(second.answers.length, 0, 'it waits');
  second.socket.resetAndDestroy();
  t.equal(await begun, null);
  await sleep(30);
  served.store.release();
  await until(() => served.server.state().connections === 0, 'both are gone');
  t.equal(served.server.state().sessionsInUse, 0, 'nobody is in charge of the session');
  const third = await RawClient.connect(served.address);
  await third.hello();
  t.equal((await third.beginSession({ session, incarnation: 3 })).resumed, true);
  await third.close();
});
