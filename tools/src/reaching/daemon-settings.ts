/** How a program reaches a storage daemon, as flags. */
import { choiceSetting, numberSetting, textSetting, type Setting } from '@store/core';
import type { Command } from 'commander';
import { datagramSetting } from '../datagram-setting.js';

const TIMEOUT_SECONDS_MAX = 86_400;

export const DAEMON = {
  daemon: textSetting('storage-daemon', null),
  ticket: textSetting('ticket', null),
  ca: textSetting('ca-cert', null),
  transport: choiceSetting('transport', ['tcp', 'udp'] as const, 'tcp'),
  timeout: timeoutSetting(),
} as const;

export const DAEMON_SETTINGS: readonly Setting<unknown>[] = Object.values(DAEMON);

/** @param timeoutSeconds - What is said to be the default of `--daemon-timeout`. */
export function addDaemonFlags(command: Command, timeoutSeconds: number): Command {
  return command
    .option(
      '--storage-daemon <address>',
      'use the daemon at HOST:PORT, or on the Unix socket with this path, not a folder',
    )
    .option('--ticket <file>', 'the ticket that lets you in')
    .option('--ca-cert <file>', 'speak TLS: the daemon has a certificate of this authority')
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

function timeoutSetting(): Setting<number | null> {
  const name = 'daemon-timeout';
  const { parse } = numberSetting(name, { min: 1, max: TIMEOUT_SECONDS_MAX, fallback: 1 });
  return { name, fallback: null, parse };
}
