/**
 * What a server leaves to the one that goes on for it: sockets it listened on, and sessions in the clear, each with
 * what it negotiated and what was received of requests that nobody has executed yet.
 *
 * Who holds an estate owns its descriptors. A session counts only together with all of its `leftover`: the two are
 * one position in the client's byte stream, and a server that has executed a request of it must not leave it again
 * with the old bytes. The record of a session is plain JSON, checked when it is read; the bytes go beside it.
 */
import { closeDescriptor, StoreError, type ListeningDescriptor } from '@store/core';
import type { HeaderKind, Negotiated, SelectedContext } from '../handshake/negotiated.js';
import { EXPORT_BYTES_MAX, PAYLOAD_BYTES_MAX, STRING_BYTES_MAX } from '../protocol/limits.js';

/** One client in the transmission phase, between two requests as far as executing goes. */
export interface HandedSession {
  readonly descriptor: number;
  readonly negotiated: Negotiated;
  /** What the export is called: the name the client used may mean another one elsewhere. */
  readonly openedName: string;
  /** What the client was told of it: size, transmission flags, smallest block. */
  readonly bytes: number;
  readonly flags: number;
  readonly blockBytesMin: number;
  /** The start of the next request and what follows, as far as received. */
  readonly leftover: Buffer;
}

export interface Estate {
  readonly sockets: readonly ListeningDescriptor[];
  readonly sessions: readonly HandedSession[];
}

/** A payload of the longest kind, its header, and what one connection may have read ahead. */
export const LEFTOVER_BYTES_MAX: number = PAYLOAD_BYTES_MAX + 1024 * 1024;

const HEADER_KINDS: readonly HeaderKind[] = ['simple', 'structured', 'extended'];
const CONTEXTS_MAX = 64;

/** Closes everything: for who cannot go on. */
export function closeEstate(estate: Estate): void {
  for (const { descriptor } of [...estate.sockets, ...estate.sessions]) closeDescriptor(descriptor);
}

/** A session without its descriptor and its bytes, for `JSON.stringify`. */
export function encodeSession(session: HandedSession): object {
  const { negotiated, openedName, bytes, flags, blockBytesMin } = session;
  return { negotiated, openedName, bytes, flags, blockBytesMin };
}

/**
 * The session that `record` describes.
 * @throws StoreError `E_FORMAT` if it describes none
 */
export function decodeSession(
  record: unknown,
  descriptor: number,
  leftover: Buffer,
): HandedSession {
  const of = fieldsOf(record);
  const negotiated = fieldsOf(of['negotiated']);
  if (leftover.length > LEFTOVER_BYTES_MAX) throw malformed();
  return {
    descriptor,
    leftover,
    negotiated: {
      exportName: name(negotiated['exportName']),
      headers: headerKind(negotiated['headers']),
      contexts: contexts(negotiated['contexts']),
      knowsBlockSizes: negotiated['knowsBlockSizes'] === true,
    },
    openedName: name(of['openedName']),
    bytes: count(of['bytes'], EXPORT_BYTES_MAX),
    flags: count(of['flags'], 0xffff),
    blockBytesMin: count(of['blockBytesMin'], 2 ** 31),
  };
}

function malformed(): StoreError {
  return new StoreError('E_FORMAT', 'A session was handed over in a form that makes no sense');
}

function fieldsOf(value: unknown): Readonly<Record<string, unknown>> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw malformed();
  return { ...value };
}

function name(value: unknown): string {
  if (typeof value !== 'string' || Buffer.byteLength(value) > STRING_BYTES_MAX) throw malformed();
  return value;
}

function count(value: unknown, max: number): number {
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 0 || value > max)
    throw malformed();
  return value;
}

function headerKind(value: unknown): HeaderKind {
  const kind = HEADER_KINDS.find((one) => one === value);
  if (kind === undefined) throw malformed();
  return kind;
}

function contexts(value: unknown): SelectedContext[] {
  if (!Array.isArray(value) || value.length > CONTEXTS_MAX) throw malformed();
  return value.map((one: unknown) => {
    const fields = fieldsOf(one);
    return { id: count(fields['id'], 0xffffffff), name: name(fields['name']) };
  });
}
