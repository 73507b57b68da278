/**
 * The connection to the master. It says what came and how it is; it tries again by itself, less and less often. A
 * connection on which nothing comes any more, not even a sign of life, is lost too, whatever the network thinks.
 */
/** @import { ClusterStatus, TrafficHistory } from '@store/core' */

const SILENCE_MS_MAX = 40_000;
const RETRY_MS_MIN = 1000;
const RETRY_MS_MAX = 15_000;
const EVENTS_URL = 'api/v1/events';

/**
 * @typedef {object} LiveEvents
 * @property {(status: ClusterStatus) => void} status
 * @property {(history: TrafficHistory) => void} history - All of it
 * @property {(history: TrafficHistory) => void} samples - What is new
 * @property {() => void} live
 * @property {(why: string) => void} lost - One sentence
 */

export class Live {
  /** @type {LiveEvents} */
  #events;
  /** @type {EventSource | null} */
  #source = null;
  #retryMs = RETRY_MS_MIN;
  #retryTimer = 0;
  #silenceTimer = 0;

  /** @param {LiveEvents} events */
  constructor(events) {
    this.#events = events;
  }

  /** Connects now, whatever was planned. */
  connect() {
    this.#disconnect();
    const source = new EventSource(EVENTS_URL);
    this.#source = source;
    this.#listen();
    source.addEventListener('error', () => void this.#lost());
    const { status, history, samples, live } = this.#events;
    this.#on('status', (data) => {
      status(/** @type {ClusterStatus} */ (parsed(data)));
      this.#retryMs = RETRY_MS_MIN;
      live();
    });
    this.#on('history', (data) => history(/** @type {TrafficHistory} */ (parsed(data))));
    this.#on('samples', (data) => samples(/** @type {TrafficHistory} */ (parsed(data))));
    this.#on('alive', () => undefined);
  }

  /**
   * @param {string} name
   * @param {(data: string) => void} take
   */
  #on(name, take) {
    this.#source?.addEventListener(name, (/** @type {MessageEvent<string>} */ event) => {
      this.#listen();
      take(event.data);
    });
  }

  /** Counts silence from now on. */
  #listen() {
    clearTimeout(this.#silenceTimer);
    this.#silenceTimer = setTimeout(() => void this.#lost(), SILENCE_MS_MAX);
  }

  async #lost() {
    this.#disconnect();
    this.#retryTimer = setTimeout(() => this.connect(), this.#retryMs * (0.75 + Math.random() / 2));
    this.#retryMs = Math.min(this.#retryMs * 2, RETRY_MS_MAX);
    this.#events.lost('The master does not answer.');
    const why = await reason();
    if (why !== null && this.#source === null) this.#events.lost(why);
  }

  #disconnect() {
    clearTimeout(this.#retryTimer);
    clearTimeout(this.#silenceTimer);
    this.#source?.close();
    this.#source = null;
  }
}

/** Asks what an `EventSource` does not tell; null: nobody answers. Where another master leads, the page moves there. */
async function reason() {
  try {
    const response = await fetch('api/v1/status', {
      redirect: 'manual',
      signal: AbortSignal.timeout(5000),
    });
    if (response.type === 'opaqueredirect') {
      location.reload();
      return 'Another master leads now.';
    }
    if (response.ok) return null;
    const failure = /** @type {{ message?: unknown }} */ (parsed(await response.text()));
    return typeof failure.message === 'string' ? `${failure.message}.` : null;
  } catch {
    return null; // no answer, or none of a master
  }
}

/**
 * What comes is taken at its word: it comes from the master that sent this page.
 * @param {string} text
 * @returns {unknown}
 */
function parsed(text) {
  return JSON.parse(text);
}
