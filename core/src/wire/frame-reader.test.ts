import fc from 'fast-check';
import t from 'tap';
import { HEADER_BYTES, writeRequestHeader, type FrameHeader } from './frame-header.js';
import { FrameReader, type FrameRules } from './frame-reader.js';
import { StoreError } from '../util/errors.js';

interface Frame {
  readonly id: number;
  readonly body: Buffer;
  readonly payload: Buffer;
}

function encode(frames: readonly Frame[]): Buffer {
  return Buffer.concat(
    frames.flatMap(({ id, body, payload }) => {
      const head = Buffer.alloc(HEADER_BYTES + body.length);
      body.copy(head, HEADER_BYTES);
      writeRequestHeader(head, 0, 19, id, 0, body.length, payload.length);
      return [head, payload];
    }),
  );
}

const make = (id: number, bodyBytes: number, payloadBytes: number): Frame => ({
  id,
  body: Buffer.alloc(bodyBytes, `b${id}`),
  payload: Buffer.alloc(payloadBytes, `p${id}`),
});
const MIXED = [
  make(1, 0, 0),
  make(2, 5, 0),
  make(3, 0, 7),
  make(4, 9, 30),
  make(5, 0, 0),
  make(6, 3, 1),
];

/** Reads a stream that arrives in these chunks; a chunk is spoiled as soon as the reader does not hold it any more. */
class Reading {
  readonly found: Frame[] = [];
  readonly reader: FrameReader;
  readonly targets = new Map<number, Buffer>();
  mayTake: (header: FrameHeader) => boolean = () => true;

  constructor(withTarget: (header: FrameHeader) => boolean) {
    const rules: FrameRules = {
      admit: (header) => this.mayTake(header),
      target: (header, body) => {
        if (body.length !== header.bodyBytes) throw new Error('the body is there');
        if (!withTarget(header)) return null;
        const target = Buffer.alloc(header.payloadBytes);
        this.targets.set(header.requestId, target);
        return target;
      },
    };
    this.reader = new FrameReader(rules);
  }

  push(chunk: Buffer): void {
    const own = Buffer.from(chunk);
    this.reader.push(own);
    this.take();
    if (!this.reader.holds) own.fill(0xdb);
  }

  take(): void {
    while (this.reader.next()) {
      const { header, body, payload } = this.reader;
      const target = this.targets.get(header.requestId);
      if (target !== undefined && payload.length > 0) throw new Error('it landed in its place');
      const bytes = target ?? Buffer.concat(payload);
      this.found.push({
        id: header.requestId,
        body: Buffer.from(body),
        payload: Buffer.from(bytes),
      });
    }
  }
}

const TARGETS: readonly [string, (header: FrameHeader) => boolean][] = [
  ['in slices', () => false],
  ['in targets', () => true],
  ['mixed', ({ requestId }) => requestId % 2 === 0],
];

for (const [how, withTarget] of TARGETS) {
  t.test(`frames are found at every split point, payloads ${how}`, async (t) => {
    const stream = encode(MIXED);
    for (let cut = 0; cut <= stream.length; cut += 1) {
      const reading = new Reading(withTarget);
      reading.push(stream.subarray(0, cut));
      reading.push(stream.subarray(cut));
      t.strictSame(reading.found, MIXED, `cut at ${cut}`);
      t.notOk(reading.reader.isInFrame);
      t.notOk(reading.reader.holds);
    }
  });

  t.test(`frames are found byte by byte and in any chunks, payloads ${how}`, async (t) => {
    const stream = encode(MIXED);
    const reading = new Reading(withTarget);
    for (const byte of stream) reading.push(Buffer.from([byte]));
    t.strictSame(reading.found, MIXED);
    const sizes = fc.array(fc.integer({ min: 1, max: 60 }), { minLength: 1 });
    fc.assert(
      fc.property(sizes, (list) => {
        const random = new Reading(withTarget);
        for (let at = 0, index = 0; at < stream.length; index += 1) {
          const end = at + (list[index % list.length] ?? 1);
          random.push(stream.subarray(at, end));
          at = end;
        }
        t.strictSame(random.found, MIXED);
      }),
    );
  });

  t.test(
    `a frame that is not admitted waits, and is asked for again, payloads ${how}`,
    async (t) => {
      const stream = encode(MIXED);
      for (let cut = 0; cut <= stream.length; cut += 1) {
        const reading = new Reading(withTarget);
        let refusals = 0;
        const admitted: number[] = [];
        reading.mayTake = ({ requestId }) => {
          refusals += 1;
          if (refusals % 3 !== 0) return false;
          admitted.push(requestId);
          return true;
        };
        reading.push(stream.subarray(0, cut));
        reading.push(stream.subarray(cut));
        for (let tries = 0; tries < 20; tries += 1) reading.take();
        t.strictSame(reading.found, MIXED, `cut at ${cut}`);
        t.strictSame(admitted, [1, 2, 3, 4, 5, 6], 'each is admitted once');
      }
    },
  );
}

