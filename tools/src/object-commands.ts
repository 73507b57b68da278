/** `store write`, `read`, `rm`, `ls` and `stat`: the objects of a pool, from and to files and pipes. */
import { createReadStream } from 'node:fs';
import {
  checkPoolName,
  choiceSetting,
  formatSize,
  LIST_PAGE_MAX,
  messageOf,
  numberSetting,
  OBJECT_BYTES,
  OBJECT_KIND,
  ObjectRef,
  promised,
  StoreError,
  textSetting,
  WRITE_FLAGS,
  type ListOptions,
  type ObjectPool,
  type ObjectStat,
} from '@store/core';
import type { Command } from 'commander';
import { COMMAND_TIMEOUT_SECONDS, withPool } from './open-store.js';
import {
  KIND_NAMES,
  kindOf,
  objectFacts,
  objectTable,
  type ListedObject,
} from './print-objects.js';
import { asUsage, handles, type Context } from './program.js';
import { addDaemonFlags } from './reaching/daemon-settings.js';
import { SETTINGS } from './settings.js';
import { UsageError } from './usage-error.js';

const offsetSetting = numberSetting('offset', {
  min: 0,
  max: Number.MAX_SAFE_INTEGER,
  fallback: 0,
});
const lengthSetting = numberSetting('length', {
  min: 0,
  max: Number.MAX_SAFE_INTEGER,
  fallback: Number.MAX_SAFE_INTEGER,
});
const prefixSetting = textSetting('prefix', null);
const kindSetting = choiceSetting('kind', [...KIND_NAMES, 'all'] as const, 'object');
const STANDARD_INPUT = 0;
/** Somebody else was faster each time: then there are very many of them. */
const ATTEMPTS_MAX = 100;

/** Adds the commands to `program`. */
export function addObjectCommands(program: Command): void {
  const write = program
    .command('write')
    .description('store bytes as an object; without --offset they replace what it held')
    .argument('<key>', 'name of the object')
    .option('--data-literal <text>', 'the bytes, as text')
    .option('--data-file <path>', 'the file that holds the bytes; - is standard input')
    .option('--offset <bytes>', 'write into the object, from this byte on')
    .addHelpText(
      'after',
      '\nExample:\n  store write --pool testpool passwd --data-file /etc/passwd',
    );
  addPlaceFlags(write);
  handles(write, async (context, [key = '']) => {
    const ref = asUsage(() => plainRef(context, key));
    const offset = context.get(offsetSetting);
    const replaces = write.opts()['offset'] === undefined;
    const bytes = await bytesToWrite(write);
    await withPool(context, true, async (pool) => {
      if (offset + bytes.length > pool.objectBytes)
        throw new StoreError(
          'E_INVALID',
          `An object has at most ${formatSize(pool.objectBytes)}, and this would end at byte ${offset + bytes.length} or later; write less, or use an image`,
        );
      if (replaces) await replace(pool, ref, bytes);
      else {
        await refuseImage(pool, ref);
        await promised((done) => pool.write(ref, offset, [bytes], WRITE_FLAGS.durable, done));
      }
    });
  });

  const read = program
    .command('read')
    .description('print the bytes of an object')
    .argument('<key>', 'name of the object')
    .option('--offset <bytes>', 'from this byte on')
    .option('--length <bytes>', 'at most so many')
    .addHelpText(
      'after',
      '\nExample:\n  store read --pool testpool passwd --offset 20 --length 40',
    );
  addPlaceFlags(read);
  handles(read, async (context, [key = '']) => {
    const ref = asUsage(() => plainRef(context, key));
    const from = context.get(offsetSetting);
    const wanted = context.get(lengthSetting);
    await withPool(context, false, async (pool) => {
      process.stdout.write(await bytesOf(pool, ref, from, wanted));
    });
  });
  addRemove(program);
  addList(program);
  addStat(program);
}

function addRemove(program: Command): void {
  const rm = program
    .command('rm')
    .description('remove an object; it cannot be undone')
    .argument('<key>', 'name of the object')
    .addHelpText('after', '\nExample:\n  store rm --pool testpool testobj');
  addPlaceFlags(rm);
  handles(rm, async (context, [key = '']) => {
    const ref = asUsage(() => plainRef(context, key));
    await withPool(context, false, async (pool) => {
      if ((await refuseImage(pool, ref)) === 0 || !(await pool.delete(ref)))
        throw noSuchObject(pool, ref);
    });
    context.print(
      context.get(SETTINGS.json) ? JSON.stringify({ removed: key }) : `Removed object '${key}'`,
    );
  });
}

function addList(program: Command): void {
  const ls = program
    .command('ls')
    .description('list the objects of a pool')
    .option('--prefix <text>', 'only those whose name begins so')
    .option('--kind <kind>', 'object, image (headers of images), data (of images) or all')
    .addHelpText('after', '\nExample:\n  store ls --pool testpool --prefix logs/');
  addPlaceFlags(ls);
  handles(ls, async (context) => {
    const prefix = context.get(prefixSetting);
    const kind = context.get(kindSetting);
    asUsage(() => checkPoolName(context.get(SETTINGS.pool)));
    const found = await withPool(context, false, (pool) =>
      listObjects(pool, {
        limit: LIST_PAGE_MAX,
        ...(prefix === null ? {} : { prefix: Buffer.from(prefix) }),
        ...(kind === 'all' ? {} : { kind: kindOf(kind) }),
      }),
    );
    context.print(
      context.get(SETTINGS.json) ? JSON.stringify(found.map(objectFacts)) : objectTable(found),
    );
  });
}

