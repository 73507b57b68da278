// Which requests a daemon of a cluster runs: those for groups that it is the primary of, in the epoch they are meant for.
import {
  LayeredView,
  MapView,
  MemStore,
  OBJECT_KIND,
  ObjectRef,
  promised,
  realRandom,
  type CheckedPool,
  type MapGroup,
} from '@store/core';
import { codeOf, PoolUser } from '@store/core/testing';
import t from 'tap';
import type { MapSource } from './clustered-store.js';
import { Gate, GatedPool } from './gated-pool.js';

const POOL = 7;
const OURS = 3;

/** A map with one pool of one group. */
function viewOf(version: number, group: Partial<MapGroup>): MapView {
  const groups = [
    {
      epoch: 5,
      members: [{ daemon: OURS, inSync: null }],
      hasPrimary: true,
      lostAt: 0,
      givenUpAt: 0,
      ...group,
    },
  ];
  const pool = {
    ...{ id: POOL, name: 'pool', replicas: 1, minReplicas: 1, objectBytes: 4 * 1024 * 1024 },
    ...({ failureDomain: 'disk', durability: 'flush', groups } as const),
  };
  const nothing = { daemons: [], blockedClients: [], blockedTickets: [] };
  return new MapView({ clusterId: 'c'.repeat(32), version, pools: [pool], ...nothing });
}

class Source implements MapSource {
  view: MapView | null = viewOf(1, {});
  readonly daemonId = OURS;
  readonly wanted: number[] = [];

  wantMap(epoch: number): void {
    this.wanted.push(epoch);
  }

  knowsPool(): boolean {
    return true;
  }
}

async function gated(): Promise<{ source: Source; pool: GatedPool }> {
  const below = await new MemStore().openPool('below', { create: true });
  const source = new Source();
  return { source, pool: new GatedPool(below, new Gate(POOL, source)) };
}

const ref = new ObjectRef(OBJECT_KIND.plain, 'object');
const written = (pool: CheckedPool): Promise<string | null> =>
  codeOf(new PoolUser(pool).write(ref, 0, realRandom.bytes(100)));

t.test(
  'a request for another epoch than that of the map is refused, and changes nothing',
  async (t) => {
    const { source, pool } = await gated();
    t.equal(await written(pool.at(4)), 'E_STALE_MAP');
    t.equal(await codeOf(pool.at(4).compareAndSwap(ref, 0, Buffer.alloc(1))), 'E_STALE_MAP');
    t.equal(await codeOf(pool.at(4).delete(ref)), 'E_STALE_MAP');
    t.strictSame(source.wanted, [], 'nobody has to be asked what is over');
    t.equal(await pool.stat(ref), null);
    t.equal(await written(pool.at(5)), null);
    t.equal(await written(pool), null, 'who says nothing is served');
    const before = await pool.stat(ref);
    t.equal(await written(pool.at(6)), 'E_STALE_MAP');
    t.strictSame(source.wanted, [6], 'there must be a newer map');
    t.strictSame(await pool.stat(ref), before);
    source.view = viewOf(2, { epoch: 6 });
    t.equal(await written(pool.at(6)), null);
    t.equal(await written(pool.at(5)), 'E_STALE_MAP');
  },
);

t.test('a write of an epoch before last is refused by who is the primary again', async (t) => {
  const { source, pool } = await gated();
  const early = pool.at(5);
  t.equal(await written(early), null);
  source.view = viewOf(2, { epoch: 6, members: [{ daemon: 4, inSync: null }] });
  t.equal(await written(early), 'E_STALE_MAP');
  t.equal(await written(pool.at(6)), 'E_STALE_MAP', 'somebody else is the primary');
  source.view = viewOf(3, { epoch: 7 });
  t.equal(await written(early), 'E_STALE_MAP');
  t.equal(await written(pool.at(7)), null);
});

t.test('layers are read and copied up in the epoch of the request', async (t) => {
  const { source, pool } = await gated();
  const layers = [
    { id: 'top', overlap: 0 },
    { id: 'base', overlap: 2 ** 40 },
  ];
  const view = new LayeredView(pool, layers);
  const [top, base] = ['top_0', 'base_0'].map(
    (key) => new ObjectRef(OBJECT_KIND.imageData, key, 'family_0'),
  );
  if (top === undefined || base === undefined) throw new Error('there are two');
  await new PoolUser(pool).write(base, 0, Buffer.alloc(4096, 'b'));
  const write = (epoch: number): Promise<string | null> =>
    codeOf(new PoolUser(view.at(epoch)).write(top, 10, Buffer.alloc(10, 't')));
  t.equal(await write(4), 'E_STALE_MAP');
  t.equal(await codeOf(new PoolUser(view.at(4)).read(top, 0, 4096)), 'E_STALE_MAP');
  t.equal(await pool.stat(top), null, 'nothing was copied up');
  t.equal(await write(5), null);
  source.view = viewOf(2, { epoch: 6 });
  t.equal(await write(5), 'E_STALE_MAP');
  const seen = await new PoolUser(view.at(6)).read(top, 0, 30);
  t.equal(seen.toString(), 'b'.repeat(10) + 't'.repeat(10) + 'b'.repeat(10));
  t.equal(view.at(6), view.at(6), 'one view for requests of one epoch');
});

t.test('a flush is of groups in their epochs, all or none', async (t) => {
  const { source, pool } = await gated();
  const flush = (...epochs: number[]): Promise<string | null> =>
    codeOf(
      promised((done) => {
        const groups = epochs.map((epoch) => ({ group: 0, epoch }));
        pool.flushGroups(groups, done);
      }),
    );
  t.equal(await flush(5), null);
  t.equal(await flush(5, 4), 'E_STALE_MAP');
  t.equal(await flush(6), 'E_STALE_MAP');
  t.strictSame(source.wanted, [6]);
  source.view = viewOf(2, { hasPrimary: false });
  t.equal(await flush(5), 'E_STALE_MAP');
});

t.test('views are kept, but not for every epoch that somebody names', async (t) => {
  const { pool } = await gated();
  t.equal(pool.at(5), pool.at(5));
  for (let epoch = 1; epoch < 5000; epoch += 1) pool.at(epoch);
  t.equal(await written(pool.at(5)), null);
});
