import type { Socket } from 'node:net';
import { StoreError } from '../util/errors.js';
import type { Connection, TlsContext, TlsPeer } from './network.js';

/** Puts TLS over a plain socket; see `Connection.startTls`. */
export function startTls(
  _socket: Socket,
  _context: TlsContext,
  _peer: string,
): Promise<{ connection: Connection; peer: TlsPeer }> {
  return Promise.reject(new StoreError('E_SYSTEM', 'TLS is not available'));
}
