/** A cluster of real processes on this machine: a master and storage daemons, which speak in the clear on loopback. */
import { join } from 'node:path';
import type { ClusterStatus, GroupStatus, StorageMap } from '@store/core';
import { tempFolder, type HasTeardown } from '../host/temp-folder.js';
import { sleep } from '../host/wait-until.js';
import { StorageDaemon } from './storage-daemon.js';
import { StoreMaster } from './store-master.js';
import { runProgramWell } from './store-programs.js';

/** What the tests use; `StoreServer` uses it too. */
export const TEST_POOL = 'testpool';

/** What a primary that has just begun tells its members. */
const LAST_CHANGES_MS = 1000;

/** The master counts as number 0, daemons count from 1. */
export interface ProcessClusterOptions {
  /** Flags of the pool; 64 groups unless told. */
  readonly pool?: readonly string[];
  /** Where a daemon keeps its data, if not in a folder beside the others. */
  readonly dataOf?: (daemon: number) => string | undefined;
  /** See `RestartableProgram`. */
  readonly wrapperOf?: (number: number) => readonly string[];
  /** How a daemon reaches the master; directly unless told. */
  readonly masterOf?: (daemon: number, master: StoreMaster) => Promise<string>;
  /** Its address; `127.0.0.1` unless told. */
  readonly hostOf?: (number: number) => string;
}

export class ProcessCluster {
  readonly folder: string;
  readonly master: StoreMaster;
  readonly daemons: StorageDaemon[] = [];
  readonly #t: HasTeardown;
  readonly #options: ProcessClusterOptions;

