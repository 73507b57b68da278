/** How a program reaches a storage daemon or a cluster, as flags. */
import { choiceSetting, numberSetting, textSetting, type Setting } from '@store/core';
import type { Command } from 'commander';
import { datagramSetting } from '../datagram-setting.js';
import { hostPortsSetting } from '../host-port.js';

const TIMEOUT_SECONDS_MAX = 86_400;

export const DAEMON = {
  master: hostPortsSetting('master'),
  clientKey: textSetting('client-key', null),
  clientCert: textSetting('client-cert', null),
  clientCertKey: textSetting('client-cert-key', null),
  daemon: textSetting('storage-daemon', null),
  ticket: textSetting('ticket', null),
  ca: textSetting('ca-cert', null),
  transport: choiceSetting('transport', ['tcp', 'udp'] as const, 'tcp'),
  timeout: timeoutSetting(),
} as const;

export const DAEMON_SETTINGS: readonly Setting<unknown>[] = Object.values(DAEMON);

/** @param timeoutSeconds - What is said to be the default of `--daemon-timeout`. */
export function addDaemonFlags(command: Command, timeoutSeconds: number): Command {
  return addMasterFlags(command)
    .option(
      '--storage-daemon <address>',
      'use the daemon at HOST:PORT, or on the Unix socket with this path, not a folder',
    )
    .option('--ticket <file>', 'the ticket that lets you in')
    .option('--transport <way>', 'small requests go by tcp or udp (default: tcp)')
    .option(
      '--datagram-bytes <number>',
      `largest datagram with --transport udp (default: ${datagramSetting.fallback})`,
    )
    .option(
      '--daemon-timeout <seconds>',
      `give up what the daemon does not answer for so long (default: ${timeoutSeconds})`,
    );
}

/** How a program reaches the masters of a cluster. */
export function addMasterFlags(command: Command): Command {
  return command
    .option(
      '--master <addresses>',
      'use the cluster whose masters are at HOST:PORT[,HOST:PORT...], where they listen for clients',
    )
    .option('--client-key <file>', 'the key of this client: store client create')
    .option('--client-cert <file>', 'instead of a key: a certificate whose common name is a client')
    .option('--client-cert-key <file>', 'the key of that certificate')
    .option(
      '--ca-cert <file>',
      'speak TLS: daemons and masters have a certificate of this authority',
    );
}

function timeoutSetting(): Setting<number | null> {
  const name = 'daemon-timeout';
  const { parse } = numberSetting(name, { min: 1, max: TIMEOUT_SECONDS_MAX, fallback: 1 });
  return { name, fallback: null, parse };
}
