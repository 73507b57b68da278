import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import {
  isSupervised,
  readAttachment,
  readAttachments,
  removeAttachment,
  startTicksOf,
  writeAttachment,
  type Attachment,
} from './attachment-file.js';
import { rowOf } from './ps-command.js';

const ticks = startTicksOf(process.pid) ?? '';
const attachment: Attachment = {
  ...{ version: 1, index: 7, uri: 'nbd://h/x', identifier: 'nbd://h/x', connections: 2, alive: 1 },
  ...{ state: 'redialling', problem: 'nothing listens there', redials: 3, sizeBytes: 4096 },
  ...{ flags: 0x16d, readOnly: false, attachedAt: '2030-01-01T00:00:00.000Z' },
  supervisor: { pid: process.pid, startTicks: ticks },
};

function folder(t: Tap): string {
  const path = mkdtempSync(join(tmpdir(), 'attachment-'));
  t.teardown(() => rmSync(path, { recursive: true }));
  return join(path, 'run');
}
type Tap = { teardown(undo: () => unknown): void };

t.test('an attachment comes back as it was written, for its owner only', (t) => {
  const run = folder(t);
  t.equal(readAttachment(7, run), null);
  t.same(readAttachments(run), []);
  writeAttachment(attachment, run);
  writeAttachment({ ...attachment, alive: 2 }, run);
  t.same(readAttachments(run), [{ ...attachment, alive: 2 }]);
  t.equal(statSync(join(run, 'nbd7.json')).mode & 0o777, 0o600);
  t.equal(statSync(run).mode & 0o777, 0o700);
  removeAttachment(7, run);
  t.equal(readAttachment(7, run), null);
  t.end();
});

t.test('a file that is not one of ours, or of another device, means nothing', (t) => {
  const run = folder(t);
  writeAttachment(attachment, run);
  for (const text of [
    '',
    '{',
    'null',
    '[]',
    JSON.stringify({ ...attachment, version: 2 }),
    JSON.stringify({ ...attachment, index: 8 }),
    JSON.stringify({ ...attachment, supervisor: null }),
    JSON.stringify({ ...attachment, sizeBytes: '4096' }),
  ]) {
    writeFileSync(join(run, 'nbd7.json'), text);
    t.equal(readAttachment(7, run), null, text.slice(0, 30));
  }
  t.end();
});

t.test('a supervisor is known by its start, not by a number that others get too', (t) => {
  t.ok(isSupervised(attachment));
  const earlier = { pid: process.pid, startTicks: '1' };
  t.notOk(isSupervised({ ...attachment, supervisor: earlier }));
  t.equal(startTicksOf(2 ** 30), null);
  t.end();
});

t.test('ps tells its own devices from others, and one without a supervisor what to do', (t) => {
  const device = { index: 7, pid: 5, sizeBytes: 4096, readOnly: false, identifier: 'nbd://h/x' };
  t.match(rowOf(device, attachment), { state: 'redialling', alive: 1, pid: process.pid });
  const dead = { ...attachment, supervisor: { pid: process.pid, startTicks: '1' } };
  t.match(rowOf(device, dead), {
    state: 'unsupervised',
    alive: null,
    problem: /store-nbd attach 'nbd:\/\/h\/x' \/dev\/nbd7/,
  });
  t.match(rowOf(device, null), { state: 'foreign', pid: 5, uri: 'nbd://h/x' });
  const other = rowOf({ ...device, identifier: 'nbd://h/y' }, attachment);
  t.match(other, { state: 'foreign' }, 'the file is of an earlier life of that number');
  t.end();
});
