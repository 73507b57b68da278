import { codeOf } from '@store/core/testing';
import t from 'tap';
import { parseRights, rightsText } from './client-rights.js';
import { parseWeight } from './daemon-weight.js';

const refused = (work: () => unknown): Promise<string | null> =>
  codeOf(new Promise((resolve) => resolve(work())));

await t.test('rights are lists, in one flag or in several', async (t) => {
  t.same(parseRights(['vms=rw,logs=r', '*=r']), { vms: 'rw', logs: 'r', '*': 'r' });
  t.same(parseRights(['a=b=rwa, c d=r']), { 'a=b': 'rwa', 'c d': 'r' });
  t.ok(Object.hasOwn(parseRights(['__proto__=r']), '__proto__'));
  for (const bad of ['', 'vms', 'vms=', '=r', 'vms=w', 'vms=R', 'vms=r,', '-vms=r', 'a\nb=r'])
    t.equal(await refused(() => parseRights([bad])), 'E_INVALID', JSON.stringify(bad));
  t.equal(await refused(() => parseRights(['vms=r', 'vms=r'])), 'E_INVALID');
  t.equal(rightsText({ 'vms\n': 'rw', '*': 'r' }), 'vms\\u000a=rw, *=r');
  t.equal(rightsText({}), 'none');
});

await t.test('weights are numbers, sizes or automatic', async (t) => {
  t.same(['0', '7', '500G', '1.5T', '1M', 'auto'].map(parseWeight), [
    ...[0, 7, 512_000, 1_572_864, 1, null],
  ]);
  for (const bad of ['', '-1', '1.5', '500K', '4294967296', '9000P', 'automatic', 'much'])
    t.equal(await refused(() => parseWeight(bad)), 'E_INVALID', bad);
});
