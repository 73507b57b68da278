import t from 'tap';
import { nbdUri } from './uri.js';

t.test('nbdUri() leaves out the default port and brackets IPv6', (t) => {
  t.equal(nbdUri({ host: '127.0.0.1', port: 10809 }, 'vm1'), 'nbd://127.0.0.1/vm1');
  t.equal(nbdUri({ host: '::1', port: 10810 }, ''), 'nbd://[::1]:10810/');
  t.end();
});

t.test('nbdUri() encodes names and socket paths so that they come back whole', (t) => {
  const uri = nbdUri({ path: '/run/my store/s&t.sock' }, 'pool/ä image@snap?#(1)');
  t.equal(
    uri,
    'nbd+unix:///pool/%C3%A4%20image%40snap%3F%23%281%29?socket=/run/my%20store/s%26t.sock',
  );
  const parsed = new URL(uri);
  t.equal(decodeURIComponent(parsed.pathname.slice(1)), 'pool/ä image@snap?#(1)');
  t.equal(parsed.searchParams.get('socket'), '/run/my store/s&t.sock');
  t.equal(
    nbdUri({ host: 'h', port: 10809 }, '/d'),
    'nbd://h//d',
    'a leading slash belongs to the name',
  );
  t.end();
});
