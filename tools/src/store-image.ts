/** The program `store-image`: creates, lists, shows, resizes and removes images. */
import {
  checkImageName,
  checkImageSize,
  checkPoolName,
  formatSize,
  ImageCatalog,
  momentText,
  StoreError,
  type ErrorCode,
  type ImageInfo,
} from '@store/core';
import { NBD_PORT, nbdUri } from '@store/gateway-nbd';
import type { Command } from 'commander';
import { quote } from './attach-advice.js';
import { newProgram } from './common-options.js';
import { imageTable } from './image-table.js';
import { COMMAND_TIMEOUT_SECONDS, withPool } from './open-store.js';
import { asUsage, handles, runProgram, type Context } from './program.js';
import { ProgressBar } from './progress-bar.js';
import { addDaemonFlags } from './reaching/daemon-settings.js';
import { poolFlags } from './reaching/store-place.js';
import { DEFAULT_IMAGE, SETTINGS } from './settings.js';
import { UsageError } from './usage-error.js';
import { withAdvice } from './with-advice.js';

/** Of what takes an image away. */
const FORCE_TEXT =
  'also if a server of the cluster writes to it: its clients cannot write any more';

const program = newProgram('store-image', 'Manages images: virtual disks in a pool')
  .option('--image <name>', 'the image, where no name is given (default: default)')
  .option('--insecure', 'allow a daemon on another machine without TLS: all goes in the clear')
  .addHelpText(
    'after',
    `
Every flag can also be given as an environment variable (STORE_POOL for --pool) or in the --config file.

Example:
  store-image create --pool testpool vm1 --size 100M
  store-image ls --pool testpool`,
  );
addDaemonFlags(program, COMMAND_TIMEOUT_SECONDS);

imageCommand('create', 'make an empty image; it takes no space until it is written to', create)
  .option('--size <size>', 'for example 100M, 4GiB or 1T')
  .addHelpText('after', '\nExample:\n  store-image create vm1 --size 10G');
handles(
  program
    .command('ls')
    .description('list the images of a pool')
    .addHelpText('after', '\nExample:\n  store-image ls --pool testpool --json'),
  list,
);
imageCommand('info', 'show an image and how to reach it', info).addHelpText(
  'after',
  '\nExample:\n  store-image info vm1',
);
const resizeCommand = imageCommand(
  'resize',
  'change the size of an image; to make it smaller, nobody may write to it',
  resize,
)
  .option('--size <size>', 'the new size')
  .option('--shrink', 'allow a smaller size: what lies behind the new end is lost')
  .option('--force', FORCE_TEXT)
  .addHelpText('after', '\nExample:\n  store-image resize vm1 --size 20G');
const removeCommand = imageCommand(
  'rm',
  'remove an image and its data; it cannot be undone',
  remove,
)
  .option('--force', FORCE_TEXT)
  .addHelpText('after', '\nExample:\n  store-image rm vm1');
imageCommand(
  'upgrade',
  'give an image with the 8-byte header of older versions a full one',
  upgrade,
).addHelpText('after', '\nExample:\n  store-image upgrade testblock');

await runProgram(program);

type ImageWork = (context: Context, catalog: ImageCatalog, name: string) => Promise<void>;

interface ImageHandler {
  /** Makes folder and pool if they are missing. */
  readonly creates: boolean;
  /** Looks at the flags before anything is opened. */
  readonly check?: (context: Context) => void;
  readonly needsName?: boolean;
  readonly work: ImageWork;
}

/** A command about one image: named by a positional argument, `--image`, or not at all. */
function imageCommand(name: string, description: string, handler: () => ImageHandler): Command {
  const command = program.command(name).description(description).argument('[name]', 'the image');
  return handles(command, async (context, [positional]) => {
    const { creates, check, needsName, work } = handler();
    const flag = context.get(SETTINGS.image);
    if (needsName === true && positional === undefined && flag === null)
      throw new UsageError(`Say which image: store-image ${name} NAME`);
    const image = positional ?? flag ?? DEFAULT_IMAGE;
    const pool = context.get(SETTINGS.pool);
    asUsage(() => {
      checkImageName(image);
      checkPoolName(pool);
      check?.(context);
    });
    await withPool(context, creates, async (opened) => {
      const catalog = new ImageCatalog(opened, context.env.random);
      await withAdvice(adviceOn(context, image), () => work(context, catalog, image));
    });
  });
}

function adviceOn(context: Context, image: string): Partial<Record<ErrorCode, string>> {
  const place = poolFlags(context);
  return {
    E_NOT_FOUND: `see what there is with: store-image ls ${place}`,
    E_EXISTS: `choose another name, or remove it with: store-image rm ${place} ${quote(image)}`,
  };
}

