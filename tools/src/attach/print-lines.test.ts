import { parseNbdUri } from '@store/gateway-nbd';
import t from 'tap';
import { attachLines } from './print-lines.js';

t.test('names and paths survive the quoting of every program', (t) => {
  const text = 'nbd+unix:///a%27b%26%3C%2C?socket=/run/my%20s,1';
  const lines = attachLines(parseNbdUri(text), { connections: 4, readOnly: true }, text);
  t.match(lines, `nbd-client -unix '/run/my s,1' /dev/nbd0 -N 'a'\\''b&<,' -C 4 -R`);
  t.match(lines, `<source protocol='nbd' name='a&apos;b&amp;&lt;,'>`);
  t.match(lines, `<host transport='unix' socket='/run/my s,1'/>`);
  t.match(lines, `server.path=/run/my s,,1,export=a'\\''b&<,,,reconnect-delay=60`);
  t.match(lines, '<readonly/>');
  t.end();
});

t.test('the default export and one connection need no flags', (t) => {
  const text = 'nbd://[::1]/';
  const lines = attachLines(parseNbdUri(text), { connections: 1, readOnly: false }, text);
  t.match(lines, 'nbd-client ::1 10809 /dev/nbd0\n');
  t.match(lines, "<source protocol='nbd'>");
  t.match(lines, 'server.host=::1,server.port=10809,reconnect-delay=60');
  t.end();
});

t.test('what is inside TLS is never attached in the clear', (t) => {
  const text = 'nbds://alice@storage.example.org/vm1?tls-psk-file=/etc/keys.psk';
  const lines = attachLines(parseNbdUri(text), { connections: 1, readOnly: true }, text);
  t.match(lines, `nbdfuse -r /tmp/store-nbd '${text}' &`);
  t.notMatch(lines, /nbd-client storage|export=vm1|protocol='nbd'/);
  t.end();
});
