/**
 * Random sessions beside random enemies. Good clients write, read, lose their connections, send again under the same ids;
 * others send frames that are almost good. Whatever comes, the server goes on, and each good client finds exactly what it
 * was answered for.
 */
import { randomInt } from 'node:crypto';
import {
  crc32c,
  crc32cShort,
  encodeBegin,
  encodeHello,
  encodeListRequest,
  encodeOpenPool,
  HEADER_BYTES,
  OP,
} from '@store/core';
import t from 'tap';
import {
  begin,
  forged,
  frame,
  hello,
  objectBody,
  RawClient,
  writeBody,
} from './testing/raw-client.js';
import { ServedMemory } from './testing/served-memory.js';
import { until } from './testing/until.js';

const SEED = 'STORE_TEST_SEED';
const seed = Number(process.env[SEED] ?? randomInt(2 ** 31));
const ROUNDS = Number(process.env['STORE_TEST_RUNS'] ?? 60);
const CLIENTS = 3;
const KEYS = 4;

/** The same numbers for the same seed (mulberry32). */
class Dice {
  #state: number;

  constructor(start: number) {
    this.#state = start;
  }

  /** From 0 to `below` - 1. */
  roll(below: number): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(this.#state ^ (this.#state >>> 15), 1 | this.#state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below;
  }

  pick<T>(list: readonly T[]): T {
    const picked = list[this.roll(list.length)];
    if (picked === undefined) throw new Error('there is something to pick from');
    return picked;
  }
}

const INTERESTING = [
  0,
  1,
  2,
  15,
  16,
  27,
  28,
  511,
  512,
  513,
  4095,
  4096,
  65_535,
  65_536,
  2 ** 22,
  2 ** 22 + 1,
  2 ** 31,
  2 ** 32 - 1,
];

/** A frame that was good, after an accident; sometimes with checksums that are right again. */
function broken(dice: Dice, good: Buffer): Buffer {
  const bytes = Buffer.from(good);
  const kind = dice.roll(7);
  if (kind === 0) return bytes.subarray(0, dice.roll(bytes.length));
  if (kind === 1) return Buffer.concat([bytes, bytes.subarray(dice.roll(bytes.length))]);
  if (kind === 2)
    return Buffer.from(bytes.map((byte) => (dice.roll(20) === 0 ? dice.roll(256) : byte)));
  const at = dice.roll(bytes.length - 4);
  if (kind === 3) bytes.writeUInt32LE(dice.pick(INTERESTING), at);
  else if (kind === 4) bytes.writeUInt16LE(dice.pick(INTERESTING) & 0xffff, at);
  else if (kind === 5) bytes.writeUInt8(dice.roll(256), at);
  else bytes.writeUInt16LE(dice.roll(40), 6);
  const bodyEnd = Math.min(bytes.length, HEADER_BYTES + bytes.readUInt32LE(32));
  if (dice.roll(5) > 0)
    return forged(bytes, (header) =>
      header.writeUInt32LE(crc32cShort(header, HEADER_BYTES, Math.max(HEADER_BYTES, bodyEnd)), 40),
    );
  return bytes;
}

