import {
  messageOf,
  realTlsClient,
  StoreError,
  type TlsClientContext,
  type TlsClientKeys,
} from '@store/core';
import { readSmallFile } from '../nbd-tls/tls-files.js';
import type { Context } from '../program.js';
import { certificatePair } from '../serving/certificate-pair.js';
import { DAEMON } from './daemon-settings.js';

/** What a program trusts and shows, by `--ca-cert` and `--client-cert`; null: it speaks in the clear. @throws StoreError */
export async function tlsOf(context: Context): Promise<TlsClientContext | null> {
  const path = context.get(DAEMON.ca);
  if (path === null) return null;
  const ca = await readSmallFile(path);
  const trusting = using(`${path} is not the certificate of an authority in PEM`, { ca });
  const own = await ownCertificate(context);
  if (own === null) return trusting;
  const shown = `--${DAEMON.clientCert.name} and --${DAEMON.clientCertKey.name}`;
  return using(`${shown} cannot be used`, { ca, ...own });
}

function using(problem: string, keys: TlsClientKeys): TlsClientContext {
  try {
    return realTlsClient(keys);
  } catch (error) {
    throw new StoreError('E_INVALID', `${problem}: ${messageOf(error)}`, { cause: error });
  }
}

async function ownCertificate(context: Context): Promise<{ cert: Buffer; key: Buffer } | null> {
  const pair = certificatePair(context.get(DAEMON.clientCert), context.get(DAEMON.clientCertKey), {
    cert: DAEMON.clientCert.name,
    key: DAEMON.clientCertKey.name,
  });
  if (pair === null) return null;
  const [cert, key] = await Promise.all([readSmallFile(pair.cert), readSmallFile(pair.key)]);
  return { cert, key };
}
