/**
 * Reads NBD URIs (NetworkBlockDevice/nbd doc/uri.md): `nbd://host[:port]/name`, `nbd+unix:///name?socket=PATH`, and
 * the `nbds` forms that insist on TLS. Strict: what cannot be meant is refused with a sentence, because a URI that is
 * read in another way than it was meant attaches the wrong disk.
 */
import { StoreError, type ListenAddress } from '@store/core';
import { decodeString } from './handshake/option-data.js';
import { NBD_PORT } from './protocol/constants.js';

/** What an NBD URI says. */
export interface NbdUri {
  readonly address: ListenAddress;
  /** Empty: the default export. */
  readonly exportName: string;
  /** `required`: an `nbds` scheme, the connection must be encrypted. */
  readonly tls: {
    readonly required: boolean;
    readonly type: 'anon' | 'x509' | 'psk' | null;
    readonly hostname: string | null;
    readonly verifyPeer: boolean | null;
  };
  /** User name for authentication. */
  readonly user: string | null;
  /** Parameters that mean nothing here; whoever asked should be told. */
  readonly unknown: readonly string[];
}

const SCHEMES: Readonly<Record<string, { unix: boolean; tls: boolean }>> = {
  nbd: { unix: false, tls: false },
  nbds: { unix: false, tls: true },
  'nbd+unix': { unix: true, tls: false },
  'nbds+unix': { unix: true, tls: true },
};
const TLS_TYPES = ['anon', 'x509', 'psk'] as const;
const URI_CHARACTERS_MAX = 16_384;

/** @throws StoreError `E_INVALID` that says what is wrong and how it is written */
export function parseNbdUri(text: string): NbdUri {
  if (text.length > URI_CHARACTERS_MAX)
    throw invalid(`An NBD URI has at most ${URI_CHARACTERS_MAX} characters`);
  const match = /^([a-z][a-z0-9+.-]*):\/\/([^/?#]*)([^?#]*)(?:\?([^#]*))?(#.*)?$/i.exec(text);
  if (match === null)
    throw invalid(
      `'${text}' is not an NBD URI; write nbd://HOST:PORT/NAME or nbd+unix:///NAME?socket=PATH`,
    );
  const [, schemeText = '', authority = '', path = '', query = '', fragment] = match;
  const scheme = SCHEMES[schemeText.toLowerCase()];
  if (scheme === undefined)
    throw invalid(`'${schemeText}' is not a scheme of NBD; use ${Object.keys(SCHEMES).join(', ')}`);
  if (fragment !== undefined) throw invalid(`'#' ends the URI; in a name it is written %23`);
  const parameters = parseQuery(query);
  const { user, address } = scheme.unix
    ? { user: null, address: unixAddress(authority, parameters) }
    : tcpAddress(authority, parameters);
  const known = new Set(['socket', 'tls-type', 'tls-hostname', 'tls-verify-peer']);
  return {
    address,
    exportName: exportName(path),
    tls: {
      required: scheme.tls,
      type: oneOf(parameters, 'tls-type', TLS_TYPES),
      hostname: parameters.get('tls-hostname') ?? null,
      verifyPeer: verifyPeer(parameters),
    },
    user,
    unknown: [...parameters.keys()].filter((name) => !known.has(name)),
  };
}

function tcpAddress(
  authority: string,
  parameters: ReadonlyMap<string, string>,
): { user: string | null; address: ListenAddress } {
  if (parameters.has('socket'))
    throw invalid('socket= belongs to nbd+unix:///NAME?socket=PATH, not to a TCP address');
  const at = authority.lastIndexOf('@');
  const user = at < 0 ? null : decode(authority.slice(0, at), 'The user name');
  const match = /^(?:\[([^\]]*)\]|([^:[\]]*))(?::([^:]*))?$/.exec(authority.slice(at + 1));
  if (match === null)
    throw invalid(
      `'${authority}' is not HOST or HOST:PORT; an IPv6 address stands in brackets: [::1]:10809`,
    );
  const [, v6, name = '', portText = ''] = match;
  const host = decode(v6 ?? name, 'The host');
  if (host === '') throw invalid('The URI names no host; write for example nbd://localhost/NAME');
  const port = portText === '' ? NBD_PORT : Number(portText);
  if (!/^\d*$/.test(portText) || port < 1 || port > 65_535)
    throw invalid(`'${portText}' is not a port from 1 to 65535`);
  return { user, address: { host, port } };
}

function unixAddress(authority: string, parameters: ReadonlyMap<string, string>): ListenAddress {
  if (authority !== '')
    throw invalid(
      `A Unix socket has no host ('${authority}'); write three slashes: nbd+unix:///NAME?socket=PATH`,
    );
  const path = parameters.get('socket') ?? '';
  if (path === '') throw invalid('The URI names no socket; add ?socket=PATH');
  // A first NUL says that the rest is an abstract name.
  if (path.includes('\0', 1)) throw invalid('Only the first character of socket= may be NUL');
  return { path };
}

/** The path without its first slash; `nbd://host//d` means the export `/d`. */
function exportName(path: string): string {
  const name = decode(path.slice(1), 'The export name');
  const problem = decodeString(Buffer.from(name));
  if (typeof problem !== 'string') throw invalid(problem.error);
  return name;
}

function parseQuery(query: string): Map<string, string> {
  const parameters = new Map<string, string>();
  for (const part of query.split('&')) {
    if (part === '') continue;
    const [name = '', ...value] = part.split('=');
    const key = decode(name, 'A parameter');
    if (parameters.has(key)) throw invalid(`The parameter ${key} is there twice`);
    parameters.set(key, decode(value.join('='), `The parameter ${key}`));
  }
  return parameters;
}

function verifyPeer(parameters: ReadonlyMap<string, string>): boolean | null {
  const value = oneOf(parameters, 'tls-verify-peer', ['0', '1']);
  return value === null ? null : value === '1';
}

function oneOf<T extends string>(
  parameters: ReadonlyMap<string, string>,
  name: string,
  choices: readonly T[],
): T | null {
  const value = parameters.get(name);
  if (value === undefined) return null;
  const choice = choices.find((one) => one === value);
  if (choice === undefined)
    throw invalid(`${name} is '${value}'; it is one of ${choices.join(', ')}`);
  return choice;
}

function decode(text: string, what: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw invalid(`${what} '${text}' has a % without two hexadecimal digits, or is not UTF-8`);
  }
}

function invalid(message: string): StoreError {
  return new StoreError('E_INVALID', message);
}
