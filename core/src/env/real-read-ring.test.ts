import { spawnSync } from 'node:child_process';
import { closeSync, openSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { EAGAIN } from './real-native.js';
import { ReadRing, readRing } from './real-read-ring.js';
import { Ring } from './real-ring.js';

const BLOCK = 4096;
const BLOCKS = 256;

/** A file whose blocks all differ. */
function numberedFile(folder: string): number {
  const path = join(folder, 'blocks');
  const bytes = Buffer.alloc(BLOCK * BLOCKS);
  for (let block = 0; block < BLOCKS; block += 1)
    bytes.fill(`block ${block} `, block * BLOCK, (block + 1) * BLOCK);
  writeFileSync(path, bytes);
  return openSync(path, 'r');
}

function blockText(block: number): string {
  return `block ${block} `;
}

/** It may refuse for a moment, when the machine is busy. */
function readThen(
  ring: ReadRing,
  fd: number,
  position: number,
  target: Buffer,
  done: (result: number) => void,
): void {
  if (!ring.read(fd, position, target, done))
    setTimeout(() => readThen(ring, fd, position, target, done), 10);
}

function read(ring: ReadRing, fd: number, position: number, target: Buffer): Promise<number> {
  return new Promise((resolve) => readThen(ring, fd, position, target, resolve));
}

const ring = ReadRing.open();
const skip = ring === null ? 'this machine has no io_uring for us' : false;

await t.test('each read gets the bytes of its place, many at a time', { skip }, async (t) => {
  if (ring === null) return;
  const fd = numberedFile(t.testdir());
  for (let round = 0; round < 20; round += 1) {
    const reads = Array.from({ length: 200 }, async (_, index) => {
      const block = (index * 7 + round) % BLOCKS;
      const target = Buffer.alloc(BLOCK);
      const count = await read(ring, fd, block * BLOCK, target);
      return count === BLOCK && target.toString().startsWith(blockText(block));
    });
    const right = await Promise.all(reads);
    if (!right.every(Boolean)) t.fail(`round ${round}: wrong bytes`);
  }
  t.pass('all were right');
  closeSync(fd);
});

await t.test('it answers later, and says how it went', { skip }, async (t) => {
  if (ring === null) return;
  const fd = numberedFile(t.testdir());
  let isLater = false;
  const answered = new Promise<boolean>((resolve) => {
    readThen(ring, fd, 0, Buffer.alloc(BLOCK), () => resolve(isLater));
  });
  isLater = true;
  t.ok(await answered, 'never from within the call');
  const target = Buffer.alloc(2 * BLOCK);
  t.equal(await read(ring, fd, (BLOCKS - 1) * BLOCK, target), BLOCK, 'the end of the file');
  t.equal(await read(ring, fd, BLOCKS * BLOCK, target), 0, 'beyond it');
  t.equal(await read(ring, fd, 5 * 2 ** 32, target), 0, 'far beyond it');
  closeSync(fd);
  t.equal(await read(ring, fd, 0, target), -9, 'EBADF');
});

await t.test('it refuses what does not fit, and has room again', { skip }, async (t) => {
  if (ring === null) return;
  const fd = numberedFile(t.testdir());
  const targets = Array.from({ length: 1000 }, () => Buffer.alloc(BLOCK));
  let answers = 0;
  let refused = 0;
  await new Promise<void>((resolve) => {
    const done = (): void => {
      answers += 1;
      if (answers + refused === targets.length) resolve();
    };
    for (const target of targets) if (!ring.read(fd, 0, target, done)) refused += 1;
  });
  t.ok(refused > 0, `${refused} were refused`);
  t.equal(answers, targets.length - refused, 'the others were answered, each once');
  t.equal(await read(ring, fd, BLOCK, Buffer.alloc(BLOCK)), BLOCK);
  closeSync(fd);
});

/** A ring whose `submit` is another. */
function ringThat(submit: (real: Ring) => number): ReadRing {
  const real = Ring.open(16);
  const ring =
    real === null
      ? null
      : ReadRing.over({
          size: real.size,
          get room() {
            return real.room;
          },
          get unsubmitted() {
            return real.unsubmitted;
          },
          readAndTell: (...parameters) => real.readAndTell(...parameters),
          submit: () => submit(real),
          withdraw: () => real.withdraw(),
          results: (each) => real.results(each),
        });
  if (ring === null) throw new Error('there was one a moment ago');
  return ring;
}

await t.test('what the kernel does not take at once is not lost', { skip }, async (t) => {
  let refusals = 3;
  const slow = ringThat((real) => ((refusals -= 1) >= 0 ? EAGAIN : real.submit()));
  const fd = numberedFile(t.testdir());
  const target = Buffer.alloc(BLOCK);
  t.equal(await read(slow, fd, 3 * BLOCK, target), BLOCK);
  t.ok(target.toString().startsWith(blockText(3)));
  t.ok(refusals < 0, 'it was refused three times');
  closeSync(fd);
});

await t.test('a kernel that refuses for good has its reads sent elsewhere', { skip }, async (t) => {
  const ENOMEM = 12;
  const dead = ringThat(() => ENOMEM);
  const fd = numberedFile(t.testdir());
  const target = Buffer.alloc(BLOCK);
  t.same(
    await Promise.all([read(dead, fd, 0, target), read(dead, fd, BLOCK, target)]),
    [-EAGAIN, -EAGAIN],
    'each is answered',
  );
  t.notOk(
    dead.read(fd, 0, target, () => t.fail('it was not taken')),
    'and no more is taken',
  );
  closeSync(fd);
});

await t.test('reads that follow each other let the event loop go on', { skip }, async (t) => {
  if (ring === null) return;
  const fd = numberedFile(t.testdir());
  const target = Buffer.alloc(BLOCK);
  let reads = 0;
  let turns = 0;
  let isOver = false;
  const turn = (): void => {
    turns += 1;
    if (!isOver) setImmediate(turn);
  };
  setImmediate(turn);
  await new Promise<void>((resolve) => {
    const next = (): void => {
      reads += 1;
      if (reads > 2000) resolve();
      else readThen(ring, fd, 0, target, next);
    };
    next();
  });
  isOver = true;
  t.ok(turns > 1000, `${turns} turns for 2000 reads that were all in memory`);
  closeSync(fd);
});

await t.test('it neither holds the process nor lets it go too early', { skip }, (t) => {
  const path = join(t.testdir({ file: 'x'.repeat(BLOCK) }), 'file');
  const module = fileURLToPath(new URL('real-read-ring.js', import.meta.url));
  const script = `
    import { openSync } from 'node:fs';
    const { ReadRing } = await import(${JSON.stringify(module)});
    const ring = ReadRing.open();
    const fd = openSync(${JSON.stringify(path)});
    if (!ring.read(fd, 0, Buffer.alloc(${BLOCK}), (n) => console.log(n))) throw new Error('refused');`;
  const child = spawnSync(process.execPath, ['--input-type=module', '-e', script], {
    timeout: 10_000,
    encoding: 'utf8',
  });
  t.equal(child.stdout, `${BLOCK}\n`);
  t.equal(child.status, 0, child.stderr);
  t.end();
});

await t.test('there is one for the process', { skip }, (t) => {
  t.equal(readRing(), readRing());
  t.end();
});
