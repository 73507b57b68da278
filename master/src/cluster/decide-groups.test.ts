/** What daemons ask for about groups, and what follows when one comes back with another start. */
import { StoreError, type GroupRequest, type GroupRequestKind } from '@store/core';
import t from 'tap';
import { acceptDataLoss, lossWarnings } from './accept-data-loss.js';
import { changeDaemon } from './decide-daemons.js';
import { setPool } from './decide-pools.js';
import { inSyncOf, primaryOf } from './group-changes.js';
import { GroupWorld } from './testing/group-world.js';

const POOL = 1;

/** A pool of one group with a copy on each of three daemons; `order` names them, the primary first. */
function three(): { world: GroupWorld; order: [number, number, number] } {
  const world = new GroupWorld();
  for (const id of [1, 2, 3]) world.start(id);
  world.pool('p', { groups: 1 });
  const [a = 0, b = 0, c = 0] = world.group(POOL, 0).members.map(({ daemon }) => daemon);
  return { world, order: [a, b, c] };
}

function ask(
  world: GroupWorld,
  kind: GroupRequestKind,
  who: number,
  more: Partial<GroupRequest> = {},
): void {
  const { epoch } = world.group(POOL, 0);
  const startId = more.startId ?? world.view.startOf(who) ?? '';
  const request = { kind, pool: POOL, group: 0, epoch, member: 0, memberStart: '', ...more };
  world.request(request, who, startId);
}

function refused(code: string, act: () => void): boolean {
  try {
    act();
    return false;
  } catch (error) {
    return error instanceof StoreError && error.code === code;
  }
}

/** `2 1 | 3`: the primary first, then those in sync, then the others. */
function shown(world: GroupWorld): string {
  const group = world.group(POOL, 0);
  const ids = group.members.filter(({ inSync }) => inSync === null).map(({ daemon }) => daemon);
  const inSync = inSyncOf(group).map(({ daemon }) => daemon);
  return [inSync.join(' '), ...(ids.length === 0 ? [] : [ids.join(' ')])].join(' | ');
}

t.test('a new group has all its members in sync', (t) => {
  const { world, order } = three();
  t.equal(shown(world), order.join(' '));
  t.match(world.state.map.pools, [{ replicas: 3, minReplicas: 2 }]);
  t.end();
});

t.test('a silent member is removed by the primary, and joins again', (t) => {
  const { world, order } = three();
  const [a, b, c] = order;
  const memberStart = world.view.startOf(b) ?? '';
  t.ok(refused('E_DENIED', () => ask(world, 'remove', c, { member: b, memberStart })));
  ask(world, 'remove', a, { member: b, memberStart });
  t.equal(shown(world), `${a} ${c} | ${b}`);
  const { epoch } = world.group(POOL, 0);
  ask(world, 'remove', a, { member: b, memberStart, epoch: epoch - 1 });
  t.equal(world.group(POOL, 0).epoch, epoch, 'asked again it is so already');
  ask(world, 'remove', a, { member: b, memberStart });
  t.equal(world.group(POOL, 0).epoch, epoch + 1, 'out of a join: what was asked before is void');
  t.ok(refused('E_STALE_MAP', () => ask(world, 'joined', a, { member: b, memberStart, epoch })));
  t.ok(
    refused('E_STALE_MAP', () =>
      ask(world, 'joined', a, { member: b, memberStart: 'f'.repeat(32) }),
    ),
    'of another start',
  );
  ask(world, 'joined', a, { member: b, memberStart });
  t.equal(shown(world), `${a} ${c} ${b}`);
  t.ok(refused('E_INVALID', () => ask(world, 'joined', a, { member: 9, memberStart })));
  t.ok(refused('E_INVALID', () => ask(world, 'remove', a, { member: a, memberStart })));
  for (const member of [b, c])
    ask(world, 'remove', a, { member, memberStart: world.view.startOf(member) ?? '' });
  t.equal(shown(world), `${a} | ${b} ${c}`, 'the last other one may go as well');
  t.end();
});

t.test('a member in sync takes the place of a silent primary, and nobody else does', (t) => {
  const { world, order } = three();
  const [a, b, c] = order;
  ask(world, 'remove', a, { member: c, memberStart: world.view.startOf(c) ?? '' });
  t.ok(
    refused('E_DENIED', () => ask(world, 'take', c)),
    'not in sync',
  );
  ask(world, 'take', b);
  t.equal(shown(world), `${b} | ${c} ${a}`);
  const { epoch } = world.group(POOL, 0);
  ask(world, 'take', b, { epoch: epoch - 1 });
  ask(world, 'take', b);
  t.equal(world.group(POOL, 0).epoch, epoch, 'it has it already');
  t.ok(refused('E_DENIED', () => ask(world, 'take', a)));
  t.ok(
    refused('E_DENIED', () => ask(world, 'renew', a)),
    'the old one has no say any more',
  );
  ask(world, 'renew', b);
  t.equal(world.group(POOL, 0).epoch, epoch + 1);
  t.ok(refused('E_STALE_MAP', () => ask(world, 'take', b, { epoch: epoch + 9 })));
  t.ok(refused('E_STALE_MAP', () => ask(world, 'take', b, { group: 7 })));
  t.ok(
    refused('E_INVALID', () => ask(world, 'resign', b)),
    'nobody is left to take over',
  );
  t.end();
});

