/**
 * What a client and the server agreed on before requests begin. Plain data: a planned restart hands it to the next
 * process together with the socket.
 */

/** How requests and replies look: `extended` has 64-bit lengths and takes precedence over `structured`. */
export type HeaderKind = 'simple' | 'structured' | 'extended';

/** A metadata context the client selected, and the number its extents carry. */
export interface SelectedContext {
  readonly id: number;
  readonly name: string;
}

export interface Negotiated {
  readonly exportName: string;
  readonly headers: HeaderKind;
  /** What BLOCK_STATUS may be asked for on this connection; empty: it is EINVAL. */
  readonly contexts: readonly SelectedContext[];
  /** It asked for our block sizes, so it is bound to the smallest one (S3). */
  readonly knowsBlockSizes: boolean;
}
