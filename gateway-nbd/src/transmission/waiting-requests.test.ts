/**
 * Requests that have to wait for memory go on outside of the chunk they came in. What they brought and what they wait
 * for must not get lost then.
 */
import { StoreError, type Done } from '@store/core';
import t from 'tap';
import { MemoryBackend, memoryCatalog } from '../memory-backend.js';
import { NBD_CMD } from '../protocol/constants.js';
import { PAYLOAD_BYTES_MAX } from '../protocol/limits.js';
import { RawClient } from '../testing/raw-client.js';
import { startServer } from '../testing/test-server.js';
import { compactRequest } from '../testing/wire.js';

const MIB = 2 ** 20;
const { READ, WRITE } = NBD_CMD;

/** Answers late, and looks at each payload twice: when it comes, and right before the answer. */
class SlowBackend extends MemoryBackend {
  readonly damaged: string[] = [];

  override write(offset: number, parts: readonly Buffer[], _flags: number, done: Done): void {
    const expected = payloadFor(offset / MIB);
    const look = (when: string): void => {
      if (!Buffer.concat(parts).equals(expected))
        this.damaged.push(`${when}: write ${offset / MIB} in ${parts.length} parts`);
    };
    look('on arrival');
    setTimeout(() => {
      look('before the answer');
      done(null);
    }, 20);
  }
}

/** Every tenth write is large enough to be received straight into a buffer of its own. */
function payloadFor(index: number): Buffer {
  const payload = Buffer.alloc(index % 10 === 0 ? 131_072 : 4096, index & 0xff);
  payload.writeUInt32LE(index, payload.length - 4);
  return payload;
}

t.test(
  'what a WRITE brought stays as it is until the backend answers, however many wait',
  async (t) => {
    const COUNT = 3000;
    const DEPTH = 600;
    const backend = new SlowBackend(COUNT * MIB);
    const { server, stop } = await startServer(memoryCatalog({ disk: backend }));
    t.teardown(stop);
    const client = await RawClient.go(server.address);
    let sent = 0;
    for (let answered = 0; answered < COUNT; answered += 1) {
      for (; sent < COUNT && sent - answered < DEPTH; sent += 1) {
        const fields = { type: WRITE, cookie: sent, offset: sent * MIB };
        client.send(compactRequest({ ...fields, payload: payloadFor(sent) }));
      }
      const reply = await client.read(16);
      if (reply.readUInt32BE(4) !== 0) throw new StoreError('E_INVALID', 'a write failed');
    }
    t.strictSame(backend.damaged, []);
    client.close();
  },
);

for (const first of [4096, 16_384, 65_536, 131_072])
  t.test(
    `a READ that waits for the answer before it, of ${first} bytes, is answered`,
    async (t) => {
      const { server, stop } = await startServer(
        memoryCatalog({ disk: new MemoryBackend(64 * MIB) }),
      );
      t.teardown(stop);
      const client = await RawClient.go(server.address);
      const requests = [first, PAYLOAD_BYTES_MAX].map((length, cookie) =>
        compactRequest({ type: READ, cookie, length }),
      );
      client.send(Buffer.concat(requests));
      const answers = await client.read(16 + first + 16 + PAYLOAD_BYTES_MAX);
      t.equal(answers.readUInt32BE(16 + first + 12), 1, 'both are there');
      client.close();
    },
  );
