/** `store write` of objects that others write at the same time, and of one whose daemon is killed meanwhile. */
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { reservePort } from '@store/core/testing';
import t, { type Test } from 'tap';
import { run, serving, type Serving } from './run-programs.js';

t.setTimeout(600_000);

const SIZES = [1000, 300_000, 65_537, 2_000_000];

function shortFolder(t: Test): string {
  const folder = mkdtempSync(join(tmpdir(), 'store-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

function daemon(t: Test, dir: string, address = '127.0.0.1:0'): Promise<Serving> {
  return serving(t, 'store', ['file-store', '--dir', dir, '--listen-address', address]);
}

function write(on: readonly string[], index: number): ReturnType<typeof run> {
  const input = Buffer.alloc(SIZES[index % SIZES.length] ?? 1, String.fromCharCode(97 + index));
  return run('store', ['write', ...on, 'object', '--data-file', '-'], { input });
}

/** @returns which writer wrote it, or what is wrong with it */
function writerOf(content: string): number | string {
  const index = content.charCodeAt(0) - 97;
  const isWhole = content === content.charAt(0).repeat(SIZES[index % SIZES.length] ?? 0);
  return isWhole ? index : `${content.length} bytes, beginning ${content.slice(0, 8)}`;
}

await t.test(
  'of several who write one object at once each is the last one at some moment',
  async (t) => {
    const { line } = await daemon(t, join(shortFolder(t), 'data'));
    const on = ['--storage-daemon', line, '--pool', 'testpool'];
    t.equal((await write(on, 0)).code, 0);
    const writers = Promise.all(Array.from({ length: 8 }, (_, index) => write(on, index)));
    const read = async (): Promise<void> => {
      const { code, stdout } = await run('store', ['read', ...on, 'object']);
      t.equal(code, 0, 'it is there at any moment');
      t.type(writerOf(stdout), 'number', 'and whole');
    };
    for (let reads = 0; reads < 8; reads += 1) await read();
    for (const { code, stderr } of await writers) t.equal(code, 0, stderr);
    await read();
  },
);

await t.test('a daemon that is killed leaves the old object or the new one', async (t) => {
  const dir = join(shortFolder(t), 'data');
  const address = `127.0.0.1:${await reservePort()}`; // it is served there again
  let served = await daemon(t, dir, address);
  const on = ['--storage-daemon', address, '--pool', 'testpool'];
  t.equal((await write(on, 1)).code, 0);
  for (let round = 0; round < 6; round += 1) {
    const writing = write(on, 3);
    await new Promise((resolve) => setTimeout(resolve, 380 + 40 * round));
    served.child.kill('SIGKILL');
    await once(served.child, 'exit');
    served = await daemon(t, dir, address);
    const { code, stderr } = await writing;
    // Before it was reached, or while it was away for good: refused. Else the one that came back has written it.
    const now = writerOf((await run('store', ['read', ...on, 'object'])).stdout);
    t.ok(
      code === 0 ? now === 3 : now === 3 || now === 1,
      `exit code ${code}, now ${now}: ${stderr}`,
    );
    t.equal((await write(on, 1)).code, 0);
  }
});
