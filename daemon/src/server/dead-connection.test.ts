/**
 * Connections that break, daemons that are started again or are another one, and nobody at all: a client sees its
 * answers, and nothing that a dead connection carried takes effect after what came later.
 */
import { ObjectRef, OBJECT_KIND, OP, StoreError, type RemoteStore } from '@store/core';
import { codeOf, PoolUser } from '@store/core/testing';
import t, { type Test } from 'tap';
import { CutProxy } from './testing/cut-proxy.js';

import { frame, RawClient, writeBody } from './testing/raw-client.js';
import { ServedFolder } from './testing/served-folder.js';
import { ServedMemory } from './testing/served-memory.js';
import { sleep, until } from './testing/until.js';

const BLOCK = 4096;
const ref = new ObjectRef(OBJECT_KIND.imageData, 'object');
const block = (letter: string): Buffer => Buffer.alloc(BLOCK, letter);

interface Story {
  readonly served: ServedMemory;
  readonly proxy: CutProxy;
  readonly remote: RemoteStore;
  readonly user: PoolUser;
}

async function story(t: Test, deadlineMs = 10_000): Promise<Story> {
  const served = await ServedMemory.open();
  const proxy = await CutProxy.open(served.address);
  const remote = await served.connect({ address: proxy.address, deadlineMs });
  const user = new PoolUser(await remote.openPool('pool', { create: true }));
  t.teardown(async () => {
    served.store.release();
    await remote.close();
    await proxy.close();
    await served.close();
  });
  return { served, proxy, remote, user };
}

t.test('a write of a dead connection ends before its successor begins', async (t) => {
  const served = await ServedMemory.open();
  t.teardown(() => served.close());
  const session = Buffer.alloc(16, 'faults 12');
  const first = await RawClient.open(served.address, { session, incarnation: 1 });
  served.store.isHolding = true;
  const one = block('1');
  const body = writeBody(first.pool, 'object', 0, one);
  first.send(frame({ op: OP.write, requestId: 100, floor: 1, body, payload: one }));
  await until(() => served.store.held.length === 1, 'W1 is on its way to the disk');
  first.socket.resetAndDestroy();
  const second = await RawClient.connect(served.address);
  await second.hello();
  let hasBegun = false;
  const beginning = second.beginSession({ session, incarnation: 2 }).then((begun) => {
    hasBegun = true;
    return begun;
  });
  await sleep(100);
  t.notOk(hasBegun, 'BEGIN is not answered while W1 is under way');
  served.store.release();
  t.equal((await beginning).resumed, true);
  await second.openPool('pool');
  t.equal((await second.write('object', 0, block('2'))).status, 0);
  t.ok((await second.read('object', 0, BLOCK)).payload.equals(block('2')));
  // W1 sent again under its id was run: it is answered, not run.
  second.send(frame({ op: OP.write, requestId: 100, floor: 1, body, payload: one }));
  t.equal((await second.answer(100)).status, 0);
  t.ok((await second.read('object', 0, BLOCK)).payload.equals(block('2')));
  t.equal(served.store.log.filter((line) => line === 'write object').length, 2);
  await second.close();
});

t.test('a write whose answer was lost is sent again, and run once', async (t) => {
  const { served, proxy, remote, user } = await story(t);
  await user.write(ref, 0, block('a'));
  proxy.losesAnswers = true;
  const written = user.write(ref, 0, block('b'));
  await until(() => served.store.log.length === 2, 'it was run');
  await sleep(20);
  proxy.losesAnswers = false;
  proxy.cut();
  await written;
  t.strictSame(served.store.log, ['write object', 'write object'], 'it was not run again');
  t.equal(remote.counters.resent, 1);
  t.equal(served.server.counters.repeated, 1);
  t.ok((await user.read(ref, 0, BLOCK)).equals(block('b')));
});

t.test(
  'a write that is under way when the connection breaks is answered once it ends',
  async (t) => {
    const { served, proxy, user } = await story(t);
    served.store.isHolding = true;
    const written = user.write(ref, 0, block('a'));
    await until(() => served.store.held.length === 1, 'it is held');
    proxy.cut();
    await until(() => proxy.connections === 2, 'the client is back');
    await sleep(50);
    served.store.release();
    await written;
    t.strictSame(served.store.log, ['write object']);
    t.ok((await user.read(ref, 0, BLOCK)).equals(block('a')));
  },
);

