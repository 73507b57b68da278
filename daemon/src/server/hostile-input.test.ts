/** What no good client sends. The server goes on, serves others meanwhile, and stores nothing but what was asked. */
import fs from 'node:fs';
import path from 'node:path';
import { crc32c, ERRORS, encodeHello, HEADER_BYTES, OP, type ListenAddress } from '@store/core';
import t, { type Test } from 'tap';
import { forged, frame, hello, objectBody, RawClient, writeBody } from './testing/raw-client.js';
import { ServedFolder } from './testing/served-folder.js';
import { ServedMemory } from './testing/served-memory.js';
import { sleep, until } from './testing/until.js';

const MIB = 1024 * 1024;
const NOTHING = Buffer.alloc(0);

async function served(t: Test, limits = {}): Promise<ServedMemory> {
  const one = await ServedMemory.open({ limits });
  t.teardown(() => one.close());
  return one;
}

/** Far less than anybody who keeps others out could take, and far more than a busy machine needs. */
const SERVED_MS_MAX = 10_000;

/** Served as if nobody else was there. @returns after how many ms */
async function expectService(t: Test, address: ListenAddress): Promise<number> {
  const started = performance.now();
  const client = await RawClient.open(address);
  const bytes = Buffer.alloc(4096, 'good');
  t.equal((await client.write('good', 0, bytes)).status, 0);
  t.ok((await client.read('good', 0, 4096)).payload.equals(bytes));
  await client.close();
  const ms = performance.now() - started;
  t.ok(ms < SERVED_MS_MAX, `a good client was served in ${Math.round(ms)} ms`);
  return ms;
}

const goodHello = frame({ op: OP.hello, requestId: 1, body: encodeHello(hello()) });

t.test('what is not the protocol ends the connection, whatever it is', async (t) => {
  const one = await served(t);
  const cases: [string, Buffer][] = [
    ['HTTP', Buffer.from('GET / HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n'.repeat(2))],
    ['zeros', Buffer.alloc(4096)],
    ['ones', Buffer.alloc(4096, 0xff)],
    ['a TLS record', Buffer.concat([Buffer.from('16030102000100', 'hex'), Buffer.alloc(512, 1)])],
    [
      'a header with a flipped bit',
      Buffer.from(goodHello.map((byte, at) => (at === 9 ? byte ^ 4 : byte))),
    ],
    ['an answer', forged(goodHello, (header) => header.writeUInt8(1, 5))],
    ['a status', forged(goodHello, (header) => header.writeUInt16LE(1, 28))],
    ['unknown flags', forged(goodHello, (header) => header.writeUInt8(2, 5))],
    ['no such operation', forged(goodHello, (header) => header.writeUInt16LE(99, 6))],
    ['operation 0', forged(goodHello, (header) => header.writeUInt16LE(0, 6))],
    ['a body of 4 GiB', forged(goodHello, (header) => header.writeUInt32LE(2 ** 32 - 1, 32))],
    ['a payload', forged(goodHello, (header) => header.writeUInt32LE(1, 36))],
    ['an id beyond 2^53', forged(goodHello, (header) => header.writeUInt32LE(2 ** 31, 12))],
    ['PING before HELLO', frame({ op: OP.ping, requestId: 1 })],
    [
      'a write before HELLO',
      frame({ op: OP.write, requestId: 1, body: writeBody(0, 'k', 0, NOTHING) }),
    ],
  ];
  for (const [what, bytes] of cases) {
    const client = await RawClient.connect(one.address);
    client.send(bytes);
    await client.over(2000);
    t.equal(client.answers.filter(({ status }) => status === 0).length, 0, what);
    await client.close();
  }
  t.equal(one.server.counters.refused.get('E_BAD_FRAME'), cases.length);
  t.strictSame(one.store.log, []);
  await expectService(t, one.address);
});

