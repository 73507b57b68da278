/** The keys of an association's datagrams: one per direction, so that nothing can be sent back to who sealed it. */
import { hkdfSync } from 'node:crypto';
import { StoreError } from '../util/errors.js';
import { invariant } from '../util/invariant.js';
import { NONCE_BYTES } from './proof.js';

const KEY_BYTES = 32;
const SHARED_KEY_BYTES_MIN = 32;
const LABELS = {
  toDaemon: Buffer.from('store datagrams 1 client to daemon'),
  toClient: Buffer.from('store datagrams 1 daemon to client'),
} as const;

/** AES-256 keys: the client seals with `toDaemon` and opens with `toClient`, the daemon the other way round. */
export interface DatagramKeys {
  readonly toDaemon: Buffer;
  readonly toClient: Buffer;
}

/**
 * Derives the keys of one association (HKDF-SHA256, RFC 5869). Both sides put a nonce of their own in, so the keys
 * are new even if the other side repeats itself; then counters may start at 1 again.
 * @param sharedKey - Of a ticket, or what both got over TLS; at least 32 bytes.
 * @throws StoreError `E_BAD_FRAME` if a nonce does not have 32 bytes: one comes from the other side
 */
export function deriveDatagramKeys(
  sharedKey: Buffer,
  clientNonce: Buffer,
  daemonNonce: Buffer,
): DatagramKeys {
  invariant(sharedKey.length >= SHARED_KEY_BYTES_MIN, 'a shared key has at least 32 bytes');
  for (const nonce of [clientNonce, daemonNonce])
    if (nonce.length !== NONCE_BYTES)
      throw new StoreError('E_BAD_FRAME', `A nonce has ${NONCE_BYTES} bytes, not ${nonce.length}`);
  const salt = Buffer.concat([clientNonce, daemonNonce]); // both of a fixed length
  const derive = (label: Buffer): Buffer =>
    Buffer.from(hkdfSync('sha256', sharedKey, salt, label, KEY_BYTES));
  return { toDaemon: derive(LABELS.toDaemon), toClient: derive(LABELS.toClient) };
}
