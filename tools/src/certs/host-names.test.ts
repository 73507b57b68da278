import t from 'tap';
import { defaultHosts, parseHost } from './host-names.js';

t.test('hosts are names and addresses as those who connect write them', (t) => {
  const good: readonly [string, 'dns' | 'ip', string?][] = [
    ['host1', 'dns'],
    ['Storage1.Example.ORG', 'dns', 'storage1.example.org'],
    ['*.example.org', 'dns'],
    ['xn--kse-qla.example', 'dns'],
    ['build_host-7', 'dns'],
    ['10.0.0.7', 'ip'],
    ['::1', 'ip'],
    ['2001:db8::7', 'ip'],
  ];
  for (const [text, type, value = text] of good) t.same(parseHost(text), { type, value }, text);
  for (const text of [
    ...['', ' ', 'a b', '[::1]', 'host:4148', 'fe80::1%eth0', '10.0.0.300', '1.2.3', '7'],
    ...['a..b', '.a', 'a.', '-a', 'a-', 'käse', '*', 'a.*.b', '*.*.b', 'a/b', 'http://a', 'a,b'],
    ...['x'.repeat(64), 'a\0b', `${'a.'.repeat(127)}a`],
  ])
    t.throws(() => parseHost(text), { code: 'E_INVALID', message: /neither a host name/ }, text);
  t.end();
});

t.test(
  'without hosts a certificate is for its name, where that can be one, and this machine',
  (t) => {
    const values = (name: string): string[] => defaultHosts(name).map(({ value }) => value);
    t.same(values('host1'), ['host1', 'localhost', '127.0.0.1', '::1']);
    t.same(values('localhost'), ['localhost', '127.0.0.1', '::1']);
    t.same(values('192.0.2.7'), ['192.0.2.7', 'localhost', '127.0.0.1', '::1']);
    t.same(values('backup job'), ['localhost', '127.0.0.1', '::1']);
    t.end();
  },
);
