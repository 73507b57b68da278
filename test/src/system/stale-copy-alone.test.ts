// A copy that missed writes comes up alone, after those that have them went away: nothing is served from it. When the others
// are back everything is there.
import t from 'tap';
import { sleep, waitUntil } from '../host/wait-until.js';
import { ReplicaStory } from '../replicas/replica-story.js';
import { TEST_POOL } from '../server/process-cluster.js';
import type { GroupStatus } from '@store/core';

t.setTimeout(600_000);

/** Longer than the masters wait before they promote what lost nothing. */
const ALONE_MS = 5000;

t.test('a stale copy alone serves nothing', async (t) => {
  const story = await ReplicaStory.begin(t, 'stale-copy-alone');
  const { cluster, writer } = story;
  await story.writes();
  const [stale, ...others] = cluster.daemons;
  await stale?.stop();
  await story.goesOn(500);
  await Promise.all(others.map((daemon) => daemon.kill9()));
  await stale?.startAgain();
  await waitUntil('the stale copy to be up', 20_000, async () => {
    const { daemons } = await cluster.status();
    return daemons.filter(({ state }) => state === 'up').length === 1;
  });
  const { answers } = writer; // the last ones may have been under way when the daemons died
  await sleep(ALONE_MS);
  t.equal(writer.answers, answers, 'nobody gets an answer');
  const groups = await cluster.master.asked<GroupStatus[]>(`pools/${TEST_POOL}/groups`);
  t.same(
    groups.filter(({ state }) => state !== 'down').map(({ group }) => group),
    [],
    'all groups are down',
  );
  await Promise.all(others.map((daemon) => daemon.startAgain()));
  await story.goesOn(500, 60_000);
  await story.endsWell();
});
