/**
 * A writer of an image is replaced while its writes are on their way. What was run before is answered as it was, however
 * late it is sent again, and not run once more; what was not run before never is.
 */
import {
  chainHandle,
  encodeChain,
  encodeGuardRequest,
  ERRORS,
  OBJECT_KIND,
  ObjectRef,
  objectRequestBytes,
  OP,
  pieceChecksOf,
  writeChecks,
  writeObjectRequest,
  type GuardChange,
} from '@store/core';
import t from 'tap';
import { GuardedStore } from './testing/guarded-store.js';
import { frame, RawClient } from './testing/raw-client.js';
import { ServedMemory } from './testing/served-memory.js';
import { sleep } from './testing/until.js';

const BLOCK = 4096;
const DATA = new ObjectRef(OBJECT_KIND.imageData, 'layer_0', 'family_0');
const GROUPS = [{ group: 0, epoch: 1 }];
const LAYERS = [{ id: 'layer', overlap: 0 }];

function chainOf(token: number): Parameters<typeof chainHandle>[0] {
  return { layers: LAYERS, claim: { image: 'vm', token, layer: 0 } };
}

function raise(token: number): GuardChange {
  return { kind: 'raise', guard: { image: 'vm', token, layer: 0, layerId: 'layer' } };
}

/** The body of a write of a block. @param token - 0: without a claim */
function writeOf(pool: number, token: number, bytes: Buffer): Buffer {
  const checks = pieceChecksOf(0, [bytes]);
  const out = Buffer.alloc(objectRequestBytes(DATA) + 4 * checks.length);
  const handle = token === 0 ? 0 : chainHandle(chainOf(token));
  writeChecks(out, writeObjectRequest(out, 0, pool, DATA, 0, 0, BLOCK, handle), checks);
  return out;
}

async function writer(served: ServedMemory, token: number, session?: Buffer): Promise<RawClient> {
  const client = await RawClient.open(served.address, session === undefined ? {} : { session });
  t.equal((await client.ask(OP.registerChain, encodeChain(chainOf(token)))).status, 0);
  return client;
}

t.test('what an old writer sends again was run before the new one, or is not run', async (t) => {
  const store = new GuardedStore();
  const served = await ServedMemory.open({ store });
  t.teardown(() => served.close());
  const session = Buffer.alloc(16, 'old writer');
  const old = await writer(served, 1, session);
  const change = (what: GuardChange): Promise<{ status: number }> =>
    old.ask(OP.raiseGuard, encodeGuardRequest(old.pool, what, GROUPS));
  t.equal((await change(raise(1))).status, 0);
  const ours = Buffer.alloc(BLOCK, 0xaa);
  const body = writeOf(old.pool, 1, ours);
  old.send(frame({ op: OP.write, requestId: 100, body, payload: ours }));
  t.equal((await old.answer(100)).status, 0);

  const next = await writer(served, 2);
  const asked = encodeGuardRequest(next.pool, raise(2), GROUPS);
  t.equal((await next.ask(OP.raiseGuard, asked)).status, 0);
  const theirs = Buffer.alloc(BLOCK, 0xbb);
  t.equal((await next.ask(OP.write, writeOf(next.pool, 2, theirs), theirs)).status, 0);
  t.equal(store.writeCount, 2);

  // Its answer was lost, say.
  old.send(frame({ op: OP.write, requestId: 100, body, payload: ours }));
  t.equal((await old.answer(100)).status, 0, 'it was made, then');
  old.send(frame({ op: OP.write, requestId: 101, body, payload: ours }));
  t.equal((await old.answer(101)).status, ERRORS.E_FENCED.status, 'a new one is not');
  old.send(frame({ op: OP.write, requestId: 101, body, payload: ours }));
  t.equal((await old.answer(101)).status, ERRORS.E_FENCED.status, 'nor when it comes twice');
  const unclaimed = writeOf(old.pool, 0, ours);
  t.equal((await old.ask(OP.write, unclaimed, ours)).status, ERRORS.E_FENCED.status);
  t.equal((await change(raise(1))).status, ERRORS.E_FENCED.status, 'nor does it get the role back');
  // A copy of a write that its client has given up, left somewhere on the way.
  old.send(frame({ op: OP.flush, requestId: 200, floor: 200, body: Buffer.alloc(4) }));
  t.equal((await old.answer(200)).status, 0);
  old.send(frame({ op: OP.write, requestId: 100, floor: 200, body, payload: ours }));
  await sleep(50);
  t.equal(store.writeCount, 2, 'nothing was run again');
  const seen = await next.ask(OP.read, writeOf(next.pool, 2, theirs).subarray(0, -4));
  t.ok(seen.payload.equals(theirs));
  await old.close();
  await next.close();
});

t.test('a pool that keeps no guards takes no claims', async (t) => {
  const served = await ServedMemory.open();
  t.teardown(() => served.close());
  const client = await writer(served, 1);
  const bytes = Buffer.alloc(BLOCK, 1);
  const { status } = await client.ask(OP.write, writeOf(client.pool, 1, bytes), bytes);
  t.equal(status, ERRORS.E_INVALID.status);
  const asked = encodeGuardRequest(client.pool, raise(1), GROUPS);
  t.equal((await client.ask(OP.raiseGuard, asked)).status, ERRORS.E_INVALID.status);
  await client.close();
});
