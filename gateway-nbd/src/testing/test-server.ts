/* eslint-disable no-restricted-imports, no-restricted-globals -- a small real Env for tests */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  realNetwork,
  type Done,
  type DoneWith,
  type Env,
  type Extent,
  type Log,
} from '@store/core';
import type { Backend, ExportCatalog } from '../backend.js';
import { serveNbd, type NbdServer, type NbdServerOptions } from '../server.js';

export interface LogLine {
  level: string;
  message: string;
  fields: Record<string, unknown>;
}

/** A log that keeps its lines. */
export function memoryLog(lines: LogLine[] = []): Log & { lines: LogLine[] } {
  const write = (level: string) => (fields: object, message: string) =>
    void lines.push({ level, message, fields: { ...fields } });
  return {
    lines,
    debug: write('debug'),
    info: write('info'),
    warn: write('warn'),
    error: write('error'),
    fatal: write('fatal'),
    child: () => memoryLog(lines),
  };
}

export type TestEnv = Pick<Env, 'clock' | 'timers' | 'network'> & {
  log: ReturnType<typeof memoryLog>;
};

export function testEnv(): TestEnv {
  const log = memoryLog();
  return {
    clock: {
      now: () => performance.now(),
      wallTime: () => new Date().toISOString(),
      wallSeconds: () => Date.now() / 1000,
    },
    timers: {
      after: (ms, callback) => {
        const timer = setTimeout(callback, ms);
        return { cancel: () => clearTimeout(timer) };
      },
      sleep: (ms) => new Promise((resolve) => setTimeout(resolve, ms)),
    },
    log,
    network: realNetwork(log),
  };
}

/** An answer about extents ends when its time is over, on a busy machine early: time stands still here. */
export function timelessEnv(): TestEnv {
  const env = testEnv();
  return { ...env, clock: { ...env.clock, now: () => 0 } };
}

export interface TestServer {
  server: NbdServer;
  env: TestEnv;
  readonly stop: () => Promise<void>;
}

/** A server on a Unix socket of its own; buffers that come back are poisoned. */
export async function startServer(
  catalog: ExportCatalog,
  options: Partial<NbdServerOptions> = {},
): Promise<TestServer> {
  const folder = mkdtempSync(join(tmpdir(), 'nbd-'));
  const env = testEnv();
  const server = await serveNbd(catalog, {
    env,
    address: { path: join(folder, 'nbd.sock') },
    poisonBuffers: true,
    ...options,
  });
  const stop = async (): Promise<void> => {
    await server.close({ drainMs: 200 });
    rmSync(folder, { recursive: true, force: true });
  };
  return { server, env, stop };
}

export interface HeldOperation {
  readonly kind: 'read' | 'write' | 'zero' | 'flush' | 'prefetch';
  readonly offset: number;
  readonly bytes: number;
  readonly flags: number;
  /** The target of a read. */
  readonly target: Buffer;
  /** The parts of a write. */
  readonly parts: readonly Buffer[];
  readonly done: Done;
}

/** A backend that answers when the test says so. */
export class HeldBackend implements Backend {
  readonly bytes: number;
  readonly readOnly: boolean;
  readonly fastZeroBytes = 4096;
  /** In order of arrival; the test removes what it answers. */
  readonly held: HeldOperation[] = [];
  arrivedCount = 0;
  closedCount = 0;
  #wake: () => void = () => undefined;

  constructor(bytes: number, options: { readOnly?: boolean } = {}) {
    this.bytes = bytes;
    this.readOnly = options.readOnly ?? false;
  }

  read(offset: number, target: Buffer, done: Done): void {
    this.#hold({ kind: 'read', offset, bytes: target.length, target, done });
  }

  write(offset: number, parts: readonly Buffer[], flags: number, done: Done): void {
    const bytes = parts.reduce((sum, part) => sum + part.length, 0);
    this.#hold({ kind: 'write', offset, bytes, parts, flags, done });
  }

  zero(offset: number, bytes: number, flags: number, done: Done): void {
    this.#hold({ kind: 'zero', offset, bytes, flags, done });
  }

  flush(done: Done): void {
    this.#hold({ kind: 'flush', offset: 0, bytes: 0, done });
  }

  prefetch(offset: number, bytes: number, done: Done): void {
    this.#hold({ kind: 'prefetch', offset, bytes, done });
  }

  extents(_offset: number, _bytes: number, done: DoneWith<Extent[]>): void {
    done(null, []);
  }

  /** The next operation, as soon as it is there. */
  async next(): Promise<HeldOperation> {
    for (;;) {
      const operation = this.held.shift();
      if (operation !== undefined) return operation;
      await new Promise<void>((resolve, reject) => {
        const timer = setTimeout(() => reject(new Error('no operation came')), 5000);
        this.#wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
  }

  /** A catalog with this backend alone, under every name but `absent`. */
  catalog(): ExportCatalog {
    const { bytes, readOnly, fastZeroBytes } = this;
    const facts = { bytes, readOnly, fastZeroBytes, description: '' };
    return {
      list: () => Promise.resolve([{ name: 'held', description: '' }]),
      info: (name) => Promise.resolve(name === 'absent' ? null : facts),
      open: () =>
        Promise.resolve({
          backend: this,
          close: () => {
            this.closedCount += 1;
            return Promise.resolve();
          },
        }),
    };
  }

  #hold(
    operation: Pick<HeldOperation, 'kind' | 'offset' | 'bytes' | 'done'> & Partial<HeldOperation>,
  ): void {
    this.arrivedCount += 1;
    this.held.push({ flags: 0, target: Buffer.alloc(0), parts: [], ...operation });
    this.#wake();
  }
}

/** Resolves after `ms`. */
export function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** Waits until `condition` holds. @throws after ten seconds */
export async function until(condition: () => boolean, what: string): Promise<void> {
  const giveUp = performance.now() + 10_000;
  while (!condition()) {
    if (performance.now() > giveUp) throw new Error(`it never happened: ${what}`);
    await pause(5);
  }
}
