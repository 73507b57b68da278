/**
 * The rights file: which client may read or write which exports. A client that is not named may do nothing.
 *
 *     { "clients": [
 *         { "certificate": "host1", "write": ["vm1", "db-*"], "read": ["iso-*"] },
 *         { "psk": "backup", "read": ["*"] },
 *         { "anonymous": true, "read": ["public"] } ] }
 *
 * `certificate` is the common name of the client's certificate, `psk` its identity, `anonymous` whoever proved
 * nothing: clients in the clear, and clients of TLS where no proof is demanded. Who may write may read.
 */
import { messageOf, StoreError, type TlsPeer } from '@store/core';
import type { Right } from '@store/gateway-nbd';
import { checkPattern, matchesPattern } from './export-pattern.js';

const FIELDS: readonly string[] = ['certificate', 'psk', 'anonymous', 'read', 'write'];

interface Grant {
  readonly read: readonly string[];
  readonly write: readonly string[];
}

/** What a rights file says. */
export class Rights {
  readonly #grants: ReadonlyMap<string, Grant>;

  /** @param grants - By {@link clientKey}. */
  constructor(grants: ReadonlyMap<string, Grant>) {
    this.#grants = grants;
  }

  get clientCount(): number {
    return this.#grants.size;
  }

  /** What `peer`, null for one in the clear, may do with an export. */
  of(peer: TlsPeer | null, exportName: string): Right {
    const grant = this.#grants.get(clientKey(peer?.proof ?? 'none', peer?.name ?? ''));
    if (grant === undefined) return 'none';
    if (matchesPattern(grant.write, exportName)) return 'write';
    return matchesPattern(grant.read, exportName) ? 'read' : 'none';
  }
}

/**
 * Reads a rights file.
 * @param path - For messages.
 * @throws StoreError `E_INVALID` naming the entry
 */
export function parseRights(path: string, text: string): Rights {
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch (error) {
    throw new StoreError('E_INVALID', `The rights file ${path} is not JSON: ${messageOf(error)}`, {
      cause: error,
    });
  }
  const clients = isObject(parsed) ? parsed['clients'] : undefined;
  if (!isObject(parsed) || Object.keys(parsed).length !== 1 || !Array.isArray(clients))
    throw new StoreError('E_INVALID', `The rights file ${path} is not {"clients": [ … ]}`);
  const grants = new Map<string, Grant>();
  for (const [index, entry] of clients.entries()) {
    try {
      const { key, grant } = readEntry(entry);
      if (grants.has(key)) throw invalid('It names a client that an earlier entry names');
      grants.set(key, grant);
    } catch (error) {
      if (!(error instanceof StoreError)) throw error;
      throw invalid(`${path}, clients[${index}]${nameOf(entry)}: ${error.message}`, error);
    }
  }
  return new Rights(grants);
}

function readEntry(entry: unknown): { key: string; grant: Grant } {
  if (!isObject(entry)) throw invalid('Not an object');
  for (const field of Object.keys(entry))
    if (!FIELDS.includes(field))
      throw invalid(`"${field}" is no field; these are: ${FIELDS.join(', ')}`);
  const { certificate, psk, anonymous } = entry;
  const given = [certificate, psk, anonymous].filter((one) => one !== undefined);
  if (given.length !== 1)
    throw invalid('Give "certificate", "psk" or "anonymous", and only one of them');
  if (entry['read'] === undefined && entry['write'] === undefined)
    throw invalid('Give "read" or "write", or both: lists of exports');
  const grant = { read: patternsOf(entry, 'read'), write: patternsOf(entry, 'write') };
  if (anonymous !== undefined) {
    if (anonymous !== true) throw invalid('"anonymous" is true, or it is not there');
    return { key: clientKey('none', ''), grant };
  }
  const name = given[0];
  if (typeof name !== 'string' || name === '')
    throw invalid('The name of the client is not a text, or it is empty');
  return { key: clientKey(certificate === undefined ? 'psk' : 'x509', name), grant };
}

function patternsOf(entry: Readonly<Record<string, unknown>>, right: string): string[] {
  const value = entry[right] ?? [];
  const patterns = Array.isArray(value) ? value.filter((one) => typeof one === 'string') : [];
  if (!Array.isArray(value) || patterns.length !== value.length)
    throw invalid(`"${right}" is not a list of names, such as ["vm1", "db-*"]`);
  patterns.forEach(checkPattern);
  return patterns;
}

function clientKey(proof: TlsPeer['proof'], name: string): string {
  return `${proof}:${name}`;
}

/** Whom an entry seems to mean, for a message. */
function nameOf(entry: unknown): string {
  if (!isObject(entry)) return '';
  const name = entry['certificate'] ?? entry['psk'];
  return typeof name === 'string' ? ` (${JSON.stringify(name.slice(0, 60))})` : '';
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function invalid(message: string, cause?: unknown): StoreError {
  return new StoreError('E_INVALID', message, { cause });
}
