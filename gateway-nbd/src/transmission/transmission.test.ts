import { StoreError, WRITE_FLAGS } from '@store/core';
import t, { type Test } from 'tap';
import { MemoryBackend, memoryCatalog } from '../memory-backend.js';
import { NBD_CMD, NBD_CMD_FLAG, NBD_ERROR } from '../protocol/constants.js';
import { SERVER_LIMITS, ZERO_SLICE_BYTES } from '../protocol/limits.js';
import { RawClient, request } from '../testing/raw-client.js';
import { HeldBackend, pause, startServer, until } from '../testing/test-server.js';

const { READ, WRITE, DISC, FLUSH, TRIM, CACHE, WRITE_ZEROES, BLOCK_STATUS } = NBD_CMD;
const { EPERM, EIO, EINVAL, ENOSPC, ESHUTDOWN } = NBD_ERROR;
const MIB = 1024 * 1024;

async function heldServer(t: Test, backend: HeldBackend): Promise<RawClient> {
  const { server, stop } = await startServer(backend.catalog());
  t.teardown(stop);
  return RawClient.go(server.address);
}

t.test('M1, M3, M4, M5, M7, X6, X7: the error map at the door', async (t) => {
  const bytes = 8 * MIB;
  const catalog = memoryCatalog({
    rw: new MemoryBackend(bytes),
    ro: new MemoryBackend(bytes, { readOnly: true }),
  });
  const { server, stop } = await startServer(catalog);
  t.teardown(stop);
  const rw = await RawClient.go(server.address, 'rw');
  const ro = await RawClient.go(server.address, 'ro');
  const payload = Buffer.alloc(512, 1);
  const past = { offset: bytes - 256, length: 512 };
  const inside = { offset: 4096, length: 512 };
  const FUA = NBD_CMD_FLAG.FUA;
  const rows: [string, RawClient, Partial<Parameters<typeof request>[0]>, number][] = [
    ['READ past the end', rw, { type: READ, ...past }, EINVAL],
    ['WRITE past the end', rw, { type: WRITE, ...past, payload }, ENOSPC],
    ['TRIM past the end', rw, { type: TRIM, ...past }, EINVAL],
    ['WRITE_ZEROES past the end', rw, { type: WRITE_ZEROES, ...past }, ENOSPC],
    ['CACHE past the end', rw, { type: CACHE, ...past }, EINVAL],
    ['WRITE on read-only', ro, { type: WRITE, offset: 0, payload }, EPERM],
    ['WRITE of nothing on read-only', ro, { type: WRITE, offset: 0 }, EPERM],
    ['TRIM on read-only', ro, { type: TRIM, ...inside }, EPERM],
    ['WRITE_ZEROES on read-only', ro, { type: WRITE_ZEROES, ...inside }, EPERM],
    ['CACHE on read-only', ro, { type: CACHE, ...inside }, 0],
    ['FLUSH on read-only', ro, { type: FLUSH }, 0],
    ['READ with DF', rw, { type: READ, ...inside, flags: NBD_CMD_FLAG.DF }, EINVAL],
    ['WRITE with an unknown flag', rw, { type: WRITE, offset: 0, payload, flags: 0x8000 }, EINVAL],
    ['WRITE with NO_HOLE', rw, { type: WRITE, offset: 0, payload, flags: 2 }, EINVAL],
    ['TRIM with NO_HOLE', rw, { type: TRIM, ...inside, flags: 2 }, EINVAL],
    [
      'WRITE_ZEROES with an unknown flag',
      rw,
      { type: WRITE_ZEROES, ...inside, flags: 128 },
      EINVAL,
    ],
    ['CACHE with an unknown flag', rw, { type: CACHE, ...inside, flags: 64 }, EINVAL],
    ['FLUSH with a length', rw, { type: FLUSH, length: 512 }, EINVAL],
    ['FLUSH with an offset', rw, { type: FLUSH, offset: 512 }, EINVAL],
    ['BLOCK_STATUS without a context', rw, { type: BLOCK_STATUS, ...inside }, EINVAL],
    ['an unknown command', rw, { type: 999, ...inside }, EINVAL],
    ['FUA on every command', rw, { type: FLUSH, flags: FUA }, 0],
    ['FUA on TRIM', rw, { type: TRIM, ...inside, flags: FUA }, 0],
    ['FUA on CACHE', rw, { type: CACHE, ...inside, flags: FUA }, 0],
    ['a READ longer than the payload limit', rw, { type: READ, length: 32 * MIB + 1 }, EINVAL],
    ['the whole device at once', rw, { type: WRITE_ZEROES, length: bytes, flags: 2 }, 0],
    ...[READ, WRITE, TRIM, CACHE, WRITE_ZEROES]
      .map(
        (type) =>
          [
            `nothing at the very end (X7), command ${type}`,
            rw,
            { type, offset: bytes },
            0,
          ] as const,
      )
      .map((row): [string, RawClient, object, number] => [...row]),
  ];
  let cookie = 1;
  for (const [title, client, fields, expected] of rows)
    t.equal(await client.ask({ type: 0, cookie: cookie++, ...fields }), expected, title);
  // Offsets no number can hold, next to ones it can: all are past the end, none is rounded back inside.
  for (const offset of [
    2n ** 53n - 1n,
    2n ** 53n + 1n,
    2n ** 63n,
    2n ** 64n - 1n,
    2n ** 64n - 512n,
  ]) {
    const bytes = request({ type: READ, cookie, length: 512 });
    bytes.writeBigUInt64BE(offset, 16);
    rw.send(bytes);
    t.strictSame(await rw.reply(), { error: EINVAL, cookie: cookie++ }, `READ at ${offset}`);
  }
});

