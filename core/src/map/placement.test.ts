import { randomInt } from 'node:crypto';
import fc from 'fast-check';
import t from 'tap';
import { realEnv } from '../env/real-env.js';
import { silentLog } from '../env/silent-log.js';
import { planPlacement } from './placement-plan.js';
import { COPY } from './placement-shares.js';
import {
  placePool,
  placePools,
  placePoolsSliced,
  placementShares,
  type Candidate,
  type PlacedPool,
  type Placement,
} from './placement.js';
import { FAILURE_DOMAINS } from './storage-map.js';

const seed = Number(process.env['STORE_TEST_SEED'] ?? randomInt(2 ** 31));
const numRuns = Number(process.env['STORE_TEST_RUNS'] ?? 60);
t.comment(`replay: STORE_TEST_SEED=${seed} node ${process.argv[1] ?? ''}`);

const daemonsOf = (count: number, weightOf = (_: number): number => 1000): Candidate[] =>
  Array.from({ length: count }, (_, at) => ({
    id: at + 1,
    host: `h${at >> 1}`,
    rack: `r${at % 5}`,
    weight: weightOf(at),
    membership: 'in',
  }));

const poolOf = (groups: number, change: Partial<PlacedPool> = {}): PlacedPool => ({
  id: 1,
  replicas: 3,
  failureDomain: 'disk',
  holders: Array.from({ length: groups }, () => []),
  ...change,
});

/** How many copies, or with `led` primaries, each daemon has. */
function countsOf(placements: readonly Placement[], led = false): Map<number, number> {
  const counts = new Map<number, number>();
  for (const members of placements.flat())
    for (const id of led ? members.slice(0, 1) : members) counts.set(id, (counts.get(id) ?? 0) + 1);
  return counts;
}

/** The worst excess over 10 % of the share, in copies. */
function worst(counts: Map<number, number>, shares: Map<number, number>, parts = 1): number {
  return Math.max(
    ...[...shares].map(([id, units]) => {
      const share = units / COPY / parts;
      return Math.abs((counts.get(id) ?? 0) - share) - share / 10;
    }),
  );
}

t.test('small configurations are placed just so on every machine', async (t) => {
  const place = (pool: PlacedPool, daemons: Candidate[]): string =>
    placePool(pool, daemons)
      .map((members) => members.join('-'))
      .join(' ');
  t.equal(place(poolOf(8), daemonsOf(4)), '1-3-4 1-3-2 3-4-2 4-3-2 4-1-2 2-3-1 3-4-1 2-1-4');
  t.equal(
    place(poolOf(8, { id: 7, failureDomain: 'host' }), daemonsOf(8)),
    '3-5-2 6-4-7 2-3-7 7-1-6 4-2-5 5-4-8 1-3-8 8-6-1',
  );
  const weighted = daemonsOf(5, (at) => 500 * (at + 1));
  t.equal(place(poolOf(8, { replicas: 2 }), weighted), '5-3 5-4 3-5 4-5 1-4 5-2 4-5 2-3');
});

const topologies = fc.record({
  weights: fc.array(fc.integer({ min: 1, max: 4 }), { minLength: 1, maxLength: 16 }),
  replicas: fc.integer({ min: 1, max: 4 }),
  id: fc.integer({ min: 1, max: 2 ** 32 - 1 }),
  failureDomain: fc.constantFrom(...FAILURE_DOMAINS),
  drained: fc.nat({ max: 15 }),
});

t.test('copies and primaries follow the weights, one copy in a domain, and stay', async (t) => {
  const report = fc.check(
    fc.property(topologies, ({ weights, replicas, id, failureDomain, drained }) => {
      const daemons = daemonsOf(weights.length, (at) => 1000 * (weights[at] ?? 1));
      const pool = poolOf(64, { id, replicas, failureDomain });
      const placed = placePool(pool, daemons);
      const domains = new Set(
        daemons.map((one) => (failureDomain === 'disk' ? one.id : one[failureDomain])),
      );
      const labels = new Map(
        daemons.map((one) => [one.id, failureDomain === 'disk' ? one.id : one[failureDomain]]),
      );
      for (const members of placed) {
        const count = new Set(members.map((one) => labels.get(one))).size;
        if (count !== members.length || count !== Math.min(replicas, domains.size)) return false;
      }
      const shares = placementShares(pool, 64, daemons);
      if (worst(countsOf([placed]), shares) > 1) return false;
      const parts = Math.min(replicas, domains.size);
      if (worst(countsOf([placed], true), shares, parts) > 1.4) return false;
      const again = placePool({ ...pool, holders: placed }, daemons.toReversed());
      if (JSON.stringify(again) !== JSON.stringify(placed)) return false;
      const leaving = daemons.map((one) =>
        one.id === drained + 1 ? { ...one, membership: 'out' as const } : one,
      );
      const without = placePool({ ...pool, holders: placed }, leaving);
      return !without.flat().includes(drained + 1);
    }),
    { seed, numRuns },
  );
  t.notOk(report.failed, fc.defaultReportMessage(report) ?? 'all topologies');
});

const membership = fc.constantFrom('in', 'in', 'in', 'in', 'draining', 'out');
const disorders = fc.record({
  daemons: fc.array(fc.record({ weight: fc.nat({ max: 5 }), membership }), { maxLength: 14 }),
  replicas: fc.integer({ min: 1, max: 4 }),
  id: fc.integer({ min: 1, max: 2 ** 32 - 1 }),
  failureDomain: fc.constantFrom(...FAILURE_DOMAINS),
  // Some do not exist, some are there twice, some are too many.
  holders: fc.array(fc.array(fc.integer({ min: 1, max: 16 }), { maxLength: 6 }), { maxLength: 48 }),
});

