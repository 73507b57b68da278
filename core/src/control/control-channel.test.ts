import t, { type Test } from 'tap';
import type { Connection } from '../env/network.js';
import { realEnv } from '../env/real-env.js';
import { silentLog } from '../env/silent-log.js';
import { StoreError } from '../util/errors.js';
import { HEADER_BYTES, writeRequestHeader } from '../wire/frame-header.js';
import { encodeJson } from '../wire/json-body.js';
import {
  ControlChannel,
  saying,
  type ControlAnswer,
  type ControlMessage,
} from './control-channel.js';
import { CONTROL, type ControlOp } from './control-ops.js';

const env = realEnv(silentLog);
const HOST = '127.0.0.1';

/** One end of a conversation. */
class End {
  readonly defects: unknown[] = [];
  closed: StoreError | null = null;
  asked: (op: ControlOp, message: ControlMessage) => Promise<ControlAnswer> = () =>
    Promise.resolve(saying({}));
  readonly channel: ControlChannel;

  constructor(connection: Connection, silenceMs: number) {
    this.channel = new ControlChannel(env, connection, {
      name: 'The other end',
      silenceMs,
      events: {
        asked: (op, message) => this.asked(op, message),
        closed: (error) => (this.closed = error),
        defect: (error) => this.defects.push(error),
      },
    });
  }
}

/** Two ends that speak with each other; or one, and the bare connection to it. */
async function connect(t: Test): Promise<{ near: Connection; far: Promise<Connection> }> {
  let arrived: (connection: Connection) => void = () => undefined;
  const far = new Promise<Connection>((resolve) => (arrived = resolve));
  const listener = await env.network.listen({ host: HOST, port: 0 }, arrived);
  t.teardown(() => listener.close());
  const near = await env.network.connect(listener.address, { timeoutMs: 5000 });
  return { near, far };
}

async function pair(t: Test, silenceMs = 10_000): Promise<[End, End]> {
  const { near, far } = await connect(t);
  const ends: [End, End] = [new End(near, silenceMs), new End(await far, silenceMs)];
  t.teardown(() => {
    for (const { channel } of ends) channel.fail(new StoreError('E_CLOSED', 'The test is over'));
  });
  return ends;
}

async function until(what: string, condition: () => boolean): Promise<void> {
  for (let tries = 0; !condition(); tries += 1) {
    if (tries > 1000) throw new Error(`Never: ${what}`);
    await env.timers.sleep(5);
  }
}

function codeOf(work: Promise<unknown>): Promise<string | null> {
  return work.then(
    () => null,
    (error: unknown) => (error instanceof StoreError ? error.code : String(error)),
  );
}

function frame(op: number, body: Buffer, payload: Buffer): Buffer {
  const out = Buffer.alloc(HEADER_BYTES + body.length + payload.length);
  body.copy(out, HEADER_BYTES);
  payload.copy(out, HEADER_BYTES + body.length);
  writeRequestHeader(out, 0, op, 1, 0, body.length, payload.length);
  return out;
}

t.test('both ends ask, and hear what the other one says', async (t) => {
  const [near, far] = await pair(t);
  for (const { channel } of [near, far]) channel.trust(1024 * 1024);
  far.asked = (op, { fields, payload }) =>
    Promise.resolve({
      fields: { op, was: fields['was'] },
      payload: Buffer.concat([payload, payload]),
    });
  near.asked = () => Promise.reject(new StoreError('E_NOT_FOUND', 'There is no such thing'));
  const payload = Buffer.alloc(300_000, 'x');
  const answer = await near.channel.ask(CONTROL.admin, { was: 'said' }, { payload });
  t.match(answer.fields, { op: CONTROL.admin, was: 'said' });
  t.ok(answer.payload.equals(Buffer.alloc(600_000, 'x')));
  t.equal(await codeOf(far.channel.ask(CONTROL.map, {})), 'E_NOT_FOUND');
  // More than are taken at once.
  const many = Array.from({ length: 500 }, (_, was) => near.channel.ask(CONTROL.report, { was }));
  const heard = (await Promise.all(many)).map(({ fields }) => fields['was']);
  t.same(heard, [...many.keys()]);
  await near.channel.ask(CONTROL.ping, {});
  t.same([near.defects, far.defects], [[], []]);
});

t.test('what comes behind an answer comes behind it', async (t) => {
  const [near, far] = await pair(t);
  const order: string[] = [];
  far.asked = () => Promise.resolve({ ...saying({}), after: () => order.push('after') });
  await near.channel.ask(CONTROL.meet, {});
  order.push('heard');
  t.same(order, ['after', 'heard']);
});

