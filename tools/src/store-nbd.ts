/** The program `store-nbd`: serves images of a pool over NBD until it is told to stop. */
import { hostname } from 'node:os';
import {
  checkImageName,
  checkImageSize,
  checkOwnerName,
  checkPoolName,
  crc32cImplementation,
  readRing,
  formatSize,
  ImageCatalog,
  StoreError,
  type ListenAddress,
  type ListeningDescriptor,
  type ObjectPool,
} from '@store/core';
import { FileStore } from '@store/daemon';
import { serveNbd, type Estate, type NbdServer } from '@store/gateway-nbd';
import { attachAdvice, quote } from './attach-advice.js';
import { newProgram } from './common-options.js';
import { Gate } from './gate.js';
import { passedSockets } from './handover/passed-sockets.js';
import { Succession, type Legacy } from './handover/succession.js';
import { ImageExports } from './image-exports.js';
import { metricsAddress } from './metrics/metrics-address.js';
import type { MetricsEndpoint } from './metrics/metrics-endpoint.js';
import { openSecurity, type ServerSecurity } from './nbd-tls/server-security.js';
import { tlsAttachAdvice } from './nbd-tls/tls-attach-advice.js';
import { addTlsFlags } from './nbd-tls/tls-settings.js';
import { withPool, type OpenedStore } from './open-store.js';
import { asUsage, handles, runProgram, type Context } from './program.js';
import { addDaemonFlags } from './reaching/daemon-settings.js';
import { poolFlags, storePlace } from './reaching/store-place.js';
import { addLimitFlags, limitsOf } from './server-limits.js';
import { GuardedStore, ImageGuard } from './serving/image-guard.js';
import { serveOwner, type OwnerServer } from './serving/owner-server.js';
import { SETTINGS } from './settings.js';
import { unlessStopped } from './until-stopped.js';
import { UsageError } from './usage-error.js';
import { withAdvice } from './with-advice.js';

/** How long clients get to finish what is in flight when the server stops. */
const DRAIN_MS = 10_000;
/** How long the user's other programs get. */
const OWNER_DRAIN_MS = 5000;
/** The same while a new process waits for the folder, and clients for it. */
const OWNER_PASS_ON_MS = 200;
/** Without an answer by then the header goes on saying that this host writes to the image. */
const RELEASE_MS = 5000;
/** A block device that waits is better than one that fails: daemons come back. */
const TIMEOUT_SECONDS = 600;

const program = newProgram('store-nbd', 'Serves images over NBD, as block devices for Linux')
  .option(
    '--image <name>',
    'the image to serve, also as the default export (default: all of the pool)',
  )
  .option('--bind <address>', 'address to listen on (default: 127.0.0.1)')
  .option('--port <number>', 'TCP port, 0 for a free one (default: 10809)')
  .option('--socket <path>', 'listen on a Unix socket instead')
  .option('--read-only', 'refuse writes')
  .option('--create [size]', 'create the image if it is not there')
  .option('--size <size>', 'size of the image to create, for example 100M or 4GiB')
  .option('--replace', 'take over from the server that runs on this folder; no client notices')
  .option('--force', 'take an image of a cluster from the host that writes to it')
  .option('--owner <name>', 'who writes to images of a cluster (default: the name of this host)')
  .option('--print-attach', 'print the commands that attach the image')
  .option(
    '--insecure',
    'allow to listen where others can connect, or a daemon elsewhere, unprotected',
  )
  .option('--min-block <size>', 'smallest block for clients that ask, 1 to 4096 (default: 1)')
  .option('--metrics <address>', 'serve /metrics for Prometheus on PORT or HOST:PORT')
  .addHelpText(
    'after',
    `
Every flag can also be given as an environment variable (STORE_POOL for --pool) or in the --config file.

Exports as block devices of this machine: store-nbd attach|detach|ps --help

Example:
  store-nbd --pool testpool --image vm1 --create 10G
  nbd-client localhost 10809 /dev/nbd0 && mkfs.ext4 /dev/nbd0 && mount /dev/nbd0 /mnt`,
  );
addTlsFlags(program);
addDaemonFlags(program, TIMEOUT_SECONDS);
addLimitFlags(program);
const printAttach = () => program.opts()['printAttach'] === true;

await runProgram(handles(program, serve));

