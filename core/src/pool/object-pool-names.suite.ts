/** The part of `objectPoolSuite` about objects as wholes: names, kinds, lists, versions, deletion. */
import { BLOCK_BYTES, INLINE_BYTES_MAX, KEY_BYTES_MAX } from '../util/limits.js';
import type { Story } from './object-pool.suite.js';
import { OBJECT_KIND, ObjectRef, type ListOptions, type ObjectPool } from './object-pool.js';
import { codeOf } from './pool-user.js';

/** Far more than any list here has. */
const PAGES_MAX = 1000;

const plain = new ObjectRef(OBJECT_KIND.plain, 'plain');
const header = new ObjectRef(OBJECT_KIND.imageHeader, 'header');

export async function objectPoolNameStories(story: Story): Promise<void> {
  await story('any bytes are a key', async (t, user, pool) => {
    const keys = [
      Buffer.from('a'),
      Buffer.from([0]),
      Buffer.from([0, 0]),
      Buffer.from([0xff]),
      Buffer.alloc(KEY_BYTES_MAX, 0xff),
      Buffer.alloc(KEY_BYTES_MAX, 'k'),
      Buffer.concat([Buffer.alloc(KEY_BYTES_MAX - 1, 'k'), Buffer.from('l')]),
      Buffer.alloc(KEY_BYTES_MAX - 1, 'k'),
      Buffer.from('../../../etc/passwd'),
      Buffer.from('a/b'),
      Buffer.from('.'),
      Buffer.from([0xc3, 0x28, 0x80]),
      Buffer.from('käse\u{1f9c0}'),
    ];
    for (const [index, key] of keys.entries())
      await user.write(new ObjectRef(OBJECT_KIND.plain, key), 0, Buffer.from(`value ${index}`));
    await user.flush();
    for (const [index, key] of keys.entries()) {
      const value = `value ${index}`;
      const seen = await user.read(new ObjectRef(OBJECT_KIND.plain, key), 0, value.length);
      t.equal(seen.toString(), value, `key ${key.toString('hex').slice(0, 20)}`);
    }
    const listed = await listAll(pool, { limit: 4 });
    t.same(listed.sort(), keys.map((key) => key.toString('latin1')).sort());
  });

  await story('list() filters by prefix and kind', async (t, user, pool) => {
    const { plain, imageHeader, imageData } = OBJECT_KIND;
    for (const key of ['a', 'ab', 'abc', 'b', 'ab\xff'])
      await user.write(new ObjectRef(plain, Buffer.from(key, 'latin1')), 0, Buffer.from('x'));
    await user.compareAndSwap(new ObjectRef(imageHeader, 'abd'), 0, Buffer.from('{}'));
    await user.write(new ObjectRef(imageData, 'abe', 'z'), 0, Buffer.from('x'));
    t.same(await listAll(pool, { kind: imageHeader }), ['abd']);
    t.same(await listAll(pool, { kind: imageData }), ['abe']);
    const prefixed = await listAll(pool, { prefix: Buffer.from('ab'), kind: plain });
    t.same(prefixed.sort(), ['ab', 'abc', 'ab\xff']);
    t.equal((await listAll(pool, { prefix: Buffer.from('ab'), limit: 1 })).length, 5);
    t.same(await listAll(pool, { prefix: Buffer.from('zzz') }), []);
    t.equal(await codeOf(pool.list({ limit: 0 })), 'E_INVALID');
    t.equal(await codeOf(pool.list({ limit: 1001 })), 'E_INVALID');
  });

  await story('list() tells of each object what stat() tells', async (t, user, pool) => {
    await user.write(plain, 5, Buffer.from('plain'));
    await user.write(
      new ObjectRef(OBJECT_KIND.imageData, 'l_0', 'f_0'),
      8000,
      Buffer.alloc(5000, 1),
    );
    await user.compareAndSwap(header, 0, Buffer.from('{}'));
    const { entries } = await pool.list({});
    t.equal(entries.length, 3);
    for (const { key, stat } of entries) {
      const locator = key.toString() === 'l_0' ? 'f_0' : key;
      t.same(stat, await pool.stat(new ObjectRef(stat.kind, key, locator)));
    }
  });

  await story(
    'list() pages show what stays exactly once while others come and go',
    async (t, user, pool) => {
      const ref = (name: string) => new ObjectRef(OBJECT_KIND.plain, name);
      const name = (index: number) => `object ${String(index).padStart(4, '0')}`;
      for (let index = 0; index < 200; index += 1)
        await user.write(ref(name(index)), 0, Buffer.from([index]));
      for (let index = 0; index < 200; index += 4) await pool.delete(ref(name(index)));
      const seen: string[] = [];
      let cursor: Buffer | undefined;
      let round = 0;
      do {
        const page = await pool.list({ limit: 7, ...(cursor === undefined ? {} : { cursor }) });
        t.ok(page.entries.length <= 7, 'a page is no longer than asked');
        seen.push(...page.entries.map((entry) => entry.key.toString()));
        cursor = page.cursor;
        await pool.delete(ref(name((round * 8 + 1) % 200)));
        await user.write(ref(`new ${round}`), 0, Buffer.from('new'));
        round += 1;
      } while (cursor !== undefined && round < 1000);
      t.equal(new Set(seen).size, seen.length, 'nothing is listed twice');
      for (let index = 0; index < 200; index += 1) {
        if (index % 4 === 0)
          t.notOk(seen.includes(name(index)), 'what was deleted before is not listed');
        else if (index % 8 !== 1) t.ok(seen.includes(name(index)), `${name(index)} is listed`);
      }
    },
  );

  await story('stat() tells kind, length and a version that grows', async (t, user, pool) => {
    t.equal(await pool.stat(plain), null);
    for (const ref of [plain, new ObjectRef(OBJECT_KIND.imageData, 'l_0', 'f_0')]) {
      await user.write(ref, 8192, Buffer.from('abc'));
      const first = await pool.stat(ref);
      t.equal(first?.kind, ref.kind);
      t.equal(first?.length, 8195);
      t.ok((first?.version ?? 0) >= 1);
      await user.write(ref, 0, Buffer.from('abc'));
      const second = await pool.stat(ref);
      t.equal(second?.length, 8195, 'a write further in front changes no length');
      t.ok((second?.version ?? 0) > (first?.version ?? 0));
      await user.zero(ref, 0, 2);
      t.ok(((await pool.stat(ref))?.version ?? 0) > (second?.version ?? 0));
    }
  });

  await story(
    'compareAndSwap() changes an object only at the expected version',
    async (t, user, pool) => {
      for (const ref of [header, plain]) {
        t.equal(await codeOf(user.compareAndSwap(ref, 1, Buffer.from('no'))), 'E_VERSION');
        t.equal(await pool.stat(ref), null);
        const first = await user.compareAndSwap(ref, 0, Buffer.from('a longer one'));
        t.equal(await codeOf(user.compareAndSwap(ref, 0, Buffer.from('no'))), 'E_VERSION');
        t.equal(await codeOf(user.compareAndSwap(ref, first + 1, Buffer.from('no'))), 'E_VERSION');
        const second = await user.compareAndSwap(ref, first, Buffer.from('short'));
        t.ok(second > first);
        t.equal(await codeOf(user.compareAndSwap(ref, first, Buffer.from('no'))), 'E_VERSION');
        const stat = await pool.stat(ref);
        t.equal(stat?.version, second);
        t.equal(stat?.length, 5, 'the whole object was replaced');
        t.equal(stat?.kind, ref.kind);
        t.equal((await user.read(ref, 0, 12)).toString(), 'short\0\0\0\0\0\0\0');
      }
    },
  );

  await story('compareAndSwap() sees the version a plain write made', async (t, user, pool) => {
    await user.write(plain, 0, Buffer.from('by write'));
    const version = (await pool.stat(plain))?.version ?? 0;
    t.ok((await user.compareAndSwap(plain, version, Buffer.from('by swap'))) > version);
    await user.write(plain, 0, Buffer.from('BY'));
    t.equal((await user.read(plain, 0, 7)).toString(), 'BY swap');
  });

  await story(
    'compareAndSwap() takes a header of 64 KiB and not a byte more',
    async (t, user, pool) => {
      const bytes = Buffer.alloc(INLINE_BYTES_MAX, 5);
      const version = await user.compareAndSwap(header, 0, bytes);
      t.ok((await user.read(header, 0, bytes.length)).equals(bytes));
      const more = Buffer.alloc(INLINE_BYTES_MAX + 1);
      t.equal(await codeOf(user.compareAndSwap(header, version, more)), 'E_INVALID');
      t.equal((await pool.stat(header))?.length, INLINE_BYTES_MAX);
    },
  );

  await story(
    'compareAndSwap() takes a whole object, and no data of an image',
    async (t, user, pool) => {
      const sizes = [
        INLINE_BYTES_MAX + 1,
        3,
        pool.objectBytes,
        pool.objectBytes / 2 + 5,
        200_000,
        0,
      ];
      let version = 0;
      for (const [index, size] of sizes.entries()) {
        const bytes = Buffer.alloc(size, `<${index}>`);
        const next = await user.compareAndSwap(plain, version, bytes);
        t.ok(next > version);
        version = next;
        const stat = await pool.stat(plain);
        t.match(stat, { version, length: size });
        t.ok((await user.read(plain, 0, size)).equals(bytes), `${size} bytes`);
        t.ok((stat?.allocatedBytes ?? 0) < size + BLOCK_BYTES, 'nothing is left of the one before');
      }
      const more = Buffer.alloc(pool.objectBytes + 1);
      t.equal(await codeOf(user.compareAndSwap(plain, version, more)), 'E_INVALID');
      const data = new ObjectRef(OBJECT_KIND.imageData, 'l_0', 'f_0');
      t.equal(await codeOf(user.compareAndSwap(data, 0, Buffer.alloc(1))), 'E_INVALID');
    },
  );

  await story(
    'a large object that was swapped is written, zeroed and removed like any',
    async (t, user, pool) => {
      const before = Buffer.alloc(300_000, 'before');
      await user.write(plain, 0, Buffer.alloc(pool.objectBytes, 'long'));
      const version = (await pool.stat(plain))?.version ?? 0;
      const swapped = await user.compareAndSwap(plain, version, before);
      t.equal(
        await codeOf(user.compareAndSwap(plain, version, Buffer.alloc(100_000))),
        'E_VERSION',
      );
      await user.write(plain, 299_990, Buffer.from('over the end'));
      await user.zero(plain, 8192, 100);
      await user.flush();
      before.fill(0, 8192, 8292);
      const expected = Buffer.concat([before.subarray(0, 299_990), Buffer.from('over the end')]);
      t.ok((await user.read(plain, 0, expected.length)).equals(expected));
      t.ok(((await pool.stat(plain))?.version ?? 0) > swapped);
      t.equal(await pool.delete(plain), true);
      t.equal(await pool.stat(plain), null);
    },
  );

  await story('compareAndSwap() gives the object the kind of its ref', async (t, user, pool) => {
    const ancestor = new ObjectRef(OBJECT_KIND.plain, 'image');
    await user.write(ancestor, 0, Buffer.alloc(8, 1));
    const version = (await pool.stat(ancestor))?.version ?? 0;
    await user.compareAndSwap(
      new ObjectRef(OBJECT_KIND.imageHeader, 'image'),
      version,
      Buffer.from('{}'),
    );
    t.equal((await pool.stat(ancestor))?.kind, OBJECT_KIND.imageHeader);
    t.same(await listAll(pool, { kind: OBJECT_KIND.imageHeader }), ['image']);
    t.same(await listAll(pool, { kind: OBJECT_KIND.plain }), []);
  });

  await story('of many who swap at once exactly one wins', async (t, user) => {
    const results = await Promise.all(
      Array.from({ length: 20 }, (_, index) =>
        codeOf(user.compareAndSwap(header, 0, Buffer.from(`writer ${index}`))),
      ),
    );
    t.equal(results.filter((code) => code === null).length, 1);
    t.equal(results.filter((code) => code === 'E_VERSION').length, 19);
  });

  await story('an object made again after delete() is clean', async (t, user, pool) => {
    for (const ref of [plain, new ObjectRef(OBJECT_KIND.imageData, 'l_0', 'f_0')]) {
      t.equal(await pool.delete(ref), false);
      await user.write(ref, 0, Buffer.alloc(200_000, 0xee));
      await user.flush();
      t.equal(await pool.delete(ref), true);
      t.equal(await pool.stat(ref), null);
      t.equal(await pool.delete(ref), false);
      await user.write(ref, 100_000, Buffer.from('x'));
      const expected = Buffer.alloc(200_000);
      expected.write('x', 100_000);
      t.ok((await user.read(ref, 0, 200_000)).equals(expected), 'nothing old shows through');
      t.equal((await pool.stat(ref))?.length, 100_001);
    }
  });

  await story('delete() of one version leaves every other alone', async (t, user, pool) => {
    const data = new ObjectRef(OBJECT_KIND.imageData, 'l_0', 'f_0');
    for (const ref of [plain, data]) {
      t.equal(await pool.delete(ref, 1), false, 'there is nothing yet');
      await user.write(ref, 0, Buffer.alloc(100_000, 1));
      const [listed] = (await pool.list({ kind: ref.kind })).entries;
      const version = listed?.stat.version ?? 0;
      t.equal(await pool.delete(ref, version + 1), false);
      await user.write(ref, 0, Buffer.from('new'));
      await user.flush();
      t.equal(await pool.delete(ref, version), false, 'it was written since');
      t.equal((await user.read(ref, 0, 3)).toString(), 'new');
      const written = (await pool.stat(ref))?.version ?? 0;
      await user.zero(ref, 8192, 8192);
      t.equal(await pool.delete(ref, written), false, 'it was zeroed since');
      const zeroed = (await pool.stat(ref))?.version ?? 0;
      await user.flush();
      t.equal(await pool.delete(ref, zeroed), true);
      t.equal(await pool.delete(ref, zeroed), false, 'asked twice it says so');
      t.equal(await pool.stat(ref), null);
    }
  });

  await story('an object that is made again has a version of its own', async (t, user, pool) => {
    for (const ref of [plain, new ObjectRef(OBJECT_KIND.imageData, 'l_0', 'f_0')]) {
      const seen = new Set<number>();
      let changes = 0;
      for (let life = 0; life < 4; life += 1) {
        for (let change = 0; change < 10; change += 1) {
          await user.write(ref, 0, Buffer.from([life, change]));
          seen.add((await pool.stat(ref))?.version ?? 0);
          changes += 1;
        }
        if (life % 2 === 0) await user.flush();
        await pool.delete(ref);
      }
      t.equal(seen.size, changes, 'no two changes share a version, not even over lives');
    }
  });
}

async function listAll(pool: ObjectPool, options: ListOptions): Promise<string[]> {
  const keys: string[] = [];
  let cursor: Buffer | undefined;
  let pages = 0;
  do {
    pages += 1;
    if (pages > PAGES_MAX) throw new Error('list() comes to no end');
    const page = await pool.list(cursor === undefined ? options : { ...options, cursor });
    keys.push(...page.entries.map((entry) => entry.key.toString('latin1')));
    cursor = page.cursor;
  } while (cursor !== undefined);
  return keys;
}
