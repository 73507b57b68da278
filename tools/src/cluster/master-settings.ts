/** What `store master` can be told, as flags. */
import { switchSetting, textSetting, type Setting } from '@store/core';
import type { Command } from 'commander';
import { hostPortSetting, type HostPort } from '../host-port.js';
import type { Context } from '../program.js';
import { certificatePair, type CertificateFiles } from '../serving/certificate-pair.js';
import { UsageError } from '../usage-error.js';

const PEER_PORT = 4000;
const LISTEN_PORT = 4010;

const SETTING = {
  peer: hostPortSetting('peer-address', { host: '127.0.0.1', port: PEER_PORT }),
  peerCert: textSetting('peer-cert', null),
  peerKey: textSetting('peer-key', null),
  peerCa: textSetting('peer-ca-cert', null),
  listen: hostPortSetting('listen-address', { host: '127.0.0.1', port: LISTEN_PORT }),
  listenCert: textSetting('listen-cert', null),
  listenKey: textSetting('listen-key', null),
  listenCa: textSetting('listen-ca-cert', null),
  advertise: textSetting('advertise-host', null),
  stateDir: textSetting('state-dir', './store-master'),
  etcd: textSetting('etcd', null),
  etcdName: textSetting('etcd-name', 'store'),
  etcdCa: textSetting('etcd-ca-cert', null),
  etcdCert: textSetting('etcd-cert', null),
  etcdKey: textSetting('etcd-key', null),
  etcdUser: textSetting('etcd-user', null),
  etcdPassword: textSetting('etcd-password-file', null),
  http: hostPortSetting('http', null),
  httpToken: textSetting('http-token', null),
  insecure: switchSetting('insecure'),
} as const;

export const MASTER_SETTINGS: readonly Setting<unknown>[] = Object.values(SETTING);

export interface EtcdGiven {
  readonly endpoints: readonly string[];
  /** Of the cluster, where several share one etcd. */
  readonly name: string;
  readonly ca: string | null;
  readonly files: CertificateFiles | null;
  readonly user: { readonly name: string; readonly passwordFile: string } | null;
}

export interface MasterGiven {
  readonly peer: HostPort;
  readonly peerFiles: CertificateFiles | null;
  readonly peerCa: string | null;
  readonly listen: HostPort;
  readonly listenFiles: CertificateFiles | null;
  /** Clients may show a certificate of this authority instead of a key; null: they may not. */
  readonly listenCa: string | null;
  /** The name or address by which others reach this machine; null: that of the addresses. */
  readonly advertise: string | null;
  readonly stateDir: string;
  readonly etcd: EtcdGiven | null;
  readonly http: HostPort | null;
  readonly httpToken: string | null;
  readonly insecure: boolean;
}

export function addMasterServerFlags(command: Command): Command {
  return command
    .option(
      '--peer-address <address>',
      `HOST:PORT for daemons and other masters (default: 127.0.0.1:${PEER_PORT})`,
    )
    .option('--peer-cert <file>', 'the certificate of this master, in PEM')
    .option('--peer-key <file>', 'the key of that certificate')
    .option('--peer-ca-cert <file>', 'daemons need a certificate of this authority')
    .option(
      '--listen-address <address>',
      `HOST:PORT for clients (default: 127.0.0.1:${LISTEN_PORT})`,
    )
    .option('--listen-cert <file>', 'the certificate clients see (default: that of --peer-cert)')
    .option('--listen-key <file>', 'the key of that certificate (default: that of --peer-key)')
    .option(
      '--listen-ca-cert <file>',
      'clients may show a certificate of this authority, with their name, instead of a key',
    )
    .option(
      '--advertise-host <host>',
      'by what name others reach this machine (default: the host of the address, or the host name)',
    )
    .option(
      '--state-dir <folder>',
      'what this master knows, and the key of the first administrator (default: ./store-master)',
    )
    .option('--etcd <urls>', 'keep what masters know in this etcd: URL[,URL...]; several may run')
    .option('--etcd-name <name>', 'tells clusters that share an etcd apart (default: store)')
    .option('--etcd-ca-cert <file>', 'etcd has a certificate of this authority')
    .option('--etcd-cert <file>', 'the certificate to show to etcd')
    .option('--etcd-key <file>', 'the key of that certificate')
    .option('--etcd-user <name>', "the user of etcd's own authentication")
    .option('--etcd-password-file <file>', 'its password')
    .option('--http <address>', 'serve the dashboard, the JSON API and /metrics on HOST:PORT')
    .option('--http-token <file>', 'whoever shows this token may change things over HTTP')
    .option('--insecure', 'speak in the clear, and with everybody');
}

/** @throws UsageError if what was given does not fit together */
export function masterGiven(context: Context): MasterGiven {
  const get = <T>(setting: Setting<T>): T => context.get(setting);
  const peerFiles = certificatePair(get(SETTING.peerCert), get(SETTING.peerKey), {
    cert: 'peer-cert',
    key: 'peer-key',
  });
  const listenFiles = certificatePair(get(SETTING.listenCert), get(SETTING.listenKey), {
    cert: 'listen-cert',
    key: 'listen-key',
  });
  const peerCa = get(SETTING.peerCa);
  const listenCa = get(SETTING.listenCa);
  if (listenCa !== null && listenFiles === null && peerFiles === null)
    throw new UsageError(
      '--listen-ca-cert needs --listen-cert and --listen-key: it is a part of TLS',
    );
  if ((peerFiles === null) !== (peerCa === null))
    throw new UsageError(
      '--peer-cert, --peer-key and --peer-ca-cert go together: masters and daemons prove to each other who they are; see store cert --help',
    );
  if (listenFiles !== null && peerFiles === null && !get(SETTING.insecure))
    throw new UsageError(
      'With --listen-cert clients need keys, but daemons would get in without: add --peer-cert, --peer-key and --peer-ca-cert (see store cert --help)',
    );
  return {
    peer: get(SETTING.peer),
    peerFiles,
    peerCa,
    listen: get(SETTING.listen),
    listenFiles: listenFiles ?? peerFiles,
    listenCa,
    advertise: get(SETTING.advertise),
    stateDir: get(SETTING.stateDir),
    etcd: etcdGiven(get),
    http: get(SETTING.http),
    httpToken: get(SETTING.httpToken),
    insecure: get(SETTING.insecure),
  };
}

function etcdGiven(get: <T>(setting: Setting<T>) => T): EtcdGiven | null {
  const urls = get(SETTING.etcd);
  if (urls === null) return null;
  const [user, passwordFile] = [get(SETTING.etcdUser), get(SETTING.etcdPassword)];
  if ((user === null) !== (passwordFile === null))
    throw new UsageError('--etcd-user and --etcd-password-file go together; give both or neither');
  return {
    endpoints: urls.split(',').map((url) => endpointOf(url.trim())),
    name: get(SETTING.etcdName),
    ca: get(SETTING.etcdCa),
    files: certificatePair(get(SETTING.etcdCert), get(SETTING.etcdKey), {
      cert: 'etcd-cert',
      key: 'etcd-key',
    }),
    user: user === null || passwordFile === null ? null : { name: user, passwordFile },
  };
}

function endpointOf(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : null;
  const isGood = url !== null && /^https?:$/.test(url.protocol) && url.pathname === '/';
  if (isGood) return url.origin;
  throw new UsageError(`--etcd takes URLs as http://10.0.0.1:2379, with commas, not '${text}'`);
}