t.test('greetings that make no sense are refused with a reason', async (t) => {
  const one = await served(t);
  const begin = { session: 'A'.repeat(22), incarnation: 1, proof: '', datagramBytes: 0 };
  const said = (body: object, op: number = OP.hello): Buffer =>
    frame({ op, requestId: 1, body: Buffer.from(JSON.stringify(body)) });
  const plain = JSON.parse(encodeHello(hello()).toString()) as object; // an object that we encoded
  const cases: [string, Buffer, keyof typeof ERRORS][] = [
    ['no JSON', frame({ op: OP.hello, requestId: 1, body: Buffer.from('{"a":') }), 'E_BAD_FRAME'],
    ['a list', said([]), 'E_BAD_FRAME'],
    ['null', frame({ op: OP.hello, requestId: 1, body: Buffer.from('null') }), 'E_BAD_FRAME'],
    ['nothing', frame({ op: OP.hello, requestId: 1 }), 'E_BAD_FRAME'],
    ['no fields', said({}), 'E_BAD_FRAME'],
    ['a long name', said({ ...plain, name: 'n'.repeat(129) }), 'E_BAD_FRAME'],
    ['a number as name', said({ ...plain, name: 7 }), 'E_BAD_FRAME'],
    ['a short nonce', said({ ...plain, nonce: 'AAAA' }), 'E_BAD_FRAME'],
    ['a nonce with padding', said({ ...plain, nonce: `${'A'.repeat(43)}=` }), 'E_BAD_FRAME'],
    ['a prototype', said({ ['__proto__']: plain }), 'E_BAD_FRAME'],
    ['half a version', said({ ...plain, versionMin: 0.5 }), 'E_BAD_FRAME'],
    ['a newer release', said({ ...plain, versionMin: 2, versionMax: 3 }), 'E_PROTOCOL_VERSION'],
    ['an older release', said({ ...plain, versionMin: 0, versionMax: 0 }), 'E_PROTOCOL_VERSION'],
    [
      'frames of version 2',
      forged(goodHello, (header) => header.writeUInt8(2, 4)),
      'E_PROTOCOL_VERSION',
    ],
    ['no ticket', said({ ...plain, ticket: 'AAAA' }), 'E_DENIED'],
    ['BEGIN first', said(begin, OP.begin), 'E_BAD_FRAME'],
    ['START_TLS of a daemon without', frame({ op: OP.startTls, requestId: 1 }), 'E_DENIED'],
  ];
  for (const [what, bytes, code] of cases) {
    const client = await RawClient.connect(one.address);
    client.send(bytes);
    const answer = await client.answer(1);
    t.equal(answer.status, ERRORS[code].status, `${what}: ${answer.body.toString()}`);
    t.ok(answer.body.length > 10);
    await client.over(2000);
    await client.close();
  }
  for (const second of [goodHello, frame({ op: OP.startTls, requestId: 1 })]) {
    const client = await RawClient.connect(one.address);
    await client.hello();
    client.send(second);
    await client.over(2000);
    await client.close();
  }
  await expectService(t, one.address);
});

