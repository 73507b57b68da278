/**
 * When each group was scrubbed last, in a small file of the folder. If it is lost groups are scrubbed earlier than they
 * need be, and nothing else.
 */
import { messageOf, type Disk, type Log } from '@store/core';
import type { ScrubNotes, ScrubTimes } from '../replication/scrub.js';

const FILE = 'scrub';
const FORMAT = 1;

export class ScrubFile implements ScrubNotes {
  readonly #disk: Disk;
  readonly #log: Log;

  constructor(disk: Disk, log: Log) {
    this.#disk = disk;
    this.#log = log;
  }

  read(): ReadonlyMap<string, ScrubTimes> {
    const times = new Map<string, ScrubTimes>();
    try {
      const text = this.#disk.readSmallFile(FILE)?.toString() ?? `{"format":${FORMAT}}`;
      const { format, groups } = JSON.parse(text) as { format?: unknown; groups?: unknown };
      if (format !== FORMAT) throw new Error(`it has format ${String(format)}`);
      for (const entry of Array.isArray(groups) ? (groups as unknown[]) : []) {
        const [key, light, deep] = Array.isArray(entry) ? (entry as unknown[]) : [];
        if (typeof key === 'string' && typeof light === 'number' && typeof deep === 'number')
          times.set(key, { light, deep });
      }
    } catch (error) {
      this.#log.warn({}, `When groups were scrubbed is not known any more: ${messageOf(error)}`);
    }
    return times;
  }

  write(times: ReadonlyMap<string, ScrubTimes>): void {
    const groups = [...times].map(([key, { light, deep }]) => [key, light, deep]);
    const text = `${JSON.stringify({ format: FORMAT, groups })}\n`;
    try {
      this.#disk.writeSmallFile(FILE, Buffer.from(text));
    } catch (error) {
      this.#log.warn({}, `When groups were scrubbed cannot be noted: ${messageOf(error)}`);
    }
  }
}
