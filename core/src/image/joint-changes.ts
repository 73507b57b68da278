/**
 * Changes of an image that are made in several parts, each of which is answered by itself. A flush is told of a loss of all
 * that was answered before it was called, parts as well, and is told of it once. But whoever waits for the whole change
 * was told nothing before that flush, and may go by the next one. So a change of which a part may be among what a flush was
 * told is lost fails, or if it was answered meanwhile, the next flush fails once more.
 */
import type { Done, StoreError } from '../util/errors.js';

interface JointChange {
  /** A flush that was called while it was under way was told of a loss. */
  loss: StoreError | null;
  /** It was answered, without an error. */
  isMade: boolean;
}

export class JointChanges {
  readonly #underWay = new Set<JointChange>();
  /** Of a change that was answered, and whose parts may be lost; nobody was told who had its answer. */
  #untold: StoreError | null = null;

  /** A change begins. @returns What ends it, in place of `done` */
  begin(done: Done): Done {
    const change: JointChange = { loss: null, isMade: false };
    this.#underWay.add(change);
    return (error) => {
      this.#underWay.delete(change);
      const failure = error ?? change.loss;
      change.isMade = failure === null;
      done(failure);
    };
  }

  /** A flush is called. @returns What ends it, in place of `done` */
  flush(done: Done): Done {
    const untold = this.#untold;
    // Nearly always.
    if (untold === null && this.#underWay.size === 0) return done;
    const underWay = [...this.#underWay];
    return (error) => {
      // Flushes that were called meanwhile tell it as well.
      const isTold = error === null || error.code === 'E_LOST_WRITES';
      if (isTold && this.#untold === untold) this.#untold = null;
      if (error?.code === 'E_LOST_WRITES')
        for (const change of underWay)
          if (change.isMade) this.#untold = error;
          else change.loss = error;
      done(error ?? untold);
    };
  }
}
