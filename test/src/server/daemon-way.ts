/** Ways on which programs reach a daemon: plainly, over a bad network, with TLS and a ticket. */
import { join } from 'node:path';
import type { DatagramFaults } from '../fault-proxy/datagram-faults.js';
import { FaultProxy } from '../fault-proxy/fault-proxy.js';
import { tempFolder, type HasTeardown } from '../host/temp-folder.js';
import { runProgramWell } from './store-programs.js';
import { StorageDaemon } from './storage-daemon.js';

export interface DaemonWay {
  readonly name: string;
  /** TLS, and a ticket without which nobody gets in. */
  readonly isSecure: boolean;
  /** Small requests go as datagrams, through a network that does this; null: over TCP, and nothing happens. */
  readonly datagrams: DatagramFaults | null;
}

export const BAD_DATAGRAMS: DatagramFaults = {
  dropPercent: 5,
  duplicatePercent: 5,
  delayPercent: 20,
  delayMsMax: 15,
};

export const DAEMON_WAYS: readonly DaemonWay[] = [
  { name: 'TCP', isSecure: false, datagrams: null },
  { name: 'UDP with loss, doubles and overtaking', isSecure: false, datagrams: BAD_DATAGRAMS },
  { name: 'TLS with a ticket', isSecure: true, datagrams: null },
  {
    name: 'TLS and sealed UDP with loss, doubles and overtaking',
    isSecure: true,
    datagrams: BAD_DATAGRAMS,
  },
];

/** A daemon and how to get to it. */
export interface ReachedDaemon {
  readonly daemon: StorageDaemon;
  /** For `store`, `store-image` and `store-nbd`. */
  readonly flags: readonly string[];
  /** Without what proves who one is. */
  readonly strangerFlags: readonly string[];
  readonly proxy: FaultProxy | null;
}

const POOL = 'testpool';

export async function reachDaemon(
  t: HasTeardown,
  way: DaemonWay,
  seed: number,
): Promise<ReachedDaemon> {
  const folder = tempFolder(t);
  // Who speaks TLS needs no TCP where no proxy is in between: so both are tried.
  const papers = way.isSecure
    ? await makePapers(folder)
    : { daemon: ['--tcp-only'], client: [], stranger: [] };
  const dir = join(folder, 'data');
  const daemon = await StorageDaemon.start(t, { dir, args: papers.daemon });
  if (way.datagrams === null) {
    const to = ['--storage-daemon', daemon.address];
    return {
      daemon,
      flags: [...to, ...papers.client],
      strangerFlags: [...to, ...papers.stranger],
      proxy: null,
    };
  }
  const { port: targetPort } = daemon;
  const proxy = await FaultProxy.start(t, { targetPort, seed, datagrams: way.datagrams });
  const to = ['--storage-daemon', `127.0.0.1:${proxy.port}`, '--transport', 'udp'];
  return {
    daemon,
    flags: [...to, ...papers.client],
    strangerFlags: [...to, ...papers.stranger],
    proxy,
  };
}

/** Makes certificates, a secret and a ticket. @returns The flags that name them */
async function makePapers(
  folder: string,
): Promise<Record<'daemon' | 'client' | 'stranger', string[]>> {
  const at = (name: string): string => join(folder, name);
  await runProgramWell('store', ['cert', 'init', '--out', folder]);
  await runProgramWell('store', ['cert', 'issue', 'storage001', '--out', folder]);
  await runProgramWell('store', ['key', 'create', '--pool', POOL, '--out', at('pool.secret')]);
  await runProgramWell('store', [
    ...['key', 'ticket', '--pool', POOL, '--client', 'host1', '--rights', 'rwa'],
    ...['--expires', '1d', '--secret', at('pool.secret'), '--out', at('host1.ticket')],
  ]);
  return {
    daemon: [
      ...['--listen-cert', at('storage001.crt'), '--listen-key', at('storage001.key')],
      ...['--secret', at('pool.secret')],
    ],
    client: ['--ca-cert', at('ca.crt'), '--ticket', at('host1.ticket')],
    stranger: ['--ca-cert', at('ca.crt')],
  };
}