t.test(
  'requests that break the rules end the connection, and nothing of them is run',
  async (t) => {
    const one = await served(t);
    const bytes = Buffer.alloc(4096, 'x');
    const good = writeBody(0, 'key', 0, bytes);
    const write = (body: Buffer, payload = bytes): Buffer =>
      frame({ op: OP.write, requestId: 9, body, payload });
    const changed = (change: (body: Buffer) => void): Buffer => {
      const body = Buffer.from(good);
      change(body);
      return write(body);
    };
    const cases: [string, Buffer][] = [
      ['a pool that was not opened', changed((body) => body.writeUInt32LE(7, 0))],
      ['pool 2^32-1', changed((body) => body.writeUInt32LE(2 ** 32 - 1, 0))],
      ['kind 0', changed((body) => body.writeUInt8(0, 4))],
      ['kind 4', changed((body) => body.writeUInt8(4, 4))],
      ['flags 16', changed((body) => body.writeUInt8(16, 5))],
      ['a key of 0 bytes', changed((body) => body.writeUInt16LE(0, 6))],
      ['a key of 513 bytes', changed((body) => body.writeUInt16LE(513, 6))],
      ['a key of 65535 bytes', changed((body) => body.writeUInt16LE(65_535, 6))],
      ['a locator beyond the body', changed((body) => body.writeUInt16LE(512, 8))],
      ['not zero', changed((body) => body.writeUInt16LE(1, 10))],
      ['fewer bytes than it says', changed((body) => body.writeUInt32LE(4097, 16))],
      ['an expected version beyond 2^53', changed((body) => body.writeUInt32LE(2 ** 30, 24))],
      ['a body of 27 bytes', write(good.subarray(0, 27))],
      ['half a checksum', write(good.subarray(0, good.length - 1))],
      ['no body', write(NOTHING)],
      [
        'a floor above the id',
        frame({ op: OP.write, requestId: 9, floor: 10, body: good, payload: bytes }),
      ],
      [
        'an id beyond the span',
        frame({ op: OP.write, requestId: 9000, body: good, payload: bytes }),
      ],
      ['HELLO again', frame({ op: OP.hello, requestId: 9, body: encodeHello(hello()) })],
      ['START_TLS', frame({ op: OP.startTls, requestId: 9 })],
      ['what is reserved', frame({ op: OP.registerChain, requestId: 9 })],
      [
        'a payload of 4 MiB + 1',
        forged(write(good), (header) => header.writeUInt32LE(4 * MIB + 1, 36)),
      ],
      [
        'a payload of 4 GiB',
        forged(write(good), (header) => header.writeUInt32LE(2 ** 32 - 1, 36)),
      ],
      ['a body of 64 KiB + 1', forged(write(good), (header) => header.writeUInt32LE(65_537, 32))],
      [
        'a body that does not match',
        Buffer.from(write(good).map((byte, at) => (at === HEADER_BYTES + 30 ? byte ^ 1 : byte))),
      ],
      [
        'an answer to nothing',
        forged(frame({ op: OP.read, requestId: 9 }), (header) => header.writeUInt8(1, 5)),
      ],
      ['a cancel of 7 bytes', frame({ op: OP.cancel, requestId: 9, body: Buffer.alloc(7) })],
      ['a flush of no pool', frame({ op: OP.flush, requestId: 9 })],
    ];
    for (const [what, sent] of cases) {
      const client = await RawClient.open(one.address);
      client.send(sent, frame({ op: OP.delete, requestId: 10, body: objectBody({ key: 'good' }) }));
      await client.over(3000);
      const good = client.answers.filter(({ status }) => status === 0);
      t.strictSame(good, [], what);
      await client.close();
    }
    t.strictSame(one.store.log, [], 'nothing was run, not what came behind either');
    await expectService(t, one.address);
  },
);

t.test('arguments that make no sense are answered, and the connection goes on', async (t) => {
  const one = await ServedFolder.open();
  t.teardown(() => one.remove());
  const client = await RawClient.open(one.address);
  const { pool } = client;
  await client.write('key', 0, Buffer.from('kept'));
  const list = (limit: number, cursor = NOTHING, kind = 0): Buffer => {
    const fixed = Buffer.alloc(12);
    fixed.writeUInt32LE(pool, 0);
    fixed.writeUInt8(kind, 4);
    fixed.writeUInt16LE(limit, 6);
    fixed.writeUInt16LE(cursor.length, 10);
    return Buffer.concat([fixed, cursor]);
  };
  const object = (fields: object): Buffer => objectBody({ pool, key: 'key', ...fields });
  const oneByte = Buffer.from('x');
  const cases: [string, number, Buffer, Buffer][] = [
    ['a read beyond the end', OP.read, object({ offset: 4 * MIB - 1, bytes: 2 }), NOTHING],
    ['a read at 2^32-1', OP.read, object({ offset: 2 ** 32 - 1, bytes: 2 ** 32 - 1 }), NOTHING],
    ['extents beyond the end', OP.extents, object({ bytes: 2 ** 32 - 1 }), NOTHING],
    ['zero beyond the end', OP.zero, object({ bytes: 2 ** 32 - 1 }), NOTHING],
    ['prefetch beyond the end', OP.prefetch, object({ bytes: 2 ** 32 - 1 }), NOTHING],
    ['discard that allocates', OP.discard, object({ bytes: 1, flags: 4 }), NOTHING],
    ['a write of no checksum', OP.write, object({ bytes: 1 }), oneByte],
    [
      'a write with a wrong one',
      OP.write,
      object({ bytes: 1, checks: Uint32Array.of(1) }),
      oneByte,
    ],
    [
      'ifAbsent of plain',
      OP.write,
      object({ bytes: 1, flags: 8, checks: Uint32Array.of(crc32c(oneByte)) }),
      oneByte,
    ],
    ['CAS without checksum', OP.compareAndSwap, object({ bytes: 1 }), oneByte],
    [
      'CAS of damaged bytes',
      OP.compareAndSwap,
      object({ bytes: 1, checks: Uint32Array.of(1) }),
      oneByte,
    ],
    ['a list of 0', OP.list, list(0), NOTHING],
    ['a list of kind 9', OP.list, list(1, NOTHING, 9), NOTHING],
    ['a list from nowhere', OP.list, list(5, Buffer.alloc(1024, 0xff)), NOTHING],
    ['STAT without fields', OP.stat, NOTHING, NOTHING],
    ['a pool without a name', OP.openPool, Buffer.from('{"name":"","create":true}'), NOTHING],
    ['a pool with NUL', OP.openPool, Buffer.from('{"name":"a\\u0000","create":true}'), NOTHING],
    ['a pool without create', OP.openPool, Buffer.from('{"name":"a"}'), NOTHING],
    ['no list of pools', OP.listPools, Buffer.from('[]'), NOTHING],
  ];
  for (const [what, op, body, payload] of cases) {
    const answer = await client.ask(op, body, payload);
    t.not(answer.status, 0, `${what}: ${answer.body.toString()}`);
    t.notMatch(answer.body.toString(), /\n/);
  }
  t.equal((await client.read('key', 0, 4)).payload.toString(), 'kept');
  t.equal((await client.ask(OP.ping)).status, 0);
  await client.close();
});

