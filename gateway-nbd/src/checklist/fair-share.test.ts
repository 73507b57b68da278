// What a client that asks for little waits for while another one floods: counted in requests, not in time.
import type { Done } from '@store/core';
import t from 'tap';
import { MemoryBackend, memoryCatalog } from '../memory-backend.js';
import { NBD_CMD } from '../protocol/constants.js';
import { SERVER_LIMITS } from '../protocol/limits.js';
import { RawClient } from '../testing/raw-client.js';
import { startServer } from '../testing/test-server.js';
import { compactRequest, simpleReply } from '../testing/wire.js';

const { READ } = NBD_CMD;
const MIB = 2 ** 20;
const FLOOD_DEPTH = 256;
const SMALL_REQUESTS = 50;

/** Serves one request at a time, in the order of arrival, and counts. */
class SerialBackend extends MemoryBackend {
  servedCount = 0;
  #tail: Promise<void> = Promise.resolve();

  override read(offset: number, target: Buffer, done: Done): void {
    this.#tail = this.#tail.then(
      () =>
        new Promise((resolve) => {
          setImmediate(() => {
            this.servedCount += 1;
            super.read(offset, target, done);
            resolve();
          });
        }),
    );
  }
}

for (const [bytes, requestsAhead] of [
  [4096, FLOOD_DEPTH],
  [256 * 1024, 128],
  [MIB, 32],
] as const)
  t.test(
    `FAIR: at most ${requestsAhead} of a flood of ${bytes} bytes are ahead of a small request`,
    async (t) => {
      const backend = new SerialBackend(64 * MIB);
      const { server, stop } = await startServer(memoryCatalog({ disk: backend }));
      t.teardown(stop);
      const flood = await RawClient.go(server.address);
      const small = await RawClient.go(server.address);
      let isOver = false;
      const flooding = (async () => {
        const one = compactRequest({ type: READ, cookie: 7, length: bytes });
        for (let count = 0; count < FLOOD_DEPTH; count += 1) flood.send(one);
        while (!isOver) {
          await flood.read(16 + bytes);
          flood.send(one);
        }
      })();
      let worst = 0;
      for (let cookie = 0; cookie < SMALL_REQUESTS; cookie += 1) {
        const before = backend.servedCount;
        small.send(compactRequest({ type: READ, cookie, length: 512 }));
        await small.expect(simpleReply(0, cookie, Buffer.alloc(512)));
        worst = Math.max(worst, backend.servedCount - before);
      }
      isOver = true;
      await flooding;
      // What was admitted before it, and as much again for what is served while the answers travel.
      t.ok(worst <= 2 * requestsAhead, `at most ${worst} requests in between`);
      t.ok(worst > 1, 'there was a flood');
      t.ok(requestsAhead * bytes <= SERVER_LIMITS.connectionBytesMax, 'the limit that makes it so');
      flood.close();
      small.close();
    },
  );