t.test('whoever holds groups before, they are placed well and then stay', async (t) => {
  const report = fc.check(
    fc.property(disorders, ({ daemons, replicas, id, failureDomain, holders }) => {
      const candidates = daemonsOf(daemons.length).map((one, at) => ({ ...one, ...daemons[at] }));
      const pool = poolOf(0, { id, replicas, failureDomain, holders });
      const placed = placePool(pool, candidates);
      const bearers = new Map(
        candidates
          .filter((one) => one.membership === 'in' && one.weight > 0)
          .map((one) => [one.id, failureDomain === 'disk' ? one.id : one[failureDomain]]),
      );
      const count = Math.min(replicas, new Set(bearers.values()).size);
      for (const members of placed) {
        const good = members.filter((one) => bearers.has(one));
        if (new Set(good.map((one) => bearers.get(one))).size !== count) return false;
        if (members.length > replicas) return false;
      }
      const again = placePool({ ...pool, holders: placed }, candidates.toReversed());
      return JSON.stringify(again) === JSON.stringify(placed);
    }),
    { seed, numRuns: numRuns * 3 },
  );
  t.notOk(report.failed, fc.defaultReportMessage(report) ?? 'all disorders');
});

t.test('one daemon more or less among 4 to 24 moves at most 1.3/n of the copies', async (t) => {
  const report = fc.check(
    fc.property(fc.integer({ min: 4, max: 24 }), fc.integer({ min: 1, max: 1e6 }), (n, id) => {
      const pool = poolOf(128, { id });
      const before = placePool(pool, daemonsOf(n));
      const held = { ...pool, holders: before };
      const more = planPlacement(before, placePool(held, daemonsOf(n + 1)));
      const gone = daemonsOf(n).map((one) =>
        one.id === 2 ? { ...one, membership: 'out' as const } : one,
      );
      const less = planPlacement(before, placePool(held, gone));
      return more.copiesMoved <= (1.3 * 384) / (n + 1) && less.copiesMoved <= (1.3 * 384) / n;
    }),
    { seed, numRuns },
  );
  t.notOk(report.failed, fc.defaultReportMessage(report) ?? 'all sizes');
});

t.test('who drains gives all away, unless nobody else can have it', async (t) => {
  const drain = (count: number): Placement => {
    const placed = placePool(poolOf(32), daemonsOf(count));
    const leaving = daemonsOf(count).map((one) =>
      one.id === 2 ? { ...one, membership: 'draining' as const } : one,
    );
    return placePool(poolOf(32, { holders: placed }), leaving);
  };
  t.notOk(drain(6).flat().includes(2));
  t.ok(
    drain(3).every((members) => members.length === 3 && members[0] !== 2 && members.includes(2)),
  );
});

t.test('100 pools on 1,000 daemons are even over all pools, quickly', async (t) => {
  const pools = Array.from({ length: 100 }, (_, at) => poolOf(128, { id: at + 1 }));
  const start = performance.now();
  const placed = placePools(pools, daemonsOf(1000));
  t.comment(`${((performance.now() - start) / 100).toFixed(1)} ms a pool`);
  t.ok(performance.now() - start < 50_000);
  const counts = [...countsOf(placed).values()];
  t.ok(counts.length === 1000 && Math.min(...counts) >= 35 && Math.max(...counts) <= 42);
});

t.test('placed in slices comes out the same, and others have their turns', async (t) => {
  const daemons = daemonsOf(100, (at) => 500 + ((at * 37) % 1000));
  const pools = [7, 3, 5].map((id) =>
    poolOf(256, { id, replicas: 1 + (id % 4), failureDomain: id === 3 ? 'host' : 'disk' }),
  );
  const placed = placePools(pools, daemons);
  const held = pools.map((pool, at) => ({ ...pool, holders: placed[at] ?? [] }));
  const fewer = daemons.filter(({ id }) => id % 20 !== 0);
  const { timers } = realEnv(silentLog);
  for (const [before, candidates] of [
    [pools, daemons],
    [held, fewer],
  ] as const) {
    // A clock on which each step takes a millisecond.
    let [nowMs, slices] = [0, 0];
    const clock = { now: () => nowMs++, wallTime: () => '', wallSeconds: () => 0 };
    const sleep = async (ms: number): Promise<void> => {
      slices += 1;
      await timers.sleep(ms);
    };
    const sliced = await placePoolsSliced(
      { clock, timers: { ...timers, sleep } },
      before,
      candidates,
    );
    t.same(sliced, placePools(before, candidates));
    t.ok(slices > 100, `${slices} slices`);
  }
});

t.test('a plan counts copies and bytes', async (t) => {
  const plan = planPlacement(
    [
      [1, 2],
      [2, 1],
    ],
    [
      [2, 3],
      [1, 2],
    ],
    [100, 7],
  );
  t.match(plan, { copiesMoved: 1, bytesMoved: 100, groupsChanged: 1 });
  t.match(plan.daemons, [
    { daemon: 1, copiesOut: 1, bytesOut: 100 },
    { daemon: 2, copiesIn: 0 },
    { daemon: 3, bytesIn: 100 },
  ]);
});
