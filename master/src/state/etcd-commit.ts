/**
 * Commits in etcd, with a definite answer whenever etcd can be asked again.
 *
 * When the answer to a transaction is lost, it was applied, or it was not, or it still will be: it may wait in a member
 * that hangs. So each writes a key of its own, under a condition that this key is absent. Whoever lost the answer makes
 * that key itself: if it was there, the transaction was applied; if not, it never can be any more. The same transaction
 * is never sent twice.
 *
 * A full etcd applies a transaction that finds no room only when its turn comes, and answers that there is no space all
 * the same; the key says which it was.
 *
 * These keys are bound to a lease that is changed every few minutes, and a later commit deletes them before. A
 * transaction that comes after its lease is over is refused by etcd.
 */
import { StoreError } from '@store/core';
import { EtcdFailure, type FailureKind } from './etcd-failure.js';
import type { EtcdAnswer, EtcdGateway } from './etcd-gateway.js';
import { base64, type EtcdJson } from './etcd-json.js';
import { EtcdLease } from './etcd-lease.js';
import type { CommitResult, StateCommit } from './state-store.js';

const LEASE_MS = 20 * 60 * 1000;
/** What is left of a lease must outlast every wait for an answer. */
const LEASE_LEFT_MS: number = 10 * 60 * 1000;
/** Old keys that one commit deletes, and how many are remembered for that; the lease takes the others. */
const DELETED_PER_COMMIT = 4;
const REMEMBERED_MAX = 1000;

/** For the last words to etcd. */
const CLOSE_MS = 1000;

const APPLIED = base64('applied');
const REFUSED = base64('refused');

/** After these it is known what to do next. */
const TELLING: ReadonlySet<FailureKind> = new Set(['in-doubt', 'no-lease', 'no-space']);

/** What the key of a transaction says of it. */
type Fate = CommitResult | 'refused' | 'absent';

export class EtcdCommitter {
  readonly #gateway: EtcdGateway;
  /** Of the keys that the state is kept in, and of the keys that say what was applied. */
  readonly #statePrefix: string;
  readonly #idPrefix: string;
  #lease: EtcdLease | null = null;
  #newLease: Promise<EtcdLease> | null = null;
  /** Keys of commits that are over, for certain. */
  readonly #over: string[] = [];

  constructor(gateway: EtcdGateway, prefixes: { state: string; ids: string }) {
    this.#gateway = gateway;
    this.#statePrefix = prefixes.state;
    this.#idPrefix = prefixes.ids;
  }

