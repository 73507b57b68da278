import type { TlsContext, TlsPeer } from '@store/core';

/** What a client may do with an export; `none`: for this client it does not exist. */
export type Right = 'none' | 'read' | 'write';

/** Decides what a client may do. `peer` is null for one without TLS. Called for each name it asks for. */
export type AccessRule = (peer: TlsPeer | null, exportName: string) => Right;

/** TLS of a server (NBD.md section 5). Without these options it speaks in the clear only. */
export interface TlsOptions {
  readonly context: TlsContext;
  /** `forced`: nothing but TLS. `selective`: the exports that `needsTls` names are for TLS only. */
  readonly mode: 'forced' | 'selective';
  /** Asked with the name the client used; the empty one means the default export. */
  readonly needsTls?: (exportName: string) => boolean;
}
