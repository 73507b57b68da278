/** A master that can do nothing for eight seconds, as in a long collection of garbage: afterwards all is as it was. */
import { join } from 'node:path';
import { writeFileSync } from 'node:fs';
import type { ClusterStatus } from '@store/core';
import t from 'tap';
import { needs } from '../host/requirements.js';
import { tempFolder } from '../host/temp-folder.js';
import { sleep, waitUntil } from '../host/wait-until.js';
import { EtcdMasters } from '../server/etcd-masters.js';

const NEEDS = needs({ commands: ['etcd'] });
const STALL_MS = 8000;
const PATIENCE_MS = 30_000;

t.setTimeout(600_000);

/** A module that makes the process that loads it stall whenever it gets SIGUSR2. */
function stallingModule(folder: string): string {
  const path = join(folder, 'stall.mjs');
  writeFileSync(
    path,
    `process.on('SIGUSR2', () => {
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ${STALL_MS});
    });\n`,
  );
  return path;
}

async function statusOf(cluster: EtcdMasters): Promise<ClusterStatus> {
  return (await cluster.guide.administer('status', {}, false)) as ClusterStatus; // its answer
}

t.test('while one of three masters stalls another one leads, and it follows', NEEDS, async (t) => {
  const module = stallingModule(tempFolder(t));
  const cluster = await EtcdMasters.start(t, { nodeOptions: `--import=${module}` });
  for (let round = 1; round <= 2; round += 1) {
    const leader = await cluster.leaderAfter(null);
    leader.signal('SIGUSR2');
    const asked = cluster.makePool(`asked-${round}`);
    const next = await cluster.leaderAfter(leader);
    await asked;
    await waitUntil('all daemons are up', PATIENCE_MS, async () =>
      (await statusOf(cluster)).daemons.every(
        ({ state, mapVersion }) => state === 'up' && mapVersion > 0,
      ),
    );
    await waitUntil('it follows', PATIENCE_MS, async () => (await leader.health()) === 200);
    t.equal(await cluster.leader(), next);
    t.match(leader.log, /does not lead any more/);
  }
  await cluster.check(t);
});

t.test(
  'a single master that stalls leads again, and calls nobody down for long',
  NEEDS,
  async (t) => {
    const module = stallingModule(tempFolder(t));
    const cluster = await EtcdMasters.start(t, { nodeOptions: `--import=${module}`, masters: 1 });
    const { history } = cluster;
    await waitUntil('nothing to be decided any more', PATIENCE_MS, async () => {
      const { serial } = history;
      await sleep(2000);
      return history.serial === serial;
    });
    const { serial } = history;
    const [master] = cluster.masters;
    const before = (await statusOf(cluster)).version;
    master?.signal('SIGUSR2');
    await sleep(STALL_MS);
    const start = performance.now();
    const seen: string[] = [];
    await waitUntil('all daemons are there', PATIENCE_MS, async () => {
      const { daemons, health } = await statusOf(cluster);
      seen.push(health);
      return daemons.every(({ state, mapVersion }) => state === 'up' && mapVersion > 0);
    });
    t.comment(`all daemons are there ${Math.round(performance.now() - start)} ms after the stall`);
    t.notOk(seen.includes('error'), 'nobody was called down');
    t.equal((await statusOf(cluster)).version, before, 'nothing was decided because of it');
    t.equal(history.serial, serial);
    await cluster.check(t);
  },
);
