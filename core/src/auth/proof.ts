/**
 * The mutual proof that both sides of a connection know the key of a ticket, without saying it: each sends an
 * HMAC-SHA256 over its own role and all that makes this meeting this one. So a proof is worth nothing
 *
 * - sent back to its maker: the role differs;
 * - at another time: each side put a nonce of its own into it;
 * - with another daemon, or the same one after a restart: disk and start are in it;
 * - through somebody in the middle who speaks TLS with both: the exporter value (RFC 5705) of either TLS differs;
 * - with another ticket, were the key ever the same.
 */
import { createHmac, timingSafeEqual } from 'node:crypto';
import { StoreError } from '../util/errors.js';
import { TICKET_BYTES_MAX } from './ticket.js';

export const NONCE_BYTES = 32;
/** Of disk ids and start ids. */
export const IDENTITY_BYTES = 16;
export const PROOF_BYTES = 32;
export const EXPORTER_BYTES_MAX = 64;
/** The label under which both sides export from TLS. */
export const EXPORTER_LABEL = 'EXPORTER-store-ticket-proof';

const FORMAT = Buffer.from('store ticket proof 1');

/** Who makes a proof. */
export type ProofRole = 'client' | 'daemon';

/** What both sides of a meeting know of it. */
export interface Meeting {
  /** 32 random bytes of the client, fresh for this meeting. */
  readonly clientNonce: Buffer;
  /** 32 random bytes of the daemon, likewise. */
  readonly daemonNonce: Buffer;
  /** 16 bytes each. */
  readonly diskId: Buffer;
  readonly startId: Buffer;
  readonly ticketBytes: Buffer;
  /** What both ends of this TLS connection, and nobody else, can compute; empty without TLS. */
  readonly exporter: Buffer;
}

/**
 * What `role` sends to prove that it knows `key`.
 * @returns 32 bytes.
 * @throws StoreError `E_BAD_FRAME` if a field has a length it cannot have: they come from the other side
 */
export function makeProof(key: Buffer, role: ProofRole, meeting: Meeting): Buffer {
  checkLengths(meeting);
  const hmac = createHmac('sha256', key);
  const lengths = Buffer.alloc(4);
  const { clientNonce, daemonNonce, diskId, startId, ticketBytes, exporter } = meeting;
  const roleLabel = Buffer.from(role);
  // Each field with its length before it: what ends one field cannot begin the next.
  for (const field of [
    ...[FORMAT, roleLabel, clientNonce, daemonNonce],
    ...[diskId, startId, ticketBytes, exporter],
  ]) {
    lengths.writeUInt32LE(field.length);
    hmac.update(lengths).update(field);
  }
  return hmac.digest();
}

/**
 * Whether `proof` is the one of `role`; tells nothing by the time it takes.
 * @throws StoreError `E_BAD_FRAME` as {@link makeProof}
 */
export function verifyProof(
  key: Buffer,
  role: ProofRole,
  meeting: Meeting,
  proof: Buffer,
): boolean {
  const expected = makeProof(key, role, meeting);
  return proof.length === PROOF_BYTES && timingSafeEqual(proof, expected);
}

function checkLengths(meeting: Meeting): void {
  const exact = [
    ['clientNonce', NONCE_BYTES],
    ['daemonNonce', NONCE_BYTES],
    ['diskId', IDENTITY_BYTES],
    ['startId', IDENTITY_BYTES],
  ] as const;
  for (const [field, bytes] of exact)
    if (meeting[field].length !== bytes)
      throw new StoreError(
        'E_BAD_FRAME',
        `The ${field} of a proof has ${bytes} bytes, not ${meeting[field].length}`,
      );
  const bounded = [
    ['ticketBytes', TICKET_BYTES_MAX],
    ['exporter', EXPORTER_BYTES_MAX],
  ] as const;
  for (const [field, bytesMax] of bounded)
    if (meeting[field].length > bytesMax)
      throw new StoreError(
        'E_BAD_FRAME',
        `The ${field} of a proof is longer than ${bytesMax} bytes`,
      );
}