  /** Starts all of it, and makes the pool. */
  static async start(
    t: HasTeardown,
    daemons: number,
    options: ProcessClusterOptions = {},
  ): Promise<ProcessCluster> {
    const folder = tempFolder(t, 'cluster');
    const { hostOf, wrapperOf, pool = ['--groups', '64'] } = options;
    const master = await StoreMaster.start(t, {
      stateDir: join(folder, 'master'),
      http: true,
      ...(hostOf === undefined ? {} : { host: hostOf(0), args: ['--insecure'] }),
      wrapper: wrapperOf?.(0) ?? [],
    });
    const cluster = new ProcessCluster(t, folder, master, options);
    const numbers = Array.from({ length: daemons }, (_, index) => index + 1);
    const started = numbers.map((number) => cluster.#start(number));
    cluster.daemons.push(...(await Promise.all(started)));
    await cluster.store('pool', 'create', TEST_POOL, ...pool);
    return cluster;
  }

  private constructor(
    t: HasTeardown,
    folder: string,
    master: StoreMaster,
    options: ProcessClusterOptions,
  ) {
    this.#t = t;
    this.folder = folder;
    this.master = master;
    this.#options = options;
  }

  /** Of number 1 and so on. */
  daemon(number: number): StorageDaemon {
    const daemon = this.daemons[number - 1];
    if (daemon === undefined) throw new Error(`there is no daemon ${number}`);
    return daemon;
  }

  /** How programs reach it. */
  get flags(): readonly string[] {
    const isElsewhere = this.#options.hostOf !== undefined;
    return ['--master', this.master.listen, ...(isElsewhere ? ['--insecure'] : [])];
  }

  /** The folder of a daemon; they count from 1. */
  dataOf(number: number): string {
    return this.#options.dataOf?.(number) ?? join(this.folder, `disk${number}`);
  }

  /** Runs `store` with the cluster; it must succeed. @returns What it printed */
  store(...args: string[]): Promise<string> {
    return runProgramWell('store', [...args, ...this.flags]);
  }

  /** Runs `store-image` with the cluster; it must succeed. @returns What it printed */
  image(...args: string[]): Promise<string> {
    return runProgramWell('store-image', [...args, '--pool', TEST_POOL, ...this.flags]);
  }

  /** What the master says of it. */
  async status(): Promise<ClusterStatus> {
    return JSON.parse(await this.store('status', '--json')) as ClusterStatus;
  }

  /** The storage map as it is now. */
  map(): Promise<StorageMap> {
    return this.master.asked('map');
  }

  /** The id of a daemon in the map; they get them in the order in which they come up. */
  async idOf(number: number): Promise<number> {
    const { address } = this.daemon(number);
    const found = (await this.map()).daemons.findLast((daemon) => daemon.address === address);
    if (found === undefined) throw new Error(`the map has no daemon at ${address}`);
    return found.id;
  }

  /**
   * Waits until every daemon of the map is up, except those in `without`, and every group has all its copies.
   * @returns How long it took, ms
   * @throws Error with what is still wrong
   */
  async healthy(limitMs: number, without: readonly number[] = []): Promise<number> {
    return nothingWrong(limitMs, () => this.#unwell(without));
  }

  /** Waits until each group is led by the daemon that placement wants first: that comes some seconds after all are in sync. */
  async ledAsWanted(limitMs: number): Promise<void> {
    await nothingWrong(limitMs, async () => {
      const groups = await this.#groups();
      return groups
        .filter(({ members, wanted }) => {
          const primary = members.find(({ role }) => role === 'primary');
          return primary === undefined || primary.daemon !== wanted?.[0];
        })
        .map(
          ({ group, members }) => `group ${group} is led by another: ${JSON.stringify(members)}`,
        );
    });
  }

  /** Starts those daemons again that do not run, wherever their data is now. */
  async daemonsAgain(): Promise<void> {
    const stopped = this.daemons.filter(({ running }) => !running);
    await Promise.all(stopped.map((daemon) => daemon.startAgain()));
  }

  /**
   * Stops all of it so that copies can be compared: first whoever decides, as daemons that are stopped leave their groups to
   * others, which begin with versions of their own.
   * @returns the last map
   */
  async stopTogether(): Promise<StorageMap> {
    const map = await this.map();
    await this.master.stop();
    await sleep(LAST_CHANGES_MS);
    const running = this.daemons.filter((daemon) => daemon.running);
    await Promise.all(running.map((daemon) => daemon.stop()));
    return map;
  }

  /** All of it, as an operator does. */
  async stop(): Promise<void> {
    const running = this.daemons.filter((daemon) => daemon.running);
    await Promise.all(running.map((daemon) => daemon.stop()));
    await this.master.stop();
  }

  async #unwell(without: readonly number[]): Promise<string[]> {
    const status = await this.master.asked<ClusterStatus>('status');
    const down = status.daemons
      .filter(({ id, state }) => state !== 'up' && !without.includes(id))
      .map(({ id }) => `daemon ${id} is down`);
    const groups = await this.#groups();
    const unwell = groups
      .filter(({ state, members }) => state !== 'ok' || members.length === 0)
      .map(({ group, state, members }) => `group ${group} is ${state}: ${JSON.stringify(members)}`);
    return [...down, ...unwell];
  }

  #groups(): Promise<GroupStatus[]> {
    return this.master.asked<GroupStatus[]>(`pools/${TEST_POOL}/groups`);
  }

  async #start(number: number): Promise<StorageDaemon> {
    const { hostOf, wrapperOf, masterOf } = this.#options;
    const master = (await masterOf?.(number, this.master)) ?? this.master.peer;
    const labels = ['--host', `host${number}`, '--rack', `rack${number % 2}`];
    const ways = number % 2 === 0 ? [] : ['--tcp-only']; // some so, some so
    return StorageDaemon.start(this.#t, {
      dir: () => this.dataOf(number),
      args: [
        ...['--master', master, ...labels, ...ways],
        ...(hostOf === undefined ? [] : ['--insecure']),
      ],
      ...(hostOf === undefined ? {} : { host: hostOf(number) }),
      wrapper: wrapperOf?.(number) ?? [],
    });
  }
}

/** Asks until nothing is wrong any more. @returns after how many milliseconds. @throws Error saying what still is */
async function nothingWrong(
  limitMs: number,
  problems: () => Promise<readonly string[]>,
): Promise<number> {
  const begin = performance.now();
  for (;;) {
    const wrong = await problems();
    const ms = performance.now() - begin;
    if (wrong.length === 0) return ms;
    if (ms > limitMs)
      throw new Error(`after ${limitMs} ms the cluster is not well:\n${wrong.join('\n')}`);
    await sleep(100);
  }
}
