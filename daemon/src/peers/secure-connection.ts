/**
 * Making a connection between daemons private: TLS with certificates on both sides begins at once. Without certificates
 * they speak in the clear, with others on the same machine only, unless somebody said that this is fine.
 */
import {
  isLoopbackPeer,
  StoreError,
  type Connection,
  type Env,
  type TlsClientContext,
  type TlsContext,
} from '@store/core';

const HANDSHAKE_MS = 5000;

export interface PeerSecurity {
  /** This daemon's certificate, for those who dial and for dialling; null: it has none. */
  readonly tls: { readonly server: TlsContext; readonly client: TlsClientContext } | null;
  /** Without a certificate: others may be on other machines. */
  readonly insecure: boolean;
}

/** Who dialled. @throws StoreError, and the connection is closed, if it does not prove what is demanded */
export async function secureAccepted(
  env: Env,
  { tls, insecure }: PeerSecurity,
  connection: Connection,
): Promise<Connection> {
  if (tls === null) return inTheClear(connection, insecure);
  return handshake(env, connection, async () => {
    const started = await connection.startTls(tls.server);
    return started.connection;
  });
}

/** @param host - Whom the certificate must be for. @throws StoreError, and the connection is closed */
export async function secureDialled(
  env: Env,
  { tls, insecure }: PeerSecurity,
  connection: Connection,
  host: string,
): Promise<Connection> {
  if (tls === null) return inTheClear(connection, insecure);
  return handshake(env, connection, () => connection.startTlsClient(tls.client, host));
}

function inTheClear(connection: Connection, insecure: boolean): Connection {
  if (insecure || isLoopbackPeer(connection.peer)) return connection;
  startDeaf(connection);
  connection.destroy();
  throw new StoreError(
    'E_DENIED',
    `The daemon at ${connection.peer} is on another machine: both need --peer-cert, --peer-key and --peer-ca-cert (see store cert --help), or --insecure`,
  );
}

async function handshake(
  { timers }: Env,
  connection: Connection,
  start: () => Promise<Connection>,
): Promise<Connection> {
  startDeaf(connection);
  const timer = timers.after(HANDSHAKE_MS, () => connection.destroy());
  try {
    return await start();
  } catch (error) {
    connection.destroy();
    throw error;
  } finally {
    timer.cancel();
  }
}

/** Nothing is wanted to be heard of it. */
export function startDeaf(connection: Connection): void {
  connection.start({
    data: () => true,
    end: () => undefined,
    drain: () => undefined,
    closed: () => undefined,
  });
}