function create(): ImageHandler {
  return {
    creates: true,
    check: (context) => checkImageSize(sizeOf(context)),
    work: async (context, catalog, name) => {
      const made = await catalog.create(name, sizeOf(context));
      const pool = context.get(SETTINGS.pool);
      if (context.get(SETTINGS.json)) context.print(JSON.stringify(made));
      else context.print(`Created image '${name}' of ${formatSize(made.size)} in pool '${pool}'`);
    },
  };
}

async function list(context: Context): Promise<void> {
  await withPool(context, false, async (pool) => {
    const images = await new ImageCatalog(pool, context.env.random).list();
    if (context.get(SETTINGS.json)) context.print(JSON.stringify(images));
    else context.print(imageTable(images));
  });
}

function info(): ImageHandler {
  return {
    creates: false,
    work: async (context, catalog, name) => {
      const image = await catalog.info(name);
      const allocatedBytes = await catalog.allocatedBytes(name);
      const uri = nbdUri({ host: '127.0.0.1', port: NBD_PORT }, name);
      if (context.get(SETTINGS.json)) {
        context.print(JSON.stringify({ ...image, allocatedBytes, uri }));
        return;
      }
      const place = poolFlags(context);
      const older = image.kind === 'ancestor' ? ' (8-byte header; see store-image upgrade)' : '';
      context.print(
        [
          `name       ${name}`,
          `size       ${formatSize(image.size)} (${image.size} bytes)`,
          `allocated  ${formatSize(allocatedBytes)}`,
          `objects    ${formatSize(image.objectBytes)} each`,
          `state      ${image.state}${older}`,
          `id         ${image.id}`,
          ...writerLines(image),
          `serve      store-nbd ${place} --image ${quote(name)}`,
          `then       ${uri}`,
        ].join('\n'),
      );
    },
  };
}

/** Of an image of a cluster, while somebody writes to it. */
function writerLines({ writer }: ImageInfo): string[] {
  const owner = writer?.owner ?? null;
  if (writer === null || owner === null) return [];
  const { since, state } = writer;
  const pending = state === 'pending' ? ' (taking over)' : '';
  return [`writer     ${owner.host}, as '${owner.name}', since ${momentText(since)}${pending}`];
}

function resize(): ImageHandler {
  return {
    creates: false,
    check: (context) => checkImageSize(sizeOf(context)),
    work: async (context, catalog, name) => {
      const size = sizeOf(context);
      const before = await catalog.info(name);
      if (size < before.size && resizeCommand.opts()['shrink'] !== true)
        throw new UsageError(
          `Image '${name}' has ${formatSize(before.size)}; add --shrink to lose what lies behind ${formatSize(size)}`,
        );
      const after = await withBar(context, 'Shrinking', (onProgress) =>
        catalog.resize(name, size, { onProgress, force: isForced(resizeCommand) }),
      );
      if (context.get(SETTINGS.json)) context.print(JSON.stringify(after));
      else context.print(`Image '${name}' now has ${formatSize(after.size)}`);
    },
  };
}

function remove(): ImageHandler {
  return {
    creates: false,
    needsName: true,
    work: async (context, catalog, name) => {
      const force = isForced(removeCommand);
      await withBar(context, 'Removing', (onProgress) =>
        catalog.remove(name, { onProgress, force }),
      );
      if (context.get(SETTINGS.json)) context.print(JSON.stringify({ removed: name }));
      else context.print(`Removed image '${name}'`);
    },
  };
}

function upgrade(): ImageHandler {
  return {
    creates: false,
    work: async (context, catalog, name) => {
      const upgraded = await catalog.upgrade(name);
      if (context.get(SETTINGS.json)) context.print(JSON.stringify(upgraded));
      else context.print(`Image '${name}' has a full header`);
    },
  };
}

/** Said on the command line, nowhere else: what a file or the environment says is meant for other programs. */
function isForced(command: Command): boolean {
  return command.opts()['force'] === true;
}

function sizeOf(context: Context): number {
  const size = context.get(SETTINGS.size);
  if (size === null) throw new UsageError('Say how large: --size 100M');
  return size;
}

/** Shows how far `work` is; stops it between two steps after a signal. */
async function withBar<T>(
  context: Context,
  label: string,
  work: (onProgress: (done: number, total: number) => void) => Promise<T>,
): Promise<T> {
  const bar = new ProgressBar(label, context.env.clock);
  try {
    return await work((done, total) => {
      if (context.stop.aborted)
        throw new StoreError('E_CLOSED', 'Interrupted; run the same command again to finish');
      bar.update(done, total);
    });
  } finally {
    bar.finish();
  }
}
