import { join } from 'node:path';
import { tempFolder, type HasTeardown } from '../host/temp-folder.js';
import { waitUntil } from '../host/wait-until.js';
import { NbdClient } from '../nbd-client/nbd-client.js';
import { BLOCK_BYTES, DeviceHistory } from '../tagged-writer/device-history.js';
import { SeededRandom, testSeed } from '../tagged-writer/seeded-random.js';
import { TaggedWriter } from '../tagged-writer/tagged-writer.js';
import { ReplaceableServer } from './replaceable-server.js';

const LIMIT_MS = 30_000;

/** A server that can be replaced, and a client that writes to it all the time. */
export interface WrittenServer {
  readonly server: ReplaceableServer;
  readonly dir: string;
  readonly socket: string;
  readonly uri: string;
  readonly history: DeviceHistory;
  readonly writer: TaggedWriter;
  readonly client: NbdClient;
  /** Ends with the client's connection, or when the writer is stopped. */
  readonly running: Promise<void>;
}

/** Resolves when some writes were answered. */
export async function startWrittenServer(t: HasTeardown, blocks: number): Promise<WrittenServer> {
  const folder = tempFolder(t);
  const dir = join(folder, 'data');
  const socket = join(folder, 'nbd.sock');
  const args = ['--pool', 'testpool', '--image', 'vm1', '--create', `${blocks * BLOCK_BYTES}`];
  const server = await ReplaceableServer.start(t, { dir, args: [...args, '--socket', socket] });
  const uri = `nbd+unix:///vm1?socket=${socket}`;
  const history = new DeviceHistory(blocks);
  const writer = new TaggedWriter({ history, random: new SeededRandom(testSeed()), depth: 8 });
  const client = await NbdClient.connect(uri);
  const running = writer.run(client, 'rarely');
  await waitUntil('the writer to write', LIMIT_MS, () => writer.answers > 50);
  return { server, dir, socket, uri, history, writer, client, running };
}
