import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import t from 'tap';
import { makeFolder } from './real-make-folder.js';

t.test('a folder is made with those above it, and may be there', async (t) => {
  const deep = path.join(t.testdir(), 'a', 'b', '..', 'c', 'd');
  makeFolder(deep, 0o700);
  makeFolder(deep, 0o700);
  t.equal(fs.statSync(deep).mode & 0o777, 0o700);
  t.notOk(fs.existsSync(path.join(deep, '..', '..', 'b')), 'only what is needed');
});

t.test('a file in the way is an error, at the end or above', async (t) => {
  const folder = t.testdir({ file: '' });
  t.throws(() => makeFolder(path.join(folder, 'file'), 0o700), { code: 'EEXIST' });
  t.throws(() => makeFolder(path.join(folder, 'file', 'x'), 0o700), { code: 'ENOTDIR' });
});

t.test('where the kernel makes no folders that is said, and not tried for ever', async (t) => {
  // In a process of its own: the failure to look for is one that never ends.
  const script = `import { makeFolder } from ${JSON.stringify(new URL('real-make-folder.js', import.meta.url).href)};
    try { makeFolder('/proc/nope/deeper', 0o700); } catch (error) { console.log(error.code); }`;
  const args = ['--input-type=module', '--eval', script];
  const { stdout, signal } = spawnSync(process.execPath, args, { timeout: 10_000 });
  t.equal(signal, null);
  t.equal(stdout.toString().trim(), 'ENOENT');
});
