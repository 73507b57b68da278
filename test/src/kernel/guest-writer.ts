/**
 * Runs in the guest: writes files to /mnt, syncs each one and its folder, and only then notes its hash in a file in
 * memory. Everything noted must be there in the end, whatever happened meanwhile. Every error is counted and told.
 * Stops when /tmp/stop is there. On the console: `@@ synced COUNT`, whenever that has changed for a while.
 */
import { createHash, randomBytes } from 'node:crypto';
import { appendFileSync, existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { open, unlink } from 'node:fs/promises';

const FOLDER = '/mnt/written';
const NOTES = '/tmp/notes';
const STREAMS = 3;
const FILE_BYTES_MAX = 96 * 1024;
const TELL_MS = 100;
const ERRORS_MAX = 20;

let synced = 0;
let told = 0;
let errors = 0;

const isOver = (): boolean => existsSync('/tmp/stop') || errors >= ERRORS_MAX;

/** New files, one after the other. */
async function writeFiles(stream: number): Promise<void> {
  for (let count = 0; !isOver(); count += 1) {
    const path = `${FOLDER}/${stream}-${count}`;
    const bytes = randomBytes(1 + (randomBytes(4).readUInt32LE() % FILE_BYTES_MAX));
    await attempt(path, async () => {
      const file = await open(path, 'w');
      try {
        await file.writeFile(bytes);
        await file.sync();
      } finally {
        await file.close();
      }
      await syncFolder();
      note(bytes, path);
    });
  }
}

/** One large file that is written without a sync, again and again: requests are always in flight. */
async function writeWithoutSync(): Promise<void> {
  const path = '/mnt/unsynced';
  const bytes = randomBytes(1024 ** 2);
  for (let round = 0; !isOver(); round += 1)
    await attempt(path, async () => {
      const file = await open(path, 'w');
      try {
        for (let at = 0; at < 8 && !isOver(); at += 1) await file.write(bytes, 0, bytes.length);
        if (round % 4 === 3) await file.datasync();
      } finally {
        await file.close();
      }
      if (round % 8 === 7) await unlink(path);
    });
}

async function syncFolder(): Promise<void> {
  const folder = await open(FOLDER, 'r');
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}

function note(bytes: Buffer, path: string): void {
  appendFileSync(NOTES, `${createHash('sha256').update(bytes).digest('hex')}  ${path}\n`);
  synced += 1;
}

async function attempt(path: string, work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (error) {
    errors += 1;
    process.stdout.write(`@@ writer error on ${path}: ${String(error)}\n`);
  }
}

function tell(): void {
  if (synced === told) return;
  told = synced;
  process.stdout.write(`@@ synced ${synced}\n`);
}

mkdirSync(FOLDER, { recursive: true });
const telling = setInterval(tell, TELL_MS);
await Promise.all([
  ...Array.from({ length: STREAMS }, (_, stream) => writeFiles(stream)),
  writeWithoutSync(),
]);
clearInterval(telling);
tell();
writeFileSync('/tmp/writer-errors', `${errors}\n`);
