/** `store file-store`: the storage daemon, which serves a folder over the network until it is told to stop. */
import type { ListenOptions } from '@store/core';
import { DaemonServer, openFileStore, type FileStore } from '@store/daemon';
import type { Command } from 'commander';
import { sdNotify } from './handover/sd-notify.js';
import { formatHostPort, type HostPort } from './host-port.js';
import type { DaemonState } from './metrics/daemon-metrics.js';
import { metricsAddress } from './metrics/metrics-address.js';
import type { MetricsEndpoint } from './metrics/metrics-endpoint.js';
import { onHangup } from './nbd-tls/on-hangup.js';
import { listenForOwner } from './owner-socket.js';
import { dieOf, dieOfDisk, handles, type Context } from './program.js';
import { ClusterPart } from './serving/cluster-part.js';
import { DaemonSecurity } from './serving/daemon-security.js';
import {
  addFileStoreFlags,
  fileStoreGiven,
  type FileStoreGiven,
} from './serving/file-store-settings.js';
import { SETTINGS } from './settings.js';
import { untilStopped } from './until-stopped.js';

/** How long clients get to finish what is in flight when the daemon stops. */
const DRAIN_MS = 10_000;

/** Adds the command to `program`. */
export function addFileStoreCommand(program: Command): void {
  const command = program
    .command('file-store')
    .description('the storage daemon: serves a folder over the network')
    .addHelpText(
      'after',
      `
On this machine programs get in as they are, unless there is a secret. From other machines they need TLS and a
ticket: store cert --help, store key --help. SIGHUP reads certificates, secrets and the blocklist again.

With --master it is a part of a cluster, whose master gives it secrets of pools and says what it holds.

Example:
  store file-store --dir /srv/disk1 --master 127.0.0.1:4000 --listen-address 127.0.0.1:4148
  store file-store --dir /srv/store --listen-address 0.0.0.0:4148 \\
    --listen-cert storage1.crt --listen-key storage1.key --secret testpool.secret
  store write --storage-daemon 127.0.0.1:4148 --pool testpool testobj --data-literal "hello world"`,
    );
  addFileStoreFlags(command);
  handles(command, (context) => serve(context, fileStoreGiven(context, command)));
}

async function serve(context: Context, given: FileStoreGiven): Promise<void> {
  const { env, log } = context;
  const dir = context.get(SETTINGS.dir);
  const security = await DaemonSecurity.open(given, log);
  const store = await openFileStore(env, dir, {
    create: true,
    // Nothing can be promised any more, not even what is in memory: the next start knows what is on disk.
    onFailure: (error) => dieOfDisk(log, error),
  });
  const { diskId, startId, lineage } = store;
  const part = await partOf(context, given, store, security);
  const server = new DaemonServer({
    env,
    store: part?.store ?? store,
    identity: { diskId, startId, lineage },
    door: security.door,
    datagramBytes: given.datagramBytes,
    defect: (error) => dieOf(log, error),
  });
  onHangup(() => security.reload(server));
  let closeOwnerSocket = (): void => undefined;
  let metrics: MetricsEndpoint | null = null;
  try {
    const { peer, listen: place } = given;
    const ways = { alsoLocally: !given.tcpOnly };
    const address = await listen(server, place, 'listen', ways);
    const peerAddress =
      peer === null ? null : await listenForPeers(part, server, peer.address, ways);
    await part?.join(server, { address, peerAddress });
    closeOwnerSocket = await listenForOwner(context, server, dir);
    metrics = await serveMetricsOf(context, () => ({
      store: store.state(),
      server: server.state(),
      replication: part?.replicationState() ?? null,
    }));
    if (!context.stop.aborted) announce(context, { address, peerAddress, dir });
    await untilStopped(context.stop);
    sdNotify({ STOPPING: '1' }, log);
    await part?.leave();
  } finally {
    // Nobody has come in yet if starting failed.
    await server.close({ drainMs: DRAIN_MS });
    // What clients wait for may need other daemons until then.
    await part?.close();
    await metrics?.close();
    closeOwnerSocket();
    await store.close(); // what was answered is on the disk when this is over
  }
  log.info({}, 'Stopped');
}

async function partOf(
  context: Context,
  given: FileStoreGiven,
  store: FileStore,
  security: DaemonSecurity,
): Promise<ClusterPart | null> {
  try {
    return ClusterPart.of(context, given, store, security);
  } catch (error) {
    await store.close();
    throw error;
  }
}

async function serveMetricsOf(
  context: Context,
  state: () => DaemonState,
): Promise<MetricsEndpoint | null> {
  const text = context.get(SETTINGS.metrics);
  if (text === null) return null;
  const address = metricsAddress(text);
  // Most daemons are started without.
  const { serveMetrics } = await import('./metrics/metrics-endpoint.js');
  const { daemonRegistry } = await import('./metrics/daemon-metrics.js');
  const endpoint = await serveMetrics(
    address,
    { registry: daemonRegistry(state), pages: {} },
    context.log,
  );
  context.log.info({ url: endpoint.url }, 'Serving metrics');
  return endpoint;
}

interface Places {
  readonly address: string;
  readonly peerAddress: string | null;
  readonly dir: string;
}

function announce(context: Context, places: Places): void {
  const { address } = places;
  context.print(context.get(SETTINGS.json) ? JSON.stringify(places) : address);
  context.log.info({ ...places }, 'Serving');
  const state = { READY: '1', MAINPID: String(process.pid), STATUS: `Serving on ${address}` };
  sdNotify(state, context.log);
}

/** In a cluster other daemons connect there; else whoever has a certificate may read. */
function listenForPeers(
  part: ClusterPart | null,
  server: DaemonServer,
  address: HostPort,
  ways: ListenOptions,
): Promise<string> {
  return part === null ? listen(server, address, 'peer', ways) : part.listen(address, ways);
}

async function listen(
  server: DaemonServer,
  address: HostPort,
  entrance: 'listen' | 'peer',
  ways: ListenOptions,
): Promise<string> {
  const bound = await server.listen(address, entrance, ways);
  return 'host' in bound ? formatHostPort(bound) : bound.path;
}
