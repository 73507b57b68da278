/** Where to listen: a TCP address, or the path of a Unix socket. */
export type ListenAddress = { host: string; port: number } | { path: string };

/** What a connection tells its owner. Nothing is called after `closed`. */
export interface ConnectionEvents {
  /**
   * Bytes that arrived; the chunk belongs to the receiver.
   * @returns True if it needs the chunk no more: its memory is used again.
   */
  data(chunk: Buffer): boolean;
  /**
   * What happens next, probably soon, so that it is worth looking out for: the peer sends, or an answer to it gets
   * ready. Null: nothing that special.
   */
  awaits?(): 'peer' | 'answer' | null;
  /** All that arrives are answers to what this process asked: no work of somebody else begins with it. */
  readonly bringsAnswers?: boolean;
  /** The peer will send nothing more; what is in flight may still be answered. */
  end(): void;
  /**
   * Everything written so far was handed to the operating system, after `write` left some of it in `unsentBytes`. Not
   * called if a later `write` finds that all has left; never from within one.
   */
  drain(): void;
  /** The connection is gone, with the reason if it was an error. Always called, exactly once. */
  closed(error: Error | null): void;
}

/** Who a client proved to be in its TLS handshake. */
export interface TlsPeer {
  /** `none`: the traffic is private, but the client proved nothing. */
  readonly proof: 'none' | 'x509' | 'psk';
  /** Common name of its certificate, or its PSK identity; empty for `none`. */
  readonly name: string;
  /** For log lines: `TLSv1.3`, `TLS_AES_128_GCM_SHA256`. */
  readonly protocol: string;
  readonly cipher: string;
}

/** Keys and certificates for the server's side of TLS. Read again while connections go on (`reload` of its maker). */
export interface TlsContext {
  readonly kind: 'tls-context';
}

/** What the client's side of TLS trusts and shows. Made by `realTlsClient`. */
export interface TlsClientContext {
  readonly kind: 'tls-client-context';
}

/** One byte stream. Slices given to `write` belong to the connection until it has sent them. */
export interface Connection {
  /**
   * Who is at the other end: `10.0.0.2:4148`, `[::1]:4148`; `unix` for who came through the file of a socket; with port
   * 0 for who came in beside TCP (`ListenOptions.alsoLocally`).
   */
  readonly peer: string;
  /** Bytes accepted by `write` and not yet handed to the operating system. */
  readonly unsentBytes: number;
  /** Must be called exactly once, before anything else. */
  start(events: ConnectionEvents): void;
  /**
   * Sends all parts with one system call where possible. False: wait for `drain` before sending much more.
   * @param now - At once, instead of with what else is written in this turn of the event loop: the writer has put
   *   together what belongs together
   */
  write(parts: readonly Buffer[], now?: boolean): boolean;
  /** Stops reading: back-pressure reaches the peer through its full socket. */
  pause(): void;
  resume(): void;
  /** Sends what was written, then closes. */
  end(): void;
  /** Closes at once, dropping what was not sent. */
  destroy(): void;
  /**
   * Speaks TLS from the next byte on, as the server. What was written leaves in the clear first. This connection is
   * spent then, and calls none of its events again: the one it resolves to, not started yet, takes its place.
   * It has no deadline of its own: `destroy` this connection to give it up. Bytes of the peer that were reported in the
   * clear stay there: whoever expected none must refuse them.
   * @throws StoreError `E_SYSTEM` if the handshake fails, after which this connection is `closed` as always;
   *   `E_UNREACHABLE` if it is closed already
   */
  startTls(context: TlsContext): Promise<{ connection: Connection; peer: TlsPeer }>;
  /**
   * As `startTls`, as the client. The server must show a certificate of the context's authority for `host` (a name or
   * an address). In TLS 1.3 this resolves before the server has looked at our certificate: if it does not like it, the
   * new connection is closed soon.
   * @throws StoreError `E_DENIED` if its certificate is not good; `E_UNREACHABLE` if it hangs up in the handshake, or
   *   the connection was destroyed; `E_SYSTEM` if it speaks no TLS, or none that we do
   */
  startTlsClient(context: TlsClientContext, host: string): Promise<Connection>;
  /**
   * Bytes that only the two ends of this TLS connection know (RFC 5705, RFC 8446 7.5), the same at both; null without
   * TLS.
   * @throws StoreError `E_CLOSED` if the connection is
   */
  exportKey(label: string, bytes: number): Buffer | null;
  /** File descriptor, for another process to go on with; null if it cannot (TLS lies over it, or it is closed). */
  readonly descriptor: number | null;
  /**
   * Lets go of the socket without closing it: the peer notices nothing. This connection is `closed`; the descriptor
   * belongs to the caller, for `adopt`, here or in another process. Null where `descriptor` is null.
   * @throws StoreError `E_SYSTEM` where descriptors cannot be duplicated
   */
  release(): number | null;
}

