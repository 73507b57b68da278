/** `store master`: the memory of a cluster, until it is told to stop. */
import { hostname } from 'node:os';
import { existsSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { makeFolder, messageOf, StoreError, type Log } from '@store/core';
import { createClient, HttpServer, Master, newCluster, type NewCluster } from '@store/master';
import type { Command } from 'commander';
import { sdNotify } from '../handover/sd-notify.js';
import { formatHostPort, type HostPort } from '../host-port.js';
import { isLoopback } from '../loopback.js';
import { onHangup } from '../nbd-tls/on-hangup.js';
import { dieOf, handles, type Context } from '../program.js';
import { readTextFile } from '../read-text-file.js';
import { SETTINGS } from '../settings.js';
import { untilStopped } from '../until-stopped.js';
import { UsageError } from '../usage-error.js';
import { PRIVATE_MODE } from '../write-new-file.js';
import { addRecoverCommand } from './recover-command.js';
import { MasterTls } from './master-tls.js';
import { openState } from './open-state.js';
import { addMasterServerFlags, masterGiven, type MasterGiven } from './master-settings.js';

/** Others take over from a leader that died after so long. */
const TTL_MS = 2000;
const ADMIN = 'admin';
const ADMIN_KEY_FILE = 'admin.key';
const TOKEN_FILE_BYTES_MAX = 4096;
const TOKEN_BYTES_MIN = 16;
const FOR_OTHERS = 0o007;
const PRIVATE_FOLDER_MODE = 0o700;

/** Adds the command to `program`. */
export function addMasterCommand(program: Command): void {
  const command = program
    .command('master')
    .description('the memory of a cluster: its daemons, pools, clients and the storage map')
    .addHelpText(
      'after',
      `
Daemons connect to the peer address, clients to the listen address. Without certificates only this machine can
connect, and everybody on it may do everything. With them, clients need a key: the first one, of an administrator,
is written to admin.key in the --state-dir. SIGHUP reads the certificates again.

Example, on one machine:
  store master --http 127.0.0.1:4080
  store file-store --dir disk1 --master 127.0.0.1:4000
  store status --master 127.0.0.1:4010

Example, with certificates (store cert --help):
  store master --peer-address 0.0.0.0:4000 --peer-cert master1.crt --peer-key master1.key \\
    --peer-ca-cert ca.crt --listen-address 0.0.0.0:4010 --state-dir /var/lib/store-master`,
    );
  addMasterServerFlags(command);
  handles(command, (context) => serve(context, masterGiven(context)));
  addRecoverCommand(command);
}

async function serve(context: Context, given: MasterGiven): Promise<void> {
  const { env, log } = context;
  const tls = await MasterTls.open(given, log);
  warn(given, log);
  const store = await openState(context, given);
  const master = new Master({
    env,
    store,
    listenTls: tls.listen,
    peerTls: tls.peer,
    insecure: given.insecure,
    begin: () => beginCluster(context, given),
    ttlMs: TTL_MS,
    defect: (error) => dieOf(log, error),
  });
  onHangup(() => tls.reload());
  let http: HttpServer | null = null;
  try {
    http = await serveHttp(context, given, master);
    const peer = boundOf(await master.listen(given.peer, 'peer'));
    const listen = boundOf(await master.listen(given.listen, 'listen'));
    const places = {
      peer: advertised(peer, given),
      listen: advertised(listen, given),
      http: http === null || given.http === null ? '' : advertisedUrl(http.url, given),
    };
    master.stand(places);
    announce(context, {
      peerAddress: formatHostPort(peer),
      listenAddress: formatHostPort(listen),
      httpAddress: http?.url ?? null,
    });
    await untilStopped(context.stop);
    sdNotify({ STOPPING: '1' }, log);
  } finally {
    await http?.close();
    await master.close();
    await store.close();
  }
  log.info({}, 'Stopped');
}

/** The dashboard, the JSON API and metrics, if they are wanted. */
async function serveHttp(
  { env, log }: Context,
  { http: address, httpToken, advertise, insecure }: MasterGiven,
  master: Master,
): Promise<HttpServer | null> {
  if (address === null) return null;
  if (!isLoopback(address.host) && httpToken !== null && !insecure)
    throw new UsageError(
      '--http speaks in the clear, and with --http-token others could read the token along: listen on 127.0.0.1 and put a proxy with TLS before it, or add --insecure',
    );
  // Most masters are started without.
  const { masterRegistry } = await import('../metrics/master-metrics.js');
  const registry = masterRegistry(() => ({
    isLeader: master.isLeader,
    connections: master.guestCount,
    status: master.isLeader ? master.admin.status() : null,
  }));
  const server = await HttpServer.listen(address, {
    admin: master.admin,
    token: httpToken === null ? null : await tokenOf(httpToken, log),
    metrics: () => registry.metrics(),
    isHealthy: () => master.isHealthy,
    leads: () => master.isLeader,
    masterOf: () => {
      const url = master.leaderPlaces()?.http ?? '';
      return url === '' ? null : url;
    },
    hostNames: [hostname(), ...(advertise === null ? [] : [advertise])],
    log,
    clock: env.clock,
    timers: env.timers,
  });
  log.info({ url: server.url }, 'Serving the dashboard');
  return server;
}

async function tokenOf(path: string, log: Log): Promise<Buffer> {
  const { text, mode } = await readTextFile(path, TOKEN_FILE_BYTES_MAX);
  if ((mode & FOR_OTHERS) !== 0)
    log.warn({ file: path }, `Every user can read this token; chmod o= ${path}`);
  const token = Buffer.from(text.trim());
  if (token.length >= TOKEN_BYTES_MIN) return token;
  throw new StoreError(
    'E_INVALID',
    `${path} holds ${token.length} bytes; a token has at least ${TOKEN_BYTES_MIN}: openssl rand -hex 16 > ${path}`,
  );
}

/** A new cluster, with an administrator whose key is on the disk before the cluster exists. */
function beginCluster({ env, log }: Context, { stateDir }: MasterGiven): NewCluster {
  const now = Math.floor(env.clock.wallSeconds());
  const clusterId = env.random.bytes(16).toString('hex');
  const empty = newCluster(clusterId, now);
  const rights = { isAdmin: true, rights: { '*': 'rwa' } };
  const { state, key } = createClient(empty, ADMIN, rights, { random: env.random, now });
  const path = join(stateDir, ADMIN_KEY_FILE);
  try {
    makeFolder(stateDir, PRIVATE_FOLDER_MODE);
    if (existsSync(path))
      throw new StoreError(
        'E_EXISTS',
        `There is no cluster in the state of this master, but ${path} is the key of one: if the state was lost, see store master recover --help; for a new cluster move that file away`,
      );
    writeFileSync(path, key.toText(), { mode: PRIVATE_MODE, flush: true, flag: 'wx' });
  } catch (error) {
    if (error instanceof StoreError) throw error;
    throw new StoreError('E_SYSTEM', `Cannot write ${path}: ${messageOf(error)}`, { cause: error });
  }
  log.info({ cluster: clusterId, key: path }, "A new cluster; the administrator's key was written");
  return { state, undo: () => rmSync(path, { force: true }) };
}

function warn({ insecure, peer, listen, peerFiles, listenFiles }: MasterGiven, log: Log): void {
  if (insecure) {
    log.warn(
      {},
      '--insecure: EVERYBODY who can connect may read, write, change and remove everything, and all of it travels in the clear',
    );
    return;
  }
  if (!isLoopback(peer.host) && peerFiles === null)
    log.warn(
      { host: peer.host },
      'Daemons on other machines can connect here but are refused: there is no certificate (--peer-cert, --peer-key, --peer-ca-cert; see store cert --help)',
    );
  if (!isLoopback(listen.host) && listenFiles === null)
    log.warn(
      { host: listen.host },
      'Clients on other machines can connect here but are refused: there is no certificate (--listen-cert, --listen-key; see store cert --help)',
    );
}

/** What others are told to connect to. */
function advertised({ host, port }: HostPort, { advertise }: MasterGiven): string {
  const isAny = host === '0.0.0.0' || host === '::';
  return formatHostPort({ host: advertise ?? (isAny ? hostname() : host), port });
}

function advertisedUrl(url: string, given: MasterGiven): string {
  const { hostname: host, port } = new URL(url);
  return `http://${advertised({ host: host.replace(/^\[|\]$/g, ''), port: Number(port) }, given)}`;
}

function boundOf(address: { host: string; port: number } | { path: string }): HostPort {
  if ('host' in address) return address;
  throw new StoreError('E_INVALID', `A master listens on HOST:PORT, not on ${address.path}`);
}

function announce(
  context: Context,
  places: { peerAddress: string; listenAddress: string; httpAddress: string | null },
): void {
  const { listenAddress } = places;
  context.print(context.get(SETTINGS.json) ? JSON.stringify(places) : listenAddress);
  context.log.info({ ...places }, 'Serving');
  sdNotify(
    { READY: '1', MAINPID: String(process.pid), STATUS: `Serving on ${listenAddress}` },
    context.log,
  );
}