t.test('keys are names, whatever is in them, and touch nothing else in the folder', async (t) => {
  const folder = await ServedFolder.open();
  t.teardown(() => folder.remove());
  const outside = path.join(path.dirname(folder.folder), 'etc');
  const files = (): string[] =>
    fs.readdirSync(folder.folder, { recursive: true }).map(String).sort();
  const client = await RawClient.open(folder.address);
  await client.write('first', 0, Buffer.alloc(8192, 'f'));
  await client.write('first-2', 0, Buffer.alloc(8192, 'f'));
  const before = files();
  const keys = [
    Buffer.from('a\0b'),
    Buffer.from('a'),
    Buffer.from('\0'),
    Buffer.from('../../etc/passwd'),
    Buffer.from('../etc'),
    Buffer.from('/etc/passwd'),
    Buffer.from('.'),
    Buffer.from('lock'),
    Buffer.from([0xff, 0xfe, 0x80]),
    Buffer.from([0xc3]),
    Buffer.alloc(512, 'k'),
    Buffer.alloc(511, 'k'),
    Buffer.alloc(512, 0xff),
  ];
  for (const [index, key] of keys.entries())
    t.equal((await client.write(key, 0, Buffer.alloc(4096, index + 1))).status, 0);
  for (const [index, key] of keys.entries()) {
    const { payload } = await client.read(key, 0, 4096);
    t.ok(
      payload.equals(Buffer.alloc(4096, index + 1)),
      `key ${key.subarray(0, 20).toString('hex')}`,
    );
  }
  const names = ['../up', '/abs', 'a/b', 'pool\u0001', '\u{1f600}', 'n'.repeat(128)];
  for (const name of names) await client.openPool(name);
  const all = await client.ask(OP.listPools, Buffer.from('{"after":""}'));
  t.strictSame(
    (JSON.parse(all.body.toString()) as { names: string[] }).names.sort(),
    ['pool', ...names].sort(),
  );
  t.strictSame(files(), before, 'the files of the folder are those that were there');
  t.notOk(fs.existsSync(outside));
  await client.close();
});

t.test('a thousand connections that say nothing keep nobody out', async (t) => {
  const one = await served(t);
  const idle: RawClient[] = [];
  for (let count = 0; count < 1000; count += 1) {
    const client = await RawClient.connect(one.address);
    if (count % 3 === 1) client.send(goodHello.subarray(0, 20));
    if (count % 3 === 2) await client.hello();
    idle.push(client);
  }
  await until(() => one.server.state().connections === 1000, 'all are there', 10_000);
  await expectService(t, one.address);
  for (const client of idle) await client.close();
  await until(() => one.server.state().connections === 0, 'all are gone', 10_000);
});

t.test('newcomers that do not greet make room for others', async (t) => {
  const one = await served(t, { greetingsMax: 8, connectionsMax: 16 });
  const idle: RawClient[] = [];
  for (let count = 0; count < 40; count += 1) idle.push(await RawClient.connect(one.address));
  await expectService(t, one.address);
  t.ok(idle.filter(({ isOver }) => isOver).length >= 30);
  for (const client of idle) await client.close();
});

