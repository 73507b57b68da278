import fc from 'fast-check';
import t from 'tap';
import { parseNbdUri } from './uri-parser.js';
import { nbdUri } from './uri.js';

const at = (uri: string) => {
  const { address, exportName } = parseNbdUri(uri);
  return { ...address, exportName };
};

t.test('parseNbdUri() reads TCP addresses, with 10809 where no port is named', (t) => {
  t.same(at('nbd://h'), { host: 'h', port: 10809, exportName: '' });
  t.same(at('nbd://h/'), { host: 'h', port: 10809, exportName: '' });
  t.same(at('nbd://h:/x'), { host: 'h', port: 10809, exportName: 'x' });
  t.same(at('NBD://10.0.2.2:10810/vm1'), { host: '10.0.2.2', port: 10810, exportName: 'vm1' });
  t.same(at('nbd://[::1]:7/a'), { host: '::1', port: 7, exportName: 'a' });
  t.same(at('nbd://[fe80::2]'), { host: 'fe80::2', port: 10809, exportName: '' });
  t.equal(parseNbdUri('nbd://u%40x@h/').user, 'u@x');
  t.end();
});

t.test('parseNbdUri() takes the path without its first slash as the export name', (t) => {
  t.equal(at('nbd://h//d').exportName, '/d');
  t.equal(at('nbd://h/a/b').exportName, 'a/b');
  t.equal(at('nbd://h/p%2Fi%40s%3F%23%C3%A4%20').exportName, 'p/i@s?#ä ');
  t.equal(at('nbd://h/a+b').exportName, 'a+b', 'a plus is a plus');
  t.end();
});

t.test('parseNbdUri() reads Unix sockets, abstract ones too', (t) => {
  t.same(at('nbd+unix:///vm1?socket=/run/s.sock'), { path: '/run/s.sock', exportName: 'vm1' });
  t.same(at('nbd+unix://?socket=/s'), { path: '/s', exportName: '' });
  t.same(at('nbd+unix:///?socket=%00name'), { path: '\0name', exportName: '' });
  t.same(at('nbd+unix:////d?socket=a%26b'), { path: 'a&b', exportName: '/d' });
  t.end();
});

t.test('parseNbdUri() knows the TLS forms and lists what it does not know', (t) => {
  t.match(parseNbdUri('nbds://h/?tls-type=x509&tls-verify-peer=0&tls-hostname=n'), {
    tls: { required: true, type: 'x509', verifyPeer: false, hostname: 'n' },
    unknown: [],
  });
  t.match(parseNbdUri('nbds+unix:///?socket=/s'), { tls: { required: true, type: null } });
  t.match(parseNbdUri('nbd://h/?x-a=1&speed=2'), {
    tls: { required: false },
    unknown: ['x-a', 'speed'],
  });
  t.end();
});

t.test('parseNbdUri() refuses what cannot be meant, and says why', (t) => {
  for (const [uri, why] of [
    ['', /not an NBD URI/],
    ['/dev/nbd0', /not an NBD URI/],
    ['localhost:10809', /not an NBD URI/],
    ['nbd:localhost:10809', /not an NBD URI/],
    ['http://h/', /'http' is not a scheme/],
    ['nbd+vsock://1/', /not a scheme/],
    ['nbd:///x', /names no host/],
    ['nbd://::1/', /brackets/],
    ['nbd://h:0/', /port/],
    ['nbd://h:65536/', /port/],
    ['nbd://h:1x/', /port/],
    ['nbd://h/?socket=/s', /nbd\+unix/],
    ['nbd+unix:///x', /names no socket/],
    ['nbd+unix://x?socket=/s', /three slashes/],
    ['nbd+unix:///?socket=a%00b', /NUL/],
    ['nbd://h/%00', /NUL/],
    ['nbd://h/%', /hexadecimal/],
    ['nbd://h/%ff', /UTF-8/],
    ['nbd://h/a#b', /%23/],
    ['nbd://h/?tls-type=ssl', /one of anon, x509, psk/],
    ['nbd://h/?tls-verify-peer=yes', /one of 0, 1/],
    ['nbd://h/?a=1&a=2', /twice/],
    [`nbd://h/${'x'.repeat(4097)}`, /4096 bytes/],
    [`nbd://h/${'x'.repeat(20_000)}`, /16384 characters/],
  ] as const)
    t.throws(() => parseNbdUri(uri), { code: 'E_INVALID', message: why }, uri.slice(0, 40));
  t.end();
});

t.test('parseNbdUri() gives back what nbdUri() was given', (t) => {
  const name = fc
    .string({ unit: 'grapheme', maxLength: 40 })
    .filter((text) => !text.includes('\0'));
  fc.assert(
    fc.property(name, name, (exportName, path) => {
      const tcp = parseNbdUri(nbdUri({ host: '::1', port: 10_810 }, exportName));
      t.same(tcp.address, { host: '::1', port: 10_810 });
      t.equal(tcp.exportName, exportName);
      const unix = parseNbdUri(nbdUri({ path: `/${path}` }, exportName));
      t.same(unix.address, { path: `/${path}` });
      t.equal(unix.exportName, exportName);
    }),
    { numRuns: 200 },
  );
  t.end();
});
