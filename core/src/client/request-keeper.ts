import type { ClaimedChain } from '../pool/chain.js';
import type { StoreError } from '../util/errors.js';
import type { ClientRequest } from './client-request.js';

/**
 * Who has a choice of daemons for a request, and so keeps the order of requests itself: a client that has one lets
 * nothing wait for what conflicts with it.
 */
export interface RequestKeeper {
  /**
   * A request is over with this daemon, in place of its `done`.
   * @param body - Of the answer; good until this returns
   */
  ended(request: ClientRequest, error: StoreError | null, body: Buffer): void;
  /** The daemon cannot be reached just now: requests may be taken back. Never from within `submit`. */
  unreachable(error: StoreError): void;
  /** A chain that requests name, for a daemon that does not know it. */
  chain(handle: number): ClaimedChain | undefined;
}
