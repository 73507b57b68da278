// The guards of an image are raised in all groups, whatever the map says meanwhile, and who has lost the writer role does
// nothing more.
import {
  MapView,
  OBJECT_KIND,
  ObjectRef,
  promised,
  type ClusterStore,
  type Guard,
  type ObjectPool,
  type StoreError,
} from '@store/core';
import { codeOf, PoolUser } from '@store/core/testing';
import t, { type Test } from 'tap';
import { POOL, TestCluster } from './test-cluster.js';

type ClusterPool = Awaited<ReturnType<ClusterStore['openPool']>>;

const GROUPS = 16;
const LAYERS = [{ id: 'layer', overlap: 0 }];
const BLOCK = Buffer.alloc(4096, 0x5a);
const REFS = Array.from(
  { length: 40 },
  (_, index) => new ObjectRef(OBJECT_KIND.imageData, `layer_${index}`, `family_${index}`),
);

interface Story {
  readonly cluster: TestCluster;
  readonly pool: ClusterPool;
}

async function begin(t: Test): Promise<Story> {
  const cluster = await TestCluster.start({ groups: GROUPS });
  t.teardown(() => cluster.close());
  return { cluster, pool: await openedBy(cluster) };
}

function openedBy(cluster: TestCluster): Promise<ClusterPool> {
  return cluster.open().openPool(POOL, { create: false });
}

function guard(token: number): Guard {
  return { image: 'vm', token, layer: 0, layerId: 'layer' };
}

function claimed(pool: ClusterPool, token: number, told: StoreError[] = []): ObjectPool {
  return pool.claimed(LAYERS, { image: 'vm', token, layer: 0 }, (why) => told.push(why));
}

/** Of each group, whoever keeps it. */
function tokens({ daemons }: TestCluster): number[] {
  return Array.from(
    { length: GROUPS },
    (_, group) => daemons[0]?.mapped.guardsOf(group).of('vm')?.token ?? 0,
  );
}

/** What writes to every object end with. */
async function writeAll(pool: ObjectPool): Promise<Set<string | null>> {
  const user = new PoolUser(pool);
  return new Set(await Promise.all(REFS.map((ref) => codeOf(user.write(ref, 0, BLOCK)))));
}

function all(token: number): number[] {
  return Array.from({ length: GROUPS }, () => token);
}

t.test('each primary is told once, of all its groups', async (t) => {
  const { cluster, pool } = await begin(t);
  await pool.raiseGuard(guard(3));
  t.same(tokens(cluster), all(3));
  for (const { mapped } of cluster.daemons) {
    t.equal(mapped.guardChanges.length, 1);
    t.equal(mapped.guardChanges[0]?.length, GROUPS / cluster.daemons.length);
  }
  await pool.raiseGuard(guard(3));
  t.equal(await codeOf(pool.raiseGuard(guard(2))), 'E_FENCED');
  t.same(tokens(cluster), all(3));
  t.equal(await codeOf(pool.removeGuard('vm', 2)), 'E_FENCED');
  await pool.removeGuard('vm', 3);
  t.same(tokens(cluster), all(0));
});

t.test('who has an old map, client or daemon, is asked again', async (t) => {
  const { cluster, pool } = await begin(t);
  cluster.guide.isCutOff = true;
  cluster.nextEpoch(0);
  cluster.move(new Map([[1, 3]]));
  const raised = pool.raiseGuard(guard(1));
  setTimeout(() => (cluster.guide.isCutOff = false), 50);
  await raised;
  t.same(tokens(cluster), all(1));
  cluster.daemon(1).view = new MapView(cluster.map);
  cluster.nextEpoch(0);
  const again = pool.raiseGuard(guard(2));
  setTimeout(() => (cluster.daemon(1).view = null), 50);
  await again;
  t.same(tokens(cluster), all(2));
});

t.test('a primary that dies over a raise is no obstacle, and the next one is told', async (t) => {
  const { cluster, pool } = await begin(t);
  const { mapped } = cluster.daemon(2);
  mapped.isHolding = true;
  const raised = pool.raiseGuard(guard(1));
  while (mapped.waiting.length === 0) await new Promise((resolve) => setTimeout(resolve, 5));
  const moves = Array.from({ length: GROUPS }, (_, group) => group).filter((at) => at % 4 === 1);
  t.ok(tokens(cluster).includes(0), 'its groups have it not');
  cluster.move(new Map(moves.map((group) => [group, 3])));
  await raised;
  t.same(tokens(cluster), all(1));
  mapped.release();
});

t.test('who has lost the role does nothing more, and hears of it once', async (t) => {
  const { cluster, pool } = await begin(t);
  await pool.raiseGuard(guard(1));
  const told: StoreError[] = [];
  const old = claimed(pool, 1, told);
  t.same(await writeAll(old), new Set([null]));
  t.same(await writeAll(pool), new Set(['E_FENCED']), 'nor does who has none');

  // What waits in a daemon is compared when it is its turn.
  const { mapped } = cluster.daemon(1);
  mapped.isHolding = true;
  const late = writeAll(old);
  while (mapped.waiting.length === 0) await new Promise((resolve) => setTimeout(resolve, 5));
  const waiting = mapped.waiting.splice(0);
  mapped.isHolding = false;
  const other = await openedBy(cluster);
  await other.raiseGuard(guard(2));
  for (const run of waiting) run();
  const codes = await late;
  t.ok(codes.has('E_FENCED'));
  t.equal(told.length, 1);
  t.match(told, [{ code: 'E_FENCED' }]);

  t.same(await writeAll(old), new Set(['E_FENCED']));
  const [ref] = REFS;
  if (ref === undefined) throw new Error('there are some');
  const target = Buffer.alloc(8);
  t.equal(await codeOf(promised((done) => old.read(ref, 0, target, done))), 'E_FENCED');
  t.equal(await codeOf(promised((done) => old.flush(done))), 'E_FENCED');
  t.equal(await codeOf(promised((done) => old.forUser().flush(done))), 'E_FENCED');
  t.equal(told.length, 1);
  t.same(await writeAll(claimed(other, 2)), new Set([null]), 'the other one goes on');
  const stat = await pool.stat(ref);
  t.equal(await codeOf(pool.delete(ref, stat?.version ?? 0)), null, 'what was listed is removed');
});
