/**
 * The ticket of a program that runs longer than its ticket lasts. The daemon ends a connection with its ticket; the
 * client then comes back with what is in the file by then, and its session goes on. So whoever puts a new ticket into
 * the file in time notices nothing, and who does not is warned before the store is out of reach.
 */
import { messageOf, SECRET_FILE_BYTES_MAX, TicketFile } from '@store/core';
import type { Context } from '../program.js';
import { readTextFile } from '../read-text-file.js';

const FOR_OTHERS = 0o007;
/** The file is looked at when so much of a ticket's time is over, and so often from then on. */
const WARN_AFTER = 0.75;
const LOOK_MS_MIN = 60_000;
const LOOK_MS_MAX = 6 * 3_600_000;

export class RenewedTicket {
  readonly #context: Context;
  readonly #path: string;

  constructor(context: Context, path: string) {
    this.#context = context;
    this.#path = path;
  }

  /** The ticket that is in the file. @throws StoreError if there is none */
  async read(): Promise<TicketFile> {
    const path = this.#path;
    const { text, mode } = await readTextFile(path, SECRET_FILE_BYTES_MAX);
    if ((mode & FOR_OTHERS) !== 0)
      this.#context.log.warn({ file: path }, `Every user can get at this ticket; chmod o= ${path}`);
    return TicketFile.parse(path, text);
  }

  /** As `read`, but a file that cannot be used (somebody is just changing it) leaves us with the `present` one. */
  async renew(present: TicketFile): Promise<TicketFile> {
    try {
      return await this.read();
    } catch (error) {
      this.#context.log.warn(
        { file: this.#path },
        `The ticket stays as it was: ${messageOf(error)}`,
      );
      return present;
    }
  }

  /** Warns from now on when a ticket comes to its end. */
  watch({ ticket: { issued, expires } }: TicketFile): void {
    const { clock, timers } = this.#context.env;
    const left = expires - clock.wallSeconds();
    const untilWarning = left - (expires - issued) * (1 - WARN_AFTER);
    const lookAfter = Math.max(untilWarning > 0 ? untilWarning : left / 4, 0) * 1000;
    timers.after(Math.min(Math.max(lookAfter, LOOK_MS_MIN), LOOK_MS_MAX), () => {
      void this.#look(expires);
    });
  }

  async #look(expires: number): Promise<void> {
    const { log, env } = this.#context;
    try {
      const file = await this.read();
      const { issued, expires: newExpires } = file.ticket;
      const isOld = newExpires - env.clock.wallSeconds() < (newExpires - issued) * (1 - WARN_AFTER);
      if (isOld)
        log.warn(
          { file: this.#path, expires: new Date(newExpires * 1000).toISOString() },
          `The ticket expires at ${new Date(newExpires * 1000).toISOString()}, and then the store is out of reach; put a new one into ${this.#path} (store key ticket)`,
        );
      this.watch(file);
    } catch (error) {
      log.warn(
        { file: this.#path },
        `There is no ticket any more: ${messageOf(error)}; the one in use expires at ${new Date(expires * 1000).toISOString()}`,
      );
      env.timers.after(LOOK_MS_MAX, () => void this.#look(expires));
    }
  }
}
