// A daemon that is stopped is waited for by nobody: when it is gone it counts in no group any more.
import t from 'tap';
import { ReplicaStory } from '../replicas/replica-story.js';

t.setTimeout(600_000);

t.test('a daemon that has stopped is in sync in no group', async (t) => {
  const story = await ReplicaStory.begin(t, 'planned-stop');
  const { cluster } = story;
  await story.writes();
  let known = 0;
  for (const number of [1, 2, 3]) {
    const id = await cluster.idOf(number);
    await cluster.daemon(number).stop();
    const groups = (await cluster.map()).pools.flatMap((pool) => pool.groups);
    const counts = groups.filter(({ members }) =>
      members.some(({ daemon, inSync }) => daemon === id && inSync !== null),
    );
    // On a busy machine the time that a stop may take can be over before; it says so then.
    if (/Stopping before all others do without/.test(cluster.daemon(number).log))
      t.comment(`daemon ${id} was in a hurry: ${counts.length} groups had not done without it`);
    else {
      t.same(counts, [], `without daemon ${id}`);
      known += 1;
    }
    await story.goesOn(100);
    await cluster.daemon(number).startAgain();
    await cluster.healthy(60_000);
  }
  t.ok(known > 0, `${known} of 3 knew that nobody waits for them`);
  await story.endsWell();
});