function addStat(program: Command): void {
  const command = program
    .command('stat')
    .description('say how large an object is, and of what kind')
    .argument('<key>', 'name of the object')
    .addHelpText('after', '\nExample:\n  store stat --pool testpool testobj');
  addPlaceFlags(command);
  handles(command, async (context, [key = '']) => {
    const ref = asUsage(() => plainRef(context, key));
    const stat = await withPool(context, false, (pool) => existing(pool, ref));
    const facts = objectFacts({ key: ref.key, stat });
    context.print(
      context.get(SETTINGS.json)
        ? JSON.stringify(facts)
        : Object.entries(facts)
            .map(([name, value]) => `${name.padEnd(14)}  ${String(value)}`)
            .join('\n'),
    );
  });
}

function addPlaceFlags(command: Command): void {
  addDaemonFlags(command, COMMAND_TIMEOUT_SECONDS).option(
    '--insecure',
    'allow a daemon on another machine without TLS: all goes in the clear',
  );
}

/** Everything that `options` asks for, in the order of the keys. */
async function listObjects(pool: ObjectPool, options: ListOptions): Promise<ListedObject[]> {
  const found: ListedObject[] = [];
  for (let cursor: Buffer | undefined; ;) {
    const page = await pool.list({ ...options, ...(cursor === undefined ? {} : { cursor }) });
    for (const entry of page.entries) found.push(entry);
    cursor = page.cursor;
    if (cursor === undefined) return found.sort((a, b) => a.key.compare(b.key));
  }
}

async function existing(pool: ObjectPool, ref: ObjectRef): Promise<ObjectStat> {
  const stat = await pool.stat(ref);
  if (stat === null) throw noSuchObject(pool, ref);
  return stat;
}

function noSuchObject(pool: ObjectPool, { key }: ObjectRef): StoreError {
  return new StoreError(
    'E_NOT_FOUND',
    `There is no object '${key.toString()}' in pool '${pool.name}'; see what there is with: store ls`,
  );
}

function plainRef(context: Context, key: string): ObjectRef {
  checkPoolName(context.get(SETTINGS.pool));
  return new ObjectRef(OBJECT_KIND.plain, key);
}

/**
 * At most `wanted` bytes from `from` on, as they were at one moment: what is replaced between the look at its length and
 * the read is looked at again.
 */
async function bytesOf(
  pool: ObjectPool,
  ref: ObjectRef,
  from: number,
  wanted: number,
): Promise<Buffer> {
  for (let attempt = 1; attempt <= ATTEMPTS_MAX; attempt += 1) {
    const { length, version } = await existing(pool, ref);
    const offset = Math.min(from, length);
    const target = Buffer.alloc(Math.min(length - offset, wanted));
    await promised((done) => pool.read(ref, offset, target, done));
    if ((await pool.stat(ref))?.version === version) return target;
  }
  throw new StoreError(
    'E_VERSION',
    `Object '${ref.key.toString()}' changes all the time; try again when it is written less`,
  );
}

/**
 * Makes `bytes` the whole object; of several who do so at once each is the last one at some moment, and nobody ever
 * sees a mixture or nothing.
 */
async function replace(pool: ObjectPool, ref: ObjectRef, bytes: Buffer): Promise<void> {
  for (let attempt = 1; ; attempt += 1) {
    const version = await refuseImage(pool, ref);
    try {
      await pool.compareAndSwap(ref, version, bytes);
      return;
    } catch (error) {
      if (!(error instanceof StoreError)) throw error;
      if (error.code === 'E_IN_DOUBT' && (await holds(pool, ref, bytes))) return;
      const isWorthAnother = error.code === 'E_IN_DOUBT' || error.code === 'E_VERSION';
      if (!isWorthAnother || attempt === ATTEMPTS_MAX) throw error;
    }
  }
}

async function holds(pool: ObjectPool, ref: ObjectRef, bytes: Buffer): Promise<boolean> {
  const stat = await pool.stat(ref);
  if (stat?.length !== bytes.length) return false;
  const stored = Buffer.alloc(bytes.length);
  await promised((done) => pool.read(ref, 0, stored, done));
  return stored.equals(bytes);
}

/** @returns The version of the object, 0 if there is none. */
async function refuseImage(pool: ObjectPool, ref: ObjectRef): Promise<number> {
  const stat = await pool.stat(ref);
  if (stat !== null && stat.kind !== OBJECT_KIND.plain)
    throw new StoreError(
      'E_EXISTS',
      `'${ref.key.toString()}' is an image; choose another name, or use store-nbd and store-image`,
    );
  return stat?.version ?? 0;
}

async function bytesToWrite(command: Command): Promise<Buffer> {
  const { dataLiteral, dataFile } = command.opts<{ dataLiteral?: string; dataFile?: string }>();
  if ((dataLiteral === undefined) === (dataFile === undefined))
    throw new UsageError('Give the bytes with either --data-literal or --data-file');
  if (dataLiteral !== undefined) return Buffer.from(dataLiteral);
  try {
    return await readAtMost(dataFile ?? '-', OBJECT_BYTES + 1);
  } catch (error) {
    throw new StoreError('E_SYSTEM', `Cannot read the bytes to write: ${messageOf(error)}`, {
      cause: error,
    });
  }
}

/** The first `bytesMax` bytes of a file or pipe: an endless one must not fill the memory before it is refused. */
async function readAtMost(path: string, bytesMax: number): Promise<Buffer> {
  const end = bytesMax - 1;
  const stream =
    path === '-'
      ? createReadStream('', { fd: STANDARD_INPUT, end })
      : createReadStream(path, { end });
  const chunks: Buffer[] = [];
  for await (const chunk of stream) chunks.push(chunk as Buffer); // no encoding is set
  return Buffer.concat(chunks);
}