t.test('who resigns is followed by a member in sync that is there', (t) => {
  const { world, order } = three();
  const [a, b, c] = order;
  world.stop(b);
  ask(world, 'resign', a);
  t.equal(shown(world), `${c} ${b} | ${a}`);
  const { epoch } = world.group(POOL, 0);
  ask(world, 'resign', a, { epoch: epoch - 1 });
  t.equal(world.group(POOL, 0).epoch, epoch);
  t.end();
});

t.test('a member that was started anew leaves the set, and another one leads at once', (t) => {
  const { world, order } = three();
  const [a, b, c] = order;
  world.start(a);
  t.equal(shown(world), `${b} ${c} | ${a}`);
  world.stop(b);
  world.start(c);
  t.equal(shown(world), `${b} ${c} | ${a}`, 'nobody of the set is there: nothing is decided');
  world.tend(4000);
  t.equal(shown(world), `${b} ${c} | ${a}`, 'the other one may still serve');
  world.tend(1000);
  t.equal(shown(world), `${c} | ${b} ${a}`);
  t.equal(world.group(POOL, 0).lostAt, 0, 'it lost nothing');
  t.end();
});

t.test('a power cut: who lost nothing is waited for, and anybody of the set is taken then', (t) => {
  const { world, order } = three();
  const [a, b, c] = order;
  ask(world, 'remove', a, { member: c, memberStart: world.view.startOf(c) ?? '' });
  for (const id of order) world.stop(id);
  world.tend(3_600_000);
  world.start(c);
  world.tend(3_600_000);
  t.equal(shown(world), `${a} ${b} | ${c}`, 'nobody comes from outside the set');
  world.start(a, { hasLost: true });
  world.tend(29_000);
  world.start(a, { hasLost: false });
  world.tend(29_000);
  t.equal(
    shown(world),
    `${a} ${b} | ${c}`,
    'a second start does not bring back what the first lost',
  );
  world.tend(1000);
  t.equal(shown(world), `${a} | ${b} ${c}`);
  const { epoch, lostAt } = world.group(POOL, 0);
  t.equal(lostAt, epoch);

  world.start(a);
  t.equal(world.group(POOL, 0).lostAt, lostAt, 'since then it has lost nothing');
  t.equal(world.group(POOL, 0).epoch, epoch + 1, 'the only one of a set is promoted at once');
  t.end();
});

t.test('when all of a set are back nobody is waited for', (t) => {
  const { world, order } = three();
  for (const id of order) world.stop(id);
  const [a, b, c] = order;
  world.start(a, { hasLost: true });
  world.start(b, { hasLost: false });
  world.tend(0);
  t.equal(shown(world), order.join(' '), 'the third one may still serve by leases of the others');
  world.start(c, { hasLost: true });
  world.tend(0);
  t.equal(primaryOf(world.group(POOL, 0))?.daemon, b, 'who lost nothing is promoted');
  t.equal(world.group(POOL, 0).lostAt, 0);
  world.stop(b);
  world.start(b, { hasLost: true });
  t.ok(world.group(POOL, 0).lostAt > 0, 'the only one of a set');
  t.end();
});

t.test('a daemon that drains gives its copies away before it leaves', (t) => {
  const { world, order } = three();
  const [a] = order;
  world.start(4);
  world.tend(6000);
  t.equal(shown(world), order.join(' '));
  world.state = changeDaemon(world.state, a, { membership: 'draining' });
  world.tend();
  t.equal(shown(world), `${order.join(' ')} | 4`, 'it stays in sync');
  world.joinAll();
  world.tend();
  t.match(world.group(POOL, 0).members[1], { daemon: a }, 'another one leads');
  world.tend();
  t.equal(world.group(POOL, 0).members.length, 4, 'it is needed until the new one serves');
  world.tend(5000);
  t.notMatch(shown(world), String(a));
  t.equal(inSyncOf(world.group(POOL, 0)).length, 3);
  t.end();
});

t.test('who is away for ten minutes is replaced, and comes back to what is left for it', (t) => {
  const { world, order } = three();
  const [a, b, c] = order;
  world.start(4);
  world.tend(6000);
  world.stop(b);
  ask(world, 'remove', a, { member: b, memberStart: world.starts.get(b)?.at(-1)?.id ?? '' });
  world.tend(500_000);
  t.equal(shown(world), `${a} ${c} | ${b}`, 'it keeps its place');
  world.tend(100_000);
  t.equal(shown(world), `${a} ${c} | ${b} 4`);
  world.joinAll();
  world.tend();
  t.equal(shown(world), `${a} ${c} 4`);
  world.start(b);
  world.tend();
  world.tend();
  t.equal(inSyncOf(world.group(POOL, 0)).length, 3);
  t.end();
});