/** Some good frame of an enemy, which has a pool of its own. */
function someFrame(dice: Dice, requestId: number): Buffer {
  const payload = Buffer.alloc(dice.pick([0, 1, 100, 4096, 5000, 20_000]), 'e');
  const key = `enemy ${dice.roll(5)}`;
  const offset = dice.pick([0, 1, 4095, 4096, 2 ** 22 - 1]);
  const bytes = dice.pick([0, 1, 4096, 9000]);
  const object = objectBody({ key, offset, bytes, flags: dice.roll(16) });
  const checks = Uint32Array.of(crc32c(payload));
  return dice.pick([
    () => frame({ op: OP.write, requestId, body: writeBody(0, key, offset, payload), payload }),
    () =>
      frame({
        op: dice.pick([OP.read, OP.zero, OP.discard, OP.extents, OP.prefetch]),
        requestId,
        body: object,
      }),
    () => frame({ op: dice.pick([OP.stat, OP.delete]), requestId, body: object }),
    () =>
      frame({
        op: OP.compareAndSwap,
        requestId,
        body: objectBody({ key, bytes: payload.length, checks, extra: dice.roll(3) }),
        payload,
      }),
    () =>
      frame({ op: OP.list, requestId, body: encodeListRequest(0, { limit: 1 + dice.roll(1000) }) }),
    () =>
      frame({
        op: OP.openPool,
        requestId,
        body: encodeOpenPool({ name: 'enemies', create: true }),
      }),
    () => frame({ op: OP.ping, requestId }),
    () => frame({ op: OP.cancel, requestId, body: Buffer.alloc(8, dice.roll(3)) }),
    () => frame({ op: OP.flush, requestId, body: Buffer.alloc(4) }),
  ])();
}

async function attack(dice: Dice, { address }: ServedMemory): Promise<void> {
  const enemy = await RawClient.connect(address);
  if (dice.roll(4) === 0) {
    enemy.send(broken(dice, frame({ op: OP.hello, requestId: 1, body: encodeHello(hello()) })));
    enemy.send(broken(dice, frame({ op: OP.begin, requestId: 2, body: encodeBegin(begin()) })));
  } else {
    await enemy.hello();
    await enemy.beginSession();
    await enemy.openPool('enemies');
    for (let count = dice.roll(30); count > 0 && !enemy.isOver; count -= 1) {
      const good = someFrame(dice, 10 + dice.roll(50));
      enemy.send(dice.roll(3) > 0 ? good : broken(dice, good));
    }
  }
  if (dice.roll(2) === 0) enemy.socket.end();
  else enemy.socket.resetAndDestroy();
  await until(() => enemy.isOver || enemy.socket.destroyed, 'the enemy is gone', 3000);
  await enemy.close();
}

/** A request that was not answered. */
interface Sent {
  readonly op: number;
  readonly body: Buffer;
  readonly payload: Buffer;
  /** What the object holds once it is answered. */
  readonly after: Buffer;
  readonly key: string;
}

/** A good client: its session, what it waits for, and what its objects must hold. */
class Model {
  readonly objects = new Map<string, Buffer>();
  readonly #name: string;
  readonly #dice: Dice;
  readonly #served: ServedMemory;
  readonly #session: Buffer;
  readonly #open = new Map<number, Sent>();
  #client: RawClient | null = null;
  #incarnation = 0;
  #nextId = 1000;

  constructor(name: string, dice: Dice, served: ServedMemory) {
    this.#name = name;
    this.#dice = dice;
    this.#served = served;
    this.#session = Buffer.alloc(16, name);
  }

  get #floor(): number {
    return Math.min(this.#nextId, ...this.#open.keys());
  }

