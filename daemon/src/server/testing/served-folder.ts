/* eslint-disable no-restricted-imports -- test equipment reaches the real machine */
/** A real folder served on loopback, for tests. */
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import {
  Blocklist,
  DATAGRAM_BYTES_DEFAULT,
  openRemoteStore,
  realEnv,
  SecretRing,
  silentLog,
  type DaemonClientOptions,
  type ListenAddress,
  type ListenOptions,
  type RemoteStore,
} from '@store/core';
import { openFileStore, type FileStore } from '../../store/file-store.js';
import { DaemonServer, type DaemonServerOptions } from '../daemon-server.js';

export const testEnv = realEnv(silentLog);

export class ServedFolder {
  readonly folder: string;
  address: ListenAddress = { host: '127.0.0.1', port: 0 };
  store!: FileStore; // by start()
  server!: DaemonServer; // by start()
  readonly #options: Partial<DaemonServerOptions>;
  #ways: ListenOptions = {};

  private constructor(options: Partial<DaemonServerOptions>) {
    this.#options = options;
    this.folder = fs.mkdtempSync(path.join(os.tmpdir(), 'store-served-'));
  }

  static async open(
    options: Partial<DaemonServerOptions> = {},
    host = '127.0.0.1',
    ways: ListenOptions = {},
  ): Promise<ServedFolder> {
    const served = new ServedFolder(options);
    served.#ways = ways;
    served.address = { host, port: 0 };
    await served.start();
    return served;
  }

  /** Opens the folder and serves it, where it was served before if it was. */
  async start(): Promise<void> {
    const fail = (error: unknown): never => {
      throw error;
    };
    this.store = await openFileStore(testEnv, this.folder, { create: true, onFailure: fail });
    this.server = new DaemonServer({
      env: testEnv,
      store: this.store,
      identity: this.store,
      door: {
        secrets: new SecretRing([]),
        blocklist: Blocklist.parse('none', ''),
        tls: null,
        peerTls: null,
        insecure: false,
      },
      datagramBytes: DATAGRAM_BYTES_DEFAULT,
      poison: true,
      defect: fail,
      ...this.#options,
    });
    this.address = await this.server.listen(this.address, 'listen', this.#ways);
  }

  async stop(): Promise<void> {
    await this.server.close({ drainMs: 2000 });
    await this.store.close();
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

  async remove(): Promise<void> {
    await this.stop();
    fs.rmSync(this.folder, { recursive: true, force: true });
  }
}
