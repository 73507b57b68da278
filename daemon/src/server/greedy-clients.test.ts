/** Clients that take and do not give back: others are served all the same, and memory has an end. */
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { encodeListRequest, ObjectRef, OBJECT_KIND, OP, StoreError } from '@store/core';
import { PoolUser } from '@store/core/testing';
import t, { type Test } from 'tap';
import type { DaemonServerOptions } from './daemon-server.js';
import { frame, objectBody, RawClient, writeBody } from './testing/raw-client.js';
import { ServedMemory } from './testing/served-memory.js';
import { until } from './testing/until.js';

const MIB = 1024 * 1024;
const LIMITS = { serverBytesMax: 24 * MIB, stallMs: 8000, stallUnderPressureMs: 1000 };

async function open(t: Test, limits: DaemonServerOptions['limits']): Promise<ServedMemory> {
  const served = await ServedMemory.open({ ...(limits === undefined ? {} : { limits }) });
  t.teardown(() => served.close());
  return served;
}

/** Writes and reads a MiB with an ordinary client. */
async function expectService(t: Test, served: ServedMemory): Promise<void> {
  const remote = await served.connect({ deadlineMs: 6000 });
  const user = new PoolUser(await remote.openPool('pool', { create: true }));
  const ref = new ObjectRef(OBJECT_KIND.plain, 'honest');
  const bytes = Buffer.alloc(MIB, 'h');
  await user.write(ref, 0, bytes);
  t.ok((await user.read(ref, 0, MIB)).equals(bytes), 'an honest client is served');
  await remote.close();
}

t.test('half requests make room for whole ones', async (t) => {
  const served = await open(t, LIMITS);
  const greedy: RawClient[] = [];
  for (let count = 0; count < 8; count += 1) {
    const client = await RawClient.open(served.address);
    const payload = Buffer.alloc(4 * MIB);
    const body = writeBody(client.pool, 'half', 0, payload);
    const whole = frame({ op: OP.write, requestId: 10, body, payload });
    client.send(whole.subarray(0, whole.length - payload.length + 100));
    greedy.push(client);
  }
  await until(() => served.server.state().heldBytes > 20 * MIB, 'they hold what there is');
  await expectService(t, served);
  t.ok(served.server.counters.refused.get('E_TIMEOUT'), 'it is counted');
  for (const client of greedy) await client.close();
});

t.test('a half request ends its connection even if nobody waits', async (t) => {
  const served = await open(t, { ...LIMITS, stallMs: 2000 });
  const client = await RawClient.open(served.address);
  client.send(frame({ op: OP.ping, requestId: 10 }).subarray(0, 20));
  await until(() => client.isOver, 'it is over', 6000);
  await client.close();
});

t.test(
  'a client that was cut off in a request sends it again on its next connection, and it runs once',
  async (t) => {
    const served = await open(t, { ...LIMITS, stallMs: 1000 });
    const session = Buffer.alloc(16, 'stopped');
    const first = await RawClient.open(served.address, { session, incarnation: 1 });
    const payload = Buffer.alloc(MIB, 'p');
    const body = writeBody(first.pool, 'late', 0, payload);
    const whole = frame({ op: OP.write, requestId: 10, floor: 10, body, payload });
    first.send(whole.subarray(0, whole.length - 1));
    await until(() => first.isOver, 'it is cut off');
    first.socket.destroy();
    t.strictSame(served.store.log, [], 'nothing has begun');
    const second = await RawClient.open(served.address, { session, incarnation: 2 });
    for (const status of [0, 0]) {
      second.send(whole);
      t.equal((await second.answer(10)).status, status);
    }
    t.strictSame(served.store.log, ['write late']);
    second.skipTo(20);
    t.ok((await second.read('late', 0, MIB)).payload.equals(payload));
    await second.close();
  },
);

t.test('newcomers who are slow make room for others, and nobody else does', async (t) => {
  const served = await open(t, { greetingsMax: 3 });
  const slow = await RawClient.connect(served.address);
  const quick: RawClient[] = [];
  for (let count = 0; count < 8; count += 1) quick.push(await RawClient.open(served.address));
  t.notOk(slow.isOver, 'those who have begun do not count');
  for (let count = 0; count < 3; count += 1) quick.push(await RawClient.connect(served.address));
  await until(() => slow.isOver, 'the oldest makes room');
  t.notOk(quick.some(({ isOver }) => isOver));
  for (const client of quick) client.socket.destroy();
  slow.socket.destroy();
});

t.test('answers that nobody reads make room for others', async (t) => {
  const served = await open(t, LIMITS);
  const writer = await RawClient.open(served.address);
  t.equal((await writer.write('long', 0, Buffer.alloc(4 * MIB, 'x'))).status, 0);
  await writer.close();
  const greedy: RawClient[] = [];
  for (let count = 0; count < 8; count += 1) {
    const client = await RawClient.open(served.address);
    client.socket.pause();
    for (let id = 10; id < 20; id += 1)
      client.send(
        frame({
          op: OP.read,
          requestId: id,
          body: objectBody({ pool: client.pool, key: 'long', bytes: 4 * MIB }),
        }),
      );
    greedy.push(client);
  }
  await until(() => served.server.state().heldBytes > 16 * MIB, 'they hold what there is');
  await expectService(t, served);
  for (const client of greedy) client.socket.destroy();
});

t.test('long lists that nobody reads are counted before they are made', async (t) => {
  const served = await open(t, { serverBytesMax: 2 * MIB, connectionBytesMax: 2 * MIB });
  const client = await RawClient.open(served.address);
  for (let count = 0; count < 100; count += 1)
    t.equal((await client.write(`${count}`.padStart(512, 'k'), 0, Buffer.from('x'))).status, 0);
  client.socket.pause();
  let most = 0;
  for (let id = 1000; id < 1400; id += 1)
    client.send(frame({ op: OP.list, requestId: id, body: encodeListRequest(client.pool, {}) }));
  for (let round = 0; round < 50; round += 1) {
    most = Math.max(most, served.server.state().heldBytes);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  t.ok(most > MIB / 2, `some were made: ${most}`);
  t.ok(most <= 2 * MIB + 256 * 1024, `no more than there is room for: ${most}`);
  client.socket.destroy();
});

t.test('whoever comes when all places are taken is told so, and the owner gets in', async (t) => {
  const served = await open(t, { connectionsMax: 3, ownerConnectionsMax: 1 });
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'store-greedy-'));
  t.teardown(() => fs.rmSync(folder, { recursive: true, force: true }));
  const owner = await served.server.listen({ path: path.join(folder, 'store.sock') }, 'owner');
  const inside: RawClient[] = [];
  for (let count = 0; count < 3; count += 1) inside.push(await RawClient.open(served.address));
  const refusal = async (address: typeof owner): Promise<unknown> =>
    served.connect({ address, deadlineMs: 500 }).catch((error: unknown) => error);
  const refused = await refusal(served.address);
  t.ok(refused instanceof StoreError);
  t.match(refused, { message: /There are 3 connections to the daemon already/ });
  const own = await RawClient.open(owner);
  t.match(await refusal(owner), { message: /There are 1 connections/ });
  t.equal((await own.write('key', 0, Buffer.from('x'))).status, 0);
  await own.close();
  await inside.pop()?.close();
  await until(() => served.server.state().connections === 2, 'there is a place');
  await expectService(t, served);
  for (const client of inside) await client.close();
});