  async round(): Promise<void> {
    const client = await this.#connected();
    for (let key = 0; key < KEYS; key += 1) this.#sendOne(client, `${this.#name} ${key}`);
    const fate = this.#dice.roll(4);
    if (fate === 0) this.#break(client);
    else if (fate === 1) client.send(broken(this.#dice, someFrame(this.#dice, this.#nextId)));
    await this.settle();
  }

  /** Until all is answered, over however many connections. */
  async settle(): Promise<void> {
    for (let tries = 0; this.#open.size > 0; tries += 1) {
      if (tries > 20) throw new Error(`${this.#name} is not served`);
      const client = await this.#connected();
      const isDone = (): boolean => this.#take(client) === 0 || client.isOver;
      // A broken frame may have swallowed what came behind it, so that nothing comes: connect anew.
      await until(isDone, 'answers', 300).catch(() => undefined);
      if (this.#open.size > 0) this.#break(client);
    }
  }

  async check(): Promise<void> {
    // What was broken last may wait for more on the connection.
    if (this.#client !== null) this.#break(this.#client);
    const client = await this.#connected();
    for (const [key, bytes] of this.objects) {
      const requestId = (this.#nextId += 1);
      const body = objectBody({ pool: client.pool, key, bytes: bytes.length });
      client.send(frame({ op: OP.read, requestId, floor: this.#floor, body }));
      const { payload, status } = await client.answer(requestId);
      if (status !== 0 || !payload.equals(bytes))
        throw new Error(`${key} is not what was answered`);
    }
    await client.close();
  }

  #sendOne(client: RawClient, key: string): void {
    const before = this.objects.get(key) ?? Buffer.alloc(16_384);
    const after = Buffer.from(before);
    const offset = this.#dice.roll(16_000);
    const payload = Buffer.alloc(1 + this.#dice.roll(16_384 - offset), 1 + this.#dice.roll(255));
    payload.copy(after, offset);
    const body = writeBody(client.pool, key, offset, payload);
    this.#nextId += 1;
    this.#open.set(this.#nextId, { op: OP.write, body, payload, after, key });
    this.#sendAgain(client, this.#nextId);
  }

  #sendAgain(client: RawClient, requestId: number): void {
    const sent = this.#open.get(requestId);
    if (sent === undefined) return;
    sent.body.writeUInt32LE(client.pool, 0);
    const { op, body, payload } = sent;
    const bytes = frame({ op, requestId, floor: this.#floor, body, payload });
    client.send(bytes);
    if (this.#dice.roll(5) === 0) client.send(bytes);
  }

  /** @returns how many are not answered */
  #take(client: RawClient): number {
    for (const { requestId, status } of client.answers.splice(0)) {
      const sent = this.#open.get(requestId);
      if (sent === undefined || sent.op !== OP.write) continue;
      if (status !== 0) continue;
      this.objects.set(sent.key, sent.after);
      this.#open.delete(requestId);
    }
    return this.#open.size;
  }

  #break(client: RawClient): void {
    this.#client = null;
    client.socket.resetAndDestroy();
  }

  async #connected(): Promise<RawClient> {
    if (this.#client !== null && !this.#client.isOver) return this.#client;
    this.#incarnation += 1;
    const client = await RawClient.connect(this.#served.address);
    await client.hello({ name: this.#name });
    await client.beginSession({ session: this.#session, incarnation: this.#incarnation });
    client.skipTo(this.#nextId + 1);
    await client.openPool('pool');
    this.#nextId = client.id();
    this.#client = client;
    for (const requestId of [...this.#open.keys()]) this.#sendAgain(client, requestId);
    return client;
  }
}

t.test('random sessions beside random enemies keep what they were answered for', async (t) => {
  t.comment(`replay: ${SEED}=${seed} node ${process.argv[1] ?? ''}`);
  const served = await ServedMemory.open({ limits: { greetingMs: 2000 } });
  t.teardown(() => served.close());
  const dice = new Dice(seed);
  const models = Array.from(
    { length: CLIENTS },
    (_, index) => new Model(`good ${index}`, dice, served),
  );
  for (let round = 0; round < ROUNDS; round += 1) {
    await Promise.all([
      ...models.map((model) => model.round()),
      attack(dice, served),
      attack(dice, served),
    ]);
    if (served.defects.length > 0) throw served.defects[0];
  }
  for (const model of models) await model.check();
  t.strictSame(served.defects, []);
  const keys = models.flatMap(({ objects }) => [...objects.keys()]).sort();
  const pool = await served.store.openPool('pool', { create: false });
  const { entries } = await pool.list({});
  t.strictSame(
    entries
      .map(({ key }) => key.toString())
      .filter((key) => !key.startsWith('enemy'))
      .sort(),
    keys,
  );
  await until(() => served.server.state().connections === 0, 'all have left');
  t.equal(served.server.state().heldBytes, 0);
});
