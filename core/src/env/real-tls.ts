/**
 * TLS over an accepted socket, the server's side, on node:tls (OpenSSL): X.509, PSK, or both at once. TLS 1.2 at
 * least (T1). A client that does not prove what is demanded never gets a connection.
 */
import type { Socket } from 'node:net';
import { TLSSocket, type SecureContext, type TLSSocketOptions } from 'node:tls';
import { StoreError } from '../util/errors.js';
import type { Connection, TlsContext, TlsPeer } from './network.js';
import { CIPHERS, secureContext, type SecureMaterial } from './real-secure-context.js';
import { RealTlsConnection } from './real-tls-connection.js';

/** What the server's side of TLS needs, as the files hold it. */
export interface TlsKeys extends SecureMaterial {
  /** Its certificate with the chain, and the key. */
  readonly cert?: Buffer;
  readonly key?: Buffer;
  /** Clients prove who they are with a certificate of this authority. */
  readonly ca?: Buffer;
  /** With `ca`: a client without a certificate comes in too, and has proved nothing; one with a bad one does not. */
  readonly isCertificateOptional?: boolean;
  readonly crl?: Buffer;
  /** Keys of clients by their identity. */
  readonly psk?: ReadonlyMap<string, Buffer>;
}

/** Keys and certificates in use; connections begun before `replace` keep what they began with. */
export class RealTlsContext implements TlsContext {
  readonly kind = 'tls-context';
  #keys: TlsKeys;
  #secure: SecureContext;

  /** @throws StoreError `E_INVALID` if OpenSSL cannot use them */
  constructor(keys: TlsKeys) {
    this.#keys = keys;
    this.#secure = secureContext(keys);
  }

  get keys(): TlsKeys {
    return this.#keys;
  }

  get secure(): SecureContext {
    return this.#secure;
  }

  /** For connections from now on. @throws StoreError `E_INVALID`, and the old ones stay, if they cannot be used */
  replace(keys: TlsKeys): void {
    this.#secure = secureContext(keys);
    this.#keys = keys;
  }
}

/** Puts TLS over a plain socket; see `Connection.startTls`. */
export function startTls(
  plain: Socket,
  context: TlsContext,
  peer: string,
): Promise<{ connection: Connection; peer: TlsPeer }> {
  if (!(context instanceof RealTlsContext))
    return Promise.reject(new StoreError('E_INVALID', 'This TLS context is for another network'));
  const { keys, secure } = context;
  let identity = '';
  const options: TLSSocketOptions = {
    isServer: true,
    secureContext: secure,
    requestCert: keys.ca !== undefined,
    // A client with PSK has no certificate; who it is, is checked below.
    rejectUnauthorized: false,
  };
  const withPsk = {
    ...options,
    ciphers: CIPHERS,
    pskCallback: (_socket: TLSSocket, name: string): Buffer | null => {
      const found = keys.psk?.get(name) ?? null;
      if (found !== null) identity = name;
      return found;
    },
  };
  const socket = new TLSSocket(plain, keys.psk === undefined ? options : withPsk);
  return new Promise((resolve, reject) => {
    const fail = (why: string, cause?: unknown): void => {
      socket.destroy();
      plain.destroy();
      reject(new StoreError('E_SYSTEM', `The TLS handshake failed: ${why}`, { cause }));
    };
    const failed = (error: Error): void => fail(reasonOf(error), error);
    const closed = (): void => fail('the client closed the connection');
    socket.once('error', failed);
    socket.once('close', closed);
    socket.once('end', closed); // with half-open sockets that is all we hear
    socket.once('secure', () => {
      socket.removeListener('error', failed);
      socket.removeListener('close', closed);
      socket.removeListener('end', closed);
      const found = peerOf(socket, keys, identity);
      if (typeof found === 'string') fail(found);
      else resolve({ connection: new RealTlsConnection(socket, peer), peer: found });
    });
  });
}

/** What OpenSSL says has file names and an end of line; its reason is what people understand. */
function reasonOf(error: Error & { reason?: string }): string {
  const reason = (error.reason ?? error.message).replace(/\s+/g, ' ').trim();
  return reason === 'wrong version number' ? `${reason}: what came is no TLS` : reason;
}

/** Who the client is, or why it may not go on. */
function peerOf(socket: TLSSocket, keys: TlsKeys, identity: string): TlsPeer | string {
  const facts = { protocol: socket.getProtocol() ?? '', cipher: socket.getCipher().name };
  if (identity !== '' && provedKey(socket, facts.cipher))
    return { proof: 'psk', name: identity, ...facts };
  if (keys.ca === undefined) {
    if (keys.cert === undefined || keys.psk !== undefined) return 'the client proved no identity';
    return { proof: 'none', name: '', ...facts };
  }
  // node:tls has verified the chain by now; it leaves the verdict here.
  const { ssl } = socket as unknown as { ssl: { verifyError(): Error | null } | null };
  const certificate = socket.getPeerX509Certificate();
  if (certificate === undefined)
    return keys.isCertificateOptional === true
      ? { proof: 'none', name: '', ...facts }
      : 'the client sent no certificate';
  const problem = ssl?.verifyError() ?? null;
  if (problem !== null) return `the client's certificate is not good: ${problem.message}`;
  return { proof: 'x509', name: commonName(certificate.subject), ...facts };
}

/**
 * True if the handshake used the key that was asked for. A client of TLS 1.3 that names an identity but offers no
 * suite with its hash is not refused: OpenSSL then goes on with the certificate, and nobody has proved that key.
 */
function provedKey(socket: TLSSocket, cipher: string): boolean {
  if (socket.getProtocol() !== 'TLSv1.3') return cipher.includes('PSK');
  return socket.isSessionReused() && cipher.endsWith('_SHA256');
}

/** The `CN` of a subject, which has a line for each of its parts; empty if it has none. */
function commonName(subject: string): string {
  return /^CN=(.*)$/m.exec(subject)?.[1] ?? '';
}
