// Both copies lose their power at once, with answered writes that nobody flushed: the next flush of the writer fails once and
// says so, what had been flushed is there, and then all goes on.
import t from 'tap';
import { needs } from '../host/requirements.js';
import { LossyDisk } from '../lossy-device/lossy-disk.js';
import { NBD_EIO } from '../nbd-client/nbd-constants.js';
import { ReplicaStory } from '../replicas/replica-story.js';

t.setTimeout(600_000);

const here = needs({
  root: true,
  fuse: true,
  commands: ['nbdfuse', 'losetup', 'mkfs.ext4', 'fusermount3', 'blockdev'],
});

t.test('a flush after both copies lost their power fails once', here, async (t) => {
  const disks = await Promise.all([LossyDisk.build(t), LossyDisk.build(t)]);
  const story = await ReplicaStory.begin(t, 'both-copies-lose-power', {
    daemons: 2,
    pool: ['--groups', '8', '--replicas', '2'],
    dataOf: (number) => `${disks[number - 1]?.folder}/data`,
  });
  const { cluster, writer, client, random } = story;
  await story.writes();
  await story.stopsWriting();
  t.equal(await writer.flush(client), 0, 'everything is flushed');
  await story.writes('never');
  await story.stopsWriting();
  await Promise.all(cluster.daemons.map((daemon) => daemon.kill9()));
  await Promise.all(disks.map((disk) => disk.cut(random.next32(), 0)));
  await Promise.all(disks.map((disk) => disk.restore()));
  await cluster.daemonsAgain();
  await cluster.healthy(60_000);
  t.equal((await client.flush()).error, NBD_EIO, 'the flush says that something was lost');
  t.equal((await client.flush()).error, 0, 'and says it once');
  await story.isThere('power');
  await story.writes();
  await story.endsWell();
});
