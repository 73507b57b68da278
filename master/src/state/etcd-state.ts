/**
 * The state of several masters in an etcd of their own or of somebody else: all keys stand below `/store/<cluster>/`.
 * What is read is what etcd calls linearizable; even so it decides nothing, see `StateStore`.
 */
import { StoreError, type Env } from '@store/core';
import { EtcdCommitter } from './etcd-commit.js';
import { EtcdFailure } from './etcd-failure.js';
import { EtcdGateway, type EtcdOptions } from './etcd-gateway.js';
import { base64, type EtcdJson } from './etcd-json.js';
import { EtcdLease, storeErrors } from './etcd-lease.js';
import { endOfPrefix, EtcdWatch } from './etcd-watch.js';
import { checkCommit, checkCompaction, checkLeaseMs, checkPrefix } from './state-rules.js';
import type {
  CommitResult,
  StateCommit,
  StateEntry,
  StateLease,
  StateListener,
  StateSnapshot,
  StateStore,
  StateWatch,
} from './state-store.js';

const PAGE_ENTRIES = 500;
/** Reads that were overtaken by a compaction begin anew. */
const READS_MAX = 5;
const WATCHES_MAX = 100;
/** Short enough that nobody waits long for a stream that broke without a word. */
const IDLE_MS = 10_000;
const CLUSTER_NAME = /^[A-Za-z0-9._-]{1,64}$/;

export interface EtcdStateOptions extends EtcdOptions {
  /** Several clusters of ours may share one etcd. */
  readonly cluster: string;
  /** Of a watch; see `EtcdWatch`. */
  readonly idleMs?: number;
}

export class EtcdState implements StateStore {
  readonly #gateway: EtcdGateway;
  readonly #committer: EtcdCommitter;
  readonly #root: string;
  readonly #idleMs: number;
  readonly #watches = new Set<StateWatch>();
  #isClosed = false;

  /**
   * Nothing is sent yet: `read` something to see whether etcd is there.
   * @throws StoreError `E_INVALID` about the options
   */
  constructor(env: Env, options: EtcdStateOptions) {
    if (!CLUSTER_NAME.test(options.cluster))
      throw new StoreError(
        'E_INVALID',
        `'${options.cluster}' is no name for a cluster: up to 64 letters, digits, '.', '_' and '-'`,
      );
    this.#gateway = new EtcdGateway(env, options);
    this.#root = `/store/${options.cluster}/state/`;
    this.#idleMs = options.idleMs ?? IDLE_MS;
    this.#committer = new EtcdCommitter(this.#gateway, {
      state: this.#root,
      ids: `/store/${options.cluster}/commits/`,
    });
  }

  async read(prefix: string): Promise<StateSnapshot> {
    checkPrefix(prefix);
    this.#checkOpen();
    const pages = { entries: PAGE_ENTRIES };
    for (let tries = 1; ; tries += 1) {
      try {
        return await this.#readPages(prefix, pages);
      } catch (error) {
        if (!(error instanceof EtcdFailure)) throw error;
        if (error.kind === 'too-long' && pages.entries > 1)
          pages.entries = Math.ceil(pages.entries / 2);
        else if (error.kind !== 'compacted' || tries >= READS_MAX) throw error.toStoreError();
      }
    }
  }

  async commit(commit: StateCommit): Promise<CommitResult> {
    checkCommit(commit);
    this.#checkOpen();
    return this.#committer.commit(commit);
  }

  watch(prefix: string, afterRevision: number, listener: StateListener): StateWatch {
    checkPrefix(prefix);
    this.#checkOpen();
    if (this.#watches.size >= WATCHES_MAX)
      throw new StoreError('E_BUSY', `There are ${WATCHES_MAX} watches already`);
    const range = { root: this.#root, prefix, afterRevision };
    const watch: EtcdWatch = new EtcdWatch(this.#gateway, range, listener, {
      idleMs: this.#idleMs,
      forget: () => this.#watches.delete(watch),
    });
    this.#watches.add(watch);
    return watch;
  }

  async lease(ttlMs: number): Promise<StateLease> {
    checkLeaseMs(ttlMs);
    this.#checkOpen();
    return storeErrors(EtcdLease.grant(this.#gateway, ttlMs));
  }

  /** It is etcd's history as a whole that is compacted: also for others, if they have keys in the same etcd. */
  async compact(revision: number): Promise<void> {
    this.#checkOpen();
    checkCompaction(revision, await this.#revision());
    if (revision === 0) return;
    const body = { revision: `${revision}` };
    try {
      await this.#gateway.call('/v3/kv/compaction', body, { isRepeatable: true });
    } catch (error) {
      if (!(error instanceof EtcdFailure)) throw error;
      // Somebody did it before; perhaps we ourselves, and the answer was lost.
      if (error.kind !== 'compacted') throw error.toStoreError();
    }
  }

  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    for (const watch of [...this.#watches]) watch.stop();
    try {
      await this.#committer.close();
    } finally {
      this.#gateway.close();
    }
  }

  #checkOpen(): void {
    if (this.#isClosed) throw new StoreError('E_CLOSED', 'The connection to etcd is closed');
  }

  /** At which the whole etcd is. */
  async #revision(): Promise<number> {
    const body = { key: base64(this.#root), count_only: true };
    const options = { isRepeatable: true };
    const { json } = await storeErrors(this.#gateway.call('/v3/kv/range', body, options));
    return json.object('header').number('revision');
  }

  /** All pages of the revision at which the first was read. @throws EtcdFailure */
  async #readPages(prefix: string, pages: { readonly entries: number }): Promise<StateSnapshot> {
    const entries: StateEntry[] = [];
    const end = base64(endOfPrefix(this.#root + prefix));
    let revision = 0;
    for (let from = this.#root + prefix; ;) {
      const body = {
        key: base64(from),
        range_end: end,
        limit: `${pages.entries}`,
        revision: `${revision}`,
      };
      const { json } = await this.#gateway.call('/v3/kv/range', body, { isRepeatable: true });
      // Of later pages it is that of the store by then.
      if (revision === 0) revision = json.object('header').number('revision');
      const page = json.list('kvs').map((entry) => this.#entry(entry));
      entries.push(...page);
      const last = page.at(-1);
      if (last === undefined || !json.flag('more')) return { revision, entries };
      from = `${this.#root}${last.key}\0`;
    }
  }

  #entry(json: EtcdJson): StateEntry {
    const key = json.bytes('key').toString('latin1').slice(this.#root.length);
    return { key, value: json.bytes('value'), revision: json.number('mod_revision') };
  }
}
