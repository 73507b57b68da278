/**
 * A machine whose power can be cut: a lossy device, a real ext4 on it, and `store-nbd` with its folder on that.
 * A cut kills the server, forgets what the device had not flushed, and takes down what stood on it; then the
 * file system is mounted again (which replays its journal) and the server started.
 */
import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { run } from '../host/command.js';
import { LoopDisk } from '../host/loop-disk.js';
import type { HasTeardown } from '../host/temp-folder.js';
import { tempFolder } from '../host/temp-folder.js';
import { StoreServer } from '../server/store-server.js';
import type { CutReport } from './lossy-backend.js';
import { LossyDevice } from './lossy-device.js';

const GIB = 1024 ** 3;

export class PowerRig {
  readonly #t: HasTeardown;
  readonly #device: LossyDevice;
  readonly #createBytes: number;
  readonly #socket: string;
  #disk: LoopDisk | null = null;
  #server: StoreServer | null = null;

  private constructor(t: HasTeardown, device: LossyDevice, createBytes: number) {
    this.#t = t;
    this.#device = device;
    this.#createBytes = createBytes;
    this.#socket = join(tempFolder(t), 'nbd.sock');
  }

  /** Builds it with an image of `imageBytes`, and starts the server. */
  static async build(
    t: HasTeardown,
    options: { imageBytes: number; flushLies?: boolean },
  ): Promise<PowerRig> {
    const device = LossyDevice.start(t, { bytes: GIB, flushLies: options.flushLies ?? false });
    const rig = new PowerRig(t, device, options.imageBytes);
    rig.#disk = await LoopDisk.attach(t, await device.powerOn());
    await run('mkfs.ext4', ['-q', '-F', '-E', 'nodiscard', rig.#disk.device]);
    await run('blockdev', ['--flushbufs', rig.#disk.device]);
    await rig.#disk.mount();
    await rig.startServer();
    return rig;
  }

  get server(): StoreServer {
    if (this.#server === null) throw new Error('the power is off');
    return this.#server;
  }

  async startServer(): Promise<StoreServer> {
    if (this.#disk === null) throw new Error('the power is off');
    this.#server = await StoreServer.start(this.#t, {
      dir: join(this.#disk.mountPoint, 'data'),
      image: 'vm1',
      socket: this.#socket,
      createBytes: this.#createBytes,
    });
    return this.#server;
  }

  /**
   * Makes the kernel write dirty pages of the data folder to the device, as it does on its own when it likes, but
   * without a flush: so the device holds, in any order, what nobody has asked to be durable.
   */
  async leakToDevice(): Promise<void> {
    if (this.#disk === null) throw new Error('the power is off');
    const folder = join(this.#disk.mountPoint, 'data');
    for (const name of readdirSync(folder, { recursive: true, encoding: 'utf8' })) {
      const path = join(folder, name);
      if (statSync(path).isFile() && statSync(path).size > 0)
        await run('xfs_io', ['-c', 'sync_range -w 0 0', path]);
    }
  }

  async cutPower(seed: number, keepPercent: number): Promise<CutReport> {
    if (this.server.running) await this.server.kill9();
    const report = await this.#device.cut(seed, keepPercent);
    await this.#disk?.detach();
    this.#disk = null;
    this.#server = null;
    return report;
  }

  /** @throws Error if the file system cannot be mounted or the server does not start */
  async restorePower(): Promise<void> {
    this.#disk = await LoopDisk.attach(this.#t, await this.#device.powerOn());
    await this.#disk.mount();
    await this.startServer();
  }
}
