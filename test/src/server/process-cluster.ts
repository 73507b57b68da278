/** A cluster of real processes on this machine: a master and storage daemons, which speak in the clear on loopback. */
import { join } from 'node:path';
import type { ClusterStatus } from '@store/core';
import { tempFolder, type HasTeardown } from '../host/temp-folder.js';
import { StorageDaemon } from './storage-daemon.js';
import { StoreMaster } from './store-master.js';
import { runProgramWell } from './store-programs.js';

/** What the tests use; `StoreServer` uses it too. */
export const TEST_POOL = 'testpool';

export class ProcessCluster {
  readonly folder: string;
  readonly master: StoreMaster;
  readonly daemons: StorageDaemon[] = [];

  /** Starts all of it, and makes the pool. */
  static async start(t: HasTeardown, daemons: number): Promise<ProcessCluster> {
    const folder = tempFolder(t, 'cluster');
    const master = await StoreMaster.start(t, { stateDir: join(folder, 'master') });
    const cluster = new ProcessCluster(folder, master);
    const numbers = Array.from({ length: daemons }, (_, index) => index + 1);
    const started = numbers.map((number) =>
      StorageDaemon.start(t, {
        dir: cluster.dataOf(number),
        args: ['--master', master.peer, '--host', `host${number}`, '--rack', `rack${number % 2}`],
      }),
    );
    cluster.daemons.push(...(await Promise.all(started)));
    await cluster.store('pool', 'create', TEST_POOL, '--groups', '64');
    return cluster;
  }

  private constructor(folder: string, master: StoreMaster) {
    this.folder = folder;
    this.master = master;
  }

  /** How programs reach it. */
  get flags(): readonly string[] {
    return ['--master', this.master.listen];
  }

  /** The folder of a daemon; they count from 1. */
  dataOf(number: number): string {
    return join(this.folder, `disk${number}`);
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

  /** All of it, as an operator does. */
  async stop(): Promise<void> {
    await Promise.all(this.daemons.map((daemon) => daemon.stop()));
    await this.master.stop();
  }
}
