import {
  momentText,
  PoolSecret,
  SECRET_FILE_BYTES_MAX,
  SECRET_FORMAT,
  StoreError,
  TICKET_FORMAT,
  TicketFile,
} from '@store/core';
import { quote } from '../attach-advice.js';
import { readTextFile } from '../read-text-file.js';

const FOR_OTHERS = 0o077;

/** What can be said of a file that holds a secret. */
export interface KeyFileDescription {
  /** For programs. */
  readonly facts: Readonly<Record<string, unknown>>;
  /** For people. */
  readonly lines: readonly string[];
}

/**
 * Says what a secret or ticket file is.
 * @param now - Seconds since 1970.
 * @throws StoreError `E_SYSTEM`, `E_INVALID`; none shows what must stay secret
 */
export async function describeKeyFile(path: string, now: number): Promise<KeyFileDescription> {
  const { text, mode } = await readTextFile(path, SECRET_FILE_BYTES_MAX);
  const isPrivate = (mode & FOR_OTHERS) === 0;
  const warning = isPrivate ? [] : [`warning      others can get at it; chmod 600 ${quote(path)}`];
  const { facts, lines } = describe(path, text, now);
  return { facts: { ...facts, private: isPrivate }, lines: [...lines, ...warning] };
}

function describe(path: string, text: string, now: number): KeyFileDescription {
  if (text.includes(SECRET_FORMAT)) return ofSecret(PoolSecret.parse(path, text));
  if (text.includes(TICKET_FORMAT)) return ofTicket(TicketFile.parse(path, text), now);
  throw new StoreError('E_INVALID', `${path} is neither a pool secret nor a ticket`);
}

function ofSecret(secret: PoolSecret): KeyFileDescription {
  const { pool, generation } = secret;
  const fingerprint = secret.fingerprint();
  return {
    facts: { kind: 'pool secret', pool, generation, fingerprint },
    lines: [
      'kind         the secret of a pool',
      `pool         ${pool}`,
      `generation   ${generation}`,
      `fingerprint  ${fingerprint}`,
    ],
  };
}

function ofTicket({ ticket }: TicketFile, now: number): KeyFileDescription {
  const isExpired = now >= ticket.expires;
  return {
    facts: { kind: 'ticket', ...ticket, expired: isExpired },
    lines: [
      'kind         the ticket of a client',
      `client       ${ticket.client}`,
      `pool         ${ticket.pool}`,
      `rights       ${ticket.rights}`,
      `issued       ${momentText(ticket.issued)}`,
      `expires      ${momentText(ticket.expires)}${isExpired ? ' (expired)' : ''}`,
      `id           ${ticket.id}`,
      `generation   ${ticket.generation} of the pool's secret`,
    ],
  };
}
