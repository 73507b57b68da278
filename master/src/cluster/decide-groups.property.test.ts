/** Random histories of a cluster: what holds for each change of each group, and where all of it ends. */
import { randomInt } from 'node:crypto';
import { checkMap, GROUP_REQUESTS, StoreError, type MapGroup } from '@store/core';
import fc from 'fast-check';
import t from 'tap';
import { changeDaemon } from './decide-daemons.js';
import { setPool } from './decide-pools.js';
import { inSyncOf, memberOf, primaryOf } from './group-changes.js';
import { GroupWorld } from './testing/group-world.js';

const seed = Number(process.env['STORE_TEST_SEED'] ?? randomInt(2 ** 31));
const numRuns = Number(process.env['STORE_TEST_RUNS'] ?? 150);
t.comment(`replay: STORE_TEST_SEED=${seed} node ${process.argv[1] ?? ''}`);

const POOL = 1;
const GROUPS = 8;
const ROUNDS_MAX = 400;

const daemon = fc.integer({ min: 1, max: 6 });
const steps = fc.array(
  fc.oneof(
    {
      weight: 3,
      arbitrary: fc.record({ op: fc.constant('start'), daemon, hasLost: fc.boolean() }),
    },
    { weight: 3, arbitrary: fc.record({ op: fc.constant('stop'), daemon }) },
    {
      weight: 6,
      arbitrary: fc.record({
        op: fc.constant('request'),
        kind: fc.constantFrom(...GROUP_REQUESTS),
        daemon,
        member: daemon,
        group: fc.nat({ max: GROUPS - 1 }),
        back: fc.constantFrom(0, 0, 0, 1, -1),
        asksPrimary: fc.boolean(),
      }),
    },
    { weight: 2, arbitrary: fc.record({ op: fc.constant('join') }) },
    {
      weight: 4,
      arbitrary: fc.record({
        op: fc.constant('tend'),
        ms: fc.constantFrom(1000, 1000, 6000, 31_000, 700_000),
      }),
    },
    { weight: 1, arbitrary: fc.record({ op: fc.constant('elect') }) },
    {
      weight: 2,
      arbitrary: fc.record({
        op: fc.constant('change'),
        daemon,
        membership: fc.constantFrom('in', 'in', 'draining', 'out'),
        weight: fc.constantFrom(null, 1000, 500_000),
      }),
    },
    {
      weight: 1,
      arbitrary: fc.record({
        op: fc.constant('replicas'),
        replicas: fc.integer({ min: 1, max: 4 }),
      }),
    },
    { weight: 1, arbitrary: fc.record({ op: fc.constant('full'), daemon, isFull: fc.boolean() }) },
  ),
  { minLength: 5, maxLength: 60 },
);
type Step = (typeof steps extends fc.Arbitrary<infer T> ? T : never)[number];

const worlds = fc.record({
  hosts: fc.constantFrom(3, 6),
  replicas: fc.integer({ min: 1, max: 4 }),
  failureDomain: fc.constantFrom('disk' as const, 'host' as const),
  first: fc.integer({ min: 1, max: 6 }),
  steps,
});

function begin({ hosts, replicas, failureDomain, first }: Omit<Worlds, 'steps'>): GroupWorld {
  const world = new GroupWorld(hosts);
  for (let id = 1; id <= first; id += 1) world.start(id);
  world.pool('p', { groups: GROUPS, replicas, failureDomain });
  for (let id = 1; id <= 6; id += 1) if (id > first) world.start(id);
  return world;
}
type Worlds = typeof worlds extends fc.Arbitrary<infer T> ? T : never;

/** @returns what became of it: for `joined` whom it made a member in sync */
function run(world: GroupWorld, step: Step): number | null {
  if ('kind' in step) {
    const { kind, group: index, member, back, asksPrimary } = step;
    const group = world.group(POOL, index);
    const primary = primaryOf(group);
    const who = asksPrimary && primary !== null ? primary.daemon : step.daemon;
    const startId = world.view.startOf(who);
    if (startId === null) return null;
    const memberStart =
      (kind === 'remove' ? memberOf(group, member)?.inSync : null) ??
      world.view.startOf(member) ??
      '';
    const request = { kind, pool: POOL, group: index, epoch: group.epoch - back };
    world.request({ ...request, member, memberStart }, who, startId);
    return kind === 'joined' ? member : null;
  }
  if ('hasLost' in step) world.start(step.daemon, { hasLost: step.hasLost });
  else if ('ms' in step) world.tend(step.ms);
  else if ('membership' in step) {
    const { membership, weight } = step;
    world.state = changeDaemon(world.state, step.daemon, {
      membership,
      weight,
    });
  } else if ('replicas' in step)
    world.state = setPool(world.state, 'p', { replicas: step.replicas });
  else if ('isFull' in step) {
    if (step.isFull) world.full.add(step.daemon);
    else world.full.delete(step.daemon);
  } else if ('daemon' in step) world.stop(step.daemon);
  else if (step.op === 'elect') world.electAnother();
  return null;
}

