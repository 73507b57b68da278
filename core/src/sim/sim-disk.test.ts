/** The simulated disk is the judge of the engine: it must lose what a real one may lose, and nothing else. */
import t from 'tap';
import { SimDisk } from './sim-disk.js';
import { SimRandom } from './sim-random.js';
import { SimScheduler } from './sim-scheduler.js';
import { DiskError, type DataFile } from '../env/disk.js';

function makeDisk(seed: number) {
  const scheduler = new SimScheduler();
  const disk = new SimDisk(scheduler, new SimRandom(seed));
  const drain = (): void => {
    while (scheduler.step());
  };
  return { scheduler, disk, drain };
}

function write(file: DataFile, position: number, bytes: Buffer): string[] {
  const answers: string[] = [];
  file.write(position, [bytes], (error) => answers.push(error?.errno ?? 'done'));
  return answers;
}

function read(disk: SimDisk, position: number, bytes: number): string {
  const target = Buffer.alloc(bytes);
  disk.data.read(position, target);
  return target.toString('latin1');
}

await t.test('what was synced survives a power cut, what was not may not', (t) => {
  const fates = new Set<string>();
  for (let seed = 1; seed <= 60; seed += 1) {
    const { disk, drain } = makeDisk(seed);
    const file = disk.open().openDataFile('data');
    write(file, 0, Buffer.alloc(1024, 'a'));
    drain();
    file.sync(() => undefined);
    drain();
    write(file, 0, Buffer.alloc(512, 'b'));
    write(file, 512, Buffer.alloc(512, 'c'));
    drain();
    t.equal(read(disk, 0, 1024), 'b'.repeat(512) + 'c'.repeat(512), 'seen by the process');
    disk.powerCut();
    const [first, second] = [read(disk, 0, 512), read(disk, 512, 512)];
    for (const sector of [first, second])
      if (new Set(sector).size !== 1) t.fail('a sector is a mixture');
    fates.add(`${first[0] ?? ''}${second[0] ?? ''}`);
  }
  t.same(fates, new Set(['aa', 'ba', 'ac', 'bc']), 'in any combination of sectors');
  t.end();
});

await t.test('a sync covers what was written before it began, not what came while it ran', (t) => {
  let lost = 0;
  for (let seed = 1; seed <= 40; seed += 1) {
    const { disk, drain, scheduler } = makeDisk(seed);
    const file = disk.open().openDataFile('data');
    write(file, 0, Buffer.from('before'));
    drain();
    const answers: unknown[] = [];
    file.sync((error) => answers.push(error));
    write(file, 4096, Buffer.from('during'));
    drain();
    t.same([answers, scheduler.pending], [[null], 0]);
    disk.powerCut();
    if (read(disk, 0, 6) !== 'before') t.fail('a covered write is lost');
    if (read(disk, 4096, 6) !== 'during') lost += 1;
  }
  t.ok(lost > 0 && lost < 40, `${lost} of 40 lost`);
  t.end();
});

await t.test('after a failed sync the data are gone, though a second sync succeeds', (t) => {
  const { disk, drain } = makeDisk(1);
  const file = disk.open().openDataFile('data');
  write(file, 0, Buffer.from('data'));
  drain();
  const answers: (string | undefined)[] = [];
  disk.dataFaults.syncError = 1;
  file.sync((error) => answers.push(error?.errno));
  drain();
  disk.dataFaults.syncError = 0;
  file.sync((error) => answers.push(error?.errno));
  drain();
  t.same(answers, ['EIO', undefined]);
  t.equal(read(disk, 0, 4), 'data', 'still in memory');
  disk.powerCut();
  t.equal(read(disk, 0, 4), '\0\0\0\0');
  t.end();
});

