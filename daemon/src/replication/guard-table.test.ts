import { OBJECT_KIND, ObjectRef, type LayerClaim } from '@store/core';
import t from 'tap';
import { GuardTable } from './guard-table.js';

const DATA = new ObjectRef(OBJECT_KIND.imageData, 'layer_7', 'family_7');
const GUARD = { image: 'vm', token: 5, layer: 2, layerId: 'layer' };

function claim(token: number, layer = 2): LayerClaim {
  return { image: 'vm', token, layer, keyPrefix: 'layer_' };
}

function raised(): GuardTable {
  const table = new GuardTable();
  t.equal(table.change({ kind: 'raise', guard: GUARD }), null);
  return table;
}

t.test('a claim must be what the guard says', async (t) => {
  const table = raised();
  t.equal(table.refusal(claim(5), DATA), null);
  t.match(table.refusal(claim(4), DATA), { code: 'E_FENCED', message: /token 5, this one has 4/ });
  t.match(table.refusal(claim(4, 3), DATA), { code: 'E_FENCED' }, 'the token counts first');
  t.match(table.refusal(claim(5, 1), DATA), { code: 'E_SEALED' });
  t.match(table.refusal(claim(6), DATA), { code: 'E_FENCED' }, 'nobody has raised it to that');
  t.match(table.refusal(claim(5, 3), DATA), { code: 'E_FENCED' });
  t.match(table.refusal({ ...claim(5), image: 'other' }, DATA), { code: 'E_FENCED' });
  t.match(table.refusal({ ...claim(5), keyPrefix: 'other_' }, DATA), { code: 'E_INVALID' });
});

t.test('without a claim only what belongs to no writer is changed', async (t) => {
  const table = raised();
  t.match(table.refusal(null, DATA), { code: 'E_FENCED' });
  t.equal(table.refusal(null, DATA, 9), null, 'a delete of a version that somebody has seen');
  const free = new ObjectRef(OBJECT_KIND.imageData, 'layer2_7', 'family_7');
  t.equal(table.refusal(null, free), null);
  t.equal(table.refusal(null, new ObjectRef(OBJECT_KIND.imageData, 'x')), null);
  t.equal(table.refusal(null, new ObjectRef(OBJECT_KIND.plain, 'layer_7')), null);
  t.equal(new GuardTable().refusal(null, DATA), null);
});

t.test('a raise that comes twice is harmless, one that comes late is refused', async (t) => {
  const table = raised();
  t.equal(table.change({ kind: 'raise', guard: GUARD }), null);
  t.match(table.change({ kind: 'raise', guard: { ...GUARD, token: 4 } }), { code: 'E_FENCED' });
  t.match(table.change({ kind: 'raise', guard: { ...GUARD, layer: 1 } }), { code: 'E_SEALED' });
  t.match(table.change({ kind: 'raise', guard: { ...GUARD, layerId: 'l2' } }), {
    code: 'E_INVALID',
  });
  t.equal(table.refusal(claim(5), DATA), null, 'and changes nothing');
  const next = { ...GUARD, layer: 3, layerId: 'layer3' };
  t.equal(table.change({ kind: 'raise', guard: next }), null);
  t.match(table.refusal(claim(5), DATA), { code: 'E_SEALED' });
  const top = new ObjectRef(OBJECT_KIND.imageData, 'layer3_7', 'family_7');
  t.equal(table.refusal({ ...claim(5, 3), keyPrefix: 'layer3_' }, top), null);
  t.match(table.refusal(null, top), { code: 'E_FENCED' });
});

t.test('a guard is removed by no older writer, and then nobody is the writer', async (t) => {
  const table = raised();
  t.match(table.change({ kind: 'remove', image: 'vm', token: 4 }), { code: 'E_FENCED' });
  t.equal(table.change({ kind: 'remove', image: 'vm', token: 6 }), null);
  t.equal(table.change({ kind: 'remove', image: 'vm', token: 6 }), null);
  t.match(table.refusal(claim(5), DATA), { code: 'E_FENCED' });
  t.match(table.refusal(claim(6), DATA), { code: 'E_FENCED' });
});

t.test('one that cannot be read lets nobody in until it is raised', async (t) => {
  const table = new GuardTable();
  table.loadUnreadable('vm');
  t.match(table.refusal(claim(5), DATA), { code: 'E_FENCED' });
  t.equal(table.change({ kind: 'raise', guard: GUARD }), null);
  t.equal(table.refusal(claim(5), DATA), null);
});
