/** What `store-nbd` can be told of TLS, as flags. */
import { choiceSetting, StoreError, textSetting, type Setting } from '@store/core';
import type { Command } from 'commander';
import type { Context } from '../program.js';
import { checkPattern } from './export-pattern.js';

const MODES = ['off', 'on', 'required'] as const;

/**
 * `off`: NOTLS of the protocol. `on`: SELECTIVETLS, clients may use TLS, and have to for the exports of
 * `--tls-only`. `required`: FORCEDTLS.
 */
export type TlsMode = (typeof MODES)[number];

const TLS = {
  mode: modeSetting(),
  only: patternsSetting('tls-only'),
  dir: textSetting('tls-dir', null),
  cert: textSetting('tls-cert', null),
  key: textSetting('tls-key', null),
  ca: textSetting('tls-ca', null),
  crl: textSetting('tls-crl', null),
  psk: textSetting('tls-psk', null),
  rights: textSetting('rights', null),
} as const;

export const TLS_SETTINGS: readonly Setting<unknown>[] = Object.values(TLS);

/** The files of TLS; null: not given. */
export interface TlsFiles {
  readonly cert: string | null;
  readonly key: string | null;
  readonly ca: string | null;
  readonly crl: string | null;
  readonly psk: string | null;
}

/** What was given; null: nothing. */
export interface TlsGiven {
  readonly mode: TlsMode | null;
  /** Exports for TLS only. */
  readonly only: readonly string[] | null;
  readonly dir: string | null;
  readonly files: TlsFiles;
  readonly rights: string | null;
}

export function addTlsFlags(program: Command): Command {
  return program
    .option(
      '--tls <mode>',
      'off, on (clients may) or required (default: off here, required elsewhere)',
    )
    .option('--tls-only <names>', 'with --tls on: these exports need TLS (vm1,db-*)')
    .option('--tls-dir <folder>', 'where server-cert.pem, server-key.pem, … or keys.psk are')
    .option('--tls-cert <file>', "the server's certificate with its chain, in PEM")
    .option('--tls-key <file>', 'the key of that certificate')
    .option('--tls-ca <file>', 'clients need a certificate of this authority')
    .option('--tls-crl <file>', 'certificates that authority has revoked')
    .option('--tls-psk <file>', 'pre-shared keys of clients, as psktool writes them')
    .option('--rights <file>', 'which client may read or write which exports');
}

export function tlsGiven(context: Context): TlsGiven {
  const { mode, only, dir, cert, key, ca, crl, psk, rights } = TLS;
  return {
    mode: context.get(mode),
    only: context.get(only),
    dir: context.get(dir),
    files: {
      cert: context.get(cert),
      key: context.get(key),
      ca: context.get(ca),
      crl: context.get(crl),
      psk: context.get(psk),
    },
    rights: context.get(rights),
  };
}

function modeSetting(): Setting<TlsMode | null> {
  const { name, parse } = choiceSetting('tls', MODES, 'off');
  return { name, parse, fallback: null };
}

/** Names with a comma between them. */
function patternsSetting(name: string): Setting<readonly string[] | null> {
  return {
    name,
    fallback: null,
    parse: (text) => {
      const patterns = text.split(',').map((pattern) => pattern.trim());
      if (patterns.includes('')) throw new StoreError('E_INVALID', `'${text}' is not NAME,NAME,…`);
      patterns.forEach(checkPattern);
      return patterns;
    },
  };
}
