import t from 'tap';
import { OBJECT_KIND, ObjectRef } from '../pool/object-pool.js';
import { OP } from '../wire/ops.js';
import { ClientRequest } from './client-request.js';

const done = (): void => undefined;
const ALL = { from: 0, to: 0x3fffffff };

t.test('image data is named by the bytes touched, other objects as a whole', async (t) => {
  for (const kind of [OBJECT_KIND.plain, OBJECT_KIND.imageHeader]) {
    const ref = new ObjectRef(kind, 'key');
    const read = new ClientRequest(OP.read, null, ref, 8192, 1, done);
    t.match(read, ALL, 'it must wait for the write that makes the object');
  }
  const ref = new ObjectRef(OBJECT_KIND.imageData, 'key');
  const write = new ClientRequest(OP.write, null, ref, 4096, 16, done);
  write.carry([Buffer.alloc(10), Buffer.alloc(6)], new Uint32Array(1));
  t.match(write, { from: 4096, to: 4112, payloadBytes: 16, changes: true });
  const stat = new ClientRequest(OP.stat, null, ref, 0, 0, done);
  t.match(stat, { ...ALL, payloadBytes: 0, changes: false });
});
