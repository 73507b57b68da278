// The disk under one of three daemons fills up while a client writes where nothing was before: what is read is right all the
// time, what is there can be deleted, and when there is room again all copies are made equal.
import { mkdirSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { run } from '../host/command.js';
import { needs } from '../host/requirements.js';
import { tempFolder } from '../host/temp-folder.js';
import { sleep } from '../host/wait-until.js';
import { NBD_ENOSPC } from '../nbd-client/nbd-constants.js';
import { ReplicaStory } from '../replicas/replica-story.js';

t.setTimeout(600_000);

const FULL_MS = 4000;
const STEP_BYTES = 4 * 1024 * 1024;
/** What others leave of the daemon's own reserve: without any, nothing can be noted, and nothing deleted. */
const LEFT_BYTES = 24 * 1024 * 1024;

t.test('a full disk costs a copy, and no data', needs({ root: true }), async (t) => {
  const disk = join(tempFolder(t), 'disk');
  mkdirSync(disk);
  await run('mount', ['-t', 'tmpfs', '-o', 'size=500M', 'none', disk]);
  t.teardown(() => run('umount', ['-l', disk]));
  const story = await ReplicaStory.begin(t, 'full-replica', {
    blocks: 16 * 1024,
    dataOf: (number) => (number === 1 ? join(disk, 'data') : undefined),
  });
  const { cluster, writer } = story;
  await story.writes('often', 200);
  await cluster.image('create', 'other', '--size', '16M');
  const filler = join(disk, 'filler');
  const { bavail, bsize } = statfsSync(disk);
  for (let at = 0; at < bavail * bsize - LEFT_BYTES; at += STEP_BYTES)
    writeFileSync(filler, Buffer.alloc(STEP_BYTES, 1), { flag: 'a' });
  await sleep(FULL_MS);
  const { answers } = writer;
  t.comment(`${writer.errors.length} requests were refused while the disk was full`);
  t.same(
    writer.errors.filter(({ error }) => error !== NBD_ENOSPC),
    [],
    'for lack of space, and for nothing else',
  );
  await story.stopsWriting();
  await story.isThere();
  await cluster.image('rm', 'other');
  rmSync(filler);
  await story.writes();
  t.comment(`${writer.answers - answers} answers since there is room`);
  await story.endsWell({ errors: 'some' });
});
