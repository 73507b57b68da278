/** Addresses as people write them: `HOST:PORT`, `[IPv6]:PORT`. */
import { StoreError, type Setting } from '@store/core';

export interface HostPort {
  readonly host: string;
  readonly port: number;
}

/** @throws StoreError `E_INVALID` if it is no address */
export function parseHostPort(text: string): HostPort {
  const match = /^(?:\[([\da-f:.]+(?:%[\w.-]+)?)\]|([^:\s/[\]]+)):(\d{1,5})$/i.exec(text);
  const host = match?.[1] ?? match?.[2];
  const port = Number(match?.[3]);
  if (host === undefined || port > 65_535)
    throw new StoreError(
      'E_INVALID',
      `'${text}' is not HOST:PORT, for example 127.0.0.1:4148 or [::1]:4148`,
    );
  return { host, port };
}

export function formatHostPort({ host, port }: HostPort): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}

/** A setting that is `HOST:PORT`. */
export function hostPortSetting<T extends HostPort | null>(
  name: string,
  fallback: T,
): Setting<HostPort | T> {
  return { name, fallback, parse: parseHostPort };
}

/** A setting that is a list of `HOST:PORT`, with commas between them; none of them has port 0. */
export function hostPortsSetting(name: string): Setting<readonly HostPort[]> {
  return {
    name,
    fallback: [],
    parse: (text) =>
      text.split(',').map((one) => {
        const address = parseHostPort(one.trim());
        if (address.port > 0) return address;
        throw new StoreError('E_INVALID', `nobody can be reached at port 0 ('${one.trim()}')`);
      }),
  };
}