t.test('S7, X8: a WRITE that is refused is drained, and the next request understood', async (t) => {
  const { server, stop } = await startServer(memoryCatalog({ m: new MemoryBackend(MIB) }));
  t.teardown(stop);
  const client = await RawClient.go(server.address);
  const looksLikeRequests = Buffer.concat(
    Array.from({ length: 1000 }, () => request({ type: FLUSH, cookie: 666 })),
  );
  client.send(
    request({ type: WRITE, cookie: 1, offset: MIB, payload: looksLikeRequests }),
    request({ type: WRITE, cookie: 2, offset: 0, payload: Buffer.alloc(32 * MIB) }),
    request({ type: FLUSH, cookie: 3 }),
  );
  t.strictSame(await client.reply(), { error: ENOSPC, cookie: 1 });
  t.strictSame(await client.reply(), { error: ENOSPC, cookie: 2 });
  t.strictSame(await client.reply(), { error: 0, cookie: 3 });
  client.send(request({ type: WRITE, cookie: 4, length: 32 * MIB + 1 }));
  await client.closed;
  t.equal(client.available, 0, 'an announced payload above 32 MiB ends the connection unanswered');
});

t.test('X2: answers leave in the order the backend gives them', async (t) => {
  const backend = new HeldBackend(MIB);
  const client = await heldServer(t, backend);
  for (let cookie = 0; cookie < 3; cookie++)
    client.send(request({ type: READ, cookie, offset: cookie * 4096, length: 4096 }));
  const reads = [await backend.next(), await backend.next(), await backend.next()];
  for (const index of [2, 0, 1]) {
    const read = reads[index];
    read?.target.fill(index + 1);
    read?.done(null);
    t.strictSame(await client.reply(), { error: 0, cookie: index });
    t.strictSame(await client.read(4096), Buffer.alloc(4096, index + 1));
  }
});

t.test('X4: FUA and NO_HOLE reach the backend, and its answer alone is the reply', async (t) => {
  const backend = new HeldBackend(4 * ZERO_SLICE_BYTES);
  const client = await heldServer(t, backend);
  const flags = NBD_CMD_FLAG.FUA;
  client.send(request({ type: WRITE, cookie: 1, payload: Buffer.alloc(10), flags }));
  const write = await backend.next();
  t.equal(write.flags, WRITE_FLAGS.durable);
  client.send(
    request({ type: WRITE_ZEROES, cookie: 2, length: 10, flags: flags | NBD_CMD_FLAG.NO_HOLE }),
  );
  const zero = await backend.next();
  t.equal(zero.flags, WRITE_FLAGS.durable | WRITE_FLAGS.allocate);
  client.send(request({ type: TRIM, cookie: 3, length: 10 }));
  t.equal((await backend.next()).flags, WRITE_FLAGS.none);
  await pause(20);
  t.equal(client.available, 0, 'nothing is answered before the backend answers');
  write.done(null);
  t.strictSame(await client.reply(), { error: 0, cookie: 1 });
});

