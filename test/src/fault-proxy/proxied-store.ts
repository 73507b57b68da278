/** A folder served by a daemon in this process, with a bad network in between. */
import {
  Blocklist,
  DATAGRAM_BYTES_DEFAULT,
  openRemoteStore,
  realEnv,
  SecretRing,
  silentLog,
  StoreError,
  type RemoteStore,
} from '@store/core';
import { DaemonServer, openFileStore, type DaemonServerState, type FileStore } from '@store/daemon';
import { tempFolder, type HasTeardown } from '../host/temp-folder.js';
import { FaultProxy, type FaultProxyOptions } from './fault-proxy.js';

const DEADLINE_MS = 60_000;
const DRAIN_MS = 5000;
const CONNECT_TRIES = 20;

export class ProxiedStore {
  readonly proxy: FaultProxy;
  readonly #store: FileStore;
  readonly #server: DaemonServer;

  /** Serves a new, empty folder; stopped with the test. */
  static async start(
    t: HasTeardown,
    faults: Omit<FaultProxyOptions, 'targetPort'>,
  ): Promise<ProxiedStore> {
    const env = realEnv(silentLog);
    const fail = (error: unknown): never => {
      throw error;
    };
    const store = await openFileStore(env, tempFolder(t), { create: true, onFailure: fail });
    const server = new DaemonServer({
      env,
      store,
      identity: store,
      door: {
        secrets: new SecretRing([]),
        blocklist: new Blocklist(),
        tls: null,
        peerTls: null,
        insecure: false,
      },
      datagramBytes: DATAGRAM_BYTES_DEFAULT,
      poison: true,
      defect: fail,
    });
    const address = await server.listen({ host: '127.0.0.1', port: 0 }, 'listen');
    t.teardown(async () => {
      await server.close({ drainMs: DRAIN_MS });
      await store.close();
    });
    if (!('port' in address)) throw new Error('it listens on a port');
    const proxy = await FaultProxy.start(t, { ...faults, targetPort: address.port });
    return new ProxiedStore(proxy, store, server);
  }

  private constructor(proxy: FaultProxy, store: FileStore, server: DaemonServer) {
    this.proxy = proxy;
    this.#store = store;
    this.#server = server;
  }

  /** What the daemon has counted. */
  state(): DaemonServerState {
    return this.#server.state();
  }

  /** Past the network: what is really stored. */
  get behind(): FileStore {
    return this.#store;
  }

  /** A client on the other side of the network. Its first connection may be cut before it was greeted, and is made again. */
  async connect({ isUdp }: { isUdp: boolean }): Promise<RemoteStore> {
    for (let triesLeft = CONNECT_TRIES; ; triesLeft -= 1)
      try {
        return await openRemoteStore({
          env: realEnv(silentLog),
          address: this.proxy.address,
          name: 'test',
          ticket: null,
          tls: null,
          deadlineMs: DEADLINE_MS,
          datagramBytes: isUdp ? DATAGRAM_BYTES_DEFAULT : 0,
        });
      } catch (error) {
        const wasCut = error instanceof StoreError && error.code === 'E_UNREACHABLE';
        if (!wasCut || triesLeft === 1) throw error;
      }
  }
}
