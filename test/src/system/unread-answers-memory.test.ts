// Clients that ask for a lot and read none of it, leave, and are followed by the next: what the server holds for them
// is bounded, and is given back when they are gone, not when the garbage collector comes by.
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import t from 'tap';
import type { Test } from 'tap';
import { residentBytes } from '../host/process-memory.js';
import { tempFolder } from '../host/temp-folder.js';
import { sleep } from '../host/wait-until.js';
import { encodeRequest, NbdClient } from '../nbd-client/nbd-client.js';
import { NBD_CMD_READ } from '../nbd-client/nbd-constants.js';
import { encodeOption, type HeaderKind } from '../nbd-client/nbd-handshake.js';
import { parseNbdUri } from '../nbd-client/raw-connection.js';
import { StoreServer } from '../server/store-server.js';

t.setTimeout(180_000);

const MIB = 2 ** 20;
const IMAGE_BYTES = 96 * MIB;
/** What the server may have resident, whatever its clients do. */
const RESIDENT_BYTES_MAX = 200 * MIB;
/** Beyond what it had before its clients came, soon after they left: what the allocator keeps for the next. */
const LEFT_BYTES_MAX = 96 * MIB;
const SAMPLE_MS = 10;
const HOLD_MS = 1000;
const CALM_MS = 3000;
const CONNECT_MS = 10_000;
const NBD_OPT_STRUCTURED_REPLY = 8;
const NBD_OPT_GO = 7;

interface Greed {
  readonly clients: number;
  readonly reads: number;
  readonly bytes: number;
}

/** The client's side of a handshake that is sent blindly: flags, options; what is answered stays unread. */
function blindHandshake(headers: HeaderKind): Buffer {
  const flags = Buffer.from([0, 0, 0, 3]);
  const go = encodeOption(NBD_OPT_GO, Buffer.alloc(6));
  if (headers === 'simple') return Buffer.concat([flags, go]);
  return Buffer.concat([flags, encodeOption(NBD_OPT_STRUCTURED_REPLY, Buffer.alloc(0)), go]);
}

function reads({ reads, bytes }: Greed, first: number): Buffer {
  const places = Math.floor((IMAGE_BYTES - bytes) / MIB) + 1;
  return Buffer.concat(
    Array.from({ length: reads }, (_, index) => {
      const offset = ((first + index) % places) * MIB;
      return encodeRequest({ type: NBD_CMD_READ, offset, length: bytes }, BigInt(index));
    }),
  );
}

/** Connects, asks, and reads nothing. */
function ask(path: string, bytes: Buffer): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect({ path, onread: { buffer: Buffer.alloc(1), callback: () => false } });
    const limit = setTimeout(() => reject(new Error('the server does not accept')), CONNECT_MS);
    socket.on('error', reject); // after it has resolved: the server hung up, which it may
    socket.on('connect', () => {
      clearTimeout(limit);
      socket.pause();
      socket.write(bytes);
      resolve(socket);
    });
  });
}

/** Runs greedy clients in rounds. @returns Resident memory at its highest, and when they were gone for a while */
async function greedyRounds(
  server: StoreServer,
  path: string,
  { headers, kinds, rounds }: { headers: HeaderKind; kinds: readonly Greed[]; rounds: number },
): Promise<{ before: number; peak: number; after: number }> {
  const before = residentBytes(server.pid);
  let peak = before;
  const sampling = setInterval(() => (peak = Math.max(peak, residentBytes(server.pid))), SAMPLE_MS);
  const sockets: Socket[] = [];
  try {
    for (let round = 0; round < rounds; round += 1) {
      for (const kind of kinds)
        for (let index = 0; index < kind.clients; index += 1) {
          const bytes = Buffer.concat([blindHandshake(headers), reads(kind, index)]);
          sockets.push(await ask(path, bytes));
        }
      await sleep(HOLD_MS);
      for (const socket of sockets.splice(0)) {
        socket.destroy();
        await sleep(1); // one after the other, so that those who wait get what the others held
      }
    }
    await sleep(CALM_MS);
    return { before, peak, after: residentBytes(server.pid) };
  } finally {
    clearInterval(sampling);
    for (const socket of sockets) socket.destroy();
  }
}

async function story(
  t: Test,
  headers: HeaderKind,
  kinds: readonly Greed[],
  rounds: number,
): Promise<void> {
  const folder = tempFolder(t);
  const server = await StoreServer.start(t, {
    dir: join(folder, 'data'),
    image: 'vm1',
    createBytes: IMAGE_BYTES,
    socket: join(folder, 'nbd.sock'),
  });
  const { address } = parseNbdUri(server.uri);
  if (!('socket' in address)) throw new Error('it listens on a Unix socket');
  const good = await NbdClient.connect(server.uri);
  const data = Buffer.alloc(MIB, 'data');
  for (let offset = 0; offset < IMAGE_BYTES; offset += MIB)
    t.equal((await good.write(offset, data)).error, 0);

  const greedy = { headers, kinds, rounds };
  const { before, peak, after } = await greedyRounds(server, address.socket, greedy);
  const [was, most, is] = [before, peak, after].map((bytes) => Math.round(bytes / MIB));
  t.comment(`${was} MiB before, ${most} at most, ${is} after`);
  t.ok(peak > before + 16 * MIB, 'they got hold of memory: else this proves nothing');
  t.ok(peak <= RESIDENT_BYTES_MAX, `${most} MiB are resident at most`);
  t.ok(after <= before + LEFT_BYTES_MAX, `${is} MiB are when they are gone, ${was} were before`);

  const { error, data: read } = await good.read(5 * MIB, MIB);
  t.equal(error, 0);
  t.ok(read.equals(data), 'a good client is served as before');
  await good.disconnect();
  await server.stop();
}

const MANY_AND_LARGE: readonly Greed[] = [
  { clients: 60, reads: 300, bytes: MIB },
  { clients: 30, reads: 50, bytes: 32 * MIB },
];

t.test('X9: whole answers that nobody reads, round after round', async (t) => {
  await story(t, 'simple', MANY_AND_LARGE, 2);
});

t.test('X9: answers in pieces that nobody reads, round after round', async (t) => {
  await story(t, 'structured', MANY_AND_LARGE, 2);
});

// What is left of each fits into a client's guaranteed share; its memory does not.
t.test('X9: answers of which the kernel has taken almost all', async (t) => {
  await story(t, 'simple', [{ clients: 150, reads: 1, bytes: 1_700_000 }], 1);
});
