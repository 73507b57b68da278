/**
 * A ticket says what a client may do in a pool, and until when. It is no secret and proves nothing by itself: the
 * proof is to know its key ({@link ticketKey}), which depends on every byte of it. So there is exactly one encoding
 * of a ticket, and the decoder takes nothing else.
 */
import type { Random } from '../env/env.js';
import { StoreError } from '../util/errors.js';
import { invariant } from '../util/invariant.js';
import { isMoment, MOMENT_MAX } from './moment.js';
import { GENERATION_MAX, type PoolSecret } from './pool-secret.js';
import { CLIENT_NAME_BYTES_MAX, ticketNameProblem } from './ticket-name.js';

// Little-endian. Changing it means a new version.
const AT_MAGIC = 0; //           4  "tikt"
const AT_VERSION = 4; //         1  1
const AT_RIGHTS = 5; //          1  1 read, 3 and write, 7 and administer
const AT_CLIENT_BYTES = 6; //    1  1..128
const AT_POOL_BYTES = 7; //      1  1..128
const AT_ID = 8; //             16  random
const AT_ISSUED = 24; //         8  seconds since 1970, up to the year 9999
const AT_EXPIRES = 32; //        8  likewise, later
const AT_GENERATION = 40; //     4  of the pool's secret, from 1
const AT_NAMES = 44; //             the client's name, then the pool's, UTF-8

const MAGIC = Buffer.from('tikt');
const VERSION = 1;
const ID_BYTES = 16;
const RIGHTS_BITS = { r: 1, rw: 3, rwa: 7 } as const;
const KEY_LABEL = Buffer.from('store ticket key 1\0');

/** No ticket is longer: lengths from a peer are checked against it. */
export const TICKET_BYTES_MAX: number = AT_NAMES + 2 * CLIENT_NAME_BYTES_MAX;
invariant(TICKET_BYTES_MAX + KEY_LABEL.length <= 1024, 'a ticket can go into a derived key');

/** `r` read, `w` write, `a` administer: make, resize and remove images. */
export type TicketRights = keyof typeof RIGHTS_BITS;
/** All there are, the smallest first. */
export const TICKET_RIGHTS: readonly TicketRights[] = ['r', 'rw', 'rwa'];

export interface Ticket {
  /** 32 hexadecimal digits, small letters. */
  readonly id: string;
  readonly client: string;
  readonly pool: string;
  /** Which secret of the pool its key comes from. */
  readonly generation: number;
  readonly rights: TicketRights;
  /** Seconds since 1970: no clock that is right met it earlier. */
  readonly issued: number;
  /** Seconds since 1970: from then on it is worth nothing. */
  readonly expires: number;
}

/** Whether `rights` include reading (`r`), writing (`w`) or administering (`a`). */
export function allows(rights: TicketRights, right: 'r' | 'w' | 'a'): boolean {
  return rights.includes(right);
}

/**
 * A new ticket of the secret's pool and generation.
 * @throws StoreError `E_INVALID` if the client's name or the times cannot be
 */
export function makeTicket(
  secret: PoolSecret,
  fields: Pick<Ticket, 'client' | 'rights' | 'issued' | 'expires'>,
  random: Random,
): Ticket {
  const { pool, generation } = secret;
  const id = random.bytes(ID_BYTES).toString('hex');
  const ticket = { id, pool, generation, ...fields };
  const problem = problemOf(ticket);
  if (problem !== null) throw new StoreError('E_INVALID', problem);
  return ticket;
}

/** The one encoding of a ticket, at most {@link TICKET_BYTES_MAX} bytes. */
export function encodeTicket(ticket: Ticket): Buffer {
  const problem = problemOf(ticket);
  invariant(problem === null, `a ticket that is written can be read: ${problem ?? ''}`);
  const client = Buffer.from(ticket.client);
  const pool = Buffer.from(ticket.pool);
  const out = Buffer.alloc(AT_NAMES + client.length + pool.length);
  MAGIC.copy(out, AT_MAGIC);
  out[AT_VERSION] = VERSION;
  out[AT_RIGHTS] = RIGHTS_BITS[ticket.rights];
  out[AT_CLIENT_BYTES] = client.length;
  out[AT_POOL_BYTES] = pool.length;
  out.write(ticket.id, AT_ID, 'hex');
  writeUint64(out, AT_ISSUED, ticket.issued);
  writeUint64(out, AT_EXPIRES, ticket.expires);
  out.writeUInt32LE(ticket.generation, AT_GENERATION);
  client.copy(out, AT_NAMES);
  pool.copy(out, AT_NAMES + client.length);
  return out;
}

