/* eslint-disable no-restricted-imports -- test equipment reaches the real machine */
/**
 * An etcd of several members on loopback, for tests that kill, stop and restart them. Whatever happens to the test, the
 * members die with it: by their pids, or by the kernel when this process is gone.
 */
import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { realEnv, realTimers, silentLog } from '@store/core';
import { reservePort } from '@store/core/testing';
import { EtcdGateway, type EtcdUser } from '../state/etcd-gateway.js';
import type { EtcdTls } from '../state/etcd-http.js';
import { until } from '../state/state-user.js';

const START_MS = 20_000;
const EXIT_MS = 5000;
const LEADER_ROUNDS = 20;
/** Of etcd's log in an error. */
const LOG_BYTES = 2000;

export interface EtcdClusterOptions {
  /** Default 3. */
  readonly members?: number;
  /** PEM files that all members use, and what we need to talk to them. */
  readonly tls?: { readonly files: EtcdTlsFiles; readonly client: EtcdTls };
  /** More of etcd's own. */
  readonly args?: readonly string[];
}

export interface EtcdTlsFiles {
  readonly cert: string;
  readonly key: string;
  readonly ca: string;
}

/** The part of a test that undoes things. */
interface HasTeardown {
  teardown(undo: () => unknown): void;
}

export class EtcdCluster {
  readonly members: readonly EtcdMember[];
  readonly #folder: string;
  readonly #tls: EtcdTls | null;

  /** Starts all members and waits until each of them answers. @throws Error if etcd is not installed */
  static async start(t: HasTeardown, options: EtcdClusterOptions = {}): Promise<EtcdCluster> {
    if (spawnSync('etcd', ['--version'], { timeout: 10_000 }).status !== 0)
      throw new Error(
        'etcd does not run; install it: apt-get install etcd-server (make test does)',
      );
    const count = 2 * (options.members ?? 3);
    const ports = await Promise.all(Array.from({ length: count }, reservePort));
    const cluster = new EtcdCluster(ports, options);
    t.teardown(() => cluster.stop());
    for (const member of cluster.members) member.start();
    await cluster.ready();
    return cluster;
  }

  private constructor(ports: readonly number[], { tls, args }: EtcdClusterOptions) {
    this.#folder = fs.mkdtempSync(path.join(os.tmpdir(), 'etcd-'));
    this.#tls = tls?.client ?? null;
    const scheme = tls === undefined ? 'http' : 'https';
    const specs = Array.from({ length: ports.length / 2 }, (_, index) => ({
      name: `m${index}`,
      client: `${scheme}://127.0.0.1:${ports[2 * index] ?? 0}`,
      peer: `http://127.0.0.1:${ports[2 * index + 1] ?? 0}`,
    }));
    const all = specs.map(({ name, peer }) => `${name}=${peer}`).join(',');
    const more = [...(tls === undefined ? [] : tlsArgs(tls.files)), ...(args ?? [])];
    this.members = specs.map((spec) => new EtcdMember(this.#folder, spec, all, more));
  }

  get endpoints(): string[] {
    return this.members.map(({ endpoint }) => endpoint);
  }

  member(index: number): EtcdMember {
    const member = this.members[index];
    if (member === undefined) throw new Error(`There is no member ${index}`);
    return member;
  }

  /** Waits until each member (of those given) answers a read that needs a majority. */
  async ready(members: readonly EtcdMember[] = this.members, user?: EtcdUser): Promise<void> {
    await Promise.all(
      members.map(async ({ endpoint, logEnd }) => {
        try {
          await this.ask(endpoint, '/v3/kv/range', { key: 'AA==' }, { user, patienceMs: START_MS });
        } catch (error) {
          throw new Error(`A member of etcd does not answer; its log ends: ${logEnd()}`, {
            cause: error,
          });
        }
      }),
    );
  }

  /** The member that the others follow. */
  async leader(): Promise<EtcdMember> {
    // They are asked one after the other, and it may change meanwhile.
    for (let round = 0; round < LEADER_ROUNDS; round += 1) {
      for (const member of this.members) {
        const { json } = await this.ask(member.endpoint, '/v3/maintenance/status', {});
        if (json.text('leader') === json.object('header').text('member_id')) return member;
      }
      await realTimers.sleep(200);
    }
    throw new Error('etcd has no leader');
  }

  /** One request to one member, such as of the maintenance or authentication API. */
  async ask(
    endpoint: string,
    path: string,
    body: object,
    options: { user?: EtcdUser | undefined; patienceMs?: number } = {},
  ): ReturnType<EtcdGateway['call']> {
    const { user = null, patienceMs = 5000 } = options;
    const gateway = new EtcdGateway(realEnv(silentLog), {
      endpoints: [endpoint],
      tls: this.#tls,
      user,
      requestMs: 2000,
    });
    try {
      return await gateway.call(path, body, { isRepeatable: true, patienceMs });
    } finally {
      gateway.close();
    }
  }

  async stop(): Promise<void> {
    await Promise.all(this.members.map((member) => member.kill()));
    fs.rmSync(this.#folder, { recursive: true, force: true });
  }
}

export class EtcdMember {
  /** Where clients connect. */
  readonly endpoint: string;
  readonly #args: readonly string[];
  readonly #log: string;
  #process: ChildProcess | null = null;

  constructor(
    folder: string,
    spec: { name: string; client: string; peer: string },
    all: string,
    more: readonly string[],
  ) {
    this.endpoint = spec.client;
    this.#log = path.join(folder, `${spec.name}.log`);
    this.#args = [
      ...['--name', spec.name, '--data-dir', path.join(folder, spec.name)],
      ...['--listen-client-urls', spec.client, '--advertise-client-urls', spec.client],
      ...['--listen-peer-urls', spec.peer, '--initial-advertise-peer-urls', spec.peer],
      ...['--initial-cluster', all, '--initial-cluster-token', path.basename(folder)],
      ...['--log-level', 'warn', '--logger', 'zap'],
      ...more,
    ];
  }

  start(): void {
    if (this.#process !== null) throw new Error('This member runs already');
    const log = fs.openSync(this.#log, 'a');
    // The kernel kills it when this process ends in a way that leaves no time for a teardown.
    this.#process = spawn('setpriv', ['--pdeathsig', 'KILL', 'etcd', ...this.#args], {
      stdio: ['ignore', log, log],
    });
    fs.closeSync(log);
  }

  /** As a power cut does: at once, and whether or not it is paused. */
  async kill(): Promise<void> {
    const running = this.#process;
    this.#process = null;
    if (running === null || running.exitCode !== null) return;
    let isGone = false;
    running.once('exit', () => {
      isGone = true;
    });
    running.kill('SIGKILL');
    await until(realEnv(silentLog), 'a member of etcd ends', () => isGone, EXIT_MS);
  }

  /** It neither answers nor closes its connections. */
  pause(): void {
    this.#process?.kill('SIGSTOP');
  }

  resume(): void {
    this.#process?.kill('SIGCONT');
  }

  async restart(): Promise<void> {
    await this.kill();
    this.start();
  }

  readonly logEnd = (): string => {
    const text = fs.existsSync(this.#log) ? fs.readFileSync(this.#log, 'utf8') : '';
    return text.slice(-LOG_BYTES);
  };
}

function tlsArgs({ cert, key, ca }: EtcdTlsFiles): string[] {
  return ['--cert-file', cert, '--key-file', key, '--trusted-ca-file', ca, '--client-cert-auth'];
}
