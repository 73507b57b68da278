/**
 * TLS over a connected socket, the client's side, on node:tls (OpenSSL): X.509, TLS 1.2 at least (T1). A server that
 * does not prove that it is the one that was asked for is sent nothing.
 *
 * In TLS 1.3 a client is done before the server has looked at its certificate: a server that refuses it closes the
 * connection that is open here already.
 */
import { isIP, type Socket } from 'node:net';
import {
  checkServerIdentity,
  connect as connectTls,
  type SecureContext,
  type TLSSocket,
} from 'node:tls';
import { errnoOf, StoreError } from '../util/errors.js';
import type { Connection, TlsClientContext } from './network.js';
import { secureContext } from './real-secure-context.js';
import { RealTlsConnection } from './real-tls-connection.js';

/** What the client's side of TLS needs, in PEM, as the files hold it. */
export interface TlsClientKeys {
  /** Servers prove who they are with a certificate of this authority. */
  readonly ca: Buffer;
  /** Our own certificate with the chain, and its key, for servers that ask who we are. Both or none. */
  readonly cert?: Buffer;
  readonly key?: Buffer;
}

/** Keys and certificates in use; connections begun before `replace` keep what they began with. */
export class RealTlsClientContext implements TlsClientContext {
  readonly kind = 'tls-client-context';
  #secure: SecureContext;

  /** @throws StoreError `E_INVALID` if OpenSSL cannot use them */
  constructor(keys: TlsClientKeys) {
    this.#secure = clientContext(keys);
  }

  get secure(): SecureContext {
    return this.#secure;
  }

  /** For connections from now on. @throws StoreError `E_INVALID`, and the old ones stay, if they cannot be used */
  replace(keys: TlsClientKeys): void {
    this.#secure = clientContext(keys);
  }
}

/** @throws StoreError `E_INVALID` if OpenSSL cannot use them */
export function realTlsClient(keys: TlsClientKeys): RealTlsClientContext {
  return new RealTlsClientContext(keys);
}

function clientContext(keys: TlsClientKeys): SecureContext {
  if ((keys.cert === undefined) !== (keys.key === undefined))
    throw new StoreError(
      'E_INVALID',
      'A certificate of TLS and its key go together; give both or neither',
    );
  return secureContext(keys);
}

/** Puts TLS over a plain socket; see `Connection.startTlsClient`. */
export function startTlsClient(
  plain: Socket,
  context: TlsClientContext,
  host: string,
  peer: string,
): Promise<Connection> {
  if (!(context instanceof RealTlsClientContext))
    return Promise.reject(new StoreError('E_INVALID', 'This TLS context is for another network'));
  // A link-local address is written with its interface, which no certificate knows.
  const name = isIP(host) === 6 ? host.replace(/%.*$/, '') : host;
  if (name === '')
    return Promise.reject(new StoreError('E_INVALID', 'TLS needs the name of the server'));
  const socket = connectTls({
    socket: plain,
    secureContext: context.secure,
    rejectUnauthorized: true,
    // Addresses must not be sent as the name of a server (RFC 6066), and are verified all the same.
    ...(isIP(name) === 0 ? { servername: name } : {}),
    checkServerIdentity: (_hostname, certificate) => checkServerIdentity(name, certificate),
  });
  return new Promise((resolve, reject) => {
    const fail = (error: StoreError): void => {
      socket.destroy();
      plain.destroy();
      reject(error);
    };
    const failed = (error: Error): void => fail(reasonOf(socket, error, name, peer));
    const closed = (): void => fail(hungUp(peer));
    socket.once('error', failed);
    socket.once('close', closed);
    socket.once('secureConnect', () => {
      socket.removeListener('error', failed);
      socket.removeListener('close', closed);
      resolve(new RealTlsConnection(socket, peer));
    });
  });
}

function reasonOf(socket: TLSSocket, error: Error, name: string, peer: string): StoreError {
  const options = { cause: error };
  // Node sets it when the certificate is what it does not like; null otherwise, whatever its type says.
  if ((socket.authorizationError as Error | string | null) !== null)
    return new StoreError(
      'E_DENIED',
      `The certificate of ${peer} is not good for ${name}: ${oneLine(error)}; correct the name, or the file of the authority`,
      options,
    );
  if (['ECONNRESET', 'EPIPE', 'ETIMEDOUT'].includes(errnoOf(error) ?? ''))
    return hungUp(peer, error);
  return new StoreError(
    'E_SYSTEM',
    `The TLS handshake with ${peer} failed: ${oneLine(error)}`,
    options,
  );
}

function hungUp(peer: string, cause?: Error): StoreError {
  return new StoreError(
    'E_UNREACHABLE',
    `${peer} closed the connection in the TLS handshake; does it speak TLS?`,
    { cause },
  );
}

/** What OpenSSL says has file names and an end of line; its reason is what people understand. */
function oneLine(error: Error & { reason?: string }): string {
  return (error.reason ?? error.message).replace(/\s+/g, ' ').trim();
}
