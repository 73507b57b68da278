/**
 * Random bytes and mutated valid sessions against a server in a process of its own.
 *
 * What it answers in the transmission phase is predicted byte by byte by a small model of the specification, kept
 * apart from the server's own code; in the handshake every answer must be a well-formed reply to an option that was
 * sent. After every session a good client on another connection reads what it wrote, and the server's memory has a
 * ceiling.
 */
import { fork } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import t from 'tap';
import { NBD_CMD, NBD_OPT, NBD_REP } from './protocol/constants.js';
import { FUZZ_DISK_BYTES, GOOD_DISK_BYTES } from './testing/fuzz-server.js';
import { clientFlags, exportRequest, option, RawClient, request } from './testing/raw-client.js';

const SECONDS = Number(process.env['STORE_FUZZ_SECONDS'] ?? 60);
const SEED = Number(process.env['STORE_FUZZ_SEED'] ?? Math.floor(Math.random() * 2 ** 31));
const RSS_GROWTH_BYTES_MAX = 64 * 1024 * 1024;
const WARM_UP_SESSIONS = 300;
const MIB = 1024 * 1024;

/** Numbers that length and offset fields like least. */
const NASTY = [0, 1, 28, 4096, 65535, 65536, 65537, MIB, MIB + 1, 32 * MIB, 32 * MIB + 1];
const nasty = fc.oneof(fc.constantFrom(...NASTY, 2 ** 31, 2 ** 32 - 1), fc.nat(2 ** 18));

type Mutation = (bytes: Buffer) => Buffer;
const place = fc.double({ min: 0, max: 1, noNaN: true });
const mutation: fc.Arbitrary<Mutation> = fc.oneof(
  fc.tuple(place, fc.nat(7)).map(([at, bit]): Mutation => (bytes) => {
    const out = Buffer.from(bytes);
    const index = Math.floor(at * (out.length - 1));
    out[index] = (out[index] ?? 0) ^ (1 << bit);
    return out;
  }),
  fc.tuple(place, nasty).map(([at, value]): Mutation => (bytes) => {
    const out = Buffer.from(bytes);
    out.writeUInt32BE(value, Math.floor((at * (out.length - 4)) / 4) * 4);
    return out;
  }),
  fc.tuple(place, fc.nat(64)).map(([at, count]): Mutation => (bytes) => {
    const index = Math.floor(at * bytes.length);
    return Buffer.concat([bytes.subarray(0, index), bytes.subarray(index + count)]);
  }),
  fc.tuple(place, fc.uint8Array({ maxLength: 64 })).map(([at, extra]): Mutation => (bytes) => {
    const index = Math.floor(at * bytes.length);
    return Buffer.concat([bytes.subarray(0, index), extra, bytes.subarray(index)]);
  }),
  place.map(
    (at): Mutation =>
      (bytes) =>
        bytes.subarray(0, Math.floor(at * bytes.length)),
  ),
);
const mutate = (bytes: Buffer, mutations: Mutation[]): Buffer =>
  mutations.reduce((out, one) => (out.length < 8 ? out : one(out)), bytes);

const anyOption = fc.oneof(
  fc
    .tuple(fc.nat(12), fc.uint8Array({ maxLength: 300 }))
    .map(([n, data]) => option(n, Buffer.from(data))),
  fc
    .tuple(
      fc.constantFrom(NBD_OPT.INFO, NBD_OPT.GO),
      fc.constantFrom('good', 'absent', ''),
      fc.array(fc.nat(5)),
    )
    .map(([n, name, infos]) => option(n, exportRequest(name, infos))),
  nasty.map((bytes) => option(77, Buffer.alloc(Math.min(bytes, 70_000)))),
);
const handshakeSession = fc.oneof(
  fc.uint8Array({ maxLength: 2000 }).map((bytes) => Buffer.from(bytes)),
  fc
    .tuple(fc.array(anyOption, { maxLength: 70 }), fc.array(mutation, { maxLength: 3 }))
    .map(([options, mutations]) => mutate(Buffer.concat([clientFlags(3), ...options]), mutations)),
);

const anyRequest = fc
  .record({
    type: fc.oneof(fc.nat(6), fc.constantFrom(7, 8, 255, 65535)),
    flags: fc.oneof(fc.constantFrom(0, 0, 0, 1, 2), fc.nat(65535)),
    offset: fc.oneof(fc.nat(FUZZ_DISK_BYTES), nasty),
    length: fc.oneof(fc.nat(9000), nasty),
    cookie: fc.nat(1000),
    byte: fc.nat(255),
  })
  .filter(({ type }) => type !== NBD_CMD.DISC)
  .map(({ byte, ...fields }) =>
    fields.type === NBD_CMD.WRITE
      ? request({
          ...fields,
          length: fields.length,
          payload: Buffer.alloc(Math.min(fields.length, 70_000), byte),
        })
      : request(fields),
  );
