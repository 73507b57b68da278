import { closeSync, openSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { StoreError } from '../util/errors.js';
import type { Log } from './log.js';
import { realLog, type RealLogOptions } from './real-log.js';

function logged(t: Test, options: Omit<RealLogOptions, 'fd'>, use: (log: Log) => void): string {
  const path = join(t.testdir(), 'log');
  const fd = openSync(path, 'w');
  use(realLog({ ...options, fd }));
  const text = readFileSync(path, 'utf8'); // before the file is closed: lines are written at once
  closeSync(fd);
  return text;
}

function useAll(log: Log): void {
  const cause = new Error('EIO on sda');
  log.debug({}, 'Only for developers');
  log.info({ port: 10_809 }, 'Serving');
  log.child({ peer: '127.0.0.1:5' }).warn({ bytes: 7, name: 'vm1' }, 'Client misbehaves');
  log.error({ err: new StoreError('E_DISK_FAILED', 'The disk failed', { cause }) }, 'Stopping');
}

await t.test('on a terminal the log is one line of text an event, without stack traces', (t) => {
  const text = logged(t, { debug: false, format: 'auto', isTerminal: true }, useAll);
  const lines = text.trimEnd().split('\n');
  t.equal(lines.length, 3);
  t.match(lines[0], /^\d\d:\d\d:\d\d\.\d{3} info Serving port=10809$/);
  t.match(lines[1], /warning Client misbehaves peer=127.0.0.1:5 bytes=7 name=vm1$/);
  t.match(lines[2], /error Stopping: The disk failed: EIO on sda$/);
  t.end();
});

await t.test('elsewhere the log is JSON', (t) => {
  const text = logged(t, { debug: false, format: 'auto', isTerminal: false }, useAll);
  const lines = text.trimEnd().split('\n');
  t.equal(lines.length, 3);
  t.match(JSON.parse(lines[0] ?? ''), {
    level: 30,
    msg: 'Serving',
    port: 10_809,
    pid: process.pid,
  });
  t.match(JSON.parse(lines[2] ?? ''), { err: { code: 'E_DISK_FAILED', message: /EIO on sda/ } });
  t.notMatch(text, /real-log.test/, 'no stack traces');
  t.end();
});

await t.test('-v adds debug lines and stack traces', (t) => {
  for (const format of ['text', 'json'] as const) {
    const text = logged(t, { debug: true, format, isTerminal: false }, useAll);
    t.match(text, /Only for developers/);
    t.match(text, /real-log.test/);
  }
  t.end();
});

await t.test('what a client calls itself cannot forge lines or move the cursor', (t) => {
  const use = (log: Log): void => {
    log.warn({ export: 'a\n12:00:00.000 error x' }, 'No export \x1b[2J\x9b2J of that name');
  };
  const text = logged(t, { debug: false, format: 'text', isTerminal: true }, use);
  t.equal(text.split('\n').length, 2);
  t.match(text, /No export \\x1b\[2J\\x9b2J of that name export="a\\n12:00:00.000 error x"/);
  t.end();
});
