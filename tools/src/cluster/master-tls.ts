import { RealTlsContext, StoreError, type Log, type TlsKeys } from '@store/core';
import { readTlsKeys } from '../nbd-tls/tls-files.js';
import type { CertificateFiles } from '../serving/certificate-pair.js';
import type { MasterGiven } from './master-settings.js';

/** Certificates, read at the start and again at each SIGHUP: all of them or none. */
export class MasterTls {
  readonly listen: RealTlsContext | null;
  readonly peer: RealTlsContext | null;
  readonly #given: MasterGiven;
  readonly #log: Log;

  static async open(given: MasterGiven, log: Log): Promise<MasterTls> {
    return new MasterTls(given, log, await readKeys(given, log, 'warn'));
  }

  private constructor(given: MasterGiven, log: Log, keys: MasterKeys) {
    this.#given = given;
    this.#log = log;
    this.listen = keys.listen === null ? null : new RealTlsContext(keys.listen);
    this.peer = keys.peer === null ? null : new RealTlsContext(keys.peer);
  }

  async reload(): Promise<void> {
    try {
      const { listen, peer } = await readKeys(this.#given, this.#log, 'refuse');
      // What OpenSSL does not like must show before anything is replaced.
      for (const keys of [listen, peer]) if (keys !== null) new RealTlsContext(keys);
      if (listen !== null) this.listen?.replace(listen);
      if (peer !== null) this.peer?.replace(peer);
      this.#log.info({}, 'Certificates read again');
    } catch (error) {
      if (!(error instanceof StoreError)) throw error;
      this.#log.error({}, `Nothing taken, what was read before stays in use: ${error.message}`);
    }
  }
}

interface MasterKeys {
  readonly listen: TlsKeys | null;
  readonly peer: TlsKeys | null;
}

async function readKeys(
  { listenFiles, listenCa, peerFiles, peerCa }: MasterGiven,
  log: Log,
  outOfDate: 'warn' | 'refuse',
): Promise<MasterKeys> {
  const read = (files: CertificateFiles, ca: string | null): Promise<TlsKeys> =>
    readTlsKeys({ ...files, ca, crl: null, psk: null }, log, outOfDate);
  return {
    listen:
      listenFiles === null
        ? null
        : { ...(await read(listenFiles, listenCa)), isCertificateOptional: true },
    peer: peerFiles === null ? null : await read(peerFiles, peerCa),
  };
}
