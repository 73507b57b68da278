import { ERRORS, OP } from '@store/core';
import t, { type Test } from 'tap';
import { frame, objectBody, RawClient, writeBody } from './testing/raw-client.js';
import { ServedMemory } from './testing/served-memory.js';
import { sleep, until } from './testing/until.js';

const MIB = 1024 * 1024;
/** Room for two large requests beyond what is each connection's own. */
const limits = { serverBytesMax: 10 * MIB, connectionBytesMax: 16 * MIB };

async function served(t: Test): Promise<ServedMemory> {
  const one = await ServedMemory.open({ limits });
  t.teardown(() => one.close());
  return one;
}

/** That a client with 4 MiB requests is served shows that the room is there. */
async function expectRoom(t: Test, { address }: ServedMemory): Promise<void> {
  const client = await RawClient.open(address);
  const bytes = Buffer.alloc(4 * MIB, 'x');
  t.equal((await client.write('large', 0, bytes)).status, 0);
  t.ok((await client.read('large', 0, bytes.length)).payload.equals(bytes));
  await client.close();
}

t.test('requests that break off in their payload give their room back', async (t) => {
  const one = await served(t);
  for (let round = 0; round < 4; round += 1) {
    const client = await RawClient.open(one.address);
    const bytes = Buffer.alloc(4 * MIB);
    const whole = frame({
      op: OP.write,
      requestId: 10,
      body: writeBody(client.pool, 'cut', 0, bytes),
      payload: bytes,
    });
    client.send(whole.subarray(0, whole.length - 1 - round * MIB * 0.5));
    await until(() => one.server.state().heldBytes > 1024, 'it is admitted');
    await client.close();
    await until(() => one.server.state().connections === 0, 'the connection is gone');
  }
  t.strictSame(one.store.log, [], 'nothing was run');
  await expectRoom(t, one);
});

t.test('requests whose body is damaged give their room back', async (t) => {
  const one = await served(t);
  for (let round = 0; round < 4; round += 1) {
    const client = await RawClient.open(one.address);
    const bytes = Buffer.alloc(4 * MIB);
    const body = writeBody(client.pool, 'bad', 0, bytes);
    const bad = frame({ op: OP.write, requestId: 10, body, payload: bytes });
    bad.writeUInt8((bad[60] ?? 0) ^ 1, 60);
    client.send(bad);
    await client.over();
    await client.close();
    await until(() => one.server.state().connections === 0, 'the connection is gone');
  }
  await expectRoom(t, one);
});

t.test('answers that nobody is there for give their room back', async (t) => {
  const one = await served(t);
  for (let round = 0; round < 4; round += 1) {
    const client = await RawClient.open(one.address);
    await client.write('read', 0, Buffer.alloc(64, 'r'));
    one.store.isHolding = true;
    const body = objectBody({ pool: client.pool, key: 'read', bytes: 4 * MIB });
    client.send(frame({ op: OP.read, requestId: 10, body }));
    await until(() => one.store.held.length === 1, 'the read is held');
    client.socket.resetAndDestroy();
    await until(() => client.isOver && one.server.state().running === 1, 'it is under way still');
    await sleep(20);
    one.store.release();
    await until(() => one.server.state().connections === 0, 'the connection is gone');
  }
  await expectRoom(t, one);
});

t.test('a client that is cut off in the middle of many writes gives its room back', async (t) => {
  const one = await served(t);
  for (let round = 0; round < 4; round += 1) {
    const client = await RawClient.open(one.address);
    one.store.isHolding = true;
    for (let id = 10; id < 13; id += 1) {
      const payload = Buffer.alloc(2 * MIB, id);
      const body = writeBody(client.pool, `w${id}`, 0, payload);
      client.send(frame({ op: OP.write, requestId: id, body, payload }));
    }
    await until(() => one.store.held.length === 3, 'they are held');
    await client.close();
    one.store.release();
    await until(() => one.server.state().connections === 0, 'the connection is gone');
  }
  await expectRoom(t, one);
});

t.test('a read of more than an object is refused, and the connection goes on', async (t) => {
  const one = await served(t);
  const client = await RawClient.open(one.address);
  await client.write('small', 0, Buffer.from('small'));
  for (const bytes of [4 * MIB + 1, 16 * MIB, 2 ** 31, 2 ** 32 - 1]) {
    const answer = await client.read('small', 0, bytes);
    t.equal(answer.status, ERRORS.E_INVALID.status, `${bytes} bytes`);
    t.match(answer.body.toString(), /lie outside an object/);
  }
  t.equal((await client.read('small', 0, 5)).payload.toString(), 'small');
  await client.close();
});
