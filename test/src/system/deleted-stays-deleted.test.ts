// Objects and an image are deleted while one of the daemons that has copies of them is away: when it is back they
// are gone there too.
import t from 'tap';
import { ReplicaStory } from '../replicas/replica-story.js';
import { TEST_POOL } from '../server/process-cluster.js';

t.setTimeout(600_000);

const OBJECTS = 4;

t.test('what was deleted without a copy does not come back with it', async (t) => {
  const story = await ReplicaStory.begin(t, 'deleted-stays-deleted');
  const { cluster, random } = story;
  await story.writes('often', 300);
  const store = (...args: string[]): Promise<string> => cluster.store(...args, '--pool', TEST_POOL);
  const numbers = Array.from({ length: OBJECTS }, (_, index) => index);
  for (const number of numbers)
    await store('write', `object${number}`, '--data-literal', `what ${number} holds`);
  await cluster.image('create', 'gone', '--size', '64M');
  const daemon = random.pick(cluster.daemons);
  await daemon.kill9();
  for (const number of numbers) if (number % 2 === 0) await store('rm', `object${number}`);
  await cluster.image('rm', 'gone');
  await daemon.startAgain();
  await cluster.healthy(60_000);
  const listed = await store('ls');
  for (const number of numbers)
    t.equal(new RegExp(`^object${number}\\b`, 'm').test(listed), number % 2 === 1, `${number}`);
  t.notMatch(await cluster.image('ls'), /gone/);
  await story.endsWell();
});
