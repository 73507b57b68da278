import type { TicketFile } from '../auth/ticket-file.js';
import type { MapView } from '../map/map-lookup.js';

/**
 * What a client knows of its cluster: the storage map and its tickets, kept up to date by whoever speaks with the
 * masters. All of it stays usable while no master answers.
 */
export interface ClusterGuide {
  /** The newest map that is known. */
  readonly view: MapView;
  /** A master can be asked, as far as is known. */
  readonly isConnected: boolean;
  /** Tells of each newer map, in order, never from within this call. @returns How to stop that */
  watch(listener: (view: MapView) => void): () => void;
  /**
   * Asks for a map newer than `version`: somebody who was asked by that one said that it is out of date.
   * Resolves when there is one, or after a moment if none came.
   */
  refresh(version: number): Promise<void>;
  /**
   * The ticket to show to the daemons of a pool; null: they want none. Asked before each connection, so that it is the
   * one of now.
   * @throws StoreError `E_DENIED` if this client may not use the pool; `E_UNREACHABLE` if no master answers and none is kept
   */
  ticketFor(pool: string): Promise<TicketFile | null>;
  /** Makes a pool with default settings. @throws StoreError `E_DENIED`, `E_EXISTS`, `E_UNREACHABLE` */
  createPool(name: string): Promise<void>;
  close(): Promise<void>;
}