t.test('every truncation is no whole frame, and says that it is in one', async (t) => {
  const frame = encode([make(9, 6, 11)]);
  for (let end = 1; end < frame.length; end += 1) {
    const reading = new Reading(() => false);
    reading.push(frame.subarray(0, end));
    t.strictSame(reading.found, []);
    t.ok(reading.reader.isInFrame, `${end} bytes`);
  }
});

t.test('every flipped bit of header or body is refused, and no frame is found', async (t) => {
  const good = encode([make(9, 6, 11)]);
  for (let bit = 0; bit < (HEADER_BYTES + 6) * 8; bit += 1) {
    const bytes = Buffer.from(good);
    bytes.writeUInt8((bytes[bit >> 3] ?? 0) ^ (1 << (bit & 7)), bit >> 3);
    const reading = new Reading(() => false);
    t.throws(() => reading.push(bytes), { code: 'E_BAD_FRAME' }, `bit ${bit}`);
    t.strictSame(reading.found, []);
  }
});

t.test('what admit throws is thrown before anything is allocated for the frame', async (t) => {
  const reading = new Reading(() => true);
  reading.mayTake = ({ payloadBytes }) => {
    if (payloadBytes > 10) throw new StoreError('E_BAD_FRAME', 'too long');
    return true;
  };
  const head = Buffer.alloc(HEADER_BYTES);
  writeRequestHeader(head, 0, 19, 1, 0, 0, 2 ** 32 - 1);
  t.throws(() => reading.push(head), { message: 'too long' });
  t.equal(reading.targets.size, 0);
});

t.test('a long payload may land in its place directly, and is not copied then', async (t) => {
  const frame = make(2, 4, 64 * 1024);
  const stream = encode([frame, make(3, 0, 0)]);
  const reading = new Reading(() => true);
  const first = HEADER_BYTES + 4 + 100;
  reading.push(stream.subarray(0, first));
  const { direct } = reading.reader;
  t.equal(direct?.length, 64 * 1024 - 100);
  t.ok(reading.reader.isFilling(reading.targets.get(2) ?? Buffer.alloc(0)));
  if (direct === null) throw new Error('unreachable');
  const landed = stream.copy(direct, 0, first, first + 50_000);
  reading.reader.push(direct.subarray(0, landed));
  reading.take();
  t.strictSame(reading.found, []);
  t.equal(reading.reader.direct, null, 'the rest is too short to pay');
  reading.push(stream.subarray(first + landed));
  t.strictSame(reading.found, [frame, make(3, 0, 0)]);
});

t.test(
  'after a long payload the next head has room of its own, and its payload is not copied',
  async (t) => {
    const long = [make(1, 4, 64 * 1024), make(2, 4, 64 * 1024), make(3, 4, 64 * 1024)];
    const frames = [...long, make(4, 4, 9), make(5, 30, 64 * 1024), make(6, 0, 0)];
    const stream = encode(frames);
    const reading = new Reading(({ payloadBytes }) => payloadBytes > 100);
    const landedIn: number[] = [];
    let at = 0;
    while (at < stream.length) {
      // As a socket does: as much as there is room for in what was named, else in 100 KB.
      const room = reading.reader.direct ?? Buffer.alloc(100_000);
      const bytes = stream.copy(room, 0, at, at + room.length);
      landedIn.push(room.length);
      reading.reader.push(room.subarray(0, bytes));
      reading.take();
      at += bytes;
    }
    t.strictSame(reading.found, frames);
    const [head, payload] = [HEADER_BYTES + 4, 64 * 1024];
    const restOfSecond = 2 * (head + payload) - 100_000;
    const third = [head, payload];
    t.same(landedIn.slice(0, 4), [100_000, restOfSecond, ...third]);
  },
);
