/**
 * The secret of a pool: 32 random bytes that its daemons and whoever hands out tickets know. From it and all fields
 * of a ticket comes the key of that ticket, so a daemon knows the key of a ticket it has never seen. Generations
 * number the secrets of one pool: while they are changed, daemons know the old and the new one.
 *
 * One file holds one secret, so that generations come and go as files do.
 */
import { hkdfSync } from 'node:crypto';
import type { Random } from '../env/env.js';
import { StoreError } from '../util/errors.js';
import { invariant } from '../util/invariant.js';
import { parseBase64url, parseSecretDocument } from './secret-document.js';
import { ticketNameProblem } from './ticket-name.js';

export const SECRET_FORMAT = 'store pool secret 1';
export const SECRET_BYTES = 32;
export const GENERATION_MAX = 0xffff_ffff;
/** Node refuses longer ones. */
const HKDF_INFO_BYTES_MAX = 1024;
const FINGERPRINT_BYTES = 8;

/** One secret. It shows its bytes to nobody who prints it: they leave through `toText` alone. */
export class PoolSecret {
  readonly pool: string;
  /** 1 to 2^32-1; a later secret has a larger one. */
  readonly generation: number;
  readonly #bytes: Buffer;

  private constructor(pool: string, generation: number, bytes: Buffer) {
    invariant(bytes.length === SECRET_BYTES, 'a pool secret has 32 bytes');
    this.pool = pool;
    this.generation = generation;
    this.#bytes = bytes;
  }

  /** A new secret. @throws StoreError `E_INVALID` if the name or the generation cannot be */
  static create(pool: string, generation: number, random: Random): PoolSecret {
    const problem = ticketNameProblem(pool);
    if (problem !== null) throw new StoreError('E_INVALID', `The name of the pool ${problem}`);
    if (!isGeneration(generation))
      throw new StoreError('E_INVALID', `A generation is a number from 1 to ${GENERATION_MAX}`);
    return new PoolSecret(pool, generation, random.bytes(SECRET_BYTES));
  }

  /**
   * Reads the text of a file.
   * @param path - For messages.
   * @throws StoreError `E_INVALID` that shows nothing of the secret
   */
  static parse(path: string, text: string): PoolSecret {
    const { pool, generation, secret } = parseSecretDocument(path, text, {
      what: 'pool secret',
      format: SECRET_FORMAT,
      fields: ['pool', 'generation', 'secret'],
    });
    const problem = typeof pool === 'string' ? ticketNameProblem(pool) : 'is not a text';
    if (typeof pool !== 'string' || problem !== null)
      throw new StoreError('E_INVALID', `${path}: "pool" ${problem ?? 'is not a text'}`);
    if (!isGeneration(generation))
      throw new StoreError(
        'E_INVALID',
        `${path}: "generation" is not a number from 1 to ${GENERATION_MAX}`,
      );
    const bytes = parseBase64url(secret);
    if (bytes?.length !== SECRET_BYTES)
      throw new StoreError(
        'E_INVALID',
        `${path}: "secret" is not ${SECRET_BYTES} bytes in base64url`,
      );
    return new PoolSecret(pool, generation, bytes);
  }

  /** The text of the file that holds it. */
  toText(): string {
    const { pool, generation } = this;
    const secret = this.#bytes.toString('base64url');
    return `${JSON.stringify({ format: SECRET_FORMAT, pool, generation, secret })}\n`;
  }

  /** Tells this secret from others without telling anything about it: 16 hexadecimal digits. */
  fingerprint(): string {
    const info = Buffer.from('store pool secret fingerprint 1');
    return this.deriveKey(info).toString('hex', 0, FINGERPRINT_BYTES);
  }

  /**
   * 32 bytes for the purpose that `info` names (HKDF-SHA256, RFC 5869, without salt: the secret is random already).
   * @param info - At most 1024 bytes.
   */
  deriveKey(info: Buffer): Buffer {
    invariant(info.length <= HKDF_INFO_BYTES_MAX, 'the info of HKDF has at most 1 KiB');
    return Buffer.from(hkdfSync('sha256', this.#bytes, Buffer.alloc(0), info, SECRET_BYTES));
  }
}

function isGeneration(value: unknown): value is number {
  return Number.isInteger(value) && Number(value) >= 1 && Number(value) <= GENERATION_MAX;
}
