import type { Connection, TlsContext } from '@store/core';

/** A connection on which nothing is wanted to be heard yet. */
export function startDeaf(connection: Connection): void {
  connection.start({
    data: () => true,
    end: () => undefined,
    drain: () => undefined,
    closed: () => undefined,
  });
}

/**
 * What speaks on from here: the connection itself, or TLS over it, which begins at once where daemons connect.
 * @throws StoreError if the other end shows no certificate that is good
 */
export async function securePeer(
  connection: Connection,
  tls: TlsContext | null,
): Promise<Connection> {
  if (tls === null) return connection;
  startDeaf(connection);
  try {
    return (await connection.startTls(tls)).connection;
  } catch (error) {
    connection.destroy();
    throw error;
  }
}
