import { messageOf, realTlsClient, StoreError, type TlsClientContext } from '@store/core';
import { readSmallFile } from '../nbd-tls/tls-files.js';
import type { Context } from '../program.js';
import { certificatePair } from '../serving/certificate-pair.js';
import { DAEMON } from './daemon-settings.js';

/** What a program trusts and shows, by `--ca-cert` and `--client-cert`; null: it speaks in the clear. @throws StoreError */
export async function tlsOf(context: Context): Promise<TlsClientContext | null> {
  const path = context.get(DAEMON.ca);
  if (path === null) return null;
  const ca = await readSmallFile(path);
  const own = await ownCertificate(context);
  try {
    return realTlsClient({ ca, ...own });
  } catch (error) {
    throw new StoreError(
      'E_INVALID',
      `TLS cannot use ${path} as the certificate of an authority${'cert' in own ? ', or the certificate of this client' : ''}: ${messageOf(error)}`,
      { cause: error },
    );
  }
}

async function ownCertificate(
  context: Context,
): Promise<{ cert: Buffer; key: Buffer } | Record<string, never>> {
  const pair = certificatePair(context.get(DAEMON.clientCert), context.get(DAEMON.clientCertKey), {
    cert: DAEMON.clientCert.name,
    key: DAEMON.clientCertKey.name,
  });
  if (pair === null) return {};
  const [cert, key] = await Promise.all([readSmallFile(pair.cert), readSmallFile(pair.key)]);
  return { cert, key };
}
