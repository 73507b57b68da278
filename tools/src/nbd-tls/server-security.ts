/**
 * How a server protects itself: TLS and rights, read from files at the start and again whenever the process gets
 * SIGHUP. A reload takes all files or none: one that is missing or broken leaves everything as it was. Connections
 * that are open go on with what they began with.
 */
import {
  RealTlsContext,
  StoreError,
  type ListenAddress,
  type Log,
  type TlsKeys,
} from '@store/core';
import type { NbdServerOptions } from '@store/gateway-nbd';
import { isLoopback } from '../loopback.js';
import type { Context } from '../program.js';
import { UsageError } from '../usage-error.js';
import { matchesPattern } from './export-pattern.js';
import { onHangup } from './on-hangup.js';
import { parseRights, type Rights } from './rights-file.js';
import { findTlsFiles, missingFile, readSmallFile, readTlsKeys } from './tls-files.js';
import { planTls, type Reach } from './tls-plan.js';
import { tlsGiven, type TlsFiles, type TlsGiven, type TlsMode } from './tls-settings.js';

export interface ServerSecurity {
  /** For `serveNbd`. */
  readonly options: Pick<NbdServerOptions, 'tls' | 'access'>;
  /** True if a client has to use TLS to reach the default export. */
  readonly needsTls: boolean;
  /** The URI for a client, from the one for a server without TLS. */
  uri(plain: string): string;
  /**
   * Is this enough for a server that is reached there? It may be another address than was asked for: that of a socket
   * which was passed to this process.
   * @throws UsageError that says what to give instead
   */
  approve(address: ListenAddress): void;
}

export interface SecurityRequest {
  readonly address: ListenAddress;
  /** The one image that is served, also as the default export; null: all. */
  readonly only: string | null;
  /** Whoever runs it wants no protection. */
  readonly insecure: boolean;
}

/**
 * Reads the settings and files of TLS, and goes on to do so on SIGHUP.
 * @throws UsageError if the settings do not fit together
 * @throws StoreError if a file cannot be read or used
 */
export async function openSecurity(
  context: Context,
  { address, only, insecure }: SecurityRequest,
): Promise<ServerSecurity> {
  const source: Source = {
    given: tlsGiven(context),
    reach: reachOf(address, insecure),
    log: context.log,
  };
  const files = findTlsFiles(source.given);
  const plan = planTls(source.given, files, source.reach);
  if (plan.warning !== null) context.log.warn({ host: source.reach.host }, plan.warning);
  const approve = (reached: ListenAddress): void => {
    planTls({ ...source.given, mode: plan.mode }, files, reachOf(reached, insecure));
  };
  if (plan.mode === 'off') {
    // The signal would end the process.
    onHangup(() => {
      context.log.warn(
        {},
        'Nothing to read again on SIGHUP: TLS is off; new settings need a restart',
      );
      return Promise.resolve();
    });
    return { options: {}, needsTls: false, uri: (plain) => plain, approve };
  }
  const security = new Security(
    source,
    await load(source, files, 'warn'),
    plan.mode,
    only ?? '',
    approve,
  );
  onHangup(() => security.reload());
  return security;
}

function reachOf(address: ListenAddress, insecure: boolean): Reach {
  const isLocal = 'path' in address || isLoopback(address.host);
  return { local: isLocal, host: 'path' in address ? address.path : address.host, insecure };
}

/** Where everything comes from. */
interface Source {
  readonly given: TlsGiven;
  readonly reach: Reach;
  readonly log: Log;
}

/** What was read. */
interface Loaded {
  readonly files: TlsFiles;
  readonly keys: TlsKeys;
  readonly rights: Rights | null;
}

class Security implements ServerSecurity {
  readonly options: Pick<NbdServerOptions, 'tls' | 'access'>;
  readonly needsTls: boolean;
  readonly approve: (address: ListenAddress) => void;
  readonly #source: Source;
  readonly #mode: TlsMode;
  readonly #tls: RealTlsContext;
  #loaded: Loaded;

  /** @param defaultImage - What the empty export name means; empty: nothing. */
  constructor(
    source: Source,
    loaded: Loaded,
    mode: TlsMode,
    defaultImage: string,
    approve: (address: ListenAddress) => void,
  ) {
    this.approve = approve;
    this.#source = source;
    this.#mode = mode;
    this.#tls = new RealTlsContext(loaded.keys);
    this.#loaded = loaded;
    const imageOf = (exportName: string): string => exportName || defaultImage;
    const isTlsOnly = (exportName: string): boolean =>
      matchesPattern(source.given.only ?? [], imageOf(exportName));
    this.needsTls = mode === 'required' || isTlsOnly('');
    this.options = {
      tls: {
        context: this.#tls,
        mode: mode === 'required' ? 'forced' : 'selective',
        needsTls: isTlsOnly,
      },
      access: (peer, exportName) => this.#loaded.rights?.of(peer, imageOf(exportName)) ?? 'write',
    };
    this.#say('TLS is ready');
  }

  uri(plain: string): string {
    return this.needsTls ? plain.replace(/^nbd/, 'nbds') : plain;
  }

  /** Takes what the files say now, all of it or nothing. */
  async reload(): Promise<void> {
    const { given, reach, log } = this.#source;
    try {
      const files = findTlsFiles(given);
      const missing = missingFile(this.#loaded.files, files);
      if (missing !== null) throw new StoreError('E_NOT_FOUND', `${missing} is gone`);
      planTls(given, files, reach);
      const loaded = await load(this.#source, files, 'refuse');
      this.#tls.replace(loaded.keys);
      this.#loaded = loaded;
      this.#say('TLS files read again, for connections from now on');
    } catch (error) {
      if (!(error instanceof StoreError || error instanceof UsageError)) throw error;
      log.error({}, `TLS files not taken, those read before stay in use: ${error.message}`);
    }
  }

  #say(what: string): void {
    const { keys, rights } = this.#loaded;
    const fields = {
      mode: this.#mode,
      clientCertificates: keys.ca !== undefined,
      preSharedKeys: keys.psk?.size ?? 0,
      rights: rights === null ? 'everybody may do everything' : `of ${rights.clientCount} clients`,
    };
    this.#source.log.info(fields, what);
  }
}

async function load(
  { given, log }: Source,
  files: TlsFiles,
  outOfDate: 'warn' | 'refuse',
): Promise<Loaded> {
  const keys = await readTlsKeys(files, log, outOfDate);
  const path = given.rights;
  if (path === null) return { files, keys, rights: null };
  return { files, keys, rights: parseRights(path, (await readSmallFile(path)).toString()) };
}
