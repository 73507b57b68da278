import type { ExportState } from './server-state.js';
import { Stats } from './stats.js';

interface Page {
  readonly stats: Stats;
  connections: number;
}

/** Names kept after their last connection left; the oldest is forgotten first, and starts from zero if it returns. */
const IDLE_EXPORTS_MAX = 1024;

/** What the exports of a server did since it started. */
export class StatsBook {
  /** In order of last use. */
  readonly #pages = new Map<string, Page>();

  /** A connection begins to use an export. @returns What to count its requests into */
  connected(exportName: string): Stats {
    const page = this.#pages.get(exportName) ?? { stats: new Stats(), connections: 0 };
    page.connections += 1;
    this.#pages.delete(exportName);
    this.#pages.set(exportName, page);
    this.#forgetIdle();
    return page.stats;
  }

  disconnected(exportName: string): void {
    const page = this.#pages.get(exportName);
    if (page !== undefined) page.connections -= 1;
  }

  exports(): ExportState[] {
    return [...this.#pages].map(([name, { stats, connections }]) => ({ name, connections, stats }));
  }

  #forgetIdle(): void {
    let excess = this.#pages.size - IDLE_EXPORTS_MAX;
    for (const [name, { connections }] of this.#pages) {
      if (excess <= 0) return;
      if (connections > 0) continue;
      this.#pages.delete(name);
      excess -= 1;
    }
  }
}
