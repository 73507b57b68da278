/* eslint-disable no-restricted-globals -- the program behind fuzz.test.ts: a server of its own, whose memory can be measured */
import { memoryCatalog, MemoryBackend } from '../memory-backend.js';
import { serveNbd } from '../server.js';
import { testEnv } from './test-server.js';

/** `fuzz` is a new, empty disk for every connection; `good` is one that lasts. */
export const FUZZ_DISK_BYTES: number = 256 * 1024;
export const GOOD_DISK_BYTES: number = 1024 * 1024;

async function main(path: string): Promise<void> {
  const lasting = memoryCatalog({ good: new MemoryBackend(GOOD_DISK_BYTES) });
  const fresh = (): ReturnType<typeof memoryCatalog> =>
    memoryCatalog({ fuzz: new MemoryBackend(FUZZ_DISK_BYTES) });
  const catalogOf = (name: string): ReturnType<typeof memoryCatalog> =>
    name === 'fuzz' ? fresh() : lasting;
  const env = testEnv();
  const keepNoLines = setInterval(() => env.log.lines.splice(0), 100);
  const catalog = {
    list: () => lasting.list(),
    info: (name: string) => catalogOf(name).info(name),
    open: (name: string) => catalogOf(name).open(name),
  };
  const server = await serveNbd(catalog, { env, address: { path }, poisonBuffers: true });
  process.send?.('ready');
  process.once('message', () => {
    clearInterval(keepNoLines);
    void server.close({ drainMs: 1000 }).then(() => process.disconnect());
  });
}

const [, program, path] = process.argv;
if (program?.endsWith('fuzz-server.js') === true && path !== undefined) await main(path);
