/** What `store file-store` can be told, as flags. */
import { switchSetting, textSetting, type Setting } from '@store/core';
import type { Command } from 'commander';
import { datagramSetting } from '../datagram-setting.js';
import { hostPortSetting, hostPortsSetting, type HostPort } from '../host-port.js';
import type { Context } from '../program.js';
import { certificatePair, type CertificateFiles } from './certificate-pair.js';
import { isLoopback } from '../loopback.js';
import { UsageError } from '../usage-error.js';

const LISTEN_PORT = 4148;

const SETTING = {
  peer: hostPortSetting('peer-address', null),
  peerCert: textSetting('peer-cert', null),
  peerKey: textSetting('peer-key', null),
  peerCa: textSetting('peer-ca-cert', null),
  listen: hostPortSetting('listen-address', { host: '127.0.0.1', port: LISTEN_PORT }),
  listenCert: textSetting('listen-cert', null),
  listenKey: textSetting('listen-key', null),
  secret: textSetting('secret', null),
  blocklist: textSetting('blocklist', null),
  master: hostPortsSetting('master'),
  advertise: textSetting('advertise-host', null),
  host: textSetting('host', null),
  rack: textSetting('rack', 'default'),
  insecure: switchSetting('insecure'),
  tcpOnly: switchSetting('tcp-only'),
} as const;

export const FILE_STORE_SETTINGS: readonly Setting<unknown>[] = Object.values(SETTING);

/** The cluster to be a part of. */
export interface ClusterGiven {
  readonly masters: readonly HostPort[];
  /** By what name others reach this machine; null: that of the addresses. */
  readonly advertise: string | null;
  /** Where it stands; no host: the name of this machine. */
  readonly host: string | null;
  readonly rack: string;
}

/** What was given; null: nothing. */
export interface FileStoreGiven {
  /** Where other daemons connect; no `ca`: in the clear. */
  readonly peer: { readonly address: HostPort; readonly ca: string | null } | null;
  readonly peerFiles: CertificateFiles | null;
  readonly peerCa: string | null;
  /** Where clients connect. */
  readonly listen: HostPort;
  /** Null: clients cannot speak TLS. */
  readonly listenFiles: CertificateFiles | null;
  readonly secrets: readonly string[];
  readonly blocklist: string | null;
  /** Null: this daemon belongs to no cluster. */
  readonly cluster: ClusterGiven | null;
  readonly insecure: boolean;
  /** Programs of this machine come in over TCP too. */
  readonly tcpOnly: boolean;
  readonly datagramBytes: number;
}

export function addFileStoreFlags(command: Command): Command {
  return command
    .option(
      '--listen-address <address>',
      `HOST:PORT for clients, TCP and UDP (default: 127.0.0.1:${LISTEN_PORT})`,
    )
    .option('--listen-cert <file>', 'the certificate clients see (default: that of --peer-cert)')
    .option('--listen-key <file>', 'the key of that certificate (default: that of --peer-key)')
    .option(
      '--peer-address <address>',
      'HOST:PORT for other daemons (default: in a cluster, any free port where --listen-address is)',
    )
    .option('--peer-cert <file>', 'the certificate of this daemon, in PEM')
    .option('--peer-key <file>', 'the key of that certificate')
    .option('--peer-ca-cert <file>', 'daemons and masters need a certificate of this authority')
    .option(
      '--secret <file>',
      'the secret of a pool, whose clients then need tickets; more than one may be given',
      (value: string, before: readonly string[] | undefined) => [...(before ?? []), value],
    )
    .option('--blocklist <file>', 'tickets and clients that are let in no more, one a line')
    .option(
      '--master <addresses>',
      'be a part of the cluster whose masters listen for daemons at HOST:PORT[,HOST:PORT...]',
    )
    .option(
      '--advertise-host <host>',
      'by what name clients reach this machine (default: that of --listen-address)',
    )
    .option('--host <label>', 'the host this disk is in, for placement (default: the host name)')
    .option('--rack <label>', 'the rack that host is in (default: default)')
    .option('--insecure', 'let everybody in who can connect, unprotected')
    .option(
      '--tcp-only',
      'TCP also for programs on this machine, which need none where --listen-address is on loopback',
    )
    .option('--datagram-bytes <number>', 'largest datagram, 0 for none (default: 8192)')
    .option('--metrics <address>', 'serve /metrics for Prometheus on PORT or HOST:PORT');
}

/** @throws UsageError if what was given does not fit together */
export function fileStoreGiven(context: Context, command: Command): FileStoreGiven {
  const get = <T>(setting: Setting<T>): T => context.get(setting);
  const peerFiles = certificatePair(get(SETTING.peerCert), get(SETTING.peerKey), {
    cert: 'peer-cert',
    key: 'peer-key',
  });
  const listenFiles = certificatePair(get(SETTING.listenCert), get(SETTING.listenKey), {
    cert: 'listen-cert',
    key: 'listen-key',
  });
  const ca = get(SETTING.peerCa);
  const cluster = clusterGiven(get);
  const peer = peerGiven(get, cluster !== null, peerFiles === null ? null : ca);
  const { secret: flags } = command.opts<{ secret?: readonly string[] }>();
  const one = get(SETTING.secret); // of the environment or the configuration file, which can name one
  const secrets = flags ?? (one === null ? [] : [one]);
  const blocklist = get(SETTING.blocklist);
  if (cluster !== null && (secrets.length > 0 || blocklist !== null))
    throw new UsageError(
      'In a cluster the master gives secrets and the blocklist; leave out --secret and --blocklist',
    );
  return {
    peer,
    peerFiles,
    peerCa: ca,
    listen: get(SETTING.listen),
    listenFiles: listenFiles ?? peerFiles,
    secrets: cluster === null ? secrets : [],
    blocklist: cluster === null ? blocklist : null,
    cluster,
    insecure: get(SETTING.insecure),
    tcpOnly: get(SETTING.tcpOnly),
    datagramBytes: get(datagramSetting),
  };
}

/** @throws UsageError if others could connect and had to prove nothing */
function peerGiven(
  get: <T>(setting: Setting<T>) => T,
  isClustered: boolean,
  ca: string | null,
): FileStoreGiven['peer'] {
  const given = get(SETTING.peer);
  const { host } = given ?? get(SETTING.listen);
  const isAllowed = ca !== null || (isClustered && (isLoopback(host) || get(SETTING.insecure)));
  if (given !== null && !isAllowed)
    throw new UsageError(
      '--peer-address needs --peer-cert, --peer-key and --peer-ca-cert: daemons prove to each other who they are; see store cert --help',
    );
  if (given !== null) return { address: given, ca };
  return isClustered && isAllowed ? { address: { host, port: 0 }, ca } : null;
}

function clusterGiven(get: <T>(setting: Setting<T>) => T): ClusterGiven | null {
  const masters = get(SETTING.master);
  if (masters.length === 0) return null;
  const [host, rack] = [get(SETTING.host), get(SETTING.rack)];
  return { masters, advertise: get(SETTING.advertise), host, rack };
}
