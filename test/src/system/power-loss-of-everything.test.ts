// All daemons lose their power at once, again and again, while a client writes and flushes: what was flushed is there, the rest
// is old or new in each sector, and all copies agree on which.
import t from 'tap';
import { needs } from '../host/requirements.js';
import { sleep } from '../host/wait-until.js';
import { LossyDisk } from '../lossy-device/lossy-disk.js';
import { NBD_EIO } from '../nbd-client/nbd-constants.js';
import { ReplicaStory } from '../replicas/replica-story.js';

t.setTimeout(600_000);

const CUTS = 2;

const here = needs({
  root: true,
  fuse: true,
  commands: ['nbdfuse', 'losetup', 'mkfs.ext4', 'fusermount3', 'blockdev'],
});

t.test(`all daemons lose their power ${CUTS} times`, here, async (t) => {
  const disks = await Promise.all([1, 2, 3].map(() => LossyDisk.build(t)));
  const story = await ReplicaStory.begin(t, 'power-loss-of-everything', {
    pool: ['--groups', '8'],
    dataOf: (number) => `${disks[number - 1]?.folder}/data`,
  });
  const { cluster, writer, random } = story;
  for (let cut = 1; cut <= CUTS; cut += 1) {
    await story.writes('often', 400);
    await sleep(random.below(500));
    // What it had not been answered for it would send again, after the rest was lost.
    await story.losesServer();
    await Promise.all(cluster.daemons.map((daemon) => daemon.kill9()));
    const keep = random.pick([0, 30, 70]);
    const reports = await Promise.all(disks.map((disk) => disk.cut(random.next32(), keep)));
    t.comment(`lost ${reports.map(({ lost, torn }) => `${lost} and ${torn} torn`).join(', ')}`);
    await Promise.all(disks.map((disk) => disk.restore()));
    await cluster.daemonsAgain();
    await cluster.healthy(60_000);
    await story.serverAgain();
    await story.isThere('power');
    const { error } = await story.client.flush();
    t.ok(error === 0 || error === NBD_EIO, `the first flush answers ${error}`);
  }
  t.ok(writer.flushes > 0, `${writer.flushes} flushes`);
  await story.endsWell();
});
