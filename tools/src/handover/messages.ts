/**
 * What two processes say to each other in a planned restart, over the control socket in the data folder. The old one
 * serves, the new one was started with `--replace`:
 *
 *     new  hello                          what it is going to serve
 *     old  refused                        …or it stops serving, and closes the store, which unlocks the folder
 *     old  sockets, session…, all         copies of every descriptor; it keeps its own
 *     new  ready, or no                   it has locked the folder and opened every export
 *     old  go                             the moment of change: from here on it serves nobody, whatever happens
 *     new  serving                        the old one ends
 *
 * Instead of `go` the old one may say `stop`, until then. Since a stream keeps its order, the new one cannot miss it:
 * it begins only after `go`, or if the connection ends with neither, which means that the old process has died. And
 * nobody executes a request without holding the lock of the folder. So no request is executed by both.
 *
 * | who dies                            | what happens                                                             |
 * | ----------------------------------- | ------------------------------------------------------------------------ |
 * | new, before `go`                    | the old one opens the store again and goes on with all sessions          |
 * | new, hangs                          | the same after a deadline; the old one ends it if it holds the folder    |
 * | new, after `go`                     | as any crash: clients come back when the next one starts                 |
 * | old, before it has sent anything    | as any crash; the new one finds the folder unlocked, and starts          |
 * | old, between two sessions           | the new one goes on with those that it has; the others are disconnected  |
 * | old, after `all`, before `go`       | the new one goes on with all: nobody else can                            |
 * | old, after `go`                     | nothing: the new one serves                                              |
 * | old is told to stop, before `go`    | it says `stop` (or `refused`), takes all back, lets the clients finish,  |
 * |                                     | and ends. Nobody serves. The same for a process it has started itself    |
 * | new is told to stop, before `go`    | it says `no`: as if it had died                                          |
 * | either is told to stop, after `go`  | the old one ends anyway; the new one serves, lets them finish, and ends  |
 * | either, `go` or `ready` is not read | `go` counts as soon as it is sent. The new one shuts its end before it   |
 * |                                     | gives up, so a `go` that comes too late fails, and the old one goes on   |
 */
import { resolve } from 'node:path';
import { StoreError, type ChannelMessage, type ListenAddress } from '@store/core';

/** Changes with what the messages mean. Processes of different versions cannot hand over. */
export const HAND_OVER_VERSION = 1;

/** What the new process is going to serve. */
export interface Hello {
  readonly kind: 'hello';
  readonly pool: string;
  /** Null: it takes the sockets that are there. */
  readonly address: ListenAddress | null;
}

export type Message =
  | Hello
  | { readonly kind: 'refused' | 'no' | 'stop'; readonly message: string }
  /** Paths of the sockets that come along, as in `ListeningDescriptor`; the last one is the control socket. */
  | { readonly kind: 'sockets'; readonly paths: readonly (string | null)[] }
  | { readonly kind: 'session'; readonly record: unknown }
  | { readonly kind: 'all' | 'ready' | 'go' | 'serving' };

/**
 * What a message of the other process says.
 * @throws StoreError `E_FORMAT`
 */
export function messageIn({ value }: Pick<ChannelMessage, 'value'>): Message {
  const fields: Readonly<Record<string, unknown>> =
    typeof value === 'object' && value !== null ? { ...value } : {};
  const { kind, message, paths, record, pool, address } = fields;
  switch (kind) {
    case 'all':
    case 'ready':
    case 'go':
    case 'serving':
      return { kind };
    case 'refused':
    case 'no':
    case 'stop':
      return { kind, message: typeof message === 'string' ? message : 'it gave no reason' };
    case 'session':
      return { kind, record };
    case 'sockets':
      if (!Array.isArray(paths)) throw unknown();
      return { kind, paths: paths.map((path) => (typeof path === 'string' ? path : null)) };
    case 'hello':
      if (typeof pool !== 'string') throw unknown();
      return { kind, pool, address: addressIn(address) };
    default:
      throw unknown();
  }
}

function addressIn(value: unknown): ListenAddress | null {
  if (value === null) return null;
  if (typeof value !== 'object') throw unknown();
  const { path, host, port }: Readonly<Record<string, unknown>> = { ...value };
  if (typeof path === 'string') return { path };
  if (typeof host !== 'string' || typeof port !== 'number') throw unknown();
  return { host, port };
}

function unknown(): StoreError {
  return new StoreError('E_FORMAT', 'The other process says what this version does not know');
}

/** Whether what a new process `wants` is what is there; port 0 is any. */
export function isSameAddress(wants: ListenAddress, is: ListenAddress): boolean {
  if ('path' in wants) return 'path' in is && resolve(wants.path) === resolve(is.path);
  if ('path' in is || wants.host !== is.host) return false;
  return wants.port === 0 || wants.port === is.port;
}

/** For people. */
export function formatAddress(address: ListenAddress): string {
  return 'path' in address ? address.path : `${address.host}:${address.port}`;
}
