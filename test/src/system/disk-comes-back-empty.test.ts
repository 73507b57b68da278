// The disk of a daemon is replaced by an empty one: that is a new daemon, which gets copies of everything, and the old one is
// removed.
import { rmSync } from 'node:fs';
import t from 'tap';
import { ReplicaStory } from '../replicas/replica-story.js';

t.setTimeout(600_000);

t.test('an empty folder in the place of a daemon is filled again', async (t) => {
  const story = await ReplicaStory.begin(t, 'disk-comes-back-empty');
  const { cluster } = story;
  await story.writes();
  const lost = await cluster.idOf(2);
  await cluster.daemon(2).kill9();
  rmSync(cluster.dataOf(2), { recursive: true });
  await cluster.daemon(2).startAgain();
  t.not(await cluster.idOf(2), lost, 'it is another daemon');
  await story.goesOn(300, 60_000);
  await cluster.store('daemon', 'out', `${lost}`, '--yes');
  t.comment(`filled after ${Math.round(await cluster.healthy(60_000, [lost]))} ms`);
  await cluster.store('daemon', 'rm', `${lost}`, '--yes');
  t.equal((await cluster.status()).health, 'ok');
  await story.endsWell();
});
