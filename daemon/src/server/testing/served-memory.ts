/** A store in memory, served on loopback: for tests of the protocol that need no disk. */
import {
  Blocklist,
  MemStore,
  openRemoteStore,
  SecretRing,
  type DaemonClientOptions,
  type ListenAddress,
  type RemoteStore,
} from '@store/core';

import { DaemonServer, type DaemonServerOptions } from '../daemon-server.js';
import type { Entrance } from '../door.js';
import { HeldStore } from './held-store.js';
import { testEnv } from './served-folder.js';

export class ServedMemory {
  readonly store: HeldStore;
  readonly server: DaemonServer;
  readonly identity: DaemonServerOptions['identity'];
  /** Where the server says that it is broken; stays empty. */
  readonly defects: unknown[] = [];
  address: ListenAddress = { host: '127.0.0.1', port: 0 };

  constructor(options: Partial<DaemonServerOptions>) {
    const { store } = options;
    this.store = store instanceof HeldStore ? store : new HeldStore(new MemStore());
    this.identity = options.identity ?? {
      diskId: Buffer.alloc(16, 'disk'),
      startId: Buffer.alloc(16, 'start'),
      lineage: Buffer.alloc(16, 'lineage'),
    };
    this.server = new DaemonServer({
      env: testEnv,
      store: this.store,
      identity: this.identity,
      door: {
        secrets: new SecretRing([]),
        blocklist: Blocklist.parse('none', ''),
        tls: null,
        peerTls: null,
        insecure: false,
      },
      datagramBytes: 0,
      poison: true,
      defect: (error) => this.defects.push(error),
      ...options,
    });
  }

  static async open(
    options: Partial<DaemonServerOptions> = {},
    entrance: Entrance = 'listen',
  ): Promise<ServedMemory> {
    const served = new ServedMemory(options);
    served.address = await served.server.listen(served.address, entrance);
    return served;
  }

  connect(options: Partial<DaemonClientOptions> = {}): Promise<RemoteStore> {
    return openRemoteStore({
      env: testEnv,
      address: this.address,
      name: 'test',
      ticket: null,
      tls: null,
      deadlineMs: 10_000,
      datagramBytes: 0,
      ...options,
    });
  }

  /** @throws what the server said was broken */
  async close(): Promise<void> {
    this.store.release();
    await this.server.close({ drainMs: 500 });
    await this.store.close();
    if (this.defects.length > 0) throw this.defects[0];
  }
}
