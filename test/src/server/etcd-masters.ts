/** Three `store master` programs on an etcd of three, two daemons, and a client that writes all the time. */
import { join } from 'node:path';
import {
  ClusterStore,
  MasterGuide,
  parseMasterAddress,
  realEnv,
  silentLog,
  StoreError,
  type MasterAddress,
} from '@store/core';
import { EtcdState } from '@store/master';
import { EtcdCluster } from '@store/master/testing';
import type { Test } from 'tap';
import { tempFolder } from '../host/temp-folder.js';
import { sleep, waitUntil } from '../host/wait-until.js';
import { PoolTraffic } from '../live-cluster/pool-traffic.js';
import { DecisionHistory } from './decision-history.js';
import { StoreMaster } from './store-master.js';
import { StorageDaemon } from './storage-daemon.js';

const MASTERS = 3;
const DAEMONS = 2;
/** Each of the elections takes four seconds; this is for machines on which others work too. */
const PATIENCE_MS = 30_000;
const ENV = realEnv(silentLog);

export interface EtcdMastersOptions {
  /** How a master reaches the members of etcd; default: directly. */
  readonly endpointsOf?: (master: number, etcd: EtcdCluster) => Promise<readonly string[]>;
  /** How many; default 3. */
  readonly masters?: number;
  /** For the masters' node. */
  readonly nodeOptions?: string;
}

export class EtcdMasters {
  readonly etcd: EtcdCluster;
  readonly history: DecisionHistory;
  readonly masters: readonly StoreMaster[];
  readonly traffic: PoolTraffic;
  readonly guide: MasterGuide;
  /** Pools of which somebody was told that they were made. */
  readonly made = new Set<string>();
  /** What the masters share, as the test sees it. */
  readonly state: EtcdState;
  readonly #store: ClusterStore;

  static async start(t: Test, options: EtcdMastersOptions = {}): Promise<EtcdMasters> {
    const folder = tempFolder(t, 'etcd-masters');
    const etcd = await EtcdCluster.start(t);
    const state = stateOf(etcd);
    t.teardown(() => state.close());
    const history = await DecisionHistory.begin(state);
    const { endpointsOf = () => Promise.resolve(etcd.endpoints), nodeOptions = '' } = options;
    const masters = await Promise.all(
      Array.from({ length: options.masters ?? MASTERS }, async (_, index) =>
        StoreMaster.start(t, {
          args: ['--etcd', (await endpointsOf(index, etcd)).join(',')],
          stateDir: join(folder, `master${index}`),
          http: true,
          nodeOptions,
        }),
      ),
    );
    const named = masters.map(({ peer }) => peer).join(',');
    for (let index = 0; index < DAEMONS; index += 1)
      await StorageDaemon.start(t, {
        dir: join(folder, `disk${index}`),
        args: ['--master', named],
      });
    const guide = await MasterGuide.open({
      ...{ env: ENV, tls: null, key: null, name: 'test', deadlineMs: PATIENCE_MS },
      masters: masters.map(({ listen }) => addressOf(listen)),
      defect: (error) => {
        throw error;
      },
    });
    await guide.createPool('traffic');
    const options_ = { name: 'test', tls: null, deadlineMs: PATIENCE_MS, datagramBytes: 0 };
    const store = new ClusterStore({ env: ENV, guide, ...options_ });
    const traffic = new PoolTraffic(await store.openPool('traffic', { create: false }));
    const all = new EtcdMasters({ etcd, history, masters, traffic, guide, state, store });
    all.made.add('traffic');
    return all;
  }

  private constructor(parts: {
    etcd: EtcdCluster;
    history: DecisionHistory;
    masters: readonly StoreMaster[];
    traffic: PoolTraffic;
    guide: MasterGuide;
    state: EtcdState;
    store: ClusterStore;
  }) {
    this.etcd = parts.etcd;
    this.history = parts.history;
    this.masters = parts.masters;
    this.traffic = parts.traffic;
    this.guide = parts.guide;
    this.state = parts.state;
    this.#store = parts.store;
  }

  /** The master that the state names; null: nobody leads. */
  async leader(): Promise<StoreMaster | null> {
    const entry = (await this.state.read('leader')).entries[0];
    if (entry === undefined) return null;
    const { address } = JSON.parse(entry.value.toString()) as { address: string };
    const { listen } = JSON.parse(address) as { listen: string };
    return this.masters.find((master) => master.listen === listen) ?? null;
  }

  /** Waits until somebody leads, other than `old`. */
  async leaderAfter(old: StoreMaster | null): Promise<StoreMaster> {
    const found: StoreMaster[] = [];
    await waitUntil('a leader', PATIENCE_MS, async () => {
      const leader = await this.leader();
      if (leader !== null && leader !== old) found.push(leader);
      return found.length > 0;
    });
    const [leader] = found;
    if (leader === undefined) throw new Error('it was just found');
    return leader;
  }

  /** Has a pool made, however often that takes. @returns how long it took, milliseconds */
  async makePool(name: string): Promise<number> {
    const start = performance.now();
    for (;;)
      try {
        await this.guide.administer('pool create', { name, groups: 4, dryRun: false });
        break;
      } catch (error) {
        if (!(error instanceof StoreError)) throw error;
        if (error.code === 'E_EXISTS') break; // the answer of an earlier try was lost
        if (error.retry === 'never' || performance.now() - start > PATIENCE_MS) throw error;
        await sleep(20);
      }
    this.made.add(name);
    return performance.now() - start;
  }

  /** What must be true whatever was done to the masters. */
  async check(t: Test): Promise<void> {
    const { history, traffic } = this;
    await this.makePool('last');
    await waitUntil('it has written all the time', PATIENCE_MS, () => traffic.rounds > 100);
    await traffic.stop();
    t.same(traffic.problems, [], 'what was open went on');
    t.comment(`${traffic.rounds} rounds, the longest ${Math.round(traffic.roundMsMax)} ms`);
    const { entries } = await this.state.read('cluster');
    const { serial } = JSON.parse(entries[0]?.value.toString() ?? '') as { serial: number };
    await waitUntil('all of the history', PATIENCE_MS, () => history.serial >= serial);
    t.same(history.problems, [], 'one master decided at a time');
    t.ok(history.decisionCount >= this.made.size, `${history.decisionCount} decisions`);
    const missing = (): string[] => {
      const names = new Set(this.guide.view.map.pools.map(({ name }) => name));
      return [...this.made].filter((name) => !names.has(name));
    };
    const isThere = waitUntil('the newest map', PATIENCE_MS, () => missing().length === 0);
    await isThere.catch(() => undefined); // what is missing is said next
    t.same(missing(), [], `of ${this.made.size} pools none is missing`);
    for (const { log } of this.masters) t.notMatch(log, /fatal|invariant/i);
    history.stop();
    await this.#store.close();
  }
}

function stateOf({ endpoints }: EtcdCluster): EtcdState {
  return new EtcdState(ENV, { endpoints, cluster: 'store', tls: null, user: null });
}

function addressOf(text: string): MasterAddress {
  const address = parseMasterAddress(text);
  if (address === undefined) throw new Error(`'${text}' is no address`);
  return address;
}
