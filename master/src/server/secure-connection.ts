import type { Connection, Env, TlsContext } from '@store/core';

/** A connection on which nothing is wanted to be heard yet. */
export function startDeaf(connection: Connection): void {
  connection.start({
    data: () => true,
    end: () => undefined,
    drain: () => undefined,
    closed: () => undefined,
  });
}

/** A connection on which one can speak, and who has proved to be at its other end. */
export interface SecuredConnection {
  readonly connection: Connection;
  /** Common name of its certificate; empty: it showed none. */
  readonly certified: string;
}

const HANDSHAKE_MS = 10_000;

/**
 * What speaks on from here: the connection itself, or TLS over it, which begins at once where daemons connect.
 * @throws StoreError if the other end shows no certificate that is good, or takes too long
 */
export async function securePeer(
  { timers }: Env,
  connection: Connection,
  tls: TlsContext | null,
): Promise<SecuredConnection> {
  if (tls === null) return { connection, certified: '' };
  startDeaf(connection);
  const timer = timers.after(HANDSHAKE_MS, () => connection.destroy());
  try {
    const { connection: secured, peer } = await connection.startTls(tls);
    return { connection: secured, certified: peer.proof === 'x509' ? peer.name : '' };
  } catch (error) {
    connection.destroy();
    throw error;
  } finally {
    timer.cancel();
  }
}
