import t from 'tap';
import { makeProof, verifyProof, type Meeting } from './proof.js';

const key = Buffer.alloc(32, 9);
const meeting: Meeting = {
  clientNonce: Buffer.alloc(32, 1),
  daemonNonce: Buffer.alloc(32, 2),
  diskId: Buffer.alloc(16, 3),
  startId: Buffer.alloc(16, 4),
  ticketBytes: Buffer.from('a ticket'),
  exporter: Buffer.alloc(32, 5),
};
const proof = makeProof(key, 'client', meeting);

await t.test('proofs are the bytes they have always been', (t) => {
  // Computed with Python's hmac; the ticket is the one of ticket.test.ts.
  const ticketBytes = Buffer.from(
    '74696b7401030508abababababababababababababababab00f1536500000000804255650000000001000000' +
      '686f73743174657374706f6f6c',
    'hex',
  );
  t.equal(
    makeProof(key, 'client', { ...meeting, ticketBytes }).toString('hex'),
    '31e1d17902ce8cfb3e3e46b5c04c45dfe0db4b1fc8075c4a65b7bb5f59b9e8fe',
  );
  t.equal(
    makeProof(key, 'daemon', { ...meeting, ticketBytes }).toString('hex'),
    '6c432a3eae4b3df9359a1b069e47f8faf50212665a5ede1292e414f1cfbdd50a',
  );
  t.end();
});

await t.test('a proof counts for its role, its key and its meeting alone', (t) => {
  t.ok(verifyProof(key, 'client', meeting, proof));
  t.notOk(verifyProof(key, 'daemon', meeting, proof), 'sent back to its maker');
  t.notOk(verifyProof(Buffer.alloc(32, 8), 'client', meeting, proof), 'another key');
  for (const [field, bytes] of Object.entries(meeting) as [keyof Meeting, Buffer][]) {
    const changed = Buffer.from(bytes);
    changed[bytes.length - 1] = (changed[bytes.length - 1] ?? 0) ^ 1;
    t.notOk(verifyProof(key, 'client', { ...meeting, [field]: changed }, proof), field);
  }
  const { clientNonce, daemonNonce } = meeting;
  const swapped = { ...meeting, clientNonce: daemonNonce, daemonNonce: clientNonce };
  t.notOk(verifyProof(key, 'client', swapped, proof), 'nonces change places');
  t.end();
});

await t.test('a proof is not good for both roles even where all nonces are equal', (t) => {
  const mirrored = { ...meeting, daemonNonce: meeting.clientNonce };
  const own = makeProof(key, 'client', mirrored);
  t.notOk(verifyProof(key, 'daemon', mirrored, own));
  t.end();
});

await t.test('bytes cannot move from one field into the next', (t) => {
  const left = { ...meeting, ticketBytes: Buffer.from('ab'), exporter: Buffer.from('c') };
  const right = { ...meeting, ticketBytes: Buffer.from('a'), exporter: Buffer.from('bc') };
  t.notOk(verifyProof(key, 'client', right, makeProof(key, 'client', left)));
  const none = { ...meeting, exporter: Buffer.alloc(0) };
  t.notOk(verifyProof(key, 'client', none, proof), 'with TLS and without');
  t.end();
});

await t.test('truncated, longer and flipped proofs are refused', (t) => {
  for (let end = 0; end < proof.length; end += 1)
    t.notOk(verifyProof(key, 'client', meeting, proof.subarray(0, end)), `${end} bytes`);
  t.notOk(verifyProof(key, 'client', meeting, Buffer.concat([proof, Buffer.alloc(1)])));
  for (let bit = 0; bit < proof.length * 8; bit += 1) {
    const flipped = Buffer.from(proof);
    flipped[bit >> 3] = (flipped[bit >> 3] ?? 0) ^ (1 << (bit & 7));
    t.notOk(verifyProof(key, 'client', meeting, flipped), `bit ${bit}`);
  }
  t.end();
});

await t.test(
  'fields of other lengths are an error of the other side, not a defect of ours',
  (t) => {
    for (const [field, bytes] of [
      ['clientNonce', 31],
      ['daemonNonce', 33],
      ['diskId', 0],
      ['startId', 17],
      ['ticketBytes', 301],
      ['exporter', 65],
    ] as const)
      t.throws(
        () => verifyProof(key, 'client', { ...meeting, [field]: Buffer.alloc(bytes) }, proof),
        { code: 'E_BAD_FRAME', message: new RegExp(field) },
        field,
      );
    t.end();
  },
);
