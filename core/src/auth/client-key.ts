/** What a client of a cluster keeps: its name and its key, in one file. Whoever can read it is that client. */
import type { Random } from '../env/env.js';
import { StoreError } from '../util/errors.js';
import { invariant } from '../util/invariant.js';
import { parseBase64url, parseSecretDocument } from './secret-document.js';
import { ticketNameProblem } from './ticket-name.js';

const CLIENT_KEY_FORMAT = 'store client key 1';
const CLIENT_KEY_BYTES = 32;

/** A name and its key, which shows itself to nobody who prints this. */
export class ClientKey {
  readonly client: string;
  readonly #key: Buffer;

  private constructor(client: string, key: Buffer) {
    invariant(key.length === CLIENT_KEY_BYTES, 'a client key has 32 bytes');
    this.client = client;
    this.#key = key;
  }

  /** A new key. @throws StoreError `E_INVALID` if the name cannot be */
  static create(client: string, random: Random): ClientKey {
    const problem = ticketNameProblem(client);
    if (problem !== null) throw new StoreError('E_INVALID', `The name of the client ${problem}`);
    return new ClientKey(client, random.bytes(CLIENT_KEY_BYTES));
  }

  /**
   * Reads the text of a file.
   * @param path - For messages.
   * @throws StoreError `E_INVALID` that shows nothing of the key
   */
  static parse(path: string, text: string): ClientKey {
    const { client, key } = parseSecretDocument(path, text, {
      what: 'client key',
      format: CLIENT_KEY_FORMAT,
      fields: ['client', 'key'],
    });
    const problem = typeof client === 'string' ? ticketNameProblem(client) : 'is not a text';
    if (typeof client !== 'string' || problem !== null)
      throw new StoreError('E_INVALID', `${path}: "client" ${problem ?? 'is not a text'}`);
    const bytes = parseBase64url(key);
    if (bytes?.length !== CLIENT_KEY_BYTES)
      throw new StoreError(
        'E_INVALID',
        `${path}: "key" is not ${CLIENT_KEY_BYTES} bytes in base64url`,
      );
    return new ClientKey(client, bytes);
  }

  /** The secret itself. Not to be changed. */
  get key(): Buffer {
    return this.#key;
  }

  /** The text of the file. */
  toText(): string {
    const key = this.#key.toString('base64url');
    return `${JSON.stringify({ format: CLIENT_KEY_FORMAT, client: this.client, key })}\n`;
  }
}
