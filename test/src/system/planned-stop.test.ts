// A daemon that is stopped is waited for by nobody: when it is gone it counts in no group any more. Where it had the only copy,
// those that were joining have it then.
import t from 'tap';
import { waitUntil } from '../host/wait-until.js';
import { NbdClient } from '../nbd-client/nbd-client.js';
import { ReplicaStory } from '../replicas/replica-story.js';
import { ProcessCluster } from '../server/process-cluster.js';
import { StoreServer } from '../server/store-server.js';

t.setTimeout(600_000);

/** On a busy machine the time that a stop may take can be over before; it says so then. */
const IN_A_HURRY = /Stopping before all others do without/;
const MIB = 1024 * 1024;

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
    if (IN_A_HURRY.test(cluster.daemon(number).log))
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

t.test('a daemon that has the only copy leaves it to one that joins', async (t) => {
  const cluster = await ProcessCluster.start(t, 2, {
    pool: ['--groups', '8', '--replicas', '2', '--min-replicas', '1'],
  });
  await cluster.healthy(60_000);
  const options = { image: 'vm1', createBytes: 64 * MIB, args: cluster.flags };
  const server = await StoreServer.start(t, options);
  const client = await NbdClient.connect(server.uri);
  const [stops, joins] = [cluster.daemon(1), cluster.daemon(2)];
  const id = await cluster.idOf(2);
  await joins.stop();
  const bytes = Buffer.alloc(MIB, 'only');
  for (let at = 0; at < options.createBytes; at += MIB)
    t.equal((await client.write(at, bytes)).error, 0);
  const logged = stops.log.length;
  await joins.startAgain();
  await waitUntil('the other one to be reached', 20_000, () =>
    stops.log.includes('There is a link to another daemon', logged),
  );
  await stops.stop();
  if (IN_A_HURRY.test(stops.log)) return void t.pass('its time was over before');
  const groups = (await cluster.map()).pools.flatMap((pool) => pool.groups);
  t.ok(groups.every(({ members }) => members[0]?.daemon === id && members[0].inSync !== null));
  for (let at = 0; at < options.createBytes; at += MIB) {
    const { error, data } = await client.read(at, MIB);
    if (error !== 0 || !data.equals(bytes)) t.fail(`byte ${at} is another one`);
  }
  await client.disconnect();
  await server.stop();
});
