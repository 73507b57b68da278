// A primary hangs for longer than its lease, others take its place and are written to, and it goes on: it never answers what
// was before, and changes nothing that came after.
import t from 'tap';
import { sleep } from '../host/wait-until.js';
import { NbdClient } from '../nbd-client/nbd-client.js';
import { ReplicaStory } from '../replicas/replica-story.js';
import { StoreServer } from '../server/store-server.js';

t.setTimeout(600_000);

const PAUSES = 2;
const PAUSE_MS = 5000;
const READER_BYTES = 64 * 1024;

t.test(`a primary hangs for ${PAUSE_MS} ms, ${PAUSES} times`, async (t) => {
  const story = await ReplicaStory.begin(t, 'primary-paused-past-its-lease');
  const { cluster, writer, random, history } = story;
  // This one has looked at everything once, and believes in the old map as long as it can.
  const reader = await StoreServer.start(t, {
    image: 'vm1',
    readOnly: true,
    args: cluster.flags,
  });
  const other = await NbdClient.connect(reader.uri);
  await story.writes();
  await other.read(0, READER_BYTES);
  for (let pause = 1; pause <= PAUSES; pause += 1) {
    const daemon = random.pick(cluster.daemons);
    writer.longestMs = 0;
    daemon.pause();
    await sleep(PAUSE_MS);
    await story.goesOn(300);
    // Asked while it hangs: what it answers when it wakes up was written long before.
    await story.stopsWriting();
    const at = random.below(history.blocks - 16) * 4096;
    const asked = other.read(at, READER_BYTES);
    await sleep(200);
    daemon.resume();
    const { error, data } = await asked;
    t.equal(error, 0, 'the other reader gets an answer');
    const wrong: string[] = [];
    for (let block = 0; block < 16; block += 1) {
      const bytes = data.subarray(block * 4096, (block + 1) * 4096);
      const problem = history.problemOf(at / 4096 + block, bytes);
      if (problem !== null) wrong.push(problem);
    }
    t.same(wrong, [], 'and it is not an old one');
    t.comment(`the longest request took ${Math.round(writer.longestMs)} ms`);
    await story.writes();
    await cluster.healthy(60_000);
  }
  await other.disconnect();
  await reader.stop();
  await story.endsWell();
});
