/** One server that runs, ready for clients, until it is stopped by its process id. */
import { spawn, type ChildProcess } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { reservePort } from '@store/core/testing';
import { waitUntil } from '../host/wait-until.js';
import { isAlive } from './process-tree.js';
import { collect, stopProcess, type Programs } from './programs.js';
import type { Stage } from './rows.js';
import type { Endpoint, ServerKind } from './server-kinds.js';
import { PLAIN_CLIENT, type ClientEnvironment, type TlsKeys } from './tls-keys.js';

export interface StartOptions {
  readonly stage: Stage;
  /** For the images of all kinds. */
  readonly folder: string;
  readonly imageBytes: number;
  readonly tcp: boolean;
  /** Null: no TLS. */
  readonly tls: TlsKeys | null;
}

/** What `nbdinfo` says of the export. */
export interface ExportFacts {
  readonly flush: boolean;
  readonly fua: boolean;
  readonly multiConn: boolean;
  readonly structured: boolean;
  readonly tls: boolean;
}

/** A cluster with everything new takes half of that. */
const START_MS = 90_000;

export class RunningServer {
  readonly kind: ServerKind;
  readonly pid: number;
  readonly uri: string;
  /** The command line it was started with. */
  readonly commandLine: string;
  readonly client: ClientEnvironment;
  readonly facts: ExportFacts;
  /** Where ours (with a daemon: its gateway) tells about its event loop; null for peers. */
  readonly metricsUrl: string | null;
  /** Asks it to go, and waits until it is gone; may be called again. */
  readonly stop: () => Promise<void>;

  private constructor(fields: Omit<RunningServer, 'alive'>) {
    this.kind = fields.kind;
    this.pid = fields.pid;
    this.uri = fields.uri;
    this.commandLine = fields.commandLine;
    this.client = fields.client;
    this.facts = fields.facts;
    this.metricsUrl = fields.metricsUrl;
    this.stop = fields.stop;
  }

  /** Starts a server; it also ends with `programs`. @throws Error with what it said, if it does not serve */
  static async start(
    programs: Programs,
    kind: ServerKind,
    options: StartOptions,
  ): Promise<RunningServer> {
    programs.check();
    const sparse = options.stage === 'sparse' ? '-sparse' : '';
    const folder = join(options.folder, `${kind.name}${sparse}`);
    makeImage(kind, folder, options.imageBytes);
    const socket = await endpointIn(folder, options.tcp);
    const { stage, imageBytes, tls } = options;
    const { command, args, pidFile } = kind.start({ folder, stage, imageBytes, socket, tls });
    const child = spawn(command, args, {
      cwd: folder,
      stdio: ['ignore', 'ignore', 'pipe'],
      detached: true, // Ctrl-C is for the benchmark, which then stops it
    });
    const said = collect(child.stderr);
    let failure = '';
    child.once('error', (error) => (failure = error.message));
    const pid = (): number | undefined => (pidFile === undefined ? child.pid : pidIn(pidFile));
    const stop = (): Promise<void> => stopServer(child, pid, pidFile);
    programs.atEnd(stop);
    await waitUntil(`${kind.title} to listen`, START_MS, () => {
      if (failure !== '') throw new Error(`${command}: ${failure}`);
      if (hasEnded(child, pidFile)) throw new Error(`${kind.title} ended: ${said().slice(-600)}`);
      return pid() !== undefined && accepts(socket);
    });
    const uri = uriOf(socket, kind.exportName, tls !== null);
    const client = tls?.client ?? PLAIN_CLIENT;
    const id = pid();
    if (id === undefined) throw new Error(`${kind.title} ended: ${said().slice(-600)}`);
    const facts = await factsOf(programs, uri, client, folder);
    if (facts.tls !== (tls !== null)) throw new Error(`${kind.title}: TLS is ${facts.tls}`);
    const commandLine = [command, ...args].join(' ');
    const metricsUrl = kind.isOurs ? await metricsUrlIn(said) : null;
    return new RunningServer({ kind, pid: id, uri, commandLine, client, facts, metricsUrl, stop });
  }

  get alive(): boolean {
    return isAlive(this.pid);
  }
}

/** Never signals a process id that may belong to somebody else by now. */
async function stopServer(
  child: ChildProcess,
  pid: () => number | undefined,
  pidFile: string | undefined,
): Promise<void> {
  const id = pid();
  if (id === undefined) return;
  const isGone = (): boolean =>
    pidFile === undefined
      ? child.exitCode !== null || child.signalCode !== null
      : pid() !== id || !isAlive(id);
  await stopProcess(id, isGone);
  if (pidFile !== undefined) rmSync(pidFile, { force: true });
}

function makeImage(kind: ServerKind, folder: string, bytes: number): void {
  mkdirSync(folder, { recursive: true });
  if (kind.imageFile === null) return;
  const path = join(folder, kind.imageFile);
  if (existsSync(path)) return;
  writeFileSync(path, '');
  truncateSync(path, bytes);
}

async function endpointIn(folder: string, tcp: boolean): Promise<Endpoint> {
  if (!tcp) {
    const path = join(folder, 'socket');
    rmSync(path, { force: true }); // of the server of an earlier stage
    return { path };
  }
  return { port: await reservePort() };
}

function pidIn(file: string): number | undefined {
  const text = existsSync(file) ? readFileSync(file, 'utf8').trim() : '';
  return text === '' ? undefined : Number(text);
}

function hasEnded(child: ChildProcess, pidFile: string | undefined): boolean {
  if (child.exitCode === null && child.signalCode === null) return false;
  return pidFile === undefined || child.exitCode !== 0; // going to the background is no end
}

function accepts(endpoint: Endpoint): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect('path' in endpoint ? endpoint : { ...endpoint, host: '127.0.0.1' });
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false)); // not yet
  });
}

function uriOf(endpoint: Endpoint, exportName: string, tls: boolean): string {
  const scheme = tls ? 'nbds' : 'nbd';
  return 'path' in endpoint
    ? `${scheme}+unix://${tls ? 'localhost' : ''}/${exportName}?socket=${endpoint.path}`
    : `${scheme}://${tls ? 'localhost' : '127.0.0.1'}:${endpoint.port}/${exportName}`;
}

async function factsOf(
  programs: Programs,
  uri: string,
  { wrapper, env }: ClientEnvironment,
  cwd: string,
): Promise<ExportFacts> {
  const line = [...wrapper, 'nbdinfo', '--json', uri] as const;
  const [command, ...args] = line;
  const { stdout } = await programs.run(command, args, { env, cwd, limitMs: START_MS });
  const info = JSON.parse(stdout) as {
    TLS: boolean;
    structured: boolean;
    exports: Record<string, unknown>[];
  }; // the part of nbdinfo's report we look at
  const one = info.exports[0] ?? {};
  return {
    flush: one['can_flush'] === true,
    fua: one['can_fua'] === true,
    multiConn: one['can_multi_conn'] === true,
    structured: info.structured,
    tls: info.TLS,
  };
}

async function metricsUrlIn(said: () => string): Promise<string> {
  let url: string | undefined;
  await waitUntil('store-nbd to name its metrics', START_MS, () => {
    url = /http:\/\/\S+?\/metrics/.exec(said())?.[0];
    return url !== undefined;
  });
  return url ?? '';
}
