/**
 * The servers that are compared, each with settings one would run it with. Every one serves an image of the same size
 * on the same disk; what a flush means differs, and the report says so.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { programPath } from '../server/store-programs.js';
import type { Row, Stage } from './rows.js';
import { storeTlsArguments, type TlsKeys } from './tls-keys.js';

/** Where and what a server is to serve. */
export interface Place {
  /** For its image and its other files; there already. */
  readonly folder: string;
  readonly stage: Stage;
  readonly imageBytes: number;
  readonly socket: Endpoint;
  /** Null: no TLS. */
  readonly tls: TlsKeys | null;
}

export type Endpoint = { readonly path: string } | { readonly port: number };

export interface Command {
  readonly command: string;
  readonly args: readonly string[];
  /** It goes to the background and writes its process id there; otherwise it stays in the foreground. */
  readonly pidFile?: string;
}

export interface ServerKind {
  /** What `--peers` and the JSON call it. */
  readonly name: string;
  readonly title: string;
  /** The program that must be installed; null for ours, which is built. */
  readonly program: string | null;
  /** How it is installed; absent: `make deps-test` does. */
  readonly install?: string;
  /** A cluster that keeps several copies: no rival of a server that keeps one. Absent: it is none. */
  readonly isCluster?: boolean;
  readonly exportName: string;
  /** What the client's fsync does there. */
  readonly flush: string;
  /** Flushed data is on the disk. Else it is no rival where fsync counts. */
  readonly durable: boolean;
  /** One of our servers, and so no rival of ours. */
  readonly isOurs: boolean;
  /** It needs a file of `imageBytes` with this name in its folder. */
  readonly imageFile: string | null;
  /** Why it cannot do a row; null if it can. */
  cannot(row: Row): string | null;
  start(place: Place): Command;
}

/** The name of our own server with the store in its own process. */
export const OURS = 'store';

/** The name of three daemons with a copy of everything on each. */
export const CLUSTER = 'store-cluster';

/** The name of the cluster that three daemons must be several times as fast as. */
export const CEPH = 'ceph-rbd';

/** The name of the server that one daemon behind the gateway must keep up with in long reads and writes. */
export const NBDKIT_FILE = 'nbdkit-file';

const POOL = 'bench';

const can = (): null => null;

const store: ServerKind = {
  name: OURS,
  title: 'store',
  program: null,
  exportName: '',
  flush: 'fdatasync of the data file and a durable transaction for what changed in the metadata',
  durable: true,
  isOurs: true,
  imageFile: null,
  cannot: can,
  start: (place) => ({
    command: programPath('store-nbd'),
    args: [
      ...['--dir', join(place.folder, 'data'), ...storeNbdArguments(place)],
      ...(place.tls === null ? [] : storeTlsArguments(place.tls)),
    ],
  }),
};

/** The same, with the store in a storage daemon that the gateway reaches in one of two ways. */
function storeDaemon(way: 'tcp' | 'unix', name: string, title: string): ServerKind {
  return {
    name,
    title,
    program: null,
    exportName: '',
    flush: 'as store, in the daemon: the gateway waits for its answer',
    durable: true,
    isOurs: true,
    imageFile: null,
    cannot: (row) =>
      row.stage === 'tls'
        ? 'TLS of clients ends in the gateway, as in store, where it is measured'
        : null,
    start: (place) => ({
      command: process.execPath,
      args: [
        fileURLToPath(new URL('daemon-pair.js', import.meta.url)),
        ...['--dir', join(place.folder, 'data'), '--way', way, '--', ...storeNbdArguments(place)],
      ],
    }),
  };
}

const daemonOverTcp = storeDaemon('tcp', 'store-daemon', 'one daemon (TCP)');
const daemonOverUnix = storeDaemon('unix', 'store-daemon-unix', 'one daemon (Unix)');

const clusterOfThree: ServerKind = {
  name: CLUSTER,
  title: '3 daemons, 3 copies',
  program: null,
  isCluster: true,
  exportName: '',
  flush: 'as store, in all three daemons: the gateway waits until each has answered',
  durable: true,
  isOurs: true,
  imageFile: null,
  cannot: (row) => (row.stage === 'tls' ? 'TLS of clients ends in the gateway, as in store' : null),
  start: (place) => ({
    command: process.execPath,
    args: [
      fileURLToPath(new URL('bench-cluster.js', import.meta.url)),
      ...['--dir', join(place.folder, 'cluster'), '--daemons', '3', '--pool', POOL, '--'],
      ...storeNbdArguments(place),
    ],
  }),
};

const ceph: ServerKind = {
  name: CEPH,
  title: 'Ceph RBD, 3 OSDs, 3 copies',
  program: 'ceph-osd',
  install:
    'apt-get install --no-install-recommends ceph-mon ceph-mgr ceph-osd ceph-common qemu-block-extra',
  isCluster: true,
  exportName: '',
  flush: 'nothing more: each write is answered when it is on the disks of all three OSDs',
  durable: true,
  isOurs: false,
  imageFile: null,
  cannot: (row) => {
    if (row.stage === 'tls') return 'TLS of clients ends in qemu-nbd, which is measured by itself';
    return row.cold ? 'its OSDs keep a cache of their own, which nobody can drop' : null;
  },
  start: ({ folder, stage, imageBytes, socket }) => ({
    command: process.execPath,
    args: [
      fileURLToPath(new URL('bench-ceph.js', import.meta.url)),
      ...['--dir', join(folder, 'ceph'), '--osds', '3'],
      ...['--image', stageImage(stage), '--size', `${imageBytes}`],
      ...('path' in socket ? ['--socket', socket.path] : ['--port', `${socket.port}`]),
    ],
  }),
};

