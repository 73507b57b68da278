/** Where to listen: a TCP address, or the path of a Unix socket. */
export type ListenAddress = { host: string; port: number } | { path: string };

/** What a connection tells its owner. Nothing is called after `closed`. */
export interface ConnectionEvents {
  /** Bytes that arrived; the chunk belongs to the receiver. */
  data(chunk: Buffer): void;
  /** The peer will send nothing more; what is in flight may still be answered. */
  end(): void;
  /** Everything written so far was handed to the operating system, after `write` returned false. */
  drain(): void;
  /** The connection is gone, with the reason if it was an error. Always called, exactly once. */
  closed(error: Error | null): void;
}

/** One byte stream. Slices given to `write` belong to the connection until it has sent them. */
export interface Connection {
  /** Who is at the other end, for log lines. */
  readonly peer: string;
  /** Bytes accepted by `write` and not yet handed to the operating system. */
  readonly unsentBytes: number;
  /** Must be called exactly once, before anything else. */
  start(events: ConnectionEvents): void;
  /** Sends all parts with one system call where possible. False: wait for `drain` before sending much more. */
  write(parts: readonly Buffer[]): boolean;
  /** Stops reading: back-pressure reaches the peer through its full socket. */
  pause(): void;
  resume(): void;
  /** Sends what was written, then closes. */
  end(): void;
  /** Closes at once, dropping what was not sent. */
  destroy(): void;
}

export interface Listener {
  /** The address people can connect to, with the port the system chose if 0 was asked for. */
  readonly address: ListenAddress;
  /** Stops accepting; connections go on. */
  close(): Promise<void>;
}

export interface Network {
  /** @throws StoreError `E_SYSTEM` with advice: address in use, not ours, no permission. */
  listen(address: ListenAddress, accept: (connection: Connection) => void): Promise<Listener>;
}
