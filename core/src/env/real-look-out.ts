/**
 * Looks out for the next request for a moment instead of going to sleep. A client that waits for each answer sends its
 * next request a few microseconds after it; going to sleep and being woken costs more than that, above all on a virtual
 * machine (QEMU's I/O threads and KVM's halt polling do the same, up to 32 and 200 us).
 *
 * It pays only for itself: it is tried when the last gap was short enough that it would have helped, given up after the
 * first time it did not, and not tried while there are other connections to serve or a second processor is missing.
 */
import { availableParallelism } from 'node:os';
import { native } from './real-native.js';

/** How long it looks. */
const LOOK_MS = 0.05;
/** Being woken takes time too: a gap up to this long was one that looking out would have spared. */
const SHORT_GAP_MS = 0.075;
/** After this long the event loop has its turn: timers, other connections, the thread pool's answers. */
const TURN_MS = 1;

const isWorthIt = availableParallelism() > 1;
/** Whoever received last. While it is always the same one, nobody else waits for us. */
let latest: unknown = null;

export class LookOut {
  readonly #native = native();
  readonly #identity: object = {};
  /** When the last bytes had been dealt with. */
  #quietSince = -Infinity;
  #gapIsShort = false;
  #isAlone = false;

  /** Call when bytes arrived through the event loop. */
  arrived(): void {
    this.#gapIsShort = performance.now() - this.#quietSince < SHORT_GAP_MS;
    this.#isAlone = latest === this.#identity;
    latest = this.#identity;
  }

  /**
   * Call when what arrived has been dealt with: receives what comes within a moment.
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
    if (!isWorthIt || !this.#gapIsShort || !this.#isAlone) return;
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
}