const nbdkitFile: ServerKind = {
  name: NBDKIT_FILE,
  title: 'nbdkit file',
  program: 'nbdkit',
  exportName: '',
  flush: 'fdatasync of the image file',
  durable: true,
  isOurs: false,
  imageFile: 'image.raw',
  cannot: can,
  start: (place) => nbdkit(place, ['file', join(place.folder, 'image.raw')]),
};

const nbdkitMemory: ServerKind = {
  name: 'nbdkit-memory',
  title: 'nbdkit memory',
  program: 'nbdkit',
  exportName: '',
  flush: 'nothing: the image is in memory and ends with the process; no rival in rows with fsync',
  durable: false,
  isOurs: false,
  imageFile: null,
  cannot: (row) => (row.cold ? 'its image is in memory, there is no cold state' : null),
  start: (place) => nbdkit(place, ['memory', `size=${place.imageBytes}`]),
};

const qemuNbd: ServerKind = {
  name: 'qemu-nbd',
  title: 'qemu-nbd raw',
  program: 'qemu-nbd',
  exportName: '',
  flush: 'fdatasync of the image file (cache=writeback, its default)',
  durable: true,
  isOurs: false,
  imageFile: 'image.raw',
  cannot: can,
  start: ({ folder, socket, tls }) => ({
    command: 'qemu-nbd',
    args: [
      // 16 connections of the client, and those that only look
      ...['--persistent', '--shared=32', '--format=raw', '--discard=unmap', '--aio=threads'],
      ...('path' in socket
        ? ['--socket', socket.path]
        : ['--bind=127.0.0.1', `--port=${socket.port}`]),
      ...(tls === null ? [] : ['--object', qemuTlsObject(tls), '--tls-creds', 'tls']),
      join(folder, 'image.raw'),
    ],
  }),
};

const nbdServer: ServerKind = {
  name: 'nbd-server',
  title: 'nbd-server',
  program: 'nbd-server',
  exportName: 'bench',
  flush: 'fsync of the image file',
  durable: true,
  isOurs: false,
  imageFile: 'image.raw',
  cannot: (row) => {
    if (row.stage === 'tls')
      return 'nbd-server 3.24 hangs up on libnbd after STARTTLS, with the first option it does not know';
    if (row.stage === 'sparse' && row.work.client === 'nbdcopy')
      return 'it tells no holes (no structured replies): nbdcopy would read the whole TiB';
    return null;
  },
  start: ({ folder, socket }) => {
    const config = join(folder, 'config');
    const where =
      'path' in socket
        ? [`unixsock = ${socket.path}`]
        : ['listenaddr = 127.0.0.1', `port = ${socket.port}`];
    const image = [`exportname = ${join(folder, 'image.raw')}`, 'flush = true', 'fua = true'];
    const lines = ['[generic]', ...where, '[bench]', ...image, 'trim = true', ''];
    writeFileSync(config, lines.join('\n'));
    // In the foreground (-d) it would serve a single connection.
    const pidFile = join(folder, 'pid');
    return { command: 'nbd-server', args: ['-C', config, '-p', pidFile], pidFile };
  },
};

/** Ours with its own store first; the order in which they take turns. */
export const SERVER_KINDS: readonly ServerKind[] = [
  store,
  daemonOverTcp,
  daemonOverUnix,
  clusterOfThree,
  ceph,
  nbdkitFile,
  nbdkitMemory,
  qemuNbd,
  nbdServer,
];

/** Ours with its own store, and the others that contain one of the words; all without words. @throws Error for a word of none */
export function chooseServers(words: readonly string[]): readonly ServerKind[] {
  const peers = SERVER_KINDS.slice(1);
  const stranger = words.find((word) => !peers.some(({ name }) => name.includes(word)));
  if (stranger !== undefined)
    throw new Error(
      `No peer has '${stranger}' in its name; there are ${peers.map(({ name }) => name).join(', ')}`,
    );
  const isChosen = ({ name }: ServerKind): boolean =>
    words.length === 0 || words.some((word) => name.includes(word));
  return [store, ...peers.filter(isChosen)];
}

/** All but the place of the store, and TLS. */
function storeNbdArguments({ imageBytes, socket, stage }: Place): string[] {
  return [
    ...['--pool', POOL, '--image', stageImage(stage), '--create', `${imageBytes}`],
    ...['--metrics', '127.0.0.1:0'],
    ...('path' in socket ? ['--socket', socket.path] : ['--port', `${socket.port}`]),
  ];
}

/** TLS is measured on the image that is there already. */
function stageImage(stage: Stage): string {
  return stage === 'sparse' ? 'sparse' : 'filled';
}

function qemuTlsObject({ folder }: TlsKeys): string {
  return `tls-creds-x509,id=tls,endpoint=server,dir=${folder},verify-peer=no`;
}

function nbdkit({ socket, tls }: Place, plugin: readonly string[]): Command {
  const where =
    'path' in socket
      ? ['--unix', socket.path]
      : ['--ipaddr', '127.0.0.1', '--port', `${socket.port}`];
  const keys = tls === null ? [] : ['--tls=require', `--tls-certificates=${tls.folder}`];
  return { command: 'nbdkit', args: ['--foreground', ...where, ...keys, ...plugin] };
}
