import t from 'tap';
import type { GuardChange } from '../pool/guarded-pool.js';
import { decodeChain, encodeChain } from './chain-message.js';
import { decodeGuardRequest, encodeGuardRequest } from './guard-request.js';

const GUARD = { image: 'image', token: 2 ** 45, layer: 4, layerId: 'layer' };
const GROUPS = [
  { group: 3, epoch: 12 },
  { group: 65_535, epoch: 2 ** 32 - 1 },
];

t.test('what is written is read', async (t) => {
  const changes: GuardChange[] = [
    { kind: 'raise', guard: GUARD },
    { kind: 'remove', image: 'image', token: 1 },
  ];
  for (const change of changes) {
    const body = encodeGuardRequest(9, change, GROUPS);
    t.same(decodeGuardRequest(body), { pool: 9, change, groups: GROUPS });
    for (let end = 0; end < body.length; end += 1) {
      // A body that ends between two groups is another request.
      if (end === body.length - 6) continue;
      t.throws(() => decodeGuardRequest(body.subarray(0, end)), { code: 'E_BAD_FRAME' });
    }
  }
});

t.test('what means nothing is refused', async (t) => {
  const body = encodeGuardRequest(9, { kind: 'raise', guard: GUARD }, GROUPS);
  const changed = (at: number, value: number): Buffer => {
    const other = Buffer.from(body);
    other[at] = value;
    return other;
  };
  t.throws(() => decodeGuardRequest(changed(4, 2)), { code: 'E_BAD_FRAME' });
  t.throws(() => decodeGuardRequest(changed(7, 1)), { code: 'E_BAD_FRAME' });
  t.throws(() => decodeGuardRequest(changed(20, 0xff)), { code: 'E_BAD_FRAME' });
  t.throws(() => decodeGuardRequest(encodeGuardRequest(9, { kind: 'raise', guard: GUARD }, [])), {
    code: 'E_BAD_FRAME',
  });
  const none = Buffer.from(body);
  none.fill(0, 8, 16);
  t.throws(() => decodeGuardRequest(none), { code: 'E_INVALID' });
});

t.test('a chain is registered with a claim or without', async (t) => {
  const layers = [{ id: 'd7', overlap: 0 }];
  const claim = { image: 'a5', token: 7, layer: 2 };
  t.same(decodeChain(encodeChain({ layers, claim })), { layers, claim });
  t.same(decodeChain(encodeChain({ layers, claim: null })), { layers, claim: null });
  for (const wrong of [7, 'x', null, [], { ...claim, token: 0 }, { image: 'a5', token: 7 }])
    t.throws(
      () => decodeChain(Buffer.from(JSON.stringify({ layers, claim: wrong }))),
      { code: /E_BAD_FRAME|E_INVALID/ },
      JSON.stringify(wrong),
    );
});
