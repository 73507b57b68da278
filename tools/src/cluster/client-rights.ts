/** What a client may do in which pools, as people write it: `vms=rw,logs=r`, `*=r`. */
import { checkPoolName, StoreError } from '@store/core';
import { printable } from './printable.js';

export type RightsByPool = Readonly<Record<string, string>>;

const ALL_POOLS = '*';
const ONE = /^(.+)=(r|rw|rwa)$/s;

/**
 * @param texts - One for each flag that was given, each a list with commas.
 * @throws StoreError `E_INVALID`
 */
export function parseRights(texts: readonly string[]): RightsByPool {
  const rights = new Map<string, string>();
  for (const text of texts.flatMap((one) => one.split(','))) {
    const [, pool, right] = ONE.exec(text.trim()) ?? [];
    if (pool === undefined || right === undefined)
      throw new StoreError(
        'E_INVALID',
        `Rights are written POOL=r, POOL=rw or POOL=rwa, with commas between, not '${text}'; '*=rw' is for all pools`,
      );
    if (pool !== ALL_POOLS) checkPoolName(pool);
    if (rights.has(pool)) throw new StoreError('E_INVALID', `Pool '${pool}' is named twice`);
    rights.set(pool, right);
  }
  return Object.fromEntries(rights);
}

export function rightsText(rights: RightsByPool): string {
  const list = Object.entries(rights).map(([pool, right]) => `${printable(pool)}=${right}`);
  return list.length === 0 ? 'none' : list.join(', ');
}
