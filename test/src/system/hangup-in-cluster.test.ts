// SIGHUP makes a daemon read its files again. Secrets of pools come from the masters, and stay.
import t from 'tap';
import { waitUntil } from '../host/wait-until.js';
import { ReplicaStory } from '../replicas/replica-story.js';

t.setTimeout(600_000);

t.test('daemons that read their files again keep their clients', async (t) => {
  const story = await ReplicaStory.begin(t, 'hangup-in-cluster');
  await story.writes();
  for (const daemon of story.cluster.daemons) {
    daemon.signal('SIGHUP');
    await waitUntil('its files are read', 10_000, () => daemon.log.includes('read again'));
    await story.goesOn(100);
  }
  await story.endsWell();
});