t.test('who sends a byte at a time is given up when the greeting takes too long', async (t) => {
  const one = await served(t, { greetingMs: 400 });
  const client = await RawClient.connect(one.address);
  const started = performance.now();
  for (let at = 0; at < goodHello.length && !client.isOver; at += 1) {
    client.send(goodHello.subarray(at, at + 1));
    await sleep(50);
  }
  t.ok(client.isOver);
  t.ok(performance.now() - started < 3000);
  t.equal(one.server.counters.refused.get('E_TIMEOUT'), 1);
  await client.close();
  await expectService(t, one.address);
});

t.test('lengths that are only announced take no memory', async (t) => {
  const one = await served(t);
  const before = process.memoryUsage().rss;
  const clients: RawClient[] = [];
  for (let count = 0; count < 60; count += 1) {
    const client = await RawClient.open(one.address);
    const body = writeBody(client.pool, 'key', 0, NOTHING);
    const announced = forged(frame({ op: OP.write, requestId: 9, body }), (header) =>
      header.writeUInt32LE(count % 2 === 0 ? 4 * MIB : 4 * MIB + 1, 36),
    );
    client.send(announced);
    clients.push(client);
  }
  await sleep(200);
  const grown = process.memoryUsage().rss - before;
  t.ok(grown < 150 * MIB, `grew by ${Math.round(grown / MIB)} MiB`);
  t.ok(one.server.state().heldBytes <= 256 * MIB);
  await expectService(t, one.address);
  for (const client of clients) await client.close();
});

t.test('who never reads its answers is not read on, and others are served', async (t) => {
  const one = await served(t);
  const writer = await RawClient.open(one.address);
  await writer.write('large', 0, Buffer.alloc(MIB, 'l'));
  await writer.close();
  const greedy: RawClient[] = [];
  const before = process.memoryUsage().rss;
  for (let count = 0; count < 4; count += 1) {
    const client = await RawClient.open(one.address);
    client.socket.pause();
    const body = objectBody({ pool: client.pool, key: 'large', bytes: MIB });
    for (let id = 10; id < 400; id += 1) client.send(frame({ op: OP.read, requestId: id, body }));
    greedy.push(client);
  }
  await sleep(500);
  const { heldBytes } = one.server.state();
  t.ok(heldBytes > 8 * MIB, 'they have much under way');
  t.ok(heldBytes <= 4 * 33 * MIB, `${Math.round(heldBytes / MIB)} MiB are held`);
  const grown = process.memoryUsage().rss - before;
  t.ok(grown < 400 * MIB, `grew by ${Math.round(grown / MIB)} MiB`);
  await expectService(t, one.address);
  for (const client of greedy) await client.close();
  await until(() => one.server.state().connections === 0, 'all are gone');
});

t.test('a flood of small requests does not keep others waiting', async (t) => {
  const one = await served(t);
  const flooders = await Promise.all([1, 2, 3].map(() => RawClient.open(one.address)));
  const flood = (client: RawClient, from: number): void => {
    const frames: Buffer[] = [];
    for (let id = from; id < from + 2000; id += 1)
      frames.push(frame({ op: OP.ping, requestId: id }));
    client.send(...frames);
  };
  for (const client of flooders) flood(client, 100);
  await expectService(t, one.address);
  await until(
    () => flooders.every(({ answers }) => answers.length === 2000),
    'all are answered',
    10_000,
  );
  for (const client of flooders) await client.close();
});

t.test(
  'frames that end in the middle, at every byte of header and body, leave nothing',
  async (t) => {
    const one = await served(t);
    const bytes = Buffer.from('never');
    for (let cut = 1; cut < HEADER_BYTES + 40; cut += 1) {
      const client = await RawClient.open(one.address);
      const body = writeBody(client.pool, 'never', 0, bytes);
      const whole = frame({ op: OP.write, requestId: 9, body, payload: bytes });
      client.send(whole.subarray(0, Math.min(cut, whole.length - 1)));
      client.socket.end();
      await client.over();
      await client.close();
    }
    t.strictSame(one.store.log, []);
    await until(() => one.server.state().connections === 0, 'all are gone');
    await expectService(t, one.address);
  },
);
