import { MasterGuide, type Env } from '@store/core';
import t from 'tap';
import { LiveCluster, liveEnv } from './live-cluster.js';

t.setTimeout(180_000);
const HOUR_MS = 3_600_000;

/** An environment whose clock can be set forward, as if that time had passed. */
function movableEnv(): { env: Env; passed: { ms: number } } {
  const passed = { ms: 0 };
  const clock = { ...liveEnv.clock, now: () => liveEnv.clock.now() + passed.ms };
  clock.wallTime = () => liveEnv.clock.wallTime();
  clock.wallSeconds = () => liveEnv.clock.wallSeconds();
  return { env: { ...liveEnv, clock }, passed };
}

t.test(
  'tickets are renewed from half of their time on, and kept while no master answers',
  async (t) => {
    const cluster = await LiveCluster.start(t, 1);
    await cluster.leader()?.master.admin.createPool('p', { groups: 1 }, false);
    const { env, passed } = movableEnv();
    const [master] = cluster.masters;
    const guide = await MasterGuide.open({
      env,
      masters: cluster.masters.map(({ listen }) => listen),
      tls: null,
      key: null,
      name: 'test',
      deadlineMs: 2000,
      defect: (error) => {
        throw error;
      },
    });
    t.teardown(() => guide.close());
    const idOf = async (): Promise<string> => (await guide.ticketFor('p')).ticket.id;
    const first = await idOf();
    t.equal(await idOf(), first);
    passed.ms += 11 * HOUR_MS;
    t.equal(await idOf(), first, 'before half of the time');
    passed.ms += 2 * HOUR_MS;
    const second = await idOf();
    t.not(second, first, 'after half of the time');
    passed.ms += 13 * HOUR_MS;
    cluster.masters.splice(0);
    await master?.stop();
    t.equal(await idOf(), second, 'there is no other one, and it is good still');
  },
);
