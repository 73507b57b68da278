import t from 'tap';
import type { Clock } from '@store/core';
import type { PoolWork } from '../replication/pool-work.js';
import { GroupReports } from './group-reports.js';

const quiet = (pool: number): PoolWork => ({
  ...{ pool, led: new Set([0, 1, 5, 7]), joining: 0, copiesLeft: 0, copiesDone: 0 },
  ...{ scrubbed: { light: 0, deep: 0 }, errorsFound: 0, errorsRepaired: 0 },
});

t.test('reports of groups', async (t) => {
  let now = 0;
  const reports = new GroupReports({
    now: () => now,
    wallSeconds: () => 5000 + now / 1000,
  } as unknown as Clock);
  const counted = [{ id: 1, objects: 90, usedBytes: 9000, ledObjects: 40, ledBytes: 4000 }];

  await t.test(
    'what is left is a share of what was counted, the speed what was gone through',
    async (t) => {
      const joining = { ...quiet(1), joining: 2, copiesLeft: 1.5, copiesDone: 10 };
      const [first] = reports.next([joining], counted);
      t.match(first, { joining: 2, objectsLeft: 15, bytesLeft: 1500, bytesPerSecond: 0 });
      now += 2000;
      const [second] = reports.next([{ ...joining, copiesLeft: 1, copiesDone: 10.5 }], counted);
      t.match(second, { objectsLeft: 10, bytesLeft: 1000, bytesPerSecond: 250 });
      now += 2000;
      const [third] = reports.next([joining], []);
      t.match(third, { bytesLeft: 0, bytesPerSecond: 0 }, 'nothing was counted yet');
    },
  );

  await t.test('a scrub is as old as the group that waits the longest', async (t) => {
    now = 10_000;
    const found = { errorsFound: 3, errorsRepaired: 2 };
    const work = { ...quiet(1), ...found, scrubbed: { light: 4010, deep: 0 } };
    const [report] = reports.next([work], counted);
    t.match(report, { ...found, lastLightSeconds: 1000, lastDeepSeconds: null });
  });

  await t.test('pools with joins come first, and 32 are told of', async (t) => {
    const work = Array.from({ length: 40 }, (_, index) => quiet(index + 1));
    work[38] = { ...quiet(39), joining: 1 };
    const pools = reports.next(work, counted).map(({ pool }) => pool);
    t.equal(pools.length, 32);
    t.same(pools.slice(0, 3), [39, 1, 2]);
  });
});
