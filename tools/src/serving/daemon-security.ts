/**
 * Certificates, secrets of pools and the blocklist of a daemon, read from files at the start and again whenever the
 * process gets SIGHUP. A reload takes all files or none: one that is missing or broken leaves everything as it was.
 * Connections go on with the certificates they began with; whoever is on a list or has a ticket of a secret that is
 * gone leaves at once.
 */
import {
  Blocklist,
  invariant,
  PoolSecret,
  realTlsClient,
  RealTlsContext,
  SECRET_FILE_BYTES_MAX,
  SecretRing,
  StoreError,
  type Log,
  type RealTlsClientContext,
  type TlsClientKeys,
  type TlsKeys,
} from '@store/core';
import type { DaemonServer, DoorOptions } from '@store/daemon';
import { isLoopback } from '../loopback.js';
import { readTlsKeys } from '../nbd-tls/tls-files.js';
import { readTextFile } from '../read-text-file.js';
import type { CertificateFiles } from './certificate-pair.js';
import type { FileStoreGiven } from './file-store-settings.js';

const BLOCKLIST_BYTES_MAX = 4 * 1024 * 1024;
const FOR_OTHERS = 0o007;

/** What was read. */
interface Loaded {
  readonly listenKeys: TlsKeys | null;
  readonly peerKeys: TlsKeys | null;
  readonly secrets: SecretRing;
  readonly blocklist: Blocklist;
}

export class DaemonSecurity {
  readonly door: DoorOptions;
  /** With what this daemon connects to other daemons and to masters; null: in the clear. */
  readonly peerClientTls: RealTlsClientContext | null;
  readonly #given: FileStoreGiven;
  readonly #log: Log;
  readonly #listenTls: RealTlsContext | null;
  readonly #peerTls: RealTlsContext | null;

  /** @throws StoreError if a file cannot be read or used */
  static async open(given: FileStoreGiven, log: Log): Promise<DaemonSecurity> {
    return new DaemonSecurity(given, log, await load(given, log, 'warn'));
  }

  private constructor(given: FileStoreGiven, log: Log, loaded: Loaded) {
    const { listenKeys, peerKeys, secrets, blocklist } = loaded;
    this.#given = given;
    this.#log = log;
    this.#listenTls = listenKeys === null ? null : new RealTlsContext(listenKeys);
    this.#peerTls = peerKeys === null ? null : new RealTlsContext(peerKeys);
    this.peerClientTls = peerKeys === null ? null : realTlsClient(clientKeysOf(peerKeys));
    this.door = {
      secrets,
      blocklist,
      tls: this.#listenTls,
      peerTls: this.#peerTls,
      insecure: given.insecure,
    };
    this.#warn();
    this.#say('Who may come in', loaded);
  }

  /** Takes what the files say now, all of it or nothing. */
  async reload(server: DaemonServer): Promise<void> {
    try {
      const loaded = await load(this.#given, this.#log, 'refuse');
      const { listenKeys, peerKeys, secrets, blocklist } = loaded;
      // What OpenSSL does not like must show before anything is replaced.
      for (const keys of [listenKeys, peerKeys]) if (keys !== null) new RealTlsContext(keys);
      if (peerKeys !== null) realTlsClient(clientKeysOf(peerKeys));
      if (listenKeys !== null) this.#listenTls?.replace(listenKeys);
      if (peerKeys !== null) {
        this.#peerTls?.replace(peerKeys);
        this.peerClientTls?.replace(clientKeysOf(peerKeys));
      }
      const isInCluster = this.#given.cluster !== null;
      // The masters' secrets and blocklist are in use there, and no file says anything about them.
      if (!isInCluster) server.replaceSecrets({ secrets, blocklist });
      const what = isInCluster ? 'Certificates' : 'Certificates, secrets and blocklist';
      this.#say(`${what} read again`, loaded);
    } catch (error) {
      if (!(error instanceof StoreError)) throw error;
      this.#log.error({}, `Nothing taken, what was read before stays in use: ${error.message}`);
    }
  }

  #warn(): void {
    const { listen, secrets, insecure } = this.#given;
    const { host } = listen;
    const isExposed = !isLoopback(host);
    if (insecure) {
      const who = secrets.length > 0 ? 'with a ticket' : 'who can connect';
      this.#log.warn(
        { host },
        `--insecure: EVERYBODY ${who} may read, write and remove everything, and all of it travels in the clear`,
      );
      return;
    }
    if (isExposed && this.#listenTls === null)
      this.#log.warn(
        { host },
        'Others can connect here but cannot get in: there is no certificate (--listen-cert and --listen-key; see store cert --help)',
      );
    if (isExposed && secrets.length === 0)
      this.#log.warn(
        { host },
        'Others can connect here but cannot get in: there is no secret of a pool. Make one with store key create, tickets for clients with store key ticket, and give the secret with --secret',
      );
  }

  #say(what: string, { listenKeys, peerKeys, secrets, blocklist }: Loaded): void {
    const tls = { tls: listenKeys !== null, peers: peerKeys !== null };
    const lists = { secretsOf: secrets.pools, blocked: blocklist.size };
    this.#log.info(this.#given.cluster === null ? { ...tls, ...lists } : tls, what);
  }
}

/** One certificate stands for a daemon, whichever side connects. */
function clientKeysOf({ ca, cert, key }: TlsKeys): TlsClientKeys {
  invariant(ca !== undefined, 'where peers connect there is an authority');
  return { ca, ...(cert === undefined ? {} : { cert }), ...(key === undefined ? {} : { key }) };
}

async function load(
  given: FileStoreGiven,
  log: Log,
  outOfDate: 'warn' | 'refuse',
): Promise<Loaded> {
  const { listenFiles, peer, peerFiles } = given;
  const keysOf = (files: CertificateFiles, ca: string | null): Promise<TlsKeys> =>
    readTlsKeys({ ...files, ca, crl: null, psk: null }, log, outOfDate);
  const listenKeys = listenFiles === null ? null : await keysOf(listenFiles, null);
  const peerCa = peer?.ca ?? null;
  const peerKeys = peerCa === null || peerFiles === null ? null : await keysOf(peerFiles, peerCa);
  const kept = [];
  for (const path of given.secrets) {
    const { text, mode } = await readTextFile(path, SECRET_FILE_BYTES_MAX);
    if ((mode & FOR_OTHERS) !== 0)
      log.warn({ file: path }, `Every user can read this secret; chmod o= ${path}`);
    kept.push(PoolSecret.parse(path, text));
  }
  return {
    listenKeys,
    peerKeys,
    secrets: new SecretRing(kept, { areHandedOut: given.cluster !== null }),
    blocklist: await blocklistOf(given),
  };
}

async function blocklistOf({ blocklist: path }: FileStoreGiven): Promise<Blocklist> {
  if (path === null) return new Blocklist();
  return Blocklist.parse(path, (await readTextFile(path, BLOCKLIST_BYTES_MAX)).text);
}