/**
 * Reads what a client shows.
 * @param bytes - The whole ticket and nothing else; not kept.
 * @throws StoreError `E_DENIED` saying what is wrong
 */
export function decodeTicket(bytes: Buffer): Ticket {
  if (bytes.length < AT_NAMES || bytes.length > TICKET_BYTES_MAX)
    throw denied(`a ticket does not have ${bytes.length} bytes`);
  if (!bytes.subarray(AT_MAGIC, AT_MAGIC + MAGIC.length).equals(MAGIC))
    throw denied('it is something else');
  if (bytes[AT_VERSION] !== VERSION)
    throw denied(`it has version ${bytes[AT_VERSION] ?? 0}, and this program reads ${VERSION}`);
  const rights = TICKET_RIGHTS.find((one) => RIGHTS_BITS[one] === bytes[AT_RIGHTS]);
  if (rights === undefined) throw denied('it has rights that there are not');
  const clientEnd = AT_NAMES + (bytes[AT_CLIENT_BYTES] ?? 0);
  if (clientEnd + (bytes[AT_POOL_BYTES] ?? 0) !== bytes.length)
    throw denied('it is longer or shorter than it says');
  const ticket: Ticket = {
    id: bytes.toString('hex', AT_ID, AT_ID + ID_BYTES),
    client: readName(bytes, AT_NAMES, clientEnd),
    pool: readName(bytes, clientEnd, bytes.length),
    generation: bytes.readUInt32LE(AT_GENERATION),
    rights,
    issued: readUint64(bytes, AT_ISSUED),
    expires: readUint64(bytes, AT_EXPIRES),
  };
  const problem = problemOf(ticket);
  if (problem !== null) throw denied(problem.charAt(0).toLowerCase() + problem.slice(1));
  return ticket;
}

/**
 * The key of a ticket, 32 bytes: known to its client, and to whoever knows the secret.
 * @param secret - The one of the ticket's pool and generation.
 * @param ticketBytes - As {@link encodeTicket} makes them.
 */
export function ticketKey(secret: PoolSecret, ticketBytes: Buffer): Buffer {
  invariant(ticketBytes.length <= TICKET_BYTES_MAX, 'the bytes are of a ticket');
  return secret.deriveKey(Buffer.concat([KEY_LABEL, ticketBytes]));
}

/** What is wrong with the fields, as a sentence, or null. */
function problemOf(ticket: Ticket): string | null {
  if (!/^[0-9a-f]{32}$/.test(ticket.id)) return 'The id is not 16 bytes in hexadecimal';
  for (const what of ['client', 'pool'] as const) {
    const problem = ticketNameProblem(ticket[what]);
    if (problem !== null) return `The name of the ${what} ${problem}`;
  }
  const { generation } = ticket;
  if (!Number.isInteger(generation) || generation < 1 || generation > GENERATION_MAX)
    return 'The generation is out of range';
  if (!isMoment(ticket.issued) || !isMoment(ticket.expires))
    return `The time is out of range: seconds go up to ${MOMENT_MAX}, the end of the year 9999`;
  if (ticket.expires <= ticket.issued) return 'It expires before it was issued';
  return null;
}

function denied(why: string): StoreError {
  return new StoreError('E_DENIED', `What was shown cannot be used as a ticket: ${why}`);
}

/** A name that is not valid UTF-8 would not be encoded to the same bytes again. */
function readName(bytes: Buffer, from: number, to: number): string {
  const raw = bytes.subarray(from, to);
  const name = raw.toString();
  if (!Buffer.from(name).equals(raw)) throw denied('a name in it is not valid UTF-8');
  return name;
}

function writeUint64(out: Buffer, at: number, value: number): void {
  out.writeUInt32LE(value % 2 ** 32, at);
  out.writeUInt32LE(Math.floor(value / 2 ** 32), at + 4);
}

/** Inexact above 2^53, and then out of every range that is checked here. */
function readUint64(bytes: Buffer, at: number): number {
  return bytes.readUInt32LE(at + 4) * 2 ** 32 + bytes.readUInt32LE(at);
}