t.test(
  'WRITE_ZEROES: a long one reaches the backend in slices and is made durable once',
  async (t) => {
    const backend = new HeldBackend(4 * ZERO_SLICE_BYTES);
    const client = await heldServer(t, backend);
    const length = 2 * ZERO_SLICE_BYTES;
    const offset = 512;
    client.send(
      request({ type: WRITE_ZEROES, cookie: 1, offset, length, flags: NBD_CMD_FLAG.FUA }),
    );
    const pieces: [string, number, number][] = [];
    for (let count = 0; count < 4; count++) {
      const piece = await backend.next();
      pieces.push([piece.kind, piece.offset, piece.bytes]);
      t.equal(backend.held.length, 0, 'one at a time');
      piece.done(null);
    }
    t.strictSame(pieces, [
      ['zero', 512, ZERO_SLICE_BYTES - 512],
      ['zero', ZERO_SLICE_BYTES, ZERO_SLICE_BYTES],
      ['zero', 2 * ZERO_SLICE_BYTES, 512],
      ['flush', 0, 0],
    ]);
    t.strictSame(await client.reply(), { error: 0, cookie: 1 });
    client.send(request({ type: TRIM, cookie: 2, length }));
    (await backend.next()).done(new StoreError('E_DISK_FAILED', 'gone'));
    t.strictSame(await client.reply(), { error: EIO, cookie: 2 }, 'the first error ends it');
    t.equal(backend.held.length, 0);
  },
);

t.test(
  'M6, M10, X10: errors of the backend become errno, a failed READ sends no data, each is logged',
  async (t) => {
    const backend = new HeldBackend(MIB);
    const { server, env, stop } = await startServer(backend.catalog());
    t.teardown(stop);
    const client = await RawClient.go(server.address);
    const map = [
      ['E_NO_SPACE', ENOSPC],
      ['E_READ_ONLY', EPERM],
      ['E_CLOSED', ESHUTDOWN],
      ['E_FENCED', ESHUTDOWN],
      ['E_SEALED', ESHUTDOWN],
      ['E_CHECKSUM', EIO],
      ['E_DISK_FAILED', EIO],
      ['E_TIMEOUT', EIO],
    ] as const;
    for (const [code, errno] of map) {
      client.send(request({ type: READ, cookie: 1, length: 512 }));
      const read = await backend.next();
      read.target.fill(0x67);
      read.done(new StoreError(code, 'it broke'));
      t.strictSame(await client.reply(), { error: errno, cookie: 1 }, code);
      client.send(request({ type: FLUSH, cookie: 2 }));
      (await backend.next()).done(new StoreError(code, 'it broke'));
      t.strictSame(await client.reply(), { error: errno, cookie: 2 }, `${code} of a flush`);
    }
    const line = env.log.lines.find(({ level }) => level === 'error');
    t.match(line, {
      message: 'Request failed: it broke',
      fields: { command: 'READ', answered: 'ENOSPC' },
    });
  },
);

t.test('D1, D5: DISC and half-close let outstanding requests finish and be answered', async (t) => {
  const backend = new HeldBackend(MIB);
  for (const goodbye of ['DISC', 'half-close']) {
    const client = await heldServer(t, backend);
    client.send(request({ type: WRITE, cookie: 1, payload: Buffer.alloc(100, 1) }));
    if (goodbye === 'DISC')
      client.send(request({ type: DISC, cookie: 2 }), request({ type: FLUSH, cookie: 3 }));
    else client.socket.end();
    const write = await backend.next();
    await pause(20);
    t.equal(backend.held.length, 0, 'what follows DISC is ignored');
    const closedBefore = backend.closedCount;
    write.done(null);
    t.strictSame(await client.reply(), { error: 0, cookie: 1 }, goodbye);
    await client.closed;
    await until(() => backend.closedCount === closedBefore + 1, 'the export is closed');
  }
});

t.test(
  'D4: the writes of a client that vanished settle before the export is closed, and before a successor opens it',
  async (t) => {
    const backend = new HeldBackend(MIB);
    const { server, stop } = await startServer(backend.catalog());
    t.teardown(stop);
    const first = await RawClient.go(server.address, 'x');
    first.send(request({ type: WRITE, cookie: 1, payload: Buffer.alloc(100, 1) }));
    const write = await backend.next();
    first.send(request({ type: WRITE, cookie: 2, length: 1000, payload: Buffer.alloc(10) })); // half-sent
    await pause(20);
    first.close();
    await pause(20);
    t.equal(backend.closedCount, 0);
    let opened = false;
    const second = RawClient.go(server.address, 'x').then((client) => {
      opened = true;
      return client;
    });
    const other = await RawClient.go(server.address, 'y');
    await pause(50);
    t.notOk(opened, 'a late write of the dead connection could still land');
    write.done(null);
    const client = await second;
    t.equal(backend.arrivedCount, 1, 'the half-sent write never ran');
    client.close();
    other.close();
    await until(() => backend.closedCount === 3, 'all are closed');
  },
);

