import type { Stats } from './stats.js';

/** One export and what it did since the server started. */
export interface ExportState {
  readonly name: string;
  readonly connections: number;
  readonly stats: Stats;
}

/** One connection that uses an export, and what it did. */
export interface ConnectionState {
  readonly id: number;
  readonly peer: string;
  /** Who it proved to be with TLS; empty without. */
  readonly user: string;
  readonly exportName: string;
  readonly headers: 'simple' | 'structured' | 'extended';
  readonly seconds: number;
  readonly stats: Stats;
}

/** A look at a running server. `Stats` are live objects: read them at once. */
export interface ServerState {
  readonly exports: readonly ExportState[];
  /** Those in the transmission phase. */
  readonly connections: readonly ConnectionState[];
  /** All of them. */
  readonly connectionCount: number;
  readonly acceptedCount: number;
  readonly refusedCount: number;
  /** Bytes that requests and unsent answers hold beyond what each connection is guaranteed. */
  readonly sharedBytes: number;
}
