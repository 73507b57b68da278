import t from 'tap';
import { OBJECT_KIND, ObjectRef } from '../pool/object-pool.js';
import { OP } from '../wire/ops.js';
import { ClientRequest } from './client-request.js';

const done = (): void => undefined;

t.test('image data is named by the bytes touched, other objects as a whole', async (t) => {
  const parts = [Buffer.alloc(10), Buffer.alloc(6)];
  for (const kind of [OBJECT_KIND.plain, OBJECT_KIND.imageHeader]) {
    const ref = new ObjectRef(kind, 'key');
    const read = new ClientRequest({ op: OP.read, ref, offset: 8192, bytes: 1, done });
    t.match(read, { from: 0, to: Infinity }, 'it must wait for the write that makes the object');
  }
  const ref = new ObjectRef(OBJECT_KIND.imageData, 'key');
  const write = new ClientRequest({ op: OP.write, ref, offset: 4096, bytes: 16, parts, done });
  t.match(write, { from: 4096, to: 4112, payloadBytes: 16 });
  const stat = new ClientRequest({ op: OP.stat, ref, isWhole: true, done });
  t.match(stat, { from: 0, to: Infinity, payloadBytes: 0 });
});
