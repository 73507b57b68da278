import {
  Blocklist,
  PoolSecret,
  realClock,
  realRandom,
  SecretRing,
  type TlsContext,
  isLoopbackPeer,
} from '@store/core';
import t from 'tap';
import { Door, guestWithoutTicket, rightObjection, type DoorOptions } from './door.js';

const tls: TlsContext = { kind: 'tls-context' };
const secret = PoolSecret.create('pool', 1, realRandom);

function door(options: Partial<DoorOptions> = {}): Door {
  const secrets = new SecretRing([]);
  const none = { secrets, blocklist: new Blocklist(), tls, peerTls: tls, insecure: false };
  return new Door({ ...none, ...options }, realClock());
}

const HERE = ['127.0.0.1:1', '127.255.0.9:65535', '[::1]:9', '[::ffff:127.0.0.1]:4148', 'unix'];
const ELSEWHERE = [
  ...[
    '10.0.0.1:4148',
    '128.0.0.1:1',
    '0.0.0.0:1',
    '[::]:1',
    '[2001:db8::1]:4148',
    '[::ffff:10.0.0.1]:1',
  ],
  ...[
    '1.127.0.0:1',
    '127.0.0.1.example:1',
    '[fe80::1%eth0]:1',
    '[::127.0.0.1]:1',
    '',
    'localhost:1',
  ],
];

t.test('only addresses of the machine itself are loopback', async (t) => {
  for (const peer of HERE) t.ok(isLoopbackPeer(peer), peer);
  for (const peer of ELSEWHERE) t.notOk(isLoopbackPeer(peer), peer);
});

t.test(
  'from elsewhere it takes TLS and a ticket; on the machine neither, unless there are secrets',
  async (t) => {
    for (const peer of ELSEWHERE)
      t.strictSame(door().demands('listen', peer), { tls: true, ticket: true }, peer);
    for (const peer of HERE) {
      t.strictSame(door().demands('listen', peer), { tls: false, ticket: false }, peer);
      const secrets = new SecretRing([secret]);
      t.strictSame(door({ secrets }).demands('listen', peer), { tls: false, ticket: true });
      t.strictSame(door({ secrets, insecure: true }).demands('listen', peer), {
        tls: false,
        ticket: true,
      });
    }
    const open = door({ insecure: true });
    for (const peer of ELSEWHERE)
      t.strictSame(open.demands('listen', peer), { tls: false, ticket: false });
  },
);

t.test('the owner needs nothing, a peer a certificate, and a peer may only read', async (t) => {
  const strict = door({ secrets: new SecretRing([secret]) });
  t.strictSame(strict.demands('owner', 'unix'), { tls: false, ticket: false });
  for (const peer of [...HERE, ...ELSEWHERE])
    t.strictSame(strict.demands('peer', peer), { tls: true, ticket: false });
  const peer = guestWithoutTicket('peer', 'daemon-7');
  t.equal(rightObjection(peer, 'r', 'read'), null);
  t.equal(rightObjection(peer, 'none', 'ping'), null);
  for (const right of ['w', 'a'] as const)
    t.match(rightObjection(peer, right, 'write'), {
      code: 'E_DENIED',
      message: /peer daemon-7 may not write/,
    });
  t.equal(rightObjection(guestWithoutTicket('owner', 'tool'), 'a', 'all'), null);
});

t.test('who came without a ticket must go when tickets are demanded', async (t) => {
  const guest = guestWithoutTicket('listen', 'vm');
  t.equal(door().objection(guest, { tls: false, ticket: false }), null);
  t.match(door().objection(guest, { tls: false, ticket: true }), { code: 'E_DENIED' });
});
