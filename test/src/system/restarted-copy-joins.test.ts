// A daemon is killed and comes back, while a client writes all the time: what was written without it is there when it is
// primary again, and on all copies.
import t from 'tap';
import { ReplicaStory } from '../replicas/replica-story.js';

t.setTimeout(600_000);

t.test('a copy that was away has everything when it is in sync again', async (t) => {
  const story = await ReplicaStory.begin(t, 'restarted-copy-joins', { pool: ['--groups', '8'] });
  const { cluster, random } = story;
  await story.writes();
  const daemon = random.pick(cluster.daemons);
  await daemon.kill9();
  await story.goesOn(1000);
  await daemon.startAgain();
  t.comment(`all copies are there ${Math.round(await cluster.healthy(60_000))} ms after a start`);
  await story.endsWell();
});