t.test('a question has a deadline, and does not outlive its connection', async (t) => {
  const [near, far] = await pair(t);
  far.asked = () => new Promise(() => undefined);
  t.equal(await codeOf(near.channel.ask(CONTROL.map, {}, { deadlineMs: 50 })), 'E_TIMEOUT');
  t.ok(near.channel.isOpen, 'others may still be answered');
  far.asked = async () => {
    await env.timers.sleep(600);
    return saying({});
  };
  t.equal(await codeOf(near.channel.ask(CONTROL.map, {}, { deadlineMs: 50 })), 'E_TIMEOUT');
  await near.channel.ask(CONTROL.map, {});
  t.ok(near.channel.isOpen, 'an answer that comes too late is passed over');
  far.asked = () => new Promise(() => undefined);
  const lost = codeOf(near.channel.ask(CONTROL.map, {}));
  await env.timers.sleep(20);
  far.channel.end(new StoreError('E_CLOSED', 'Enough'));
  t.equal(await lost, 'E_UNREACHABLE');
  t.equal(await codeOf(near.channel.ask(CONTROL.map, {})), 'E_UNREACHABLE', 'nor is it asked');
  t.equal(near.closed?.code, 'E_UNREACHABLE');
  t.equal(far.closed?.code, 'E_CLOSED');
});

t.test(
  'an end that says nothing is given up, one that only has nothing to say is not',
  async (t) => {
    const [near, far] = await pair(t, 2000);
    await env.timers.sleep(5000);
    t.ok(near.channel.isOpen && far.channel.isOpen, 'they ask each other whether they are there');
    const { near: mute, far: listening } = await connect(t);
    mute.start({
      data: () => true,
      end: () => undefined,
      drain: () => undefined,
      closed: () => undefined,
    });
    const end = new End(await listening, 600);
    await until('it is given up', () => end.closed !== null);
    t.equal(end.closed?.code, 'E_TIMEOUT');
    mute.destroy();
  },
);

t.test('who breaks the rules is heard no more', async (t) => {
  const body = encodeJson({});
  const text = (length: number): Buffer => encodeJson({ text: 'x'.repeat(length) });
  const wrongCrc = encodeJson({ payloadCrc: 1 });
  const good = frame(CONTROL.map, body, Buffer.alloc(0));
  const flipped = Buffer.from(good);
  flipped.writeUInt8(flipped.readUInt8(HEADER_BYTES) ^ 1, HEADER_BYTES);
  const cases: [string, Buffer, boolean][] = [
    ['noise', Buffer.alloc(100, 'GET / HTTP/1.1\r\n'), false],
    ['no such operation', frame(99, body, Buffer.alloc(0)), false],
    ['an operation of daemons', frame(18, body, Buffer.alloc(0)), false],
    ['too much before it is known', frame(CONTROL.meet, text(5000), Buffer.alloc(0)), false],
    ['a payload before it is known', frame(CONTROL.meet, body, Buffer.alloc(10)), false],
    ['more than it may', frame(CONTROL.report, body, Buffer.alloc(2000)), true],
    ['a damaged body', flipped, true],
    ['a damaged payload', frame(CONTROL.report, wrongCrc, Buffer.alloc(10, 1)), true],
    ['a payload without a checksum', frame(CONTROL.report, body, Buffer.alloc(10, 1)), true],
    ['no JSON', frame(CONTROL.report, Buffer.from('{"a":'), Buffer.alloc(0)), true],
    ['no object', frame(CONTROL.report, Buffer.from('[1]'), Buffer.alloc(0)), true],
  ];
  for (const [what, bytes, isTrusted] of cases) {
    const { near, far } = await connect(t);
    near.start({
      data: () => true,
      end: () => undefined,
      drain: () => undefined,
      closed: () => undefined,
    });
    const end = new End(await far, 5000);
    if (isTrusted) end.channel.trust(1000);
    near.write([bytes]);
    await until(what, () => end.closed !== null);
    t.match(end.closed?.code, /^E_BAD_FRAME$/, what);
    t.same(end.defects, []);
    near.destroy();
  }
});

t.test(
  'a defect of who is asked is told to its owner, and the other end hears that it failed',
  async (t) => {
    const [near, far] = await pair(t);
    far.asked = () => Promise.reject(new TypeError('a bug'));
    t.equal(await codeOf(near.channel.ask(CONTROL.map, {})), 'E_SYSTEM');
    t.match(far.defects, [TypeError]);
  },
);