  /** @throws StoreError as `StateStore.commit` */
  async commit(commit: StateCommit): Promise<CommitResult> {
    if (commit.changes.length === 0) return this.#ask(commit);
    const { clock } = this.#gateway.env;
    const deadline = clock.now() + this.#gateway.patienceMs;
    for (let tries = 1; ; tries += 1) {
      const lease = await this.#currentLease();
      const id = base64(this.#idPrefix + this.#gateway.env.random.bytes(16).toString('hex'));
      const doubt = await this.#once(commit, id, lease, deadline);
      if ('applied' in doubt) return doubt;
      if (doubt.kind === 'no-lease') {
        // Ours or one of the caller's: with a new one of ours it is the caller's.
        this.#lease = null;
        if (tries > 1) throw doubt.toStoreError();
        continue;
      }
      const result =
        doubt.kind === 'no-space'
          ? await this.#lookUp(id, doubt)
          : await this.#findOut(id, lease, doubt);
      if (result === 'absent') throw doubt.toStoreError();
      if (result !== 'refused') return result;
      if (clock.now() >= deadline)
        throw new StoreError(
          'E_UNREACHABLE',
          `etcd did not take the commit within ${this.#gateway.patienceMs} ms, and nothing was changed (${doubt.message}); check that it runs`,
          { cause: doubt },
        );
    }
  }

  /** Whatever is still on its way to etcd is refused there, if etcd can be told so quickly. */
  async close(): Promise<void> {
    try {
      await this.#lease?.revoke(CLOSE_MS);
    } catch (error) {
      this.#gateway.env.log.info({ error }, 'The lease of our commits ends by itself');
    }
  }

  async #ask({ conditions }: StateCommit): Promise<CommitResult> {
    const body = { compare: conditions.map((condition) => this.#compare(condition)) };
    try {
      return resultOf(await this.#gateway.call('/v3/kv/txn', body, { isRepeatable: true }));
    } catch (error) {
      throw error instanceof EtcdFailure ? error.toStoreError() : error;
    }
  }

  /** @returns why the result is not known, `no-space` among that; or `no-lease` */
  async #once(
    commit: StateCommit,
    id: string,
    lease: EtcdLease,
    deadline: number,
  ): Promise<CommitResult | EtcdFailure> {
    const deleted = this.#over.splice(0, DELETED_PER_COMMIT);
    const body = {
      compare: [
        modifiedAt(id, 0),
        ...commit.conditions.map((condition) => this.#compare(condition)),
      ],
      success: [
        ...commit.changes.map((change) => this.#change(change)),
        { request_put: { key: id, value: APPLIED, lease: lease.id } },
        ...deleted.map((key) => ({ request_delete_range: { key } })),
      ],
    };
    const patienceMs = Math.max(1, deadline - this.#gateway.env.clock.now());
    try {
      const answer = await this.#gateway.call('/v3/kv/txn', body, {
        isRepeatable: false,
        patienceMs,
      });
      const result = resultOf(answer);
      if (result.applied && this.#over.length < REMEMBERED_MAX) this.#over.push(id);
      return result;
    } catch (error) {
      if (!(error instanceof EtcdFailure)) throw error;
      if (TELLING.has(error.kind)) return error;
      throw error.toStoreError();
    }
  }

  /** @returns `refused`: it was not applied and never will be. @throws StoreError `E_IN_DOUBT` */
  async #findOut(
    id: string,
    lease: EtcdLease,
    doubt: EtcdFailure,
  ): Promise<CommitResult | 'refused'> {
    const body = {
      compare: [modifiedAt(id, 0)],
      success: [{ request_put: { key: id, value: REFUSED, lease: lease.id } }],
      failure: [{ request_range: { key: id } }],
    };
    try {
      const { json } = await this.#gateway.call('/v3/kv/txn', body, { isRepeatable: true });
      if (json.flag('succeeded')) return 'refused';
      const found = fateIn(json.list('responses')[0]?.object('response_range'));
      if (found !== 'absent') return found;
    } catch (error) {
      if (!(error instanceof EtcdFailure) && !(error instanceof StoreError)) throw error;
      if (!(error instanceof EtcdFailure) || error.kind !== 'no-space') throw inDoubt(doubt, error);
      const found = await this.#lookUp(id, doubt);
      if (found !== 'absent') return found;
    }
    throw inDoubt(doubt, undefined);
  }

  /**
   * Says what was, and settles nothing: it needs no room.
   * @returns `absent`: it was not applied, and may still be if it is on its way
   * @throws StoreError `E_IN_DOUBT`
   */
  async #lookUp(id: string, doubt: EtcdFailure): Promise<Fate> {
    try {
      const { json } = await this.#gateway.call(
        '/v3/kv/range',
        { key: id },
        { isRepeatable: true },
      );
      return fateIn(json);
    } catch (error) {
      if (!(error instanceof EtcdFailure) && !(error instanceof StoreError)) throw error;
      throw inDoubt(doubt, error);
    }
  }

  async #currentLease(): Promise<EtcdLease> {
    if (this.#lease !== null && this.#lease.remainingMs() > LEASE_LEFT_MS) return this.#lease;
    this.#newLease ??= this.#grant().finally(() => {
      this.#newLease = null;
    });
    return this.#newLease;
  }

  async #grant(): Promise<EtcdLease> {
    try {
      this.#lease = await EtcdLease.grant(this.#gateway, LEASE_MS);
      return this.#lease;
    } catch (error) {
      throw error instanceof EtcdFailure ? error.toStoreError() : error;
    }
  }

  #compare({ key, revision }: StateCommit['conditions'][number]): object {
    return modifiedAt(base64(this.#statePrefix + key), revision);
  }

  #change({ key, value, lease }: StateCommit['changes'][number]): object {
    const storedKey = base64(this.#statePrefix + key);
    if (value === null) return { request_delete_range: { key: storedKey } };
    const bound = lease === undefined ? {} : { lease: lease.id };
    return { request_put: { key: storedKey, value: value.toString('base64'), ...bound } };
  }
}

/** For etcd a key that is absent was modified at 0. */
function modifiedAt(key: string, revision: number): object {
  return { key, target: 'MOD', result: 'EQUAL', mod_revision: `${revision}` };
}

function resultOf({ json }: EtcdAnswer): CommitResult {
  return {
    applied: json.flag('succeeded'),
    revision: json.object('header').number('revision'),
  };
}

/** @param range - The answer to a question for the key. */
function fateIn(range: EtcdJson | undefined): Fate {
  const [found] = range?.list('kvs') ?? [];
  switch (found?.text('value')) {
    case APPLIED:
      return { applied: true, revision: found.number('mod_revision') };
    case REFUSED: // ours, from a try whose answer was lost as well
      return 'refused';
    default:
      return 'absent';
  }
}

function inDoubt(doubt: EtcdFailure, cause: unknown): StoreError {
  return new StoreError(
    'E_IN_DOUBT',
    `It is not known whether etcd applied the commit (${doubt.message}), and it cannot be asked; read again what it was about`,
    { cause },
  );
}
