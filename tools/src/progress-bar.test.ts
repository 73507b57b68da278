import t from 'tap';
import { ProgressBar } from './progress-bar.js';

function scene(isTTY: boolean): {
  clock: { now: () => number; wallTime: () => string; wallSeconds: () => number };
  written: string[];
  terminal: { isTTY: boolean; write: (text: string) => void };
  at: (ms: number) => void;
} {
  let now = 5000;
  const written: string[] = [];
  return {
    clock: { now: () => now, wallTime: () => '', wallSeconds: () => 0 },
    written,
    terminal: { isTTY, write: (text) => void written.push(text) },
    at: (ms) => (now = 5000 + ms),
  };
}

await t.test('quick work shows no bar', (t) => {
  const { clock, written, terminal, at } = scene(true);
  const bar = new ProgressBar('Removing', clock, terminal);
  for (let ms = 0; ms < 1000; ms += 10) {
    at(ms);
    bar.update(ms, 1000);
  }
  bar.finish();
  t.same(written, []);
  t.end();
});

await t.test('long work shows a bar ten times a second and leaves a clean line', (t) => {
  const { clock, written, terminal, at } = scene(true);
  const bar = new ProgressBar('Removing', clock, terminal);
  for (let ms = 0; ms <= 2000; ms += 1) {
    at(ms);
    bar.update(ms, 4000);
  }
  t.equal(written.length, 11);
  t.equal(written.at(-1), '\r\x1b[KRemoving [###############...............]  50 % (2000/4000)');
  bar.finish();
  t.equal(written.at(-1), '\r\x1b[K');
  t.end();
});

await t.test('a file or pipe never sees a bar', (t) => {
  const { clock, written, terminal, at } = scene(false);
  const bar = new ProgressBar('Removing', clock, terminal);
  at(5000);
  bar.update(1, 2);
  bar.finish();
  t.same(written, []);
  t.end();
});
