/** What people are told of groups that have too few copies, or none, and what helps. */
import { StoreError } from '@store/core';
import { NO_TRAFFIC } from '../server/traffic.js';
import t from 'tap';
import { acceptDataLoss } from '../cluster/accept-data-loss.js';
import { primaryOf } from '../cluster/group-changes.js';
import { GroupWorld } from '../cluster/testing/group-world.js';
import type { DaemonPresence } from '../server/roster.js';
import { clusterStatus, type StatusSources } from './cluster-status.js';
import { groupStatus } from './group-status.js';

const COUNTS = {
  ...{ capacityBytes: 100, freeBytes: 50, mapVersion: 1, reads: 0, writes: 0 },
  ...{ readBytes: 0, writeBytes: 0, readMs: 0, writeMs: 0, emptied: [], isFull: false },
};

function presenceOf(world: GroupWorld, daemonId: number): DaemonPresence {
  const startId = world.view.startOf(daemonId);
  const connection = startId === null ? null : { daemonId, startId, peer: '' };
  const pools = [{ id: 1, objects: 6, usedBytes: 60, ledObjects: 2, ledBytes: 20 }];
  const images = [{ pool: 1, name: 'vm', sizeBytes: 5 }];
  const groups = [
    {
      ...{ pool: 1, joining: 1, objectsLeft: 1, bytesLeft: 30, bytesPerSecond: 10 },
      ...{ lastLightSeconds: daemonId, lastDeepSeconds: null, errorsFound: 1, errorsRepaired: 1 },
    },
  ];
  const report = { ...COUNTS, pools, images, groups };
  return { connection, since: 0, report, traffic: NO_TRAFFIC, starts: [] };
}

function sourcesOf(world: GroupWorld): StatusSources {
  return {
    state: world.state,
    presenceOf: (id) => presenceOf(world, id),
    lookedForMs: 60_000,
    now: world.now,
    time: '2026-01-01T00:00:00.000Z',
    masters: [],
    traffic: NO_TRAFFIC,
    targetOf: (pool, group) => world.memory.targets.of(pool)?.[group] ?? null,
  };
}

function three(): GroupWorld {
  const world = new GroupWorld();
  for (const id of [1, 2, 3]) world.start(id);
  world.pool('vms', { groups: 2 });
  world.tend();
  return world;
}

t.test('copies are counted by what is in sync and runs, objects once', (t) => {
  const world = three();
  const healthy = clusterStatus(sourcesOf(world));
  t.match(healthy, { health: 'ok', problems: [], images: { length: 1 } });
  t.match(healthy.pools, [
    { objects: 6, storedBytes: 60, usedBytes: 180, copiesMissing: 0, groupsMisplaced: 0 },
  ]);
  t.match(healthy.recovery, { bytesLeft: 90, bytesPerSecond: 30, secondsLeft: 3 });
  t.match(healthy.pools[0]?.scrub, { lastLightSeconds: 3, lastDeepSeconds: null, errorsFound: 3 });

  world.stop(3);
  const degraded = clusterStatus(sourcesOf(world));
  t.match(degraded.pools, [{ groupsDegraded: 2, groupsReadOnly: 0, copiesMissing: 2 }]);
  t.equal(degraded.health, 'warning', 'everything is served');
  world.stop(2);
  const few = clusterStatus(sourcesOf(world));
  t.match(few.pools, [{ groupsDegraded: 2, groupsReadOnly: 2, groupsDown: 0 }]);
  t.match(few.problems[0], { severity: 'error', what: /2 of 2 groups .* fewer copies .* the 2/ });
  t.end();
});

t.test(
  'a disk of which nobody has heard since this master leads counts neither as full nor as empty',
  (t) => {
    const world = three();
    const sources = sourcesOf(world);
    const status = clusterStatus({
      ...sources,
      presenceOf: (id) => ({
        ...sources.presenceOf(id),
        ...(id === 3 ? { connection: null, report: null } : {}),
      }),
    });
    t.match(status, { capacityBytes: 200, freeBytes: 100, usedBytes: 120 });
    t.match(status.daemons[2], { hasReported: false, freeBytes: 0, usedBytes: 0 });
    t.ok((status.daemons[2]?.capacityBytes ?? 0) > 0, 'how large it is the master remembers');
    t.notOk(status.problems.some(({ what }) => what.includes('full')));
    t.end();
  },
);

t.test('a group without a copy in sync that runs says whom to start', (t) => {
  const world = three();
  const primary = primaryOf(world.group(1, 0))?.daemon ?? 0;
  const others = [1, 2, 3].filter((id) => id !== primary);
  for (const member of others) {
    const { epoch, members } = world.group(1, 0);
    const memberStart = world.view.startOf(member) ?? '';
    const request = { kind: 'remove', pool: 1, group: 0, epoch, member, memberStart } as const;
    world.request(request, primary, members[0]?.inSync ?? '');
  }
  world.stop(primary);
  const status = clusterStatus(sourcesOf(world));
  t.match(
    status.problems.filter(({ severity }) => severity === 'error'),
    [
      { where: `daemon ${primary}`, what: /is down: 1 group is out of reach/ },
      {
        where: 'pool vms',
        what: 'Group 0 of pool vms has no in-sync copy that runs.',
        advice: `Start daemon ${primary}, or see store group accept-data-loss --help`,
      },
    ],
  );
  const [pool] = world.state.map.pools;
  if (pool === undefined) throw new Error('there is a pool');
  t.match(groupStatus(pool, 0, sourcesOf(world)), {
    state: 'down',
    members: [{ role: 'primary', state: 'down' }, { role: 'joining', state: 'up' }, {}],
  });
  const [daemon = 0] = others;
  const copy = new StoreError('E_UNREACHABLE', 'it is not connected');
  const context = { view: world.view, now: world.now, time: 0, copy, reached: [] };
  world.state = acceptDataLoss(world.state, { pool: 'vms', group: 0, daemon }, context);
  t.match(clusterStatus(sourcesOf(world)).incidents, [
    { time: '1970-01-01T00:00:00.000Z', pool: 'vms', group: 0, daemon },
  ]);
  t.end();
});
