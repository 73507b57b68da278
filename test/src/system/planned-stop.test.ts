// A daemon that is stopped is waited for by nobody: when it is gone it counts in no group any more.
import t from 'tap';
import { ReplicaStory } from '../replicas/replica-story.js';

t.setTimeout(600_000);

t.test('a daemon that has stopped is in sync in no group', async (t) => {
  const story = await ReplicaStory.begin(t, 'planned-stop');
  const { cluster } = story;
  await story.writes();
  for (const number of [1, 2, 3]) {
    const id = await cluster.idOf(number);
    await cluster.daemon(number).stop();
    const groups = (await cluster.map()).pools.flatMap((pool) => pool.groups);
    const counts = groups.filter(({ members }) =>
      members.some(({ daemon, inSync }) => daemon === id && inSync !== null),
    );
    t.same(counts, [], `without daemon ${id}`);
    await story.goesOn(100);
    await cluster.daemon(number).startAgain();
    await cluster.healthy(60_000);
  }
  await story.endsWell();
});