const transmissionSession = fc
  .tuple(fc.array(anyRequest, { maxLength: 40 }), fc.array(mutation, { maxLength: 2 }))
  .map(([requests, mutations]) => mutate(Buffer.concat(requests), mutations));

/** How the bytes are cut into writes. */
const cuts = fc.array(fc.nat(5000), { maxLength: 5 });

function pieces(bytes: Buffer, at: readonly number[]): Buffer[] {
  const places = [...new Set([0, ...at.map((cut) => Math.min(cut, bytes.length)), bytes.length])];
  places.sort((a, b) => a - b);
  return places.slice(1).map((end, index) => bytes.subarray(places[index], end));
}

/** What the specification wants answered to `stream`; `complete` if the server has no reason to hang up on it. */
function predict(stream: Buffer): { answers: Buffer; complete: boolean } {
  const disk = Buffer.alloc(FUZZ_DISK_BYTES);
  const answers: Buffer[] = [];
  const end = (complete: boolean) => ({ answers: Buffer.concat(answers), complete });
  let at = 0;
  while (stream.length - at >= 28) {
    if (stream.readUInt32BE(at) !== 0x25609513) return end(false);
    const [flags, type] = [stream.readUInt16BE(at + 4), stream.readUInt16BE(at + 6)];
    const cookie = stream.subarray(at + 8, at + 16);
    const offset = stream.readBigUInt64BE(at + 16);
    const length = stream.readUInt32BE(at + 24);
    at += 28;
    if (type === 2) return end(true);
    if (type === 1 && length > 32 * MIB) return end(false);
    const payload = type === 1 ? stream.subarray(at, at + length) : Buffer.alloc(0);
    if (type === 1 && payload.length < length) return end(true); // never complete: no answer
    at += payload.length;
    const past = offset + BigInt(length) > BigInt(FUZZ_DISK_BYTES);
    const range = [Number(offset), Number(offset) + length] as const;
    const allowedFlags = type === 6 ? 3 : 1;
    let error = 0;
    if (type > 6 || (flags & ~allowedFlags) !== 0) error = 22;
    else if (type === 3) error = offset === 0n && length === 0 ? 0 : 22;
    else if (type === 0 && length > 32 * MIB) error = 22;
    else if (past) error = type === 1 || type === 6 ? 28 : 22;
    else if (type === 1) payload.copy(disk, range[0]);
    else if (type === 4 || type === 6) disk.fill(0, ...range);
    const header = Buffer.from('6744669800000000', 'hex');
    header.writeUInt32BE(error, 4);
    answers.push(header, cookie);
    if (type === 0 && error === 0) answers.push(Buffer.from(disk.subarray(...range)));
  }
  return end(true);
}

/** Sends, half-closes, and reads until the server closes. */
async function converse(client: RawClient, bytes: Buffer, at: readonly number[]): Promise<Buffer> {
  for (const piece of pieces(bytes, at)) client.send(piece);
  client.socket.end();
  let timer: NodeJS.Timeout | undefined;
  const timeout = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error('the server does not close the connection')), 8000);
  });
  await Promise.race([client.closed, timeout]);
  clearTimeout(timer);
  return client.read(client.available);
}

/** Every answer in the handshake is a reply to an option; what follows a successful GO is not looked at. */
function checkHandshakeAnswers(output: Buffer): void {
  let at = 18;
  while (at < output.length) {
    if (output.length - at < 20) return; // cut off with the connection
    if (output.readBigUInt64BE(at) !== 0x0003e889045565a9n) {
      // EXPORT_NAME has no header: size and flags
      if (Number(output.readBigUInt64BE(at)) !== GOOD_DISK_BYTES)
        throw new Error(`no reply at ${at}`);
      return;
    }
    const [what, type, bytes] = [8, 12, 16].map((field) => output.readUInt32BE(at + field));
    if (bytes === undefined || bytes > MIB) throw new Error(`a reply of ${bytes} bytes`);
    if (what === NBD_OPT.GO && type === NBD_REP.ACK) return;
    at += 20 + bytes;
  }
}

function rssBytes(pid: number): number {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  return Number(/VmRSS:\s+(\d+)/.exec(status)?.[1]) * 1024;
}

t.setTimeout((SECONDS + 60) * 1000);

