/**
 * Tickets and clients that are refused before their time is over. A text file, one a line:
 *
 *     # lost notebook
 *     3f0c5a9e7d214b6880f1c2d3e4a5b697
 *     client build-host-7
 */
import { StoreError } from '../util/errors.js';
import type { Ticket } from './ticket.js';
import { ticketNameProblem } from './ticket-name.js';

const CLIENT_WORD = 'client ';

/** What a blocklist says. */
export class Blocklist {
  readonly #ids: ReadonlySet<string>;
  readonly #clients: ReadonlySet<string>;

  /** @param ids - Of tickets, 32 hexadecimal digits in small letters. */
  constructor(ids: Iterable<string> = [], clients: Iterable<string> = []) {
    this.#ids = new Set(ids);
    this.#clients = new Set(clients);
  }

  /**
   * Reads the text of a file. A line that is not understood is refused, not skipped: it was meant to keep
   * somebody out.
   * @param path - For messages.
   * @throws StoreError `E_INVALID` naming the line
   */
  static parse(path: string, text: string): Blocklist {
    const ids: string[] = [];
    const clients: string[] = [];
    for (const [index, line] of text.split(/\r?\n/).entries()) {
      if (line === '' || line.startsWith('#')) continue;
      if (/^[0-9a-f]{32}$/i.test(line)) ids.push(line.toLowerCase());
      else clients.push(clientOf(line, `${path}, line ${index + 1}`));
    }
    return new Blocklist(ids, clients);
  }

  /** How many tickets and clients it names. */
  get size(): number {
    return this.#ids.size + this.#clients.size;
  }

  /** What of a ticket is revoked, or null. */
  revokedBy(ticket: Ticket): 'ticket' | 'client' | null {
    if (this.#ids.has(ticket.id)) return 'ticket';
    return this.#clients.has(ticket.client) ? 'client' : null;
  }
}

function clientOf(line: string, place: string): string {
  if (!line.startsWith(CLIENT_WORD))
    throw new StoreError(
      'E_INVALID',
      `${place}: Neither the id of a ticket (32 hexadecimal digits) nor: client NAME`,
    );
  const name = line.slice(CLIENT_WORD.length);
  const problem = ticketNameProblem(name);
  if (problem !== null)
    throw new StoreError('E_INVALID', `${place}: The name of the client ${problem}`);
  return name;
}
