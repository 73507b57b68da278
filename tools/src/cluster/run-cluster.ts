/** For tests: a cluster of real programs in a folder of the test, and `store` as people run it there. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Test } from 'tap';
import { serving, type Serving } from '../run-programs.js';
import { runStore, type Result } from '../run-store.js';

const ANY_PORT = '127.0.0.1:0';

export interface TestCluster {
  readonly folder: string;
  /** Where clients connect. */
  readonly address: string;
  /** Where daemons connect. */
  readonly peerAddress: string;
  readonly adminKey: string;
  /** Starts a storage daemon, in the folder of that name. */
  readonly daemon: (dir: string, ...flags: string[]) => Promise<Serving>;
  /** Runs `store` with this cluster as its `--master`. */
  readonly store: (...args: string[]) => Promise<Result>;
  /** The same with `--json`: what it printed, parsed. */
  readonly json: (...args: string[]) => Promise<unknown>;
}

/** @param flags - Of the master. */
export async function startCluster(t: Test, flags: readonly string[] = []): Promise<TestCluster> {
  const folder = mkdtempSync(join(tmpdir(), 'store-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const at = ['--peer-address', ANY_PORT, '--listen-address', ANY_PORT];
  const state = ['--state-dir', join(folder, 'master')];
  const { line } = await serving(t, 'store', ['master', ...at, ...state, '--json', ...flags]);
  const places = JSON.parse(line) as { peerAddress: string; listenAddress: string };
  const { peerAddress, listenAddress: address } = places;
  const store = (...args: string[]): Promise<Result> =>
    runStore(folder, args, { STORE_MASTER: address });
  return {
    folder,
    address,
    peerAddress,
    adminKey: join(folder, 'master', 'admin.key'),
    daemon: (dir, ...more) =>
      serving(t, 'store', [
        ...['file-store', '--dir', join(folder, dir), '--master', peerAddress],
        ...['--listen-address', ANY_PORT, ...more],
      ]),
    store,
    json: async (...args) => {
      const { code, stdout, stderr } = await store(...args, '--json');
      if (code !== 0) throw new Error(`store ${args.join(' ')}: ${code}: ${stderr}`);
      return JSON.parse(stdout) as unknown;
    },
  };
}
