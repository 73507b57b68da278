import { randomInt } from 'node:crypto';
import t from 'tap';
import { PresentObjects } from './present-objects.js';

const PREFIX = `${'0f'.repeat(16)}_`;
const OTHER = `ancestor-${'0e'.repeat(16)}_`;
const MOST = 9_999_999_999;

await t.test('runs end before the next object, wherever words and pages end', (t) => {
  for (const at of [0, 1, 31, 32, 33, 63, 2047, 2048, 2049, 262_143, 2 ** 31, 2 ** 32 + 5, MOST]) {
    const present = new PresentObjects();
    present.add(1, `${PREFIX}${at}`);
    for (const before of [0, 1, 30, 32, 64, 2047, 2048, 5000].filter((before) => before <= at)) {
      const first = at - before;
      t.equal(present.absentRun(1, PREFIX, first, before + 10), before, `${before} before ${at}`);
      if (before > 0) t.equal(present.absentRun(1, PREFIX, first, before), before);
    }
    t.equal(present.absentRun(1, PREFIX, at + 1, 2 ** 28), 2 ** 28, 'nothing behind it');
    t.equal(present.absentRun(2, PREFIX, at, 1), 1, 'another pool');
    t.equal(present.absentRun(1, OTHER, at, 1), 1, 'another layer');
  }
  t.end();
});

await t.test('random objects come and go as in a set', (t) => {
  const present = new PresentObjects();
  const there = new Set<number>();
  for (let step = 0; step < 20_000; step += 1) {
    const index = randomInt(5000);
    if (there.has(index)) {
      present.remove(1, `${PREFIX}${index}`);
      there.delete(index);
    } else if (randomInt(8) === 0) {
      present.add(1, `${PREFIX}${index}`);
      there.add(index);
    }
    const first = randomInt(5000);
    const count = 1 + randomInt(200);
    let expected = 0;
    while (expected < count && !there.has(first + expected)) expected += 1;
    const run = present.absentRun(1, PREFIX, first, count);
    if (run !== expected) t.fail(`${run} instead of ${expected} from ${first}`);
  }
  t.ok(there.size > 0);
  t.end();
});

await t.test('of two objects with one key, one that goes does not hide the other', (t) => {
  const present = new PresentObjects();
  present.add(1, `${PREFIX}7`);
  present.add(1, `${PREFIX}7`);
  present.remove(1, `${PREFIX}7`);
  t.equal(present.absentRun(1, PREFIX, 7, 1), 0);
  present.remove(1, `${PREFIX}7`);
  t.equal(present.absentRun(1, PREFIX, 7, 1), 0, 'which of them were there is forgotten');
  t.end();
});

await t.test('keys that no image has are not counted, and nothing is told of them', (t) => {
  const present = new PresentObjects();
  for (const key of ['note_1', PREFIX, `${PREFIX}x`, `${PREFIX}12345678901`]) {
    present.add(1, key);
    present.remove(1, key);
  }
  for (const prefix of ['', 'note_', '0f'.repeat(16), `${PREFIX}1`, `x${PREFIX}`])
    t.equal(present.absentRun(1, prefix, 0, 1), null, prefix);
  t.equal(present.absentRun(1, PREFIX, 0, 2 ** 28), 2 ** 28);
  t.end();
});