t.test(
  'X9: a client has at most its share in flight; the rest stays unread in the socket',
  async (t) => {
    const backend = new HeldBackend(1024 * MIB);
    const client = await heldServer(t, backend);
    const count = SERVER_LIMITS.connectionRequestsMax + 500;
    for (let cookie = 0; cookie < count; cookie++)
      client.send(request({ type: READ, cookie, length: 512 }));
    await until(
      () => backend.held.length === SERVER_LIMITS.connectionRequestsMax,
      'the limit is reached',
    );
    await pause(50);
    t.equal(backend.arrivedCount, SERVER_LIMITS.connectionRequestsMax);
    const seen = new Set<number>();
    for (let answered = 0; answered < count; answered++) {
      (await backend.next()).done(null);
      seen.add((await client.reply()).cookie);
      await client.read(512);
    }
    t.equal(seen.size, count, 'every request was answered once');
    client.send(
      ...Array.from({ length: 100 }, (_, cookie) => request({ type: READ, cookie, length: MIB })),
    );
    await until(() => backend.held.length >= 32, 'bytes run out');
    await pause(50);
    t.equal(backend.held.length, 32);
  },
);

t.test(
  'X9: a client that does not read its answers is not read either, and costs a bounded amount',
  async (t) => {
    const backend = new HeldBackend(1024 * MIB);
    const client = await heldServer(t, backend);
    client.socket.pause();
    for (let cookie = 0; cookie < 2000; cookie++)
      client.send(request({ type: READ, cookie, offset: 0, length: MIB }));
    let answered = 0;
    for (let quiet = 0; quiet < 20; quiet++) {
      for (let read = backend.held.shift(); read !== undefined; read = backend.held.shift()) {
        read.target.fill(answered++ % 251);
        read.done(null);
        quiet = 0;
      }
      await pause(5);
    }
    t.ok(answered <= 45, `${answered} MiB of answers were made for somebody who reads none`);
    client.socket.resume();
    const feeder = (async () => {
      while (answered < 2000) {
        const read = await backend.next();
        read.target.fill(answered++ % 251);
        read.done(null);
      }
    })();
    for (let index = 0; index < 2000; index++) {
      const { error } = await client.reply();
      const data = await client.read(MIB);
      const byte = index % 251;
      if (
        error !== 0 ||
        data[0] !== byte ||
        data[MIB - 1] !== byte ||
        !data.equals(Buffer.alloc(MIB, byte))
      )
        t.fail(`answer ${index} is not what the backend gave`);
    }
    await feeder;
  },
);

t.test(
  'FAIR: while others hold all the memory, small requests go through and large ones wait their turn',
  async (t) => {
    const backend = new HeldBackend(1024 * MIB);
    const { server, stop } = await startServer(backend.catalog());
    t.teardown(stop);
    const hogs = [await RawClient.go(server.address), await RawClient.go(server.address)];
    for (const hog of hogs)
      hog.send(request({ type: WRITE, cookie: 1, length: 32 * MIB, payload: Buffer.alloc(100) }));
    await pause(50);
    const small = await RawClient.go(server.address);
    for (let cookie = 0; cookie < 5; cookie++) {
      small.send(request({ type: READ, cookie, length: 4096 }));
      (await backend.next()).done(null);
      t.strictSame(await small.reply(), { error: 0, cookie });
      await small.read(4096);
    }
    small.send(request({ type: READ, cookie: 9, length: 4 * MIB }));
    await pause(50);
    t.equal(backend.held.length, 0, 'there is no room for it');
    hogs[0]?.close();
    const read = await backend.next();
    t.equal(read.bytes, 4 * MIB, 'it goes on when there is');
    read.done(null);
    t.strictSame(await small.reply(), { error: 0, cookie: 9 });
  },
);

t.test(
  'a payload the backend holds never changes while others come and go (FAULTS 34)',
  async (t) => {
    const backend = new HeldBackend(1024 * MIB);
    const client = await heldServer(t, backend);
    const sizes = [1, 512, 4096, 70_000, 200_000, MIB, 2 * MIB];
    let sent = 0;
    const sendOne = (): void => {
      const length = sizes[sent % sizes.length] ?? 1;
      client.send(
        request({ type: WRITE, cookie: sent, payload: Buffer.alloc(length, sent % 251) }),
      );
      sent += 1;
    };
    const held: { tag: number; parts: readonly Buffer[]; done: (error: null) => void }[] = [];
    for (let count = 0; count < 14; count++) sendOne();
    for (let taken = 0; taken < 200; taken++) {
      const write = await backend.next();
      held.push({ tag: taken % 251, parts: write.parts, done: write.done });
      if (held.length < 10) continue;
      // Not the oldest: the others have to survive what the answered one leaves behind.
      const [one] = held.splice((taken * 7) % held.length, 1);
      for (const part of one?.parts ?? [])
        if (!part.equals(Buffer.alloc(part.length, one?.tag)))
          t.fail(`payload ${one?.tag} was overwritten`);
      one?.done(null);
      sendOne();
      await client.reply();
    }
    t.ok(sent > 200);
  },
);
