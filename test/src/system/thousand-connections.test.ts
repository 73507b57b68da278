// A thousand connections that dawdle: a good client gets in within a second and works on as before, and who does
// not finish what it began is gone at its limit.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import type { Test } from 'tap';
import { tempFolder } from '../host/temp-folder.js';
import { sleep, waitUntil } from '../host/wait-until.js';
import { encodeRequest, NbdClient } from '../nbd-client/nbd-client.js';
import { NBD_CMD_WRITE } from '../nbd-client/nbd-constants.js';
import { encodeOption, go, greet } from '../nbd-client/nbd-handshake.js';
import { ConnectionLost, parseNbdUri, RawConnection } from '../nbd-client/raw-connection.js';
import { StoreServer } from '../server/store-server.js';

t.setTimeout(600_000);

const SLOW_CLIENTS = 1000;
const LIMIT_SECONDS = 25;
const MIB = 2 ** 20;
/** Small enough that all of them fit into the server's memory: none has the excuse that it waits for room. */
const HALF_SENT_BYTES = 64 * 1024;
const BLOCK_BYTES = 4096;
const DEPTH = 32;
const REQUESTS = 20_000;
/** The machine may be busy with something else: the best round counts, of those that begin so early. */
const ROUNDS_MS: number = LIMIT_SECONDS * 700;
const KEPT_MIN = 0.8;
const SYSTEM_TICKS_PER_SECOND = 100;

const KINDS = ['silent', 'before the flags', 'in the handshake', 'in a request'] as const;

/** A client that begins something and sends the rest of it byte by byte, or never. */
class SlowClient {
  readonly connection: RawConnection;
  #rest: Buffer;

  private constructor(connection: RawConnection, rest: Buffer) {
    this.connection = connection;
    this.#rest = rest;
  }

  static async begin(uri: string, kind: (typeof KINDS)[number]): Promise<SlowClient> {
    const { address, exportName } = parseNbdUri(uri);
    const connection = await RawConnection.open(address);
    try {
      return new SlowClient(connection, await beginAs(connection, kind, exportName));
    } catch (error) {
      // In a full server it may be dropped before it is where it wants to be.
      if (!(error instanceof ConnectionLost)) throw error;
      return new SlowClient(connection, Buffer.alloc(0));
    }
  }

