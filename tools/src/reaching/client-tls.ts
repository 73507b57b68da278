import { messageOf, realTlsClient, StoreError, type TlsClientContext } from '@store/core';
import { readSmallFile } from '../nbd-tls/tls-files.js';
import type { Context } from '../program.js';
import { DAEMON } from './daemon-settings.js';

/** What a program trusts, by `--ca-cert`; null: it speaks in the clear. @throws StoreError */
export async function tlsOf(context: Context): Promise<TlsClientContext | null> {
  const path = context.get(DAEMON.ca);
  if (path === null) return null;
  const ca = await readSmallFile(path);
  try {
    return realTlsClient({ ca });
  } catch (error) {
    throw new StoreError(
      'E_INVALID',
      `${path} is not the certificate of an authority in PEM: ${messageOf(error)}`,
      { cause: error },
    );
  }
}
