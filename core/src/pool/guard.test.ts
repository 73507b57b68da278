import t from 'tap';
import { groupOf } from '../map/map-lookup.js';
import type { MapPool } from '../map/storage-map.js';
import { chainHandle, keepChain, type ClaimedChain } from './chain.js';
import {
  decodeGuard,
  encodeGuard,
  guardRef,
  GUARD_BYTES,
  imageOfGuardKey,
  isGuardKey,
  type Guard,
} from './guard.js';

const GUARD: Guard = { image: 'a5', token: 2 ** 40 + 7, layer: 3, layerId: 'd7' };

t.test('what is stored of a guard is these bytes', async (t) => {
  const bytes = encodeGuard(GUARD);
  t.equal(bytes.length, GUARD_BYTES);
  t.equal(bytes.subarray(0, 20).toString('hex'), '47415244010002020700000000010000' + '03000000');
  t.equal(bytes.toString('latin1', 20, 24), 'a5\0\0');
  t.equal(bytes.toString('latin1', 84, 88), 'd7\0\0');
  t.same(decodeGuard(bytes), GUARD);
  const longest = { ...GUARD, image: 'i'.repeat(64), layerId: 'l'.repeat(64) };
  t.same(decodeGuard(encodeGuard(longest)), longest);
});

t.test('what is damaged is no guard, wherever', async (t) => {
  const bytes = encodeGuard(GUARD);
  for (let at = 0; at < bytes.length; at += 1) {
    const other = Buffer.from(bytes);
    other[at] = (other[at] ?? 0) ^ 0x10;
    t.throws(() => decodeGuard(other), { code: 'E_FORMAT' });
    t.throws(() => decodeGuard(bytes.subarray(0, at)), { code: 'E_FORMAT' });
  }
});

t.test('what no image can have is refused', async (t) => {
  const wrong: Partial<Guard>[] = [
    ...[{ image: '' }, { image: 'i'.repeat(65) }, { layerId: '' }, { layerId: 'l'.repeat(65) }],
    ...[{ token: 0 }, { token: 1.5 }, { token: 2 ** 53 }, { layer: -1 }, { layer: 2 ** 32 }],
  ];
  for (const part of wrong)
    t.throws(() => encodeGuard({ ...GUARD, ...part }), { code: 'E_INVALID' }, JSON.stringify(part));
});

t.test('each group has a place of its own for the guard of an image', async (t) => {
  for (const count of [1, 2, 128, 4096]) {
    const groups = Array.from({ length: count }) as MapPool['groups'];
    const places = new Set<string>();
    for (let group = 0; group < count; group += 1) {
      const ref = guardRef('image7', group, count);
      if (groupOf({ groups }, ref.hash) !== group) t.fail(`group ${group} of ${count}`);
      places.add(ref.place);
    }
    t.equal(places.size, count);
  }
  const { key, place } = guardRef('image7', 3, 16);
  t.ok(isGuardKey(key));
  t.equal(imageOfGuardKey(key), 'image7');
  t.not(place, guardRef('image8', 3, 16).place);
});

t.test('the handle of a chain names all of the claim', async (t) => {
  const layers = [{ id: 'd7', overlap: 0 }];
  const claim = { image: 'a5', token: 7, layer: 0 };
  const handles = [
    chainHandle({ layers, claim: null }),
    chainHandle({ layers, claim }),
    chainHandle({ layers, claim: { ...claim, image: 'a6' } }),
    chainHandle({ layers, claim: { ...claim, token: 8 } }),
    chainHandle({ layers, claim: { ...claim, layer: 1 } }),
  ];
  t.equal(new Set(handles).size, handles.length);
  t.equal(chainHandle({ layers, claim: { ...claim } }), handles[1]);
});

t.test('of the writers of an image the chain of the last one is kept', async (t) => {
  const layers = [{ id: 'd7', overlap: 0 }];
  const chains = new Map<number, ClaimedChain>();
  const keep = (image: string | null, token: number): void => {
    const chain = { layers, claim: image === null ? null : { image, token, layer: 0 } };
    keepChain(chains, chainHandle(chain), chain);
  };
  keep(null, 0);
  keep('b6', 1);
  for (const token of [1, 2, 3, 3]) keep('a5', token);
  const kept = [...chains.values()].map(({ claim }) => claim?.token ?? null);
  t.same(kept, [null, 1, 3]);
});
