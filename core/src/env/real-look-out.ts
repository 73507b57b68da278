/**
 * Looks out for what comes next instead of going to sleep: for the next request of a client that waits for each answer,
 * and for the answer while another thread or the disk makes it. Both come within microseconds; going to sleep and being
 * woken costs more than that, above all on a virtual machine (QEMU's I/O threads and KVM's halt polling do the same, up
 * to 32 and 200 us).
 *
 * It pays only for itself: it is tried when the last wait was short enough that it would have helped, given up after the
 * first time it did not, and not tried while there are other connections to serve or a second processor is missing.
 * Connections that bring answers are none of those: a gateway waits for its daemons on behalf of its client.
 *
 * Whoever turns lets others have the processor first. A gateway that waits for daemons on its own machine would keep them
 * from answering otherwise: with it reads one at a time were 1.5 times as many, without it 1.2 (three daemons, two
 * processors).
 */
import { availableParallelism } from 'node:os';
import { native } from './real-native.js';

/**
 * How long it looks for a request. With 50 us random reads and writes one at a time were 0.9-1.1 of nbdkit's, with 100 us
 * 1.3-1.6, with 200 us 1.0-1.4.
 */
const LOOK_MS = 0.1;
/** Being woken takes time too: a gap up to this long was one that looking out would have spared. */
const SHORT_GAP_MS = 0.15;
/** After this long the event loop has its turn: timers, other connections, the thread pool's answers. */
const TURN_MS = 1;
/**
 * The same two for answers: a sync, or a read from the disk. A write and a flush in turn, and cold reads one at a time,
 * were 0.59 and 0.56 of nbdkit's without, and 0.67 and 0.85 with it; 0.3 ms was too short for the sync, and lost.
 */
const ANSWER_MS = 0.6;
const SHORT_ANSWER_MS = 0.8;

const isWorthIt = availableParallelism() > 1 && process.env['STORE_LOOK_OUT'] !== 'off';
/** Whoever received last. While it is always the same one, nobody else sends. */
let latest: unknown = null;
/** Connections that wait for an answer which is not ready: its parts must not wait for us. */
let answering = 0;

export class LookOut {
  readonly #native = native();
  readonly #identity: object = {};
  /** When the last bytes had been dealt with, or the last answer had left. */
  #quietSince = -Infinity;
  #gapIsShort = false;
  #wasAlone = false;
  /** What the event loop turns for instead of sleeping, and until when. */
  #turnsFor: 'peer' | 'answer' | null = null;
  #turnsUntil = 0;
  #isTurning = false;
  /** Since when an answer is being made; null: none is. */
  #busySince: number | null = null;
  #answerIsQuick = true;

  /** Call when bytes arrived through the event loop. */
  arrived(): void {
    this.#gapIsShort = performance.now() - this.#quietSince < SHORT_GAP_MS;
    this.#wasAlone = latest === this.#identity;
    latest = this.#identity;
    this.#turnsFor = null;
    this.#notBusy();
  }

  #isAlone(): boolean {
    return isWorthIt && this.#wasAlone && latest === this.#identity;
  }

  /**
   * Call when what arrived has been dealt with, before the event loop is told where the next bytes shall land: receives
   * what comes within a moment.
   * @param next - Where to put it; null: stop looking
   * @param received - Takes `bytes` that were put there
   */
  look(
    descriptor: number | null,
    next: () => Buffer | null,
    received: (bytes: number) => void,
  ): void {
    const begun = performance.now();
    this.#quietSince = begun;
    if (this.#native === null || descriptor === null) return;
    if (!this.#gapIsShort || !this.#isAlone() || answering > 0) return;
    let now = begun;
    while (now - begun < TURN_MS) {
      const target = next();
      if (target === null) break;
      const bytes = this.#native.receive(descriptor, target);
      if (bytes > 0) {
        received(bytes);
        now = performance.now();
        this.#quietSince = now;
        continue;
      }
      now = performance.now();
      // The end of the stream, and errors, are for the event loop to find.
      if (bytes === 0 || now - this.#quietSince > LOOK_MS) {
        this.#gapIsShort = false;
        break;
      }
    }
  }

  /** Call when the peer waits for an answer that is not ready: the event loop does not sleep for a moment. */
  answering(): void {
    if (this.#busySince === null) answering += 1;
    this.#busySince = performance.now();
    if (this.#answerIsQuick && this.#isAlone()) this.#turn('answer', this.#busySince + ANSWER_MS);
  }

  /**
   * Call when an answer leaves. If it was waited for, the event loop goes on turning until the next request.
   * @returns True if it was waited for: send it at once
   */
  answered(): boolean {
    if (this.#busySince === null) return false;
    const now = performance.now();
    this.#answerIsQuick = now - this.#busySince < SHORT_ANSWER_MS;
    this.#notBusy();
    this.#quietSince = now;
    if (this.#gapIsShort && this.#isAlone()) this.#turn('peer', now + LOOK_MS);
    else this.#turnsFor = null;
    return true;
  }

  /** Call when the connection is gone. */
  closed(): void {
    this.#notBusy();
    this.#turnsFor = null;
  }

  #notBusy(): void {
    if (this.#busySince !== null) answering -= 1;
    this.#busySince = null;
  }

  #turn(what: 'peer' | 'answer', until: number): void {
    this.#turnsFor = what;
    this.#turnsUntil = until;
    if (this.#isTurning) return;
    this.#isTurning = true;
    setImmediate(this.#turned);
  }

  readonly #turned = (): void => {
    if (this.#turnsFor !== null && performance.now() < this.#turnsUntil) {
      this.#native?.yieldProcessor();
      setImmediate(this.#turned);
      return;
    }
    this.#isTurning = false;
    if (this.#turnsFor === 'answer') this.#answerIsQuick = false;
    this.#turnsFor = null;
  };
}
