/**
 * Browsers that watch, told by Server-Sent Events: `history` and `status` at once, then `status` and `samples` whenever
 * there is something new, `alive` when there was nothing for a while. A status is written as text once for all of them.
 *
 * Whoever does not read gets nothing more while the last report still waits for it, so that no more than one report is
 * ever kept for a watcher; it gets everything anew when it reads again, and is dropped if it does not.
 */
import type { ServerResponse } from 'node:http';
import { StoreError, type Clock, type Timer, type Timers } from '@store/core';
import type { AdminService } from '../admin/admin-service.js';
import { HttpFailure } from './http-failure.js';
import type { HttpLimits } from './http-limits.js';

export interface EventStreamOptions {
  readonly admin: AdminService;
  /** A master that has stopped to lead knows nothing any more, and its watchers have to go elsewhere. */
  readonly leads: () => boolean;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly limits: HttpLimits;
}

interface Watcher {
  readonly response: ServerResponse;
  /** When it had taken everything, as far as we know. */
  readAt: number;
  /** It did not get all samples. */
  hasMissed: boolean;
}

export class EventStream {
  readonly #options: EventStreamOptions;
  readonly #watchers = new Set<Watcher>();
  #unwatch: (() => void) | null = null;
  #timer: Timer | null = null;
  #pushedAt = -Infinity;
  /** Time of the newest sample that was pushed. */
  #sampledAt = -Infinity;

  constructor(options: EventStreamOptions) {
    this.#options = options;
  }

  /** Goes on answering until either side ends it. @throws HttpFailure 503 if there are too many; StoreError */
  add(response: ServerResponse): void {
    const { limits, admin, clock } = this.#options;
    if (this.#watchers.size >= limits.watchers)
      throw new HttpFailure(503, 'E_BUSY', `${limits.watchers} browsers watch already`, {
        'retry-after': '30',
      });
    const all = this.#all();
    if (this.#watchers.size === 0)
      this.#sampledAt = admin.history().samples.at(-1)?.time ?? -Infinity;
    const watcher: Watcher = { response, readAt: clock.now(), hasMissed: false };
    this.#watchers.add(watcher);
    response.on('close', () => this.#remove(watcher));
    response.on('error', () => this.#remove(watcher));
    response.writeHead(200, { 'content-type': 'text/event-stream; charset=utf-8' });
    response.write(all);
    this.#unwatch ??= admin.watch(() => this.#changed());
    if (this.#timer === null) this.#wait(limits.aliveMs);
  }

  get count(): number {
    return this.#watchers.size;
  }

  /** Ends all of them. */
  close(): void {
    for (const { response } of this.#watchers) response.end();
    this.#watchers.clear();
    this.#stop();
  }

  #remove(watcher: Watcher): void {
    this.#watchers.delete(watcher);
    if (this.#watchers.size === 0) this.#stop();
  }

  #stop(): void {
    this.#timer?.cancel();
    this.#timer = null;
    this.#unwatch?.();
    this.#unwatch = null;
  }

  #changed(): void {
    if (this.#watchers.size === 0) return;
    const { clock, limits } = this.#options;
    const restMs = this.#pushedAt + limits.pushMs - clock.now();
    if (restMs <= 0) this.#push(true);
    else this.#wait(restMs, true);
  }

  #wait(ms: number, isChanged = false): void {
    this.#timer?.cancel();
    this.#timer = this.#options.timers.after(ms, () => this.#push(isChanged));
  }

  /** Whoever cannot be told any more is sent away: a browser comes again, and hears then what is wrong. */
  #push(isChanged: boolean): void {
    try {
      if (this.#options.leads()) this.#tellAll(isChanged);
      else this.close();
    } catch (error) {
      if (!(error instanceof StoreError)) throw error;
      this.close();
    }
  }

  #tellAll(isChanged: boolean): void {
    const { clock, limits } = this.#options;
    const now = clock.now();
    if (isChanged) this.#pushedAt = now;
    const text = isChanged ? this.#news() : event('alive', {});
    for (const watcher of this.#watchers) this.#tell(watcher, text, now);
    if (this.#watchers.size > 0) this.#wait(limits.aliveMs);
  }

  #news(): string {
    const { admin } = this.#options;
    const { stepSeconds, samples } = admin.history();
    const fresh = samples.filter(({ time }) => time > this.#sampledAt);
    this.#sampledAt = fresh.at(-1)?.time ?? this.#sampledAt;
    const news = event('status', admin.status());
    return fresh.length === 0 ? news : event('samples', { stepSeconds, samples: fresh }) + news;
  }

  #all(): string {
    const { admin } = this.#options;
    return event('history', admin.history()) + event('status', admin.status());
  }

  #tell(watcher: Watcher, text: string, now: number): void {
    const { response } = watcher;
    if (response.writableLength > 0) {
      watcher.hasMissed = true;
      if (now - watcher.readAt > this.#options.limits.stalledMs) response.destroy();
      return;
    }
    response.write(watcher.hasMissed ? this.#all() : text);
    watcher.readAt = now;
    watcher.hasMissed = false;
  }
}

function event(name: string, value: object): string {
  return `event: ${name}\ndata: ${JSON.stringify(value)}\n\n`;
}
