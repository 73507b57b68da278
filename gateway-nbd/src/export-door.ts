/**
 * Opens exports, and keeps a successor waiting: a client that lost its connection comes back and writes anew, and
 * nothing that the dead connection left in the backend may land on top of that. So an export is opened only when
 * every earlier connection to it that is gone has settled.
 */
import { invariant, StoreError, type TlsPeer } from '@store/core';
import type { AccessRule, Right } from './access.js';
import type { Backend, ExportCatalog, ExportFacts } from './backend.js';
import type { LookUp, LookUpResult } from './handshake/handshake.js';
import { EXPORT_BYTES_MAX } from './protocol/limits.js';

export interface OpenedExport {
  readonly name: string;
  readonly backend: Backend;
  /** What this client was told of it. */
  readonly facts: ExportFacts;
  /** This client may not write. */
  readonly readOnly: boolean;
  close(): Promise<void>;
}

interface Found {
  readonly result: LookUpResult;
  /** Belongs to the caller. */
  readonly opened: OpenedExport | null;
}

const ABSENT: Found = { result: { kind: 'export', found: null }, opened: null };

export class ExportDoor {
  readonly #catalog: ExportCatalog;
  readonly #access: AccessRule;
  readonly #settling = new Map<Promise<void>, string>();

  constructor(catalog: ExportCatalog, access: AccessRule) {
    this.#catalog = catalog;
    this.#access = access;
  }

  /** `settled` is the end of a connection to `name` that is gone. */
  addSettling(name: string, settled: Promise<void>): void {
    this.#settling.set(settled, name);
    void settled.then(() => this.#settling.delete(settled));
  }

  /** Answers a look-up of the handshake for `peer`, which is null without TLS. */
  async lookUp(what: LookUp, peer: TlsPeer | null): Promise<Found> {
    try {
      if (what.kind === 'list') return await this.#list(peer);
      // Who may not use an export does not learn that it exists.
      const right = this.#access(peer, what.name);
      if (right === 'none') return ABSENT;
      if (what.kind === 'open') return await this.open(what.name, right);
      const found = await this.#catalog.info(what.name);
      return {
        result: { kind: 'export', found: found === null ? null : factsFor(found, right) },
        opened: null,
      };
    } catch (error) {
      if (!(error instanceof StoreError)) throw error;
      return { result: { kind: 'failed', error }, opened: null };
    }
  }

  /** Opens an export for one connection. */
  async open(name: string, right: Right): Promise<Found> {
    const found = await this.#catalog.info(name);
    if (found === null) return ABSENT;
    await this.#settled(name);
    const opened = await this.#catalog.open(name);
    if (opened === null) return ABSENT;
    const { backend } = opened;
    const { bytes, readOnly } = backend;
    const facts = factsFor({ ...found, bytes, readOnly }, right);
    return {
      result: { kind: 'export', found: facts },
      opened: {
        name: opened.name ?? name,
        backend,
        facts,
        readOnly: facts.readOnly,
        close: () => opened.close(),
      },
    };
  }

  async #list(peer: TlsPeer | null): Promise<Found> {
    const all = await this.#catalog.list();
    const exports = all.filter(({ name }) => this.#access(peer, name) !== 'none');
    return { result: { kind: 'list', exports }, opened: null };
  }

  /** The empty name is another name for one of the exports, so it waits for all and all wait for it. */
  async #settled(name: string): Promise<void> {
    for (const [settled, other] of [...this.#settling])
      if (other === name || other === '' || name === '') await settled;
  }
}

function factsFor(found: ExportFacts, right: Right): ExportFacts {
  const { bytes } = found;
  invariant(bytes >= 0 && bytes <= EXPORT_BYTES_MAX, 'an export has a size that fits the protocol');
  return right === 'write' ? found : { ...found, readOnly: true };
}
