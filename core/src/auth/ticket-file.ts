/** What a client keeps: its ticket and the ticket's key, in one file. Whoever can read it is that client. */
import { StoreError } from '../util/errors.js';
import type { PoolSecret } from './pool-secret.js';
import { parseBase64url, parseSecretDocument } from './secret-document.js';
import { decodeTicket, encodeTicket, ticketKey, type Ticket } from './ticket.js';

export const TICKET_FORMAT = 'store ticket 1';
const KEY_BYTES = 32;

/** A ticket with its key, which shows itself to nobody who prints this. */
export class TicketFile {
  readonly ticket: Ticket;
  /** What the client shows to a daemon. Not to be changed. */
  readonly ticketBytes: Buffer;
  readonly #key: Buffer;

  private constructor(ticketBytes: Buffer, key: Buffer) {
    this.ticket = decodeTicket(ticketBytes);
    this.ticketBytes = ticketBytes;
    this.#key = key;
  }

  /** The file for a ticket of the pool of `secret`. */
  static of(secret: PoolSecret, ticket: Ticket): TicketFile {
    const bytes = encodeTicket(ticket);
    return new TicketFile(bytes, ticketKey(secret, bytes));
  }

  /**
   * Reads the text of a file. Whether key and ticket belong together only a daemon can say.
   * @param path - For messages.
   * @throws StoreError `E_INVALID` that shows nothing of the key
   */
  static parse(path: string, text: string): TicketFile {
    const document = parseSecretDocument(path, text, {
      what: 'ticket file',
      format: TICKET_FORMAT,
      fields: ['ticket', 'key'],
    });
    const bytes = parseBase64url(document['ticket']);
    if (bytes === null) throw new StoreError('E_INVALID', `${path}: "ticket" is not base64url`);
    const key = parseBase64url(document['key']);
    if (key?.length !== KEY_BYTES)
      throw new StoreError('E_INVALID', `${path}: "key" is not ${KEY_BYTES} bytes in base64url`);
    try {
      return new TicketFile(bytes, key);
    } catch (error) {
      if (!(error instanceof StoreError)) throw error;
      throw new StoreError('E_INVALID', `${path}: ${error.message}`, { cause: error });
    }
  }

  /** The secret that proves who shows the ticket, 32 bytes. Not to be changed. */
  get key(): Buffer {
    return this.#key;
  }

  /** The text of the file. */
  toText(): string {
    const ticket = this.ticketBytes.toString('base64url');
    const key = this.#key.toString('base64url');
    return `${JSON.stringify({ format: TICKET_FORMAT, ticket, key })}\n`;
  }
}