t.test('after a long power cut who comes first does not make the others leave', (t) => {
  const { world, order } = three();
  world.tend(6000);
  for (const id of order) world.stop(id);
  world.tend(3_600_000);
  const [a] = order;
  world.start(a);
  for (let round = 0; round < 50; round += 1) world.tend();
  t.equal(world.group(POOL, 0).members.length, 3);
  t.match(shown(world), new RegExp(`^${a} `));
  t.end();
});

t.test('copies come and go with the replicas of a pool, two joins at a time', (t) => {
  const world = new GroupWorld();
  for (const id of [1, 2]) world.start(id);
  world.pool('p', { groups: 8, replicas: 1 });
  world.state = setPool(world.state, 'p', { replicas: 2 });
  world.tend(6000);
  const joining = (): number =>
    world.state.map.pools[0]?.groups.filter(({ members }) => members.length === 2).length ?? 0;
  t.equal(joining(), 4, 'two to each daemon');
  world.tend();
  t.equal(joining(), 4);
  for (let round = 0; round < 3; round += 1) {
    world.joinAll();
    world.tend();
  }
  world.joinAll();
  t.equal(joining(), 8);
  t.match(world.state.map.pools, [{ replicas: 2, minReplicas: 1 }]);
  world.state = setPool(world.state, 'p', { replicas: 1 });
  for (let round = 0; round < 20; round += 1) world.tend(6000);
  t.equal(joining(), 0);
  t.end();
});

t.test('an operator may accept a loss, when nobody in sync runs', (t) => {
  const { world, order } = three();
  const [a, b, c] = order;
  for (const member of [b, c])
    ask(world, 'remove', a, { member, memberStart: world.view.startOf(member) ?? '' });
  const copy = {
    ...{ objects: 9, usedBytes: 2 * 1024 * 1024, isAll: true, otherObjects: 2, moreLayers: 1 },
    layers: [
      { layer: 'l1', objects: 5 },
      { layer: 'l2', objects: 1 },
    ],
    names: new Map([['l1', 'vm1']]),
  };
  const reached: number[] = [];
  const context = { view: world.view, now: world.now, time: 77, copy, reached };
  const accept = (daemon: number): void => {
    world.state = acceptDataLoss(world.state, { pool: 'p', group: 0, daemon }, context);
  };
  t.ok(
    refused('E_IN_USE', () => accept(b)),
    'the copy in sync runs',
  );
  world.stop(a);
  world.stop(b);
  t.ok(
    refused('E_INVALID', () => accept(b)),
    'it does not run',
  );
  reached.push(b, a);
  t.ok(
    refused('E_IN_USE', () => accept(c)),
    'only the master does not reach it',
  );
  reached.length = 0;
  t.ok(
    refused('E_BUSY', () => {
      const silent = { ...context, reached: new StoreError('E_TIMEOUT', 'it is silent') };
      acceptDataLoss(world.state, { pool: 'p', group: 0, daemon: c }, silent);
    }),
    'nobody says whether others run',
  );
  t.ok(
    refused('E_INVALID', () => accept(a)),
    'it is in sync',
  );
  t.ok(refused('E_NOT_FOUND', () => accept(9)));
  world.now += 120_000;
  const loss = { pool: 'p', group: 0, daemon: c };
  const text = lossWarnings(world.state, loss, { ...context, now: world.now }).join(' ');
  t.match(
    text,
    `In sync was daemon ${a} (gone for 2 min at least). The copy of daemon ${c} may lack`,
  );
  t.match(
    text,
    `has 9 objects (2 MiB), of: image 'vm1' (5), 2 more images, headers and other objects (2). Images`,
  );
  world.state = {
    ...world.state,
    behind: [{ pool: POOL, group: 0, daemon: c, since: 17 }],
  };
  const later = { ...context, time: 17 + 180 };
  t.match(
    lossWarnings(world.state, loss, later)[1],
    `The copy of daemon ${c} lacks what was written to this group since 1970-01-01 00:00:17 UTC (3 min ago), and if`,
  );
  const unknown = { ...context, copy: new StoreError('E_BUSY', 'it is busy') };
  t.match(lossWarnings(world.state, loss, unknown)[2], 'is not known: it is busy.');
  accept(c);
  t.equal(shown(world), `${c} | ${a} ${b}`);
  const { epoch, lostAt } = world.group(POOL, 0);
  t.equal(lostAt, epoch);
  t.match(
    [...world.state.incidents.values()],
    [{ time: 77, pool: 'p', group: 0, daemon: c, epoch }],
  );
  world.start(a);
  t.equal(shown(world), `${c} | ${a} ${b}`, 'who comes back later has no say');
  t.end();
});

t.test('a full disk is given nothing new', (t) => {
  const { world, order } = three();
  const [a, b] = order;
  world.start(4);
  world.start(5);
  world.full.add(4);
  world.state = changeDaemon(world.state, b, { membership: 'out' });
  world.tend(6000);
  world.tend();
  t.match(shown(world), /\| 5$/);
  world.full.add(5);
  ask(world, 'remove', a, { member: 5, memberStart: world.view.startOf(5) ?? '' });
  world.tend();
  t.notMatch(shown(world), '4');
  t.end();
});
