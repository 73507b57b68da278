/** The pools that a connection has opened, by the handles its requests name them with. */
import {
  atEpoch,
  chainHandle,
  CHAINS_MAX,
  LayeredView,
  StoreError,
  withClaim,
  type CheckedPool,
  type ClaimedChain,
  type ObjectStore,
} from '@store/core';
import { rightObjection, type Guest } from './door.js';

const POOLS_MAX = 1024;
/** Of all chains together. */
const LAYERS_MAX = 8192;
/** Names in one answer, and their bytes: written as JSON a byte becomes six at worst. */
const NAMES_MAX = 256;
const NAMES_BYTES_MAX = 8 * 1024;

/** A store whose pools take and give checksums. */
export interface ServedStore extends ObjectStore {
  openPool(name: string, options: { create: boolean }): Promise<CheckedPool>;
}

export class OpenPools {
  readonly #store: ServedStore;
  readonly #guest: Guest;
  readonly #pools: CheckedPool[] = [];
  readonly #handles = new Map<CheckedPool, number>();
  /** Chains that requests may name, and pools seen through them: by chain, then by pool. */
  readonly #chains = new Map<
    number,
    { readonly chain: ClaimedChain; readonly views: CheckedPool[] }
  >();
  #layers = 0;

  constructor(store: ServedStore, guest: Guest) {
    this.#store = store;
    this.#guest = guest;
  }

  /** @returns The handle. @throws StoreError */
  async open(name: string, create: boolean): Promise<{ handle: number; pool: CheckedPool }> {
    const { pool: allowed, principal } = this.#guest;
    if (allowed !== null && allowed !== name)
      throw new StoreError(
        'E_DENIED',
        `${principal} may not use pool '${name}': its ticket is for pool '${allowed}'`,
      );
    // Whoever may not make it may still use one that is there.
    const objection = create ? rightObjection(this.#guest, 'w', `make pool '${name}'`) : null;
    let pool: CheckedPool;
    try {
      pool = await this.#store.openPool(name, { create: create && objection === null });
    } catch (error) {
      const isMissing = error instanceof StoreError && error.code === 'E_NOT_FOUND';
      throw isMissing && objection !== null ? objection : error;
    }
    let handle = this.#handles.get(pool);
    if (handle === undefined) {
      if (this.#pools.length === POOLS_MAX)
        throw new StoreError('E_BUSY', `A connection can use ${POOLS_MAX} pools`);
      handle = this.#pools.push(pool) - 1;
      this.#handles.set(pool, handle);
    }
    return { handle, pool };
  }

  /** Undefined if no pool has that handle. */
  get(handle: number): CheckedPool | undefined {
    return this.#pools[handle];
  }

  /** Those that were registered first make room: whoever still uses one registers it again. */
  register(chain: ClaimedChain): void {
    const handle = chainHandle(chain);
    const known = this.#chains.get(handle);
    if (known !== undefined) this.#forget(handle, known.chain);
    for (const [oldest, { chain: old }] of this.#chains) {
      const isFull =
        this.#chains.size >= CHAINS_MAX || this.#layers + chain.layers.length > LAYERS_MAX;
      if (!isFull) break;
      this.#forget(oldest, old);
    }
    this.#chains.set(handle, { chain, views: known?.views ?? [] });
    this.#layers += chain.layers.length;
  }

  #forget(handle: number, { layers }: ClaimedChain): void {
    this.#chains.delete(handle);
    this.#layers -= layers.length;
  }

  /**
   * A pool as the newest layer of a chain, for what is meant for one epoch.
   * @param epoch - 0: any
   * @throws StoreError `E_UNKNOWN_CHAIN`; `E_INVALID` if the chain has a claim, and the pool keeps no guards
   */
  layered(pool: CheckedPool, poolHandle: number, chainHandle: number, epoch: number): CheckedPool {
    const known = this.#chains.get(chainHandle);
    if (known === undefined)
      throw new StoreError('E_UNKNOWN_CHAIN', 'This connection has registered no such chain');
    const view = known.views[poolHandle] ?? viewOf(pool, known.chain);
    known.views[poolHandle] = view;
    return view instanceof LayeredView ? view.at(epoch) : atEpoch(view, epoch);
  }

  async list(after: string): Promise<{ names: string[]; isLast: boolean }> {
    const { pool: allowed } = this.#guest;
    const all = (await this.#store.listPools()).filter(
      (name) => (allowed === null || name === allowed) && name > after,
    );
    all.sort();
    let bytes = 0;
    const tooMany = all.findIndex((name, index) => {
      bytes += Buffer.byteLength(name);
      return index === NAMES_MAX || bytes > NAMES_BYTES_MAX;
    });
    return { names: tooMany < 0 ? all : all.slice(0, tooMany), isLast: tooMany < 0 };
  }
}

/** An image without layers below costs its writer nothing but the comparison with the guard. */
function viewOf(pool: CheckedPool, { layers, claim }: ClaimedChain): CheckedPool {
  const [top] = layers;
  if (claim === null || top === undefined) return new LayeredView(pool, layers);
  const claimed = withClaim(pool, claim, top.id);
  return layers.length === 1 ? claimed : new LayeredView(claimed, layers);
}