/** Null: the change is one that may be. */
function problemOf(
  world: GroupWorld,
  [before, after]: readonly [MapGroup, MapGroup],
  joined: number | null,
): string | null {
  if (before === after) return null;
  if (after.epoch !== before.epoch + 1) return `epoch ${before.epoch} became ${after.epoch}`;
  if (inSyncOf(after).length === 0) return 'nobody is in sync';
  if ((primaryOf(after)?.inSync ?? null) === null) return 'the primary is not in sync';
  if (before.members.length === 0) return null;
  const was = inSyncOf(before);
  const news = inSyncOf(after).filter(
    ({ daemon, inSync }) => memberOf(before, daemon)?.inSync !== inSync,
  );
  const [promoted] = news;
  if (promoted === undefined)
    return after.lostAt === before.lostAt ? null : 'writes were lost without a promotion';
  if (news.length > 1) return 'two became in sync at once';
  if (promoted.daemon === joined && memberOf(before, joined)?.inSync === null) return null;
  const listed = was.find(({ daemon }) => daemon === promoted.daemon)?.inSync ?? null;
  if (listed === null) return `daemon ${promoted.daemon} came from outside the set`;
  if (inSyncOf(after).length !== 1) return 'a promoted member is not alone';
  const isAlive = was.some(({ daemon, inSync }) => world.view.startOf(daemon) === inSync);
  if (isAlive) return 'somebody was promoted while another one was alive';
  const starts = world.starts.get(promoted.daemon) ?? [];
  const since = starts.slice(starts.findIndex(({ id }) => id === listed) + 1);
  const hasLost = since.some((start) => start.hasLost);
  if ((after.lostAt === after.epoch) !== hasLost) return `lost is ${after.lostAt}, not ${hasLost}`;
  return null;
}

t.test('no history makes a change of a group that may not be', (t) => {
  let changes = 0;
  const report = fc.check(
    fc.property(worlds, (world) => {
      const model = begin(world);
      for (const step of world.steps) {
        if ('op' in step && step.op === 'join') {
          model.joinAll();
          continue;
        }
        const before = model.state.map.pools[0]?.groups ?? [];
        let joined: number | null = null;
        try {
          joined = run(model, step);
        } catch (error) {
          if (!(error instanceof StoreError)) throw error;
        }
        checkMap(model.state.map);
        for (const [index, group] of before.entries()) {
          const after = model.group(POOL, index);
          if (after !== group) changes += 1;
          const problem = problemOf(model, [group, after], joined);
          if (problem !== null)
            throw new Error(`${problem}: ${JSON.stringify({ step, before: group, after })}`);
        }
      }
    }),
    { seed, numRuns },
  );
  t.notOk(report.failed, fc.defaultReportMessage(report) ?? 'all histories');
  t.ok(changes > numRuns, `${changes} changes`);
  t.end();
});

t.test('when all are there everything comes to where placement wants it, and stays', (t) => {
  let roundsMost = 0;
  const report = fc.check(
    fc.property(worlds, (world) => {
      const model = begin(world);
      for (const step of world.steps)
        try {
          if ('op' in step && step.op === 'join') model.joinAll();
          else run(model, step);
        } catch (error) {
          if (!(error instanceof StoreError)) throw error;
        }
      model.full.clear();
      for (let id = 1; id <= 6; id += 1) if (model.view.startOf(id) === null) model.start(id);
      let still = 0;
      let rounds = 0;
      for (; still < 12; rounds += 1) {
        if (rounds > ROUNDS_MAX) throw new Error('it goes on and on');
        const before = model.state;
        model.tend();
        model.joinAll();
        still = model.state === before ? still + 1 : 0;
      }
      roundsMost = Math.max(roundsMost, rounds);
      const [pool] = model.state.map.pools;
      if (pool === undefined) throw new Error('there is a pool');
      const { failureDomain, replicas } = pool;
      const labelOf = (id: number): string => {
        const found = model.state.map.daemons.find((one) => one.id === id);
        return failureDomain === 'disk' ? String(id) : (found?.[failureDomain] ?? '');
      };
      const inside = model.state.map.daemons.filter(({ membership }) => membership === 'in');
      const domains = new Set(inside.map(({ id }) => labelOf(id))).size;
      for (const [index, group] of pool.groups.entries()) {
        const target = model.memory.targets.of(POOL)?.[index] ?? [];
        const members = group.members.map(({ daemon }) => daemon);
        const context = JSON.stringify({ index, group, target, domains, replicas });
        if (domains === 0) continue; // nobody may have anything: it stays where it is
        if (inSyncOf(group).length !== members.length) throw new Error(`one joins: ${context}`);
        const others = members.filter((id) => !target.includes(id));
        // With fewer domains than replicas one more copy does no harm.
        const stay = target.length < replicas ? others : [];
        if (others.some((id) => !stay.includes(id) || !inside.some((one) => one.id === id)))
          throw new Error(`others are there: ${context}`);
        if (!target.every((id) => members.includes(id)))
          throw new Error(`others are wanted: ${context}`);
        if (members.length < Math.min(replicas, domains)) throw new Error(`too few: ${context}`);
        if (new Set(target.map(labelOf)).size !== target.length)
          throw new Error(`two in one domain: ${context}`);
        if (members[0] !== target[0]) throw new Error(`another primary is wanted: ${context}`);
      }
    }),
    { seed, numRuns },
  );
  t.notOk(report.failed, fc.defaultReportMessage(report) ?? `after ${roundsMost} rounds at most`);
  t.comment(`after ${roundsMost} rounds at most`);
  t.end();
});