  sendByte(): void {
    if (this.connection.lost || this.#rest.length < 2) return; // the last byte never comes
    this.connection.write(this.#rest.subarray(0, 1));
    this.#rest = this.#rest.subarray(1);
  }
}

/** @returns What the client has still to send */
async function beginAs(
  connection: RawConnection,
  kind: (typeof KINDS)[number],
  exportName: string,
): Promise<Buffer> {
  if (kind === 'silent') return Buffer.alloc(0);
  if (kind === 'before the flags') return Buffer.alloc(4);
  await greet(connection);
  const option = encodeOption(3, Buffer.alloc(1000));
  if (kind === 'in the handshake') return option;
  await go(connection, exportName);
  const write = encodeRequest({ type: NBD_CMD_WRITE, length: HALF_SENT_BYTES }, 1n);
  connection.write(write.subarray(0, 20));
  return Buffer.concat([write.subarray(20), Buffer.alloc(1000)]);
}

function cpuSeconds(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8')
    .replace(/^.*\) /, '')
    .split(' ');
  return (Number(fields[11]) + Number(fields[12])) / SYSTEM_TICKS_PER_SECOND;
}

interface Speed {
  readonly perSecond: number;
  readonly cpuMicroseconds: number;
}

/** Reads blocks with many requests in flight. */
async function measure(client: NbdClient, pid: number): Promise<Speed> {
  const cpuBefore = cpuSeconds(pid);
  const begin = performance.now();
  let begun = 0;
  const work = async (): Promise<void> => {
    while (begun < REQUESTS) {
      const offset = (begun++ % 1024) * BLOCK_BYTES;
      const { error } = await client.read(offset, BLOCK_BYTES);
      if (error !== 0) throw new Error(`a read was answered ${error}`);
    }
  };
  await Promise.all(Array.from({ length: DEPTH }, work));
  const perSecond = (REQUESTS / (performance.now() - begin)) * 1000;
  return { perSecond, cpuMicroseconds: ((cpuSeconds(pid) - cpuBefore) / REQUESTS) * 1e6 };
}

async function story(t: Test, connectionsMax: number | null): Promise<void> {
  const folder = tempFolder(t);
  const server = await StoreServer.start(t, {
    dir: join(folder, 'data'),
    image: 'vm1',
    createBytes: 64 * MIB,
    env: {
      STORE_HANDSHAKE_TIMEOUT: `${LIMIT_SECONDS}`,
      STORE_STALL_TIMEOUT: `${LIMIT_SECONDS}`,
      ...(connectionsMax === null ? {} : { STORE_MAX_CONNECTIONS: `${connectionsMax}` }),
    },
  });
  const early = await NbdClient.connect(server.uri);
  await early.write(0, Buffer.alloc(4 * MIB, 'data'));
  await measure(early, server.pid); // warm
  const before = await measure(early, server.pid);

  const opening = performance.now();
  const slow: SlowClient[] = [];
  t.teardown(() => slow.forEach(({ connection }) => connection.destroy()));
  for (let count = 0; count < SLOW_CLIENTS; count += 1)
    slow.push(await SlowClient.begin(server.uri, KINDS[count % KINDS.length] ?? 'silent'));
  const begun = performance.now();
  const dribble = setInterval(() => slow.forEach((client) => client.sendByte()), 1000);
  t.teardown(() => clearInterval(dribble));
  const connected = (): number => slow.filter(({ connection }) => !connection.lost).length;
  const atFirst = connected();
  if (connectionsMax === null) t.ok(atFirst <= 256, `${atFirst} of ${SLOW_CLIENTS} are let in`);
  else t.equal(atFirst, SLOW_CLIENTS, 'all are let in');

  const connecting = performance.now();
  const good = await NbdClient.connect(server.uri);
  t.equal((await good.read(0, BLOCK_BYTES)).error, 0);
  const connectMs = performance.now() - connecting;
  t.ok(connectMs < 10_000, `a good client is served after ${Math.round(connectMs)} ms`);

  // Time is what a client feels, but other programs take of it as well; CPU per request they hardly change.
  let kept = 0;
  while (kept < KEPT_MIN && (kept === 0 || performance.now() - begun < ROUNDS_MS)) {
    const during = await measure(good, server.pid);
    kept = Math.max(
      kept,
      during.perSecond / before.perSecond,
      before.cpuMicroseconds / during.cpuMicroseconds,
    );
    const [was, is] = [before, during].map(
      ({ perSecond, cpuMicroseconds }) =>
        `${Math.round(perSecond)} requests/s, ${cpuMicroseconds.toFixed(1)} us of CPU each`,
    );
    t.comment(`alone: ${was}; among ${connected()} slow ones: ${is}`);
  }
  t.ok(kept >= KEPT_MIN, `it keeps ${Math.round(kept * 100)} % of its throughput`);
  t.equal((await early.read(0, 512)).error, 0, 'the one that was there before is served too');
  const measuredMs = performance.now() - opening;
  if (measuredMs < LIMIT_SECONDS * 900 && connectionsMax !== null)
    t.equal(connected(), SLOW_CLIENTS, 'they were there all the time');

  await waitUntil('the slow ones to be gone', (LIMIT_SECONDS + 10) * 1000, () => connected() === 0);
  const goneMs = performance.now() - begun;
  t.comment(`the last one left after ${Math.round(goneMs / 1000)} s`);
  await sleep(10);
  t.equal((await good.read(0, 512)).error, 0, 'who has nothing to say may stay');
  await good.disconnect();
  await early.disconnect();
  await server.stop();
}

t.test('F29, CVE-2024-7409: 1,000 slow clients of a server that takes 256', async (t) => {
  await story(t, null);
});

t.test('F29: 1,000 slow clients of a server that takes them all', async (t) => {
  await story(t, 1200);
});