await t.test('a killed process hears nothing more; what it had asked for may still happen', (t) => {
  const fates = new Set<string>();
  for (let seed = 1; seed <= 20; seed += 1) {
    const { disk, drain } = makeDisk(seed);
    const folder = disk.open();
    folder.lock();
    const answers = write(folder.openDataFile('data'), 0, Buffer.from('x'));
    folder
      .openMetaStore('meta')
      .commit([{ key: Buffer.from('k'), value: Buffer.from('v') }], () =>
        answers.push('committed'),
      );
    folder.openAppendFile('live.0').append([Buffer.from('answered')]);
    disk.kill();
    drain();
    t.same(answers, []);
    const next = disk.open();
    next.lock();
    const { length } = next.openAppendFile('live.0').readAll();
    t.equal(length, 8, 'the kernel keeps what it was given');
    const isCommitted = next.openMetaStore('meta').get(Buffer.from('k')) !== null;
    fates.add(
      `${read(disk, 0, 1) === 'x' ? 'written' : 'lost'} ${isCommitted ? 'committed' : 'not'}`,
    );
  }
  t.equal(fates.size, 4, [...fates].join(', '));
  t.end();
});

await t.test('a commit is atomic and durable when it is answered, and in order of bytes', (t) => {
  const { disk, drain } = makeDisk(3);
  const meta = disk.open().openMetaStore('meta');
  const put = (...keys: number[]) =>
    keys.map((key) => ({ key: Buffer.from([key]), value: Buffer.from([key]) }));
  const answers: (string | null)[] = [];
  const commit = (...keys: number[]): void => {
    meta.commit(put(...keys), (error) => answers.push(error?.errno ?? null));
    drain();
  };
  commit(200, 3, 127);
  disk.metaFaults.commitError = 1;
  commit(4, 5);
  disk.metaFaults.commitError = 0;
  disk.capacityBytes = disk.usedBytes();
  commit(6, 7);
  t.same(answers, [null, 'EIO', 'ENOSPC']);
  disk.powerCut();
  const range = meta.range(Buffer.from([0]), Buffer.from([255]), 10);
  t.same(range.map(({ key }) => key[0]), [3, 127, 200]); // prettier-ignore
  t.same(meta.range(Buffer.from([3]), Buffer.from([200]), 10).length, 2, 'the end is exclusive');
  t.end();
});

await t.test(
  'the folder has one owner, a new boot token after a power cut, and can be full',
  (t) => {
    const { disk } = makeDisk(1);
    const folder = disk.open();
    folder.lock();
    t.throws(() => disk.open().lock(), { code: 'E_IN_USE' });
    const token = folder.bootToken();
    disk.kill();
    t.equal(disk.open().bootToken(), token);
    disk.powerCut();
    t.not(disk.open().bootToken(), token);
    disk.capacityBytes = 0;
    const live = disk.open().openAppendFile('live.0');
    t.throws(() => live.append([Buffer.from('x')]), { name: 'DiskError', errno: 'ENOSPC' });
    t.throws(() => writeNow(disk), { name: 'DiskError', errno: 'ENOSPC' });
    t.end();
  },
);

/** Tries until the file takes the write at once. */
function writeNow(disk: SimDisk): void {
  const file = disk.open().openDataFile('data');
  for (let attempt = 0; attempt < 100; attempt += 1)
    if (file.tryWrite(0, [Buffer.from('x')])) return;
  throw new DiskError('EIO', 'it never takes one');
}

await t.test('the same seed gives the same run, and time never goes back', (t) => {
  const run = (seed: number): string => {
    const { scheduler, disk } = makeDisk(seed);
    const file = disk.open().openDataFile('data');
    const events: string[] = [];
    for (let index = 0; index < 20; index += 1)
      file.write(index, [Buffer.from('x')], () => events.push(`${index} at ${scheduler.now}`));
    let last = 0;
    while (scheduler.step()) {
      if (scheduler.now < last) t.fail('time went back');
      last = scheduler.now;
    }
    return events.join();
  };
  t.equal(run(1), run(1));
  t.not(run(1), run(2));
  t.end();
});