t.test('a compare-and-swap whose answer was lost has the answer that was kept', async (t) => {
  const { served, proxy, user } = await story(t);
  const header = new ObjectRef(OBJECT_KIND.imageHeader, 'header');
  const version = await user.compareAndSwap(header, 0, Buffer.from('one'));
  proxy.losesAnswers = true;
  const swapped = user.compareAndSwap(header, version, Buffer.from('two'));
  await until(() => served.store.log.length === 2, 'it was run');
  await sleep(20);
  proxy.losesAnswers = false;
  proxy.cut();
  t.ok((await swapped) > version, 'not E_VERSION, as a second run would say');
  t.equal(served.store.log.length, 2);
  t.equal((await user.read(header, 0, 3)).toString(), 'two');
});

t.test('cut again and again, all writes arrive, in order, each once', async (t) => {
  const { served, proxy, user } = await story(t, 30_000);
  const writes: Promise<void>[] = [];
  for (let round = 0; round < 40; round += 1) {
    for (let at = 0; at < 8; at += 1)
      writes.push(user.write(ref, at * BLOCK, block(String.fromCharCode(65 + (round % 26)))));
    if (round % 8 === 3) proxy.cut();
    await sleep(2);
  }
  await Promise.all(writes);
  t.equal(served.store.log.length, 320, 'each was run once');
  const last = String.fromCharCode(65 + (39 % 26));
  t.ok((await user.read(ref, 0, 8 * BLOCK)).equals(Buffer.alloc(8 * BLOCK, last)));
});

t.test('a daemon that is started again goes on; what was in doubt is said', async (t) => {
  const folder = await ServedFolder.open();
  const proxy = await CutProxy.open(folder.address);
  const remote = await folder.connect({ address: proxy.address });
  t.teardown(async () => {
    await remote.close();
    await proxy.close();
    await folder.remove();
  });
  const user = new PoolUser(await remote.openPool('pool', { create: true }));
  const header = new ObjectRef(OBJECT_KIND.imageHeader, 'header');
  const version = await user.compareAndSwap(header, 0, Buffer.from('one'));
  await user.write(ref, 0, block('a'));
  proxy.losesAnswers = true;
  const swapped = codeOf(user.compareAndSwap(header, version, Buffer.from('two')));
  const written = user.write(ref, 0, block('b'));
  await until(() => folder.server.counters.operations.get('write')?.count === 2, 'both were run');
  await until(
    () => folder.server.counters.operations.get('compareAndSwap')?.count === 2,
    'both were run',
  );
  proxy.isDown = true;
  proxy.cut();
  await folder.stop();
  await folder.start();
  proxy.losesAnswers = false;
  proxy.isDown = false;
  await written;
  t.equal(await swapped, 'E_IN_DOUBT');
  t.equal((await user.read(header, 0, 3)).toString(), 'two', 'looking again tells');
  t.ok((await user.read(ref, 0, BLOCK)).equals(block('b')));
  await user.flush();
  t.pass('a clean stop loses nothing: flush is fine');
});

t.test('answered writes that are lost with a machine are said once, by a flush', async (t) => {
  const memory = await ServedMemory.open();
  const proxy = await CutProxy.open(memory.address);
  const remote = await memory.connect({ address: proxy.address });
  const user = new PoolUser(await remote.openPool('pool', { create: true }));
  await user.write(ref, 0, block('a'));
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
  await user.write(ref, BLOCK, block('b'));
  t.equal(await codeOf(user.flush()), 'E_LOST_WRITES');
  await user.flush();
  t.pass('and once only');
  await user.write(ref, 0, block('c'));
  await user.flush();
});

t.test('nothing is lost with a machine if it was flushed', async (t) => {
  const memory = await ServedMemory.open();
  const proxy = await CutProxy.open(memory.address);
  const remote = await memory.connect({ address: proxy.address });
  const user = new PoolUser(await remote.openPool('pool', { create: true }));
  await user.write(ref, 0, block('a'));
  await user.flush();
  const lineage = Buffer.alloc(16, 2);
  const identity = { ...memory.identity, startId: lineage, lineage };
  const other = await ServedMemory.open({ store: memory.store, identity });
  t.teardown(async () => {
    await remote.close();
    await proxy.close();
    await other.server.close({ drainMs: 500 });
    await memory.close();
  });
  proxy.to = other.address;
  proxy.cut();
  await user.flush();
  t.ok((await user.read(ref, 0, BLOCK)).equals(block('a')));
});