t.test(
  `no input crashes the server, puts it out of step, or grows it (${SECONDS} s)`,
  async (t) => {
    t.setTimeout((SECONDS + 60) * 1000);
    const replay = `STORE_FUZZ_SEED=${SEED} STORE_FUZZ_SECONDS=${SECONDS} node dist/fuzz.test.js`;
    t.comment(`replay with: ${replay}`);
    const folder = mkdtempSync(join(tmpdir(), 'nbd-fuzz-'));
    const path = join(folder, 'nbd.sock');
    const program = fileURLToPath(new URL('./testing/fuzz-server.js', import.meta.url));
    const server = fork(program, [path]);
    let exit: string | undefined;
    const exited = new Promise<void>((resolve) => {
      server.once('exit', (code, signal) => {
        exit = `exit ${code ?? signal}`;
        resolve();
      });
    });
    t.teardown(() => {
      server.kill('SIGKILL');
      rmSync(folder, { recursive: true, force: true });
    });
    await new Promise((resolve) => server.once('message', resolve));

    const good = await RawClient.go({ path }, 'good');
    let sessions = 0;
    let rssStart = 0;
    const afterwards = async (): Promise<void> => {
      sessions += 1;
      if (exit !== undefined) throw new Error(`the server ended: ${exit}`);
      const payload = Buffer.alloc(4096, sessions % 251);
      const offset = (sessions % 256) * 4096;
      if ((await good.ask({ type: NBD_CMD.WRITE, cookie: 1, offset, payload })) !== 0)
        throw new Error('the good client cannot write');
      if ((await good.ask({ type: NBD_CMD.READ, cookie: 2, offset, length: 4096 })) !== 0)
        throw new Error('the good client cannot read');
      if (!(await good.read(4096)).equals(payload))
        throw new Error('the good client reads other bytes');
      if (sessions === WARM_UP_SESSIONS) rssStart = rssBytes(server.pid ?? 0);
      else if (
        sessions > WARM_UP_SESSIONS &&
        rssBytes(server.pid ?? 0) - rssStart > RSS_GROWTH_BYTES_MAX
      )
        throw new Error(`the server grew from ${rssStart} to ${rssBytes(server.pid ?? 0)} bytes`);
    };
    // fast-check is back when its time is over, although the last session goes on: the next one must wait for it.
    let last: Promise<void> = Promise.resolve();
    const whole =
      (session: (bytes: Buffer, at: number[]) => Promise<void>) =>
      (bytes: Buffer, at: number[]): Promise<void> =>
        (last = session(bytes, at));
    const handshake = async (bytes: Buffer, at: number[]): Promise<void> => {
      checkHandshakeAnswers(await converse(await RawClient.connect({ path }), bytes, at));
      await afterwards();
    };
    const transmission = async (bytes: Buffer, at: number[]): Promise<void> => {
      const output = await converse(await RawClient.go({ path }, 'fuzz'), bytes, at);
      const { answers, complete } = predict(bytes);
      // Who is cut off for breaking the protocol may miss the last answers, but gets no wrong ones.
      if (complete ? !output.equals(answers) : !answers.subarray(0, output.length).equals(output))
        throw new Error(`answered ${output.length} bytes, expected ${answers.length}`);
      await afterwards();
    };
    const handshakes = fc.asyncProperty(handshakeSession, cuts, whole(handshake));
    const transmissions = fc.asyncProperty(transmissionSession, cuts, whole(transmission));
    const options = {
      seed: SEED,
      numRuns: Number.MAX_SAFE_INTEGER,
      interruptAfterTimeLimit: (SECONDS * 1000) / 2,
      endOnFailure: true,
    };
    for (const [title, property] of [
      ['handshake', handshakes],
      ['transmission', transmissions],
    ] as const) {
      const before = sessions;
      const result = await fc.check(property, options);
      await last.catch((error: unknown) => t.ok(result.failed, `${title}: ${String(error)}`));
      t.notOk(
        result.failed,
        `${title}: ${sessions - before} sessions${result.failed ? (fc.defaultReportMessage(result) ?? '') : ''}`,
      );
      t.ok(sessions - before > SECONDS, `${title}: enough sessions to mean something`);
    }
    const grown = rssBytes(server.pid ?? 0) - rssStart;
    t.ok(
      sessions <= WARM_UP_SESSIONS || grown < RSS_GROWTH_BYTES_MAX,
      `grew by ${Math.round(grown / MIB)} MiB`,
    );
    good.close();
    server.send('stop');
    await exited;
    t.equal(exit, 'exit 0', 'it stops when told');
  },
);
