/** What a client is told of its cluster by a test. */
import {
  MapView,
  StoreError,
  type ClusterGuide,
  type StorageMap,
  type TicketFile,
} from '@store/core';

const MOMENT_MS = 20;

export class FakeGuide implements ClusterGuide {
  view: MapView;
  /** All masters are down: what is known stays known, and nothing new comes. */
  isCutOff = false;
  ticket: TicketFile | null = null;
  /** Pools that tickets were asked for, in order. */
  readonly ticketsAsked: string[] = [];
  refreshCount = 0;
  isClosed = false;
  /** Makes a pool, and brings the map that has it. */
  make: (name: string) => void = () => undefined;
  /** What a client that asks for a newer map finds. */
  newest: () => StorageMap | null = () => null;
  readonly #listeners = new Set<(view: MapView) => void>();

  constructor(map: StorageMap) {
    this.view = new MapView(map);
  }

  get isConnected(): boolean {
    return !this.isCutOff;
  }

  /** A newer map has come. */
  bring(map: StorageMap): void {
    if (this.isCutOff || map.version <= this.view.map.version) return;
    this.view = new MapView(map);
    for (const listener of this.#listeners) listener(this.view);
  }

  watch(listener: (view: MapView) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  async refresh(version: number): Promise<void> {
    this.refreshCount += 1;
    const newest = this.newest();
    if (newest !== null) this.bring(newest);
    if (this.view.map.version > version) return;
    await new Promise((resolve) => setTimeout(resolve, MOMENT_MS));
  }

  ticketFor(pool: string): Promise<TicketFile | null> {
    this.ticketsAsked.push(pool);
    return Promise.resolve(this.ticket);
  }

  createPool(name: string): Promise<void> {
    if (this.isCutOff) return Promise.reject(new StoreError('E_UNREACHABLE', 'No master answers'));
    this.make(name);
    return Promise.resolve();
  }

  close(): Promise<void> {
    this.isClosed = true;
    return Promise.resolve();
  }
}
