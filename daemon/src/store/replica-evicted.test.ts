/** An object that leaves the memory while a comparison of it waits between two pieces is compared on as it is then. */
import { BLOCK_BYTES, OBJECT_KIND, ObjectRef, promisedWith, realEnv, silentLog } from '@store/core';
import { PoolUser } from '@store/core/testing';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { Follower, IMAGE, RecordingTap, digestOf } from '../replication/replica-pool-player.js';
import { ENGINE_LIMITS } from './engine.js';
import { REPLICATED_PREFIX, openFileStore, type FileStore } from './file-store.js';

const CACHED_MAX = 64;
/** More than are kept in memory, twice. */
const OTHERS = 4 * CACHED_MAX;
/** In the third piece of the object. */
const BLOCK = 700;

function open(folder: string): Promise<FileStore> {
  return openFileStore(realEnv(silentLog), folder, {
    create: true,
    limits: { ...ENGINE_LIMITS, cachedObjectsMax: CACHED_MAX },
    onFailure: (error) => {
      throw error;
    },
  });
}

t.test('what a client writes between two pieces is not taken back', async (t) => {
  const place = mkdtempSync(join(tmpdir(), 'store-evicted-'));
  t.teardown(() => rmSync(place, { recursive: true }));
  const [folder, otherFolder] = [join(place, 'one'), join(place, 'other')];
  const name = `${REPLICATED_PREFIX}p`;
  const block = (text: string): Buffer => Buffer.alloc(BLOCK_BYTES, text);
  const [object] = IMAGE;
  if (object === undefined) throw new Error('there are images');
  const member = await open(otherFolder);
  const theirs = await member.openPool(name, { create: true });
  const follower = new Follower(theirs);
  let store = await open(folder);
  t.teardown(async () => {
    await store.close();
    await member.close();
  });
  let pool = await store.openPool(name, { create: true });
  let tap = new RecordingTap();
  tap.onChange = follower.follow;
  pool.announceTo(tap);
  let user = new PoolUser(pool);
  await user.write(object, 0, block('a'));
  await user.write(object, BLOCK * BLOCK_BYTES, block('o'));
  await follower.settled();
  // The member is away: it still has a block that is discarded here.
  tap.onChange = () => undefined;
  await user.zero(object, BLOCK * BLOCK_BYTES, BLOCK_BYTES);
  await user.flush();
  await store.close();
  store = await open(folder);
  pool = await store.openPool(name, { create: true });
  tap = new RecordingTap(2);
  tap.onChange = follower.follow;
  pool.announceTo(tap);
  user = new PoolUser(pool);
  const digest = await digestOf(theirs, object);
  if (digest === null) throw new Error('the member has it');
  let pieces = 0;
  const between = (next: () => void): void => {
    pieces += 1;
    if (pieces !== 1) {
      next();
      return;
    }
    void (async () => {
      for (let at = 0; at < OTHERS; at += 1)
        await pool.stat(new ObjectRef(OBJECT_KIND.plain, `other ${at}`));
      await user.write(object, BLOCK * BLOCK_BYTES, block('N'));
    })().then(next, (error: unknown) => t.fail(String(error)));
  };
  await promisedWith((done) =>
    pool.difference(object, { ...digest, version: 0 }, follower.follow, done, { between }),
  );
  await follower.settled();
  t.ok(pieces > 1, 'it waited between pieces');
  t.ok((await user.read(object, BLOCK * BLOCK_BYTES, BLOCK_BYTES)).equals(block('N')));
  const there = await new PoolUser(theirs).read(object, BLOCK * BLOCK_BYTES, BLOCK_BYTES);
  t.ok(there.equals(block('N')), 'the member has it as well');
});
