/** A folder on a real ext4 on a device that forgets at a power cut what was not flushed. Needs root and FUSE. */
import { run } from '../host/command.js';
import { LoopDisk } from '../host/loop-disk.js';
import type { HasTeardown } from '../host/temp-folder.js';
import type { CutReport } from './lossy-backend.js';
import { LossyDevice } from './lossy-device.js';

const GIB = 1024 ** 3;

export class LossyDisk {
  readonly #t: HasTeardown;
  readonly #device: LossyDevice;
  #disk: LoopDisk;

  static async build(t: HasTeardown): Promise<LossyDisk> {
    const device = LossyDevice.start(t, { bytes: GIB });
    const disk = await LoopDisk.attach(t, await device.powerOn());
    await run('mkfs.ext4', ['-q', '-F', '-E', 'nodiscard', disk.device]);
    await run('blockdev', ['--flushbufs', disk.device]);
    await disk.mount();
    return new LossyDisk(t, device, disk);
  }

  private constructor(t: HasTeardown, device: LossyDevice, disk: LoopDisk) {
    this.#t = t;
    this.#device = device;
    this.#disk = disk;
  }

  /** Another one after each power cut. */
  get folder(): string {
    return this.#disk.mountPoint;
  }

  /** Whoever uses it was killed just before. See `LossyBackend.cut`. */
  async cut(seed: number, keepPercent: number): Promise<CutReport> {
    const report = await this.#device.cut(seed, keepPercent);
    await this.#disk.detach();
    return report;
  }

  /** @throws Error if the file system cannot be mounted */
  async restore(): Promise<void> {
    this.#disk = await LoopDisk.attach(this.#t, await this.#device.powerOn());
    await this.#disk.mount();
  }
}
