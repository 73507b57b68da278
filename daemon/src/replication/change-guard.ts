/**
 * Raises the guard of an image in one group, or removes it, at the group's primary.
 *
 * It counts from the moment it is let in: what comes later with a lower claim is refused. It is answered when all who must
 * have the record have it, and all changes that were let in before are answered; so whatever a former writer still sends,
 * wherever it was held up, is not made after that. If this primary dies before, its successor goes by what it has stored:
 * the raise was made or it was not, and whoever asked for it asks again.
 */
import {
  encodeGuard,
  guardRef,
  StoreError,
  WRITE_FLAGS,
  type Done,
  type GuardChange,
} from '@store/core';
import { EVERY_BLOCK } from './change.js';
import type { GroupPrimary } from './group-primary.js';
import type { ReplicaPool } from './replica-pool.js';

export interface GuardWork {
  readonly store: ReplicaPool;
  readonly groupCount: number;
  readonly change: GuardChange;
  /** That whoever asks believes in. */
  readonly epoch: number;
  readonly done: Done;
}

export function changeGuard(primary: GroupPrimary, work: GuardWork): void {
  const { change, epoch, done } = work;
  primary.admit(
    epoch,
    true,
    () => {
      const refusal = primary.guards.change(change);
      if (refusal !== null) {
        primary.proveLease((late) => done(late ?? refusal));
        return;
      }
      let left = 2;
      let failed: StoreError | null = null;
      const part: Done = (error) => {
        failed ??= error;
        left -= 1;
        if (left === 0) done(failed);
      };
      primary.rounds.whenOver(() => part(null));
      keep(primary, work, part);
    },
    done,
  );
}

/** Also what is there already: the one who wrote it may not have come to its end. */
function keep(primary: GroupPrimary, { store, groupCount, change }: GuardWork, done: Done): void {
  const { first, last } = EVERY_BLOCK;
  const image = change.kind === 'raise' ? change.guard.image : change.image;
  const ref = guardRef(image, primary.number, groupCount);
  primary.running += 1;
  const made: Done = (error) => {
    primary.running -= 1;
    if (error === null) primary.whenCommitted(ref, first, last, done);
    else primary.proveRead(ref, first, last, (late) => done(late ?? error));
  };
  if (change.kind === 'raise')
    store.write(ref, 0, [encodeGuard(change.guard)], WRITE_FLAGS.none, made);
  else
    store.delete(ref).then(
      () => made(null),
      (error: unknown) => {
        if (!(error instanceof StoreError)) throw error;
        made(error);
      },
    );
}
