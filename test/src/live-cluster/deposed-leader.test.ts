/** A leader that was deposed and does not know: by its own clock it goes on leading, and what it decides is refused. */
import { EmbeddedState, type StateLease, type StateStore } from '@store/master';
import { EtcdCluster } from '@store/master/testing';
import { join } from 'node:path';
import t from 'tap';
import { needs } from '../host/requirements.js';
import { codeOf, LiveCluster, liveEnv, until } from './live-cluster.js';

t.setTimeout(270_000);

/** A store as a master sees it whose clock stands still: its lease never ends, and nobody tells it otherwise. */
class Believing implements StateStore {
  readonly #store: StateStore;
  isBelieving = false;
  refusedCount = 0;

  constructor(store: StateStore) {
    this.#store = store;
  }

  readonly read: StateStore['read'] = (prefix) => this.#store.read(prefix);

  readonly compact: StateStore['compact'] = (revision) => this.#store.compact(revision);

  readonly close: StateStore['close'] = () => this.#store.close();

  readonly commit: StateStore['commit'] = async (commit) => {
    const result = await this.#store.commit(commit);
    if (!result.applied && this.isBelieving) this.refusedCount += 1;
    return result;
  };

  readonly watch: StateStore['watch'] = (prefix, afterRevision, listener) =>
    this.#store.watch(prefix, afterRevision, {
      changed: (batch) => {
        if (!this.isBelieving) listener.changed(batch);
      },
      lost: (reason) => {
        if (!this.isBelieving) listener.lost(reason);
      },
    });

  readonly lease: StateStore['lease'] = async (ttlMs): Promise<StateLease> => {
    const lease = await this.#store.lease(ttlMs);
    return {
      id: lease.id,
      keepAlive: () => (this.isBelieving ? Promise.resolve() : lease.keepAlive()),
      remainingMs: () => (this.isBelieving ? ttlMs : lease.remainingMs()),
      revoke: () => lease.revoke(),
    };
  };
}

t.test(
  'what a leader decides after another one was elected is refused, and everybody goes to that one',
  needs({ commands: ['etcd'] }),
  async (t) => {
    const etcd = await EtcdCluster.start(t);
    const cluster = new LiveCluster(t, { etcd });
    const store = new Believing(await cluster.openState());
    const old = await cluster.addMaster(store);
    await until('the first leads', () => old.master.isLeader);
    const daemon = await cluster.addDaemon();
    const other = await cluster.addMaster(await cluster.openState());
    await until('the other follows', () => other.master.leaderPlaces() !== null);
    const guide = await cluster.guide();
    await guide.createPool('before');
    // The daemon knows the first only, which names the other as soon as it knows better.
    store.isBelieving = true;
    await until('the other leads', () => other.master.isLeader);
    t.ok(old.master.isLeader, 'both believe in themselves');
    t.ok(daemon.member.isConnected);

    t.equal(
      await codeOf(old.master.admin.createPool('lost', { groups: 4 }, false)),
      'E_NOT_LEADER',
    );
    t.ok(store.refusedCount > 0, 'the store has refused it');
    t.notOk(old.master.isLeader, 'now it knows');
    store.isBelieving = false;
    await guide.administer('pool create', { name: 'kept', groups: 4, dryRun: false });
    t.same(
      other.master.state.map.pools.map(({ name }) => name),
      ['before', 'kept'],
    );
    await until(
      'the daemon has found the other',
      () => daemon.member.view?.poolNamed('kept') !== undefined,
    );
    await until('the first follows', () => old.master.leaderPlaces() !== null);
    t.equal(old.master.leaderPlaces()?.listen, other.master.places.listen);
    await guide.close();
  },
);

t.test(
  'a client that asks a deposed leader is told so, and asks the one that leads',
  needs({ commands: ['etcd'] }),
  async (t) => {
    const etcd = await EtcdCluster.start(t);
    const cluster = new LiveCluster(t, { etcd });
    const store = new Believing(await cluster.openState());
    const old = await cluster.addMaster(store);
    await until('the first leads', () => old.master.isLeader);
    const other = await cluster.addMaster(await cluster.openState());
    const guide = await cluster.guide();
    store.isBelieving = true;
    await until('the other leads', () => other.master.isLeader);
    t.ok(old.master.isLeader, 'both believe in themselves');
    // It is asked at the first, which cannot store it, and then done once at the other.
    await guide.administer('pool create', { name: 'p', groups: 4, dryRun: false });
    t.ok(store.refusedCount > 0, 'the first was asked');
    t.ok(other.master.state.map.pools.some(({ name }) => name === 'p'));
    t.notOk(old.master.isLeader);
    await guide.close();
  },
);

t.test('a master that has read an old state finds out before it gives up', async (t) => {
  const cluster = await LiveCluster.start(t, 1);
  const [daemon] = cluster.daemons;
  const [first] = cluster.masters.splice(0);
  if (first === undefined) throw new Error('there is a master');
  const read = await first.store.read('');
  const before = { ...read, entries: read.entries.filter(({ key }) => key !== 'leader') };
  await first.master.admin.createPool('p', { groups: 4 }, false);
  await until('the daemon has it', () => daemon?.member.view?.poolNamed('p') !== undefined);
  await first.stop();

  // As etcd 3.4 can answer after a pause: the first read of all is of a moment ago.
  const state = await EmbeddedState.open(liveEnv, join(cluster.folder, 'state'), { create: false });
  let reads = 0;
  const old: StateStore = {
    read: async (prefix) => {
      if (prefix !== '') return state.read(prefix);
      reads += 1;
      return reads === 1 ? before : state.read(prefix);
    },
    commit: (commit) => state.commit(commit),
    watch: (...watch) => state.watch(...watch),
    lease: (ttlMs) => state.lease(ttlMs),
    compact: (revision) => state.compact(revision),
    close: () => state.close(),
  };
  const second = await cluster.addMaster(old, { replaces: first });
  await until('it leads', () => second.master.isLeader);
  await until('the daemon is there', () => daemon?.member.isConnected === true);
  t.equal(second.master.trouble, null);
  t.ok(reads > 1, 'it was read again');
  t.same(
    second.master.state.map.pools.map(({ name }) => name),
    ['p'],
  );
});
