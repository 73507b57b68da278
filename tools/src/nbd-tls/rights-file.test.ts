import type { TlsPeer } from '@store/core';
import t from 'tap';
import { parseRights } from './rights-file.js';

const FACTS = { protocol: 'TLSv1.3', cipher: '' };

function peer(proof: TlsPeer['proof'], name: string): TlsPeer {
  return { proof, name, ...FACTS };
}

function rights(...clients: readonly unknown[]): ReturnType<typeof parseRights> {
  return parseRights('rights.json', JSON.stringify({ clients }));
}

t.test('a client has the rights of its entry, and who has none has none', (t) => {
  const found = rights(
    { certificate: 'host1', write: ['vm1', 'db-*'], read: ['*'] },
    { psk: 'backup', read: ['db-*'] },
  );
  const host = peer('x509', 'host1');
  t.equal(found.of(host, 'vm1'), 'write');
  t.equal(found.of(host, 'vm10'), 'read', 'a name without a star is that name alone');
  t.equal(found.of(host, 'db-7'), 'write', 'who may write more than read writes');
  t.equal(found.of(host, ''), 'read');
  t.equal(found.of(peer('psk', 'backup'), 'db-7'), 'read');
  t.equal(found.of(peer('psk', 'backup'), 'db'), 'none');
  t.equal(found.of(peer('psk', 'host1'), 'vm1'), 'none', 'a key is not a certificate of that name');
  t.equal(found.of(peer('x509', ''), 'vm1'), 'none', 'a certificate without a name');
  t.equal(found.of(null, 'vm1'), 'none', 'in the clear');
  t.equal(rights().of(host, 'vm1'), 'none', 'an empty file');
  t.end();
});

t.test('anonymous is who proved nothing, in the clear or with TLS', (t) => {
  const found = rights({ anonymous: true, read: ['public'] });
  t.equal(found.of(null, 'public'), 'read');
  t.equal(found.of(peer('none', ''), 'public'), 'read');
  t.equal(found.of(peer('psk', 'alice'), 'public'), 'none');
  t.end();
});

t.test('what is wrong is said with its place', (t) => {
  const bad: readonly [RegExp, unknown][] = [
    [/clients\[0\]: Not an object/, ['x']],
    [
      /clients\[0\] \("a"\): "reads" is no field; these are: certificate/,
      [{ psk: 'a', reads: [] }],
    ],
    [/clients\[0\].*only one of them/, [{ psk: 'a', certificate: 'a', read: [] }]],
    [/clients\[0\].*only one of them/, [{ read: ['*'] }]],
    [/clients\[0\] \("a"\): Give "read" or "write"/, [{ psk: 'a' }]],
    [/clients\[0\].*"read" is not a list/, [{ psk: 'a', read: '*' }]],
    [/clients\[0\].*"write" is not a list/, [{ psk: 'a', write: ['b', 7] }]],
    [/clients\[0\].*only the end/, [{ psk: 'a', write: ['*b'] }]],
    [/clients\[0\].*is empty/, [{ psk: 'a', write: [''] }]],
    [/clients\[0\].*is empty/, [{ certificate: '', read: ['*'] }]],
    [/clients\[0\].*"anonymous" is true/, [{ anonymous: false, read: ['*'] }]],
    [/clients\[0\].*"anonymous" is true/, [{ anonymous: null, read: ['*'] }]],
    [
      /rights\.json, clients\[1\] \("a"\): It names a client that an earlier entry names/,
      [
        { psk: 'a', read: [] },
        { psk: 'a', write: [] },
      ],
    ],
  ];
  for (const [message, clients] of bad)
    t.throws(() => parseRights('rights.json', JSON.stringify({ clients })), {
      code: 'E_INVALID',
      message,
    });
  t.throws(() => parseRights('f', '{'), { message: /f is not JSON/ });
  for (const text of ['[]', 'null', '{}', '{"clients": {}}', '{"clients": [], "more": 1}'])
    t.throws(() => parseRights('f', text), { message: /f is not \{"clients"/ }, text);
  t.end();
});
