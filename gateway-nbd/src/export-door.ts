/**
 * Opens exports, and keeps a successor waiting: a client that lost its connection comes back and writes anew, and
 * nothing that the dead connection left in the backend may land on top of that. So an export is opened only when
 * every earlier connection to it that is gone has settled.
 */
import { invariant, StoreError } from '@store/core';
import type { Backend, ExportCatalog } from './backend.js';
import type { ExportFacts, LookUp, LookUpResult } from './handshake/handshake.js';
import { NBD_FLAG } from './protocol/constants.js';
import { EXPORT_BYTES_MAX } from './protocol/limits.js';

export interface OpenedExport {
  readonly name: string;
  readonly backend: Backend;
  close(): Promise<void>;
}

export class ExportDoor {
  readonly #catalog: ExportCatalog;
  readonly #settling = new Map<Promise<void>, string>();

  constructor(catalog: ExportCatalog) {
    this.#catalog = catalog;
  }

  /** `settled` is the end of a connection to `name` that is gone. */
  addSettling(name: string, settled: Promise<void>): void {
    this.#settling.set(settled, name);
    void settled.then(() => this.#settling.delete(settled));
  }

  /** Answers a look-up of the handshake; `opened` belongs to the caller. */
  async lookUp(what: LookUp): Promise<{ result: LookUpResult; opened: OpenedExport | null }> {
    try {
      if (what.kind === 'list')
        return { result: { kind: 'list', exports: await this.#catalog.list() }, opened: null };
      if (what.kind === 'open') return await this.#open(what.name);
      const found = await this.#catalog.info(what.name);
      return {
        result: { kind: 'export', found: found === null ? null : facts(found) },
        opened: null,
      };
    } catch (error) {
      if (!(error instanceof StoreError)) throw error;
      return { result: { kind: 'failed', error }, opened: null };
    }
  }

  async #open(name: string): Promise<{ result: LookUpResult; opened: OpenedExport | null }> {
    const found = await this.#catalog.info(name);
    if (found === null) return { result: { kind: 'export', found: null }, opened: null };
    await this.#settled(name);
    const opened = await this.#catalog.open(name);
    if (opened === null) return { result: { kind: 'export', found: null }, opened: null };
    const { bytes, readOnly } = opened.backend;
    const { description } = found;
    return {
      result: { kind: 'export', found: facts({ bytes, readOnly, description }) },
      opened: { name, backend: opened.backend, close: () => opened.close() },
    };
  }

  /** The empty name is another name for one of the exports, so it waits for all and all wait for it. */
  async #settled(name: string): Promise<void> {
    for (const [settled, other] of [...this.#settling])
      if (other === name || other === '' || name === '') await settled;
  }
}

function facts(found: { bytes: number; readOnly: boolean; description: string }): ExportFacts {
  const { bytes, readOnly, description } = found;
  invariant(bytes >= 0 && bytes <= EXPORT_BYTES_MAX, 'an export has a size that fits the protocol');
  return { bytes, flags: transmissionFlags(readOnly), description };
}

/** Facts, not hopes: each of these is kept for every export. */
function transmissionFlags(readOnly: boolean): number {
  const { HAS_FLAGS, SEND_FLUSH, SEND_FUA, SEND_CACHE, CAN_MULTI_CONN } = NBD_FLAG;
  const { READ_ONLY, SEND_TRIM, SEND_WRITE_ZEROES } = NBD_FLAG;
  const always = HAS_FLAGS | SEND_FLUSH | SEND_FUA | SEND_CACHE | CAN_MULTI_CONN;
  return always | (readOnly ? READ_ONLY : SEND_TRIM | SEND_WRITE_ZEROES);
}
