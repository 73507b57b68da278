/**
 * A lossy device as a process of its own, so that whoever waits for the device never waits for itself. Its
 * parent talks to it over IPC: `serve` on a socket, `cut` the power. The medium lives as long as the process.
 *
 * Arguments: size in bytes, and `flush-lies` for the broken disk.
 */
import { realEnv, realLog } from '@store/core';
import type { NbdServer } from '@store/gateway-nbd';
import { memoryCatalog, serveNbd } from '@store/gateway-nbd';
import { SeededRandom } from '../tagged-writer/seeded-random.js';
import type { CutReport } from './lossy-backend.js';
import { LossyBackend } from './lossy-backend.js';

/** What the parent asks for. */
export type LossyRequest =
  | { readonly do: 'serve'; readonly socket: string }
  | { readonly do: 'cut'; readonly seed: number; readonly keepPercent: number };

/** What the parent is told when it is done. */
export type LossyAnswer = { readonly uri: string } | CutReport;

const env = realEnv(realLog({ format: 'text', debug: false, isTerminal: false }));
const backend = new LossyBackend({
  bytes: Number(process.argv[2]),
  flushLies: process.argv[3] === 'flush-lies',
});
let server: NbdServer | null = null;

process.on('message', (message) => void answer(message as LossyRequest)); // our parent sends nothing else
process.on('disconnect', () => process.exit(0));

async function answer(request: LossyRequest): Promise<void> {
  process.send?.(await perform(request));
}

async function perform(request: LossyRequest): Promise<LossyAnswer> {
  if (request.do === 'serve') {
    const catalog = memoryCatalog({ disk: backend });
    server = await serveNbd(catalog, { env, address: { path: request.socket } });
    return { uri: server.uri('') };
  }
  await server?.close({ drainMs: 0 });
  server = null;
  return backend.cut(new SeededRandom(request.seed), request.keepPercent);
}
