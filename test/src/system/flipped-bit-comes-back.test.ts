// Bits of the data file of a daemon flip while it does not run. Nobody ever reads them: what it is primary of is mended by
// the reads themselves, from the copies of others.
import { closeSync, openSync, readFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { compareCopies } from '../replicas/compare-copies.js';
import { ReplicaStory } from '../replicas/replica-story.js';

t.setTimeout(600_000);

const FLIPS = 60;
/** What each tagged sector begins with, as it lies on disk. */
const TAG = Buffer.from('GATS');

/** Flips a bit in tagged sectors all over the file. @returns How many */
function flipBits(path: string): number {
  const content = readFileSync(path);
  const places: number[] = [];
  for (let at = content.indexOf(TAG); at >= 0; at = content.indexOf(TAG, at + 4096))
    places.push(at);
  const step = Math.max(1, Math.floor(places.length / FLIPS));
  const chosen = places.filter((_, index) => index % step === 0);
  const file = openSync(path, 'r+');
  for (const at of chosen) writeSync(file, Buffer.of((content[at + 100] ?? 0) ^ 4), 0, 1, at + 100);
  closeSync(file);
  return chosen.length;
}

t.test('flipped bits are read by nobody', async (t) => {
  const story = await ReplicaStory.begin(t, 'flipped-bit-comes-back');
  const { cluster, writer } = story;
  await story.writes();
  await story.stopsWriting();
  const daemon = cluster.daemon(1);
  await daemon.stop();
  const flips = flipBits(join(cluster.dataOf(1), 'data'));
  t.ok(flips > 20, `${flips} bits are flipped`);
  await daemon.startAgain();
  await cluster.healthy(60_000);
  await cluster.ledAsWanted(60_000);
  await story.isThere();
  t.same(writer.problems, []);
  await story.client.disconnect();
  await story.server.stop();
  const id = await cluster.idOf(1);
  const map = await cluster.stopTogether();
  const folders = cluster.daemons.map((_, index) => cluster.dataOf(index + 1));
  const { differences } = await compareCopies(map, folders);
  const led = map.pools.flatMap(({ name, groups }) =>
    groups.flatMap((group, index) =>
      group.members[0]?.daemon === id ? [`group ${name}/${index} `] : [],
    ),
  );
  t.ok(led.length > 0, 'the daemon is primary of some groups');
  const left = differences.filter((line) => led.some((group) => line.startsWith(group)));
  t.same(left, [], 'nothing of what it is primary of is damaged any more');
  t.comment(`${differences.length} objects of other groups wait for a scrub`);
  story.hasNoDefects();
});
