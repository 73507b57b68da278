// A daemon is killed that is primary of a part of the image, while a client writes: others take its place within seconds,
// nothing that was answered is lost, and when it is back all copies become equal.
import t from 'tap';
import { ReplicaStory } from '../replicas/replica-story.js';

t.setTimeout(600_000);

const KILLS = 2;
const STALL_MS_MAX = 10_000;

t.test(`a primary is killed under a writing client, ${KILLS} times`, async (t) => {
  const story = await ReplicaStory.begin(t, 'kill-primary-during-write');
  const { cluster, writer, random } = story;
  await story.writes();
  for (let kill = 1; kill <= KILLS; kill += 1) {
    const daemon = random.pick(cluster.daemons);
    writer.longestMs = 0;
    await daemon.kill9();
    await story.goesOn(3000);
    t.comment(`the longest request took ${Math.round(writer.longestMs)} ms`);
    t.ok(writer.longestMs < STALL_MS_MAX, `no request took ${STALL_MS_MAX} ms`);
    await daemon.startAgain();
    t.comment(`all copies are there ${Math.round(await cluster.healthy(60_000))} ms after a start`);
  }
  await story.endsWell();
});