async function serve(context: Context): Promise<void> {
  const sockets = passedSockets();
  const address = addressOf(context);
  const image = context.get(SETTINGS.image);
  const pool = context.get(SETTINGS.pool);
  const createBytes = createBytesOf(context, image);
  asUsage(() => {
    checkPoolName(pool);
    if (image !== null) checkImageName(image);
    checkOwnerName(ownerOf(context));
  });
  if (sockets.length > 0 && !isDefault(address))
    throw new UsageError(
      'A socket was passed to this process (LISTEN_FDS) and an address was given; leave out one of them',
    );
  const place = storePlace(context);
  if (place.kind !== 'folder' && context.get(SETTINGS.replace))
    throw new UsageError(
      '--replace is for servers of a folder: with --master or --storage-daemon stop the other one, and start this one then',
    );
  const insecure = context.get(SETTINGS.insecure);
  const security = await openSecurity(context, { address, only: image, insecure });
  const succession = new Succession(context, {
    dir: place.kind === 'folder' ? place.dir : null,
    pool,
    address: isDefault(address) ? null : address,
    replaces: context.get(SETTINGS.replace),
  });
  try {
    let legacy = await succession.claim();
    for (let isFirst = true; isFirst || legacy !== null; isFirst = false) {
      const left = await serveUntilEnd(context, succession, security, {
        address: sockets.length > 0 ? { sockets } : address,
        createBytes,
        legacy,
        isFirst,
      });
      legacy = left === null ? null : await succession.passOn(left);
    }
  } catch (error) {
    await succession.giveUp(error);
    throw error;
  }
  context.log.info({}, 'Stopped');
}

interface Life {
  readonly address: ListenAddress | { readonly sockets: readonly ListeningDescriptor[] };
  readonly createBytes: number | null;
  readonly legacy: Legacy | null;
  readonly isFirst: boolean;
}

/** @returns What the server leaves to the next one; null: it was stopped */
async function serveUntilEnd(
  context: Context,
  succession: Succession,
  security: ServerSecurity,
  { address, createBytes, legacy, isFirst }: Life,
): Promise<Estate | null> {
  const image = context.get(SETTINGS.image);
  const work = async (pool: ObjectPool, store: OpenedStore): Promise<Estate | null> => {
    const catalog = new ImageCatalog(pool, context.env.random);
    const prepare = async (): Promise<void> => {
      if (image === null) return;
      const open = () => exports.prepare(image);
      const making = makeSure(context, catalog, { image, createBytes, open }).then(() => true);
      // What a folder takes is short.
      const isMade =
        store instanceof FileStore ? await making : await unlessStopped(making, context.stop);
      if (isMade === null) throw new StoreError('E_CLOSED', 'Stopped before the storage answered');
    };
    // Clients wait at this gate.
    const gate = new Gate();
    const readOnly = context.get(SETTINGS.readOnly);
    const guard = new ImageGuard((name) => exports.serves(name));
    const exports: ImageExports = new ImageExports(catalog, {
      only: image,
      readOnly,
      ready: gate.passed,
      beforeOpen: (name) => guard.settled(name),
      roles: {
        host: ownerOf(context),
        force: context.get(SETTINGS.force),
        now: () => context.env.clock.wallSeconds(),
        log: context.log,
      },
    });
    // Whoever is replaced must hear that the image cannot be opened before it lets go of its clients. Else nothing is
    // made before it is certain that it can be served.
    if (legacy !== null) await gate.passAfter(prepare);
    const server = await serveNbd(exports, {
      env: context.env,
      address:
        legacy === null || legacy.sockets.length === 0 ? address : { sockets: legacy.sockets },
      // Sockets that were passed or inherited may be open to others than the flags are made for.
      approve: (reached) => security.approve(reached),
      limits: limitsOf(context),
      blockBytesMin: context.get(SETTINGS.minBlock),
      ...security.options,
      ...(legacy === null ? {} : { inherited: legacy.inherited }),
    });
    let metrics: MetricsEndpoint | null;
    try {
      metrics = await startMetrics(context, { server, store, hasClients: legacy !== null });
      if (legacy === null) await gate.passAfter(prepare);
    } catch (error) {
      gate.refuse(error);
      await server.close({ drainMs: 0 });
      await release(context, exports);
      throw error;
    }
    let owner: OwnerServer | null = null;
    try {
      if (store instanceof FileStore) {
        const served = new GuardedStore(store, pool.name, guard);
        owner = await serveOwner(context, context.get(SETTINGS.dir), store, served);
      }
      await succession.began(server);
      context.log.info({ implementation: crc32cImplementation }, 'Computing checksums (CRC-32C)');
      const through = readRing() === null ? 'threads' : 'io_uring';
      context.log.info({ through }, 'Reading the disk');
      if (isFirst) announce(context, server, security, image);
      const left = await succession.end(server, () => exports.flush());
      if (left === null)
        await Promise.all([
          server.close({ drainMs: DRAIN_MS }),
          owner?.close({ drainMs: OWNER_DRAIN_MS }),
        ]);
      else await owner?.close({ drainMs: OWNER_PASS_ON_MS });
      owner = null;
      await release(context, exports);
      await metrics?.close();
      return left;
    } finally {
      await owner?.close({ drainMs: 0 });
    }
  };
  return withPool(context, createBytes !== null, work, {
    patienceMs: legacy?.patienceMs ?? 0,
    joins: false, // who else comes to the folder could not know which images are served here
    timeoutSeconds: TIMEOUT_SECONDS,
  });
}

