/** What both sides of TLS demand of OpenSSL: TLS 1.2 at least (T1), no resumption, no renegotiation. */
import { constants, X509Certificate } from 'node:crypto';
import { createSecureContext, type SecureContext } from 'node:tls';
import { messageOf, StoreError } from '../util/errors.js';

/** PSK suites are not among OpenSSL's defaults, and clients of GnuTLS speak them in TLS 1.2. */
export const CIPHERS: string =
  'TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256:HIGH:' +
  'ECDHE-PSK-CHACHA20-POLY1305:ECDHE-PSK-AES128-CBC-SHA256:PSK-AES256-GCM-SHA384:PSK-AES128-GCM-SHA256:' +
  '!aNULL:!eNULL:!MD5:!RC4';

/** Keys and certificates as the files hold them, in PEM. */
export interface SecureMaterial {
  readonly cert?: Buffer;
  readonly key?: Buffer;
  readonly ca?: Buffer;
  readonly crl?: Buffer;
}

/** @throws StoreError `E_INVALID` if OpenSSL cannot use them */
export function secureContext({ cert, key, ca, crl }: SecureMaterial): SecureContext {
  try {
    // OpenSSL reads a file without any certificate as an authority that nobody has.
    if (ca !== undefined) new X509Certificate(ca);
    return createSecureContext({
      minVersion: 'TLSv1.2',
      ciphers: CIPHERS,
      // The first suite is the one PSK needs in TLS 1.3: a key without a hash of its own counts as one for SHA-256.
      honorCipherOrder: true,
      // Each connection proves anew who it is: a ticket would outlive the proof, and so would keys made from the first
      // handshake (`Connection.exportKey`) a second one.
      secureOptions: constants.SSL_OP_NO_TICKET | constants.SSL_OP_NO_RENEGOTIATION,
      // OpenSSL takes a PSK for a session to resume, and wants its sessions named.
      sessionIdContext: 'store',
      ...(cert === undefined ? {} : { cert }),
      ...(key === undefined ? {} : { key }),
      ...(ca === undefined ? {} : { ca }),
      ...(crl === undefined ? {} : { crl }),
    });
  } catch (error) {
    throw new StoreError('E_INVALID', `TLS cannot use these files: ${messageOf(error)}`, {
      cause: error,
    });
  }
}
