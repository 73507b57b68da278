// While copies are made equal the one that gets them is killed, then one that gives them, again and again: nothing is lost, and
// a copy that is not complete never counts as one.
import t from 'tap';
import { sleep } from '../host/wait-until.js';
import { ReplicaStory } from '../replicas/replica-story.js';

t.setTimeout(600_000);

const ROUNDS = 2;
const JOIN_MS_MAX = 1500;

t.test('targets and sources of a recovery are killed', async (t) => {
  const story = await ReplicaStory.begin(t, 'kill-replica-during-recovery');
  const { cluster, random } = story;
  await story.writes();
  for (let round = 1; round <= ROUNDS; round += 1) {
    const target = random.pick(cluster.daemons);
    const source = random.pick(cluster.daemons.filter((daemon) => daemon !== target));
    await target.kill9();
    await story.goesOn(300, 60_000);
    await target.startAgain();
    await sleep(random.below(JOIN_MS_MAX));
    await target.kill9();
    await target.startAgain();
    await sleep(random.below(JOIN_MS_MAX));
    await source.kill9();
    await sleep(random.below(500));
    await source.startAgain();
    await story.goesOn(100, 60_000);
    await cluster.healthy(60_000);
  }
  await story.endsWell();
});