t.test('another disk at the same address is E_FORMAT, and gets no write', async (t) => {
  const { served, proxy, user } = await story(t);
  await user.write(ref, 0, block('a'));
  const identity = { ...served.identity, diskId: Buffer.alloc(16, 'other') };
  const other = await ServedMemory.open({ identity });
  t.teardown(() => other.close());
  proxy.to = other.address;
  proxy.cut();
  const problem: unknown = await user.write(ref, 0, block('b')).catch((error: unknown) => error);
  t.ok(problem instanceof StoreError);
  t.match(problem, { code: 'E_FORMAT', message: /another disk now .* stop this program and look/ });
  t.strictSame(other.store.log, []);
  proxy.to = served.address;
});

t.test('nobody there is E_TIMEOUT at the deadline, and says why', async (t) => {
  const { proxy, user, remote } = await story(t, 1500);
  await user.write(ref, 0, block('a'));
  proxy.isDown = true;
  proxy.cut();
  const started = performance.now();
  const problem: unknown = await user.write(ref, 0, block('b')).catch((error: unknown) => error);
  const ms = performance.now() - started;
  t.match(problem, { code: 'E_TIMEOUT', message: /did not answer within 1.5 s \(.*connection/ });
  t.ok(ms > 1200 && ms < 3500, `after ${ms} ms`);
  t.equal(remote.openCount, 0);
  proxy.isDown = false;
  await user.write(ref, 0, block('c'));
  t.ok((await user.read(ref, 0, BLOCK)).equals(block('c')), 'and it goes on when they are back');
});

t.test('a network that swallows everything is noticed, and the client connects anew', async (t) => {
  const { served, proxy, user } = await story(t, 60_000);
  await user.write(ref, 0, block('a'));
  proxy.isFrozen = true;
  const written = user.write(ref, 0, block('b'));
  await sleep(500);
  t.strictSame(served.store.log, ['write object'], 'it has not arrived');
  await until(() => proxy.connections > 1, 'the silence is noticed', 20_000);
  proxy.isFrozen = false;
  await written;
  t.ok((await user.read(ref, 0, BLOCK)).equals(block('b')));
});

t.test('a daemon that accepts and says nothing is E_TIMEOUT, when connecting too', async (t) => {
  const { proxy, user } = await story(t, 1500);
  proxy.isFrozen = true;
  t.equal(await codeOf(user.write(ref, 0, block('a'))), 'E_TIMEOUT');
  const started = performance.now();
  const memory = await ServedMemory.open();
  t.teardown(() => memory.close());
  const connecting: unknown = await memory
    .connect({ address: proxy.address, deadlineMs: 1000 })
    .catch((error: unknown) => error);
  t.match(connecting, { code: 'E_TIMEOUT', message: /does not answer/ });
  t.ok(performance.now() - started < 12_000);
  proxy.isFrozen = false;
});

t.test('a write that was given up never lands on what was written after it', async (t) => {
  const { served, proxy, user } = await story(t, 1000);
  await user.write(ref, 0, block('a'));
  served.store.isHolding = true;
  t.equal(await codeOf(user.write(ref, 0, block('b'))), 'E_TIMEOUT');
  const later = user.write(ref, 0, block('c')).catch((error: unknown) => error);
  await sleep(300);
  served.store.release();
  t.equal(await later, undefined);
  t.ok((await user.read(ref, 0, BLOCK)).equals(block('c')));
  t.ok(proxy.connections > 1);
  await sleep(50);
  t.ok((await user.read(ref, 0, BLOCK)).equals(block('c')), 'and it stays');
});

t.test('a read of an object waits for the write before it that makes the object', async (t) => {
  const { served, user } = await story(t);
  const plain = new ObjectRef(OBJECT_KIND.plain, 'plain');
  served.store.isHolding = true;
  const written = user.write(plain, 0, block('a'));
  await until(() => served.store.held.length === 1, 'the write is held');
  served.store.isHolding = false;
  const read = user.read(plain, 2 * BLOCK, 1);
  await sleep(30);
  served.store.release();
  await written;
  t.ok((await read).equals(Buffer.alloc(1)), 'not E_NOT_FOUND, however the two travelled');
});

t.test('a daemon that stops waits for its clients no longer than they take', async (t) => {
  const served = await ServedMemory.open();
  const client = await RawClient.open(served.address);
  client.socket.on('end', () => client.socket.end());
  const started = performance.now();
  await served.server.close({ drainMs: 5000 });
  t.ok(performance.now() - started < 1000);
  await client.over();
});