/** A listening socket that somebody opened. */
export interface ListeningDescriptor {
  readonly descriptor: number;
  /** The file of a Unix socket, absolute, which goes when the socket does; null: there is none, or it is not ours. */
  readonly path: string | null;
}

export interface ListenOptions {
  /**
   * On a loopback address `connect` of this machine gets here without TCP, where that can be had. Other programs connect
   * over TCP as ever.
   */
  readonly alsoLocally?: boolean;
}

export interface Listener {
  /** The address people can connect to, with the port the system chose if 0 was asked for. */
  readonly address: ListenAddress;
  /** Stops accepting, and removes the file of a Unix socket if it is ours; connections go on. */
  close(): Promise<void>;
  /**
   * Stops accepting without closing the socket: who connects waits in its queue. What is returned belongs to the
   * caller, for `listenOn`, here or in another process.
   * @throws StoreError `E_SYSTEM` where that cannot be done, after which it goes on as before
   */
  release(): ListeningDescriptor;
}

/** An IP address and a port. */
export interface DatagramAddress {
  readonly host: string;
  readonly port: number;
}

/** What a datagram socket tells its owner. */
export interface DatagramEvents {
  /** A datagram arrived; it belongs to the receiver. */
  received(datagram: Buffer, from: DatagramAddress): void;
  /** The socket failed and is closed. */
  failed(error: Error): void;
}

/** A UDP socket. Datagrams may be lost, come twice, late or in another order. */
export interface DatagramSocket {
  readonly address: DatagramAddress;
  /**
   * Sends the parts as one datagram. They may be used again when this returns. What the system refuses (a full
   * buffer, a port that nobody listens on) is a lost datagram.
   * @param parts - At most `DATAGRAM_BYTES_MAX` bytes together.
   * @param to - An IP address, not a name.
   */
  send(parts: readonly Buffer[], to: DatagramAddress): void;
  close(): void;
}

export interface Network {
  /** @throws StoreError `E_SYSTEM` with advice: address in use, not ours, no permission. */
  listen(
    address: ListenAddress,
    accept: (connection: Connection) => void,
    options?: ListenOptions,
  ): Promise<Listener>;
  /** Goes on with a listening socket that somebody else opened. @throws StoreError `E_SYSTEM` if it is none */
  listenOn(
    socket: ListeningDescriptor,
    accept: (connection: Connection) => void,
  ): Promise<Listener>;
  /**
   * Goes on with a connection that somebody else accepted. Nothing is read before it is started.
   * @throws StoreError `E_SYSTEM` if it is none
   */
  adopt(descriptor: number): Connection;
  /**
   * Connects to where somebody listens.
   * @throws StoreError `E_UNREACHABLE` with advice if nobody does, or nobody answers within `timeoutMs`; `E_INVALID` if
   *   that is no address: a path too long for a socket, port 0
   */
  connect(address: ListenAddress, options: { timeoutMs: number }): Promise<Connection>;
  /**
   * Opens a UDP socket; port 0: a free one. The host decides whether it speaks IPv4 or IPv6; `::` speaks both.
   * @throws StoreError `E_SYSTEM` with advice, as `listen`; `E_INVALID` if that is no address
   */
  openDatagrams(address: DatagramAddress, events: DatagramEvents): Promise<DatagramSocket>;
}
