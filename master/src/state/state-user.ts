/** What the stories about state stores are told with. */
import type { Env, Timer } from '@store/core';
import type { CommitResult, StateBatch, StateListener, StateStore } from './state-store.js';

export const WAIT_MS = 10_000;

/** Waits until `condition` holds. @throws Error naming `what` if that takes longer than `ms` */
export async function until(
  env: Env,
  what: string,
  condition: () => boolean | Promise<boolean>,
  ms: number = WAIT_MS,
): Promise<void> {
  const start = env.clock.now();
  while (!(await condition())) {
    if (env.clock.now() - start > ms) throw new Error(`Not within ${ms} ms: ${what}`);
    await env.timers.sleep(5);
  }
}

/** Sets a key whatever it was. */
export function put(store: StateStore, key: string, value: string): Promise<CommitResult> {
  return store.commit({ conditions: [], changes: [{ key, value: Buffer.from(value) }] });
}

/** The value and revision of one key; null: absent. */
export async function get(
  store: StateStore,
  key: string,
): Promise<{ value: string; revision: number } | null> {
  const { entries } = await store.read(key);
  const entry = entries.find((one) => one.key === key);
  return entry === undefined ? null : { value: entry.value.toString(), revision: entry.revision };
}

/** Notes all that a watch says. */
export class Watcher implements StateListener {
  readonly batches: StateBatch[] = [];
  readonly losses: string[] = [];

  changed(batch: StateBatch): void {
    this.batches.push(batch);
  }

  lost(reason: string): void {
    this.losses.push(reason);
  }

  /** `revision:key=value,key=value` of each batch; a deleted key has no `=`. */
  lines(): string[] {
    return this.batches.map(({ revision, changes }) => {
      const parts = changes.map(({ key, value }) =>
        value === null ? key : `${key}=${value.toString()}`,
      );
      return `${revision}:${parts.sort().join(',')}`;
    });
  }
}

/**
 * An environment and a store of a process that can be made to hang: its clock goes on, timers stand still and the watch
 * says nothing until it goes on.
 */
export class StoppableEnv {
  readonly env: Env;
  readonly #late: (() => void)[] = [];
  #isStopped = false;

  constructor(env: Env) {
    this.env = {
      ...env,
      timers: {
        sleep: (ms) => env.timers.sleep(ms),
        after: (ms, callback): Timer => {
          let isCancelled = false;
          const fire = (): void => {
            if (!isCancelled) callback();
          };
          const timer = env.timers.after(ms, () => {
            if (this.#isStopped) this.#late.push(fire);
            else fire();
          });
          return {
            cancel: () => {
              isCancelled = true;
              timer.cancel();
            },
          };
        },
      },
    };
  }

  /** The same store, as seen by this process. */
  store(store: StateStore): StateStore {
    return {
      read: (prefix) => store.read(prefix),
      commit: (transaction) => store.commit(transaction),
      lease: (ttlMs) => store.lease(ttlMs),
      compact: (revision) => store.compact(revision),
      close: () => store.close(),
      watch: (prefix, afterRevision, listener) => {
        let isOver = false;
        const tell = (event: () => void): void => {
          if (this.#isStopped) this.#late.push(() => tell(event));
          else if (!isOver) event();
        };
        const watch = store.watch(prefix, afterRevision, {
          changed: (batch) => tell(() => listener.changed(batch)),
          lost: (reason) => tell(() => listener.lost(reason)),
        });
        return {
          stop: () => {
            isOver = true;
            watch.stop();
          },
        };
      },
    };
  }

  stop(): void {
    this.#isStopped = true;
  }

  resume(): void {
    this.#isStopped = false;
    for (const fire of this.#late.splice(0)) fire();
  }
}
