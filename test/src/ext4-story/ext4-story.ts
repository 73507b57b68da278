/**
 * The life of a filesystem whose server has trouble: ext4 is made and mounted, a program writes files and syncs each,
 * the trouble comes again and again. No error may reach the program, the filesystem stays writable, and everything synced
 * is there, also after unmounting and mounting (before that, much would be read from memory).
 */
import { readFileSync } from 'node:fs';
import { basename } from 'node:path';
import type { Test } from 'tap';
import { run } from '../host/command.js';
import { FileWriter } from './file-writer.js';

/** Anything that shows an export as a block device and mounts it. */
export interface Disk {
  readonly device: string;
  readonly mountPoint: string;
  mount(): Promise<void>;
  unmount(): Promise<void>;
  detach(): Promise<void>;
}

export interface Trouble {
  readonly rounds: number;
  /** Comes while the writer writes; returns when the server serves again. */
  cause(round: number): Promise<void>;
}

/** The reconnecting clients double their pauses, up to 16 s. */
const GOES_ON_MS = 60_000;

/** Tells the story to its end, and detaches the disk. */
export async function ext4Story(t: Test, disk: Disk, trouble: Trouble): Promise<void> {
  await run('mkfs.ext4', ['-q', '-F', disk.device]);
  await disk.mount();
  const writer = new FileWriter(disk.mountPoint);
  const writing = writer.run();
  const pausesMs: number[] = [];
  for (let round = 0; round < trouble.rounds && writer.error === null; round += 1) {
    await trouble.cause(round);
    const servesAtMs = performance.now();
    await writer.goesOn(GOES_ON_MS);
    pausesMs.push(Math.round(performance.now() - servesAtMs));
  }
  writer.stop();
  await writing;
  pausesMs.sort((a, b) => a - b);
  t.comment(
    `from serving again to two more synced files: median ${pausesMs[pausesMs.length >> 1]} ms, worst ${pausesMs.at(-1)} ms`,
  );
  t.equal(writer.error, null, `${writer.count} files were written and synced`);
  t.equal(pausesMs.length, trouble.rounds, `the writer went on ${trouble.rounds} times`);
  t.match(
    await run('findmnt', ['-no', 'OPTIONS', disk.mountPoint]),
    /^rw,/,
    'it is still mounted read-write',
  );
  t.equal(errorCount(disk), 0, 'the filesystem counted no error');
  t.same(writer.lost(), [], 'all files hold what was written');
  await disk.unmount();
  await disk.mount();
  t.same(writer.lost(), [], 'after mounting again too');
  await disk.unmount();
  await run('e2fsck', ['-f', '-n', disk.device]);
  await disk.detach();
}

/** What the kernel's ext4 driver counted since the filesystem was made. */
function errorCount(disk: Disk): number {
  return Number(readFileSync(`/sys/fs/ext4/${basename(disk.device)}/errors_count`, 'utf8'));
}
