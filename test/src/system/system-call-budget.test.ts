/**
 * How many system calls a 4 KiB request costs the running server, when its client keeps 32 of them in flight. They are
 * most of what the hot path does, and their number does not depend on the machine. A test that fails here says that
 * something on the hot path is done more often than before; `strace -f -p` shows what.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { needs } from '../host/requirements.js';
import { tempFolder } from '../host/temp-folder.js';
import { NbdClient } from '../nbd-client/nbd-client.js';
import { NBD_CMD_READ, NBD_CMD_WRITE } from '../nbd-client/nbd-constants.js';
import { StoreServer } from '../server/store-server.js';

const BLOCK = 4096;
const DEPTH = 32;
const BATCHES = 100;
const WARM_UP_BATCHES = 20;
const IMAGE_BYTES = 64 * 1024 * 1024;

/** For each request, everything the process does meanwhile included. Measured: 1.24 for a READ, 1.29 for a WRITE. */
const CALLS_MAX = 1.6;

t.test(
  'a 4 KiB request costs little more than one system call',
  needs({ commands: ['strace'] }),
  async (t) => {
    const folder = tempFolder(t);
    const options = { dir: join(folder, 'data'), image: 'i', createBytes: IMAGE_BYTES };
    const server = await StoreServer.start(t, { ...options, socket: join(folder, 's') });
    const client = await NbdClient.connect(server.uri);
    t.teardown(() => client.connection.destroy());
    await client.write(0, Buffer.alloc(16 * 1024 * 1024, 1));
    await client.flush();

    for (const type of [NBD_CMD_WRITE, NBD_CMD_READ]) {
      for (let batch = 0; batch < WARM_UP_BATCHES; batch += 1) await runBatch(client, type, batch);
      const calls = await countCalls(server.pid, join(folder, 'calls'), async () => {
        for (let batch = 0; batch < BATCHES; batch += 1) await runBatch(client, type, batch);
      });
      const each = calls / (BATCHES * DEPTH);
      const what = type === NBD_CMD_READ ? 'READ' : 'WRITE';
      t.ok(each >= 1 && each <= CALLS_MAX, `a ${what}: ${each.toFixed(2)}, ${CALLS_MAX} at most`);
    }
    await client.disconnect();
    await server.stop();
  },
);

/** Sends `DEPTH` requests at once and waits for all answers. */
async function runBatch(client: NbdClient, type: number, batch: number): Promise<void> {
  const payload = type === NBD_CMD_WRITE ? Buffer.alloc(BLOCK, batch) : undefined;
  const answers = client.connection.together(() =>
    Array.from({ length: DEPTH }, (_, index) => {
      const offset = ((batch * 577 + index * 97) % 4096) * BLOCK;
      const request = { type, offset, length: BLOCK };
      return client.request(payload === undefined ? request : { ...request, payload });
    }),
  );
  for (const { error } of await Promise.all(answers))
    if (error !== 0) throw new Error(`a request failed with ${error}`);
}

/** System calls of all threads of a process during `work`. */
async function countCalls(pid: number, file: string, work: () => Promise<void>): Promise<number> {
  const strace = spawn('strace', ['-f', '-c', '-U', 'calls,name', '-o', file, '-p', `${pid}`], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  const exit = once(strace, 'exit', { signal: AbortSignal.timeout(60_000) });
  try {
    await once(strace.stderr, 'data', { signal: AbortSignal.timeout(10_000) }); // "Process … attached"
    await work();
  } finally {
    strace.kill('SIGINT');
    await exit;
  }
  const total = /^\s*(\d+)\s+total$/m.exec(readFileSync(file, 'utf8'))?.[1];
  if (total === undefined) throw new Error(`strace wrote no total:\n${readFileSync(file, 'utf8')}`);
  return Number(total);
}
