import t from 'tap';
import { MEMBERS_MAX } from '../map/map-limits.js';
import { StoreError } from '../util/errors.js';
import { decodeJson, encodeJson, type JsonFields } from '../wire/json-body.js';
import { BODY_BYTES_MAX } from '../wire/wire-limits.js';
import {
  decodeCopyContents,
  decodeCopyRequest,
  decodeLayerNames,
  decodeLayerNamesRequest,
  decodeLinks,
  encodeCopyContents,
  encodeCopyRequest,
  encodeLayerNames,
  encodeLayerNamesRequest,
  encodeLinks,
  LAYERS_TOLD_MAX,
} from './copy-messages.js';

/** As it arrives. */
function sent(fields: JsonFields): JsonFields {
  return decodeJson(encodeJson(fields));
}

const LAYER = 'ancestor-0123456789abcdef0123456789abcdef';
const CONTENTS = {
  ...{ objects: 5, usedBytes: 6, isAll: true, otherObjects: 1, moreLayers: 2 },
  layers: [{ layer: LAYER, objects: 4 }],
};

t.test('what is asked and answered about copies is read as it was said', (t) => {
  const request = { pool: 1, group: 65_535 };
  t.same(decodeCopyRequest(sent(encodeCopyRequest(request))), request);
  t.same(decodeCopyContents(sent(encodeCopyContents(CONTENTS))), CONTENTS);
  const wanted = { pool: 2, layers: [LAYER] };
  t.same(decodeLayerNamesRequest(sent(encodeLayerNamesRequest(wanted))), wanted);
  t.same(decodeLinks(sent(encodeLinks([1, 7]))), [1, 7]);
  const names = new Map([[LAYER, 'vm1']]);
  t.same(decodeLayerNames(sent(encodeLayerNames(names))), names);
  t.end();
});

t.test('as many layers as there may be fit into a body, and no more are asked for', (t) => {
  const layers = Array.from({ length: LAYERS_TOLD_MAX + 1 }, (_, at) => `${LAYER}${at}`);
  const request = sent(encodeLayerNamesRequest({ pool: 1, layers }));
  const { layers: asked } = decodeLayerNamesRequest(request);
  t.same(asked, layers.slice(0, LAYERS_TOLD_MAX));
  const names = new Map(asked.map((layer) => [layer, '"'.repeat(512)]));
  t.ok(encodeJson(encodeLayerNames(names)).length < BODY_BYTES_MAX);
  t.end();
});

t.test('what is out of its limits is refused', (t) => {
  const part = { layer: 'x', objects: 1 };
  const bad: readonly (() => unknown)[] = [
    () => decodeCopyRequest({ pool: 1, group: 65_536 }),
    () => decodeCopyRequest({ pool: 1 }),
    () => decodeCopyContents({ ...CONTENTS, objects: -1 }),
    () => decodeCopyContents({ ...CONTENTS, isAll: 1 }),
    () => decodeCopyContents({ ...CONTENTS, layers: {} }),
    () => decodeLinks({ daemons: [0] }),
    () => decodeLinks({ daemons: '1' }),
    () => decodeLinks({ daemons: Array(MEMBERS_MAX + 1).fill(1) }),
    () => decodeLinks({}),
    () => decodeCopyContents({ ...CONTENTS, layers: [null] }),
    () => decodeCopyContents({ ...CONTENTS, layers: [{ ...part, layer: 'x'.repeat(65) }] }),
    () => decodeCopyContents({ ...CONTENTS, layers: Array(LAYERS_TOLD_MAX + 1).fill(part) }),
    () => decodeLayerNamesRequest({ pool: 1, layers: Array(LAYERS_TOLD_MAX + 1).fill('x') }),
    () => decodeLayerNamesRequest({ pool: 1, layers: [1] }),
    () => decodeLayerNames({ layers: ['x'], names: [] }),
  ];
  for (const [index, decode] of bad.entries())
    t.throws(decode, new StoreError('E_BAD_FRAME', ''), `${index}`);
  t.end();
});
