import t from 'tap';
import { BLOCK_BYTES, DeviceHistory } from './device-history.js';
import { describeSector, SECTOR_BYTES, writeSectorTag } from './sector-tag.js';

function tagged(block: number, version: number): Buffer {
  const content = Buffer.alloc(BLOCK_BYTES);
  for (let sector = 0; sector < 8; sector++)
    writeSectorTag(
      content.subarray(sector * SECTOR_BYTES, (sector + 1) * SECTOR_BYTES),
      block * 8 + sector,
      version,
    );
  return content;
}

/** The first sectors of one content, the rest of another. */
function torn(first: Buffer, rest: Buffer, sectors: number): Buffer {
  const at = sectors * SECTOR_BYTES;
  return Buffer.concat([first.subarray(0, at), rest.subarray(at)]);
}

function write(history: DeviceHistory, block: number, version: number): void {
  history.answered(block, history.sent(block, tagged(block, version)));
}

t.test('a crash of the server loses no answered write, flushed or not', async (t) => {
  const history = new DeviceHistory(4);
  write(history, 1, 7);
  t.match(history.recover(1, Buffer.alloc(BLOCK_BYTES), 'process'), 'holds zeros');
  t.equal(history.recover(1, tagged(1, 7), 'process'), null);
});

t.test('an unanswered write is there or not, but never half', async (t) => {
  const before = tagged(1, 7);
  const after = tagged(1, 8);
  for (const [found, right] of [
    [before, true],
    [after, true],
    [torn(after, before, 3), false],
    [tagged(1, 9), false],
    [tagged(2, 8), false],
  ] as const) {
    const history = new DeviceHistory(4);
    write(history, 1, 7);
    history.sent(1, after);
    t.equal(history.recover(1, found, 'process') === null, right, describeSector(found));
  }
});

t.test('after a power cut a block that was not flushed may be torn between sectors', async (t) => {
  for (const [found, right] of [
    [torn(tagged(1, 3), tagged(1, 1), 5), true],
    [torn(tagged(1, 2), tagged(1, 3), 2), true],
    [torn(tagged(1, 2), Buffer.alloc(BLOCK_BYTES), 2), false],
  ] as const) {
    const history = new DeviceHistory(4);
    write(history, 1, 1);
    history.flushed(history.flushPoint());
    write(history, 1, 2);
    write(history, 1, 3);
    t.equal(history.recover(1, found, 'power') === null, right);
  }
});

t.test('a flush covers what was answered when it was sent, not what came later', async (t) => {
  const history = new DeviceHistory(4);
  write(history, 1, 1);
  const point = history.flushPoint();
  write(history, 1, 2);
  history.flushed(point);
  t.match(history.recover(1, Buffer.alloc(BLOCK_BYTES), 'power'), 'holds zeros');
  t.equal(history.recover(1, tagged(1, 1), 'power'), null);
});

t.test('FUA makes the sectors of its write durable and no others', async (t) => {
  const one = tagged(1, 1);
  const two = torn(tagged(1, 2), one, 4);
  const make = (): DeviceHistory => {
    const history = new DeviceHistory(4);
    write(history, 1, 1);
    history.answered(1, history.sent(1, two), [0, 4]);
    return history;
  };
  t.equal(make().recover(1, torn(two, Buffer.alloc(BLOCK_BYTES), 4), 'power'), null);
  t.match(make().recover(1, one, 'power'), 'version 1');
});

t.test('what survived a crash of the server can still be lost to a power cut', async (t) => {
  const history = new DeviceHistory(4);
  write(history, 1, 1);
  t.equal(history.recover(1, tagged(1, 1), 'process'), null);
  t.equal(history.recover(1, Buffer.alloc(BLOCK_BYTES), 'power'), null);
  t.match(history.recover(1, tagged(1, 1), 'power'), 'possible: zeros', 'but not come back');
});

t.test('a read sees the last answered version', async (t) => {
  const history = new DeviceHistory(4);
  write(history, 1, 1);
  write(history, 1, 2);
  t.equal(history.problemOf(1, tagged(1, 2)), null);
  t.match(history.problemOf(1, tagged(1, 1)), 'sector 8 holds sector 8 version 1');
  t.match(history.problemOf(2, tagged(1, 2)), 'block 2, sector 16 holds sector 8 version 2');
});