/** Gives writer roles back, as long as it does not hold up a server that is to end. */
async function release({ env }: Context, exports: ImageExports): Promise<void> {
  await new Promise<void>((resolve) => {
    const timer = env.timers.after(RELEASE_MS, resolve);
    void exports.release().finally(() => {
      timer.cancel();
      resolve();
    });
  });
}

/** Who this server is where it writes. */
function ownerOf(context: Context): string {
  return context.get(SETTINGS.owner) ?? hostname();
}

interface Wanted {
  readonly image: string;
  readonly createBytes: number | null;
  readonly open: () => Promise<void>;
}

/** The image is there, or made if it should be, and can be opened. */
async function makeSure(
  context: Context,
  catalog: ImageCatalog,
  { image, createBytes, open }: Wanted,
): Promise<void> {
  const place = poolFlags(context);
  const advice = {
    E_NOT_FOUND: `see what there is with: store-image ls ${place}; or make it with: store-nbd ${place} --image ${quote(image)} --create 10G`,
  };
  if (createBytes !== null)
    try {
      await catalog.create(image, createBytes);
      context.log.info({ image, size: formatSize(createBytes) }, 'Image created');
    } catch (error) {
      if (!(error instanceof StoreError) || error.code !== 'E_EXISTS') throw error;
      const { size } = await catalog.info(image);
      if (size !== createBytes)
        context.log.warn(
          { image, size: formatSize(size) },
          'The image was there already, with another size',
        );
    }
  await withAdvice(advice, open);
}

function announce(
  context: Context,
  server: NbdServer,
  security: ServerSecurity,
  image: string | null,
): void {
  const uri = security.uri(server.uri(''));
  context.print(context.get(SETTINGS.json) ? JSON.stringify({ uri }) : uri);
  if (image === null)
    context.log.info(
      { example: security.uri(server.uri('NAME')) },
      'Every image of the pool is an export: add its name to the URI',
    );
  if (printAttach())
    context.print(security.needsTls ? tlsAttachAdvice(uri) : attachAdvice(server.address, uri));
}

interface Watched {
  readonly server: NbdServer;
  readonly store: OpenedStore;
  /** Who took over clients does not drop them because nobody can watch. */
  readonly hasClients: boolean;
}

async function startMetrics(context: Context, watched: Watched): Promise<MetricsEndpoint | null> {
  try {
    return await serveMetricsOf(context, watched);
  } catch (error) {
    if (!watched.hasClients || !(error instanceof StoreError)) throw error;
    context.log.error({ code: error.code }, `No metrics are served: ${error.message}`);
    return null;
  }
}

async function serveMetricsOf(
  context: Context,
  { server, store }: Watched,
): Promise<MetricsEndpoint | null> {
  const text = context.get(SETTINGS.metrics);
  if (text === null) return null;
  const address = metricsAddress(text);
  // Most servers need none of it.
  const { serveMetrics } = await import('./metrics/metrics-endpoint.js');
  const { nbdSource } = await import('./metrics/nbd-metrics.js');
  const remote = store instanceof FileStore ? null : store;
  const source = nbdSource(() => server.state(), remote);
  const endpoint = await serveMetrics(address, source, context.log);
  context.log.info({ url: endpoint.url }, 'Serving metrics');
  return endpoint;
}

function addressOf(context: Context): ListenAddress {
  const path = context.get(SETTINGS.socket);
  const address = { host: context.get(SETTINGS.bind), port: context.get(SETTINGS.port) };
  if (path === null) return address;
  if (!isDefault(address))
    throw new UsageError('--socket excludes --bind and --port; leave out one or the other');
  return { path };
}

/** Nobody said where to listen. */
function isDefault(address: ListenAddress): boolean {
  const { bind, port } = SETTINGS;
  return 'host' in address && address.host === bind.fallback && address.port === port.fallback;
}

/** Null: nothing is to be created. */
function createBytesOf(context: Context, image: string | null): number | null {
  const create = context.get(SETTINGS.create);
  if (create === false) return null;
  const size = context.get(SETTINGS.size);
  if (create !== true && size !== null && size !== create)
    throw new UsageError('--create and --size name two sizes; give one of them');
  const bytes = create === true ? size : create;
  if (image === null)
    throw new UsageError('--create needs the name of the image; add --image NAME');
  if (bytes === null) throw new UsageError('--create needs a size; write for example --create 10G');
  if (context.get(SETTINGS.readOnly))
    throw new UsageError('--create and --read-only exclude each other');
  asUsage(() => checkImageSize(bytes));
  return bytes;
}
