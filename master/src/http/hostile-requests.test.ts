/** What whoever reaches the port may try. */
import { once } from 'node:events';
import { request as httpRequest } from 'node:http';
import { connect } from 'node:net';
import t from 'tap';
import { SampleCluster } from './testing/sample-cluster.js';
import { SAMPLE_TOKEN, sampleServer } from './testing/sample-server.js';

const JSON_TYPE = { 'content-type': 'application/json' };
const ADMIN = { authorization: `Bearer ${SAMPLE_TOKEN}` };

async function json(response: Response): Promise<unknown> {
  return response.json();
}

t.test('a body that is not quite right is refused whole', async (t) => {
  const cluster = SampleCluster.healthy();
  const { url } = await sampleServer(t, cluster);
  const bad: readonly (readonly [string, string | Uint8Array<ArrayBuffer>, RegExp])[] = [
    ['pools', '{"name":', /not JSON/],
    ['pools', '[1]', /not a JSON object/],
    ['pools', 'null', /not a JSON object/],
    ['pools', '', /name is missing/],
    ['pools', Uint8Array.of(0x22, 0xff, 0x22), /not JSON/],
    ['pools', '{"name":7}', /name has to be a string/],
    ['pools', '{"name":"x","replicas":1.5}', /replicas has to be a whole number/],
    ['pools', '{"name":"x","replicas":"3"}', /replicas has to be/],
    ['pools', '{"name":"x","failureDomain":"planet"}', /one of disk, host, rack/],
    ['pools', '{"name":"x","replica":3}', /"replica" is not known/],
    ['pools', '{"name":"x","__proto__":{}}', /"__proto__" is not known/],
    ['clients', '{"name":"x","isAdmin":1}', /true or false/],
    ['clients', '{"name":"x","rights":{"a":1}}', /values are strings/],
    ['pools?dryRun=yes', '{"name":"x"}', /dryRun is true or false/],
    ['pools?dryrun=true', '{"name":"x"}', /"dryrun" is not known/],
    ['pools?dryRun=true&dryRun=false', '{"name":"x"}', /twice/],
    ['clients?dryRun=true', '{"name":"x"}', /"dryRun" is not known/],
  ];
  for (const [path, body, message] of bad) {
    const headers = { ...JSON_TYPE, ...ADMIN };
    const response = await fetch(`${url}/api/v1/${path}`, { method: 'POST', headers, body });
    t.equal(response.status, 400, `${path} ${body.toString()}`);
    t.match(await json(response), { code: 'E_INVALID', message });
  }
  for (const type of ['text/plain', 'application/x-www-form-urlencoded', 'application/jsonp']) {
    const headers = { 'content-type': type, ...ADMIN };
    const body = '{"name":"x"}';
    const response = await fetch(`${url}/api/v1/pools`, { method: 'POST', headers, body });
    t.equal(response.status, 415, type);
  }
  t.strictSame(cluster.changes, []);
});

t.test('a body that is too long is refused before it has come', async (t) => {
  const cluster = SampleCluster.healthy();
  const { url } = await sampleServer(t, cluster);
  for (const headers of [{ 'content-length': '999999999' }, { 'transfer-encoding': 'chunked' }]) {
    const request = httpRequest(`${url}/api/v1/pools`, {
      method: 'POST',
      headers: { ...JSON_TYPE, ...ADMIN, ...headers },
    });
    request.on('error', () => undefined); // the server hangs up while we still send
    request.write(Buffer.alloc(80 * 1024, 0x20));
    const answer: unknown[] = await once(request, 'response', {
      signal: AbortSignal.timeout(5000),
    });
    t.match(answer[0], { statusCode: 413, headers: { connection: 'close' } });
    request.destroy();
  }
  t.strictSame(cluster.changes, []);
});

t.test('a page of a stranger whose name leads here reads nothing', async (t) => {
  const options = { hostNames: ['Store.Example.org'] };
  const { url } = await sampleServer(t, SampleCluster.healthy(), options);
  const { port } = new URL(url);
  const status = async (host: string): Promise<number> => {
    const answer = await rawRequest(url, `GET /api/v1/status HTTP/1.1\r\nHost: ${host}\r\n\r\n`);
    return Number(answer.split(' ')[1]);
  };
  for (const host of [
    `127.0.0.1:${port}`,
    `localhost:${port}`,
    'LOCALHOST.',
    'a.localhost',
    '10.1.2.3',
    `[::1]:${port}`,
    'store.example.org:80',
  ])
    t.equal(await status(host), 200, host);
  for (const host of [
    'evil.example',
    `evil.example:${port}`,
    '127.0.0.1.evil.example',
    'localhost.evil.example',
    'user@127.0.0.1',
    '127.0.0.1/x',
    '127.0.0.1:99999',
    '',
  ])
    t.equal(await status(host), 421, host);
});

t.test('no path leads out of the dashboard, nor to a file that is not a part of it', async (t) => {
  const { url } = await sampleServer(t, SampleCluster.healthy());
  for (const path of [
    '/../package.json',
    '/%2e%2e/package.json',
    '/..%2fpackage.json',
    '/%2e%2e%2f%2e%2e%2fetc%2fpasswd',
    '//etc/passwd',
    '/./index.html',
    '/index.html',
    '/tsconfig.json',
    '/app.js%00.html',
    '/toString',
    '/api/v1/__proto__',
    '/api/v1/../status',
  ]) {
    const answer = await rawRequest(url, `GET ${path} HTTP/1.1\r\nHost: localhost\r\n\r\n`);
    t.match(answer, /^HTTP\/1\.1 404 /, path);
  }
  for (const path of ['/%', '/%ff', 'http://localhost/', '*'])
    t.match(
      await rawRequest(url, `GET ${path} HTTP/1.1\r\nHost: localhost\r\n\r\n`),
      /^HTTP\/1\.1 400 /,
      path,
    );
});

t.test('whoever sends slowly, or nothing, or too long headers, does not stay', async (t) => {
  const limits = { headersMs: 300, requestMs: 600, idleMs: 5000 };
  const { url } = await sampleServer(t, SampleCluster.healthy(), { limits });
  const post =
    `POST /api/v1/pools HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n` +
    `Authorization: Bearer ${SAMPLE_TOKEN}\r\nContent-Length: 100\r\n\r\n{"name"`;
  const answers = await Promise.all([
    rawRequest(url, ''),
    rawRequest(url, 'GET / HTTP/1.1\r\nHost: loc'),
    rawRequest(url, post),
    rawRequest(url, `GET / HTTP/1.1\r\nHost: localhost\r\nX: ${'x'.repeat(20_000)}\r\n\r\n`),
    rawRequest(url, 'no HTTP at all\r\n\r\n'),
  ]);
  t.match(answers[1], /^HTTP\/1\.1 408 /);
  t.match(answers[2], /^HTTP\/1\.1 408 |^$/);
  t.match(answers[3], /^HTTP\/1\.1 431 /);
  t.match(answers[4], /^HTTP\/1\.1 400 /);
  t.equal((await fetch(`${url}/healthz`)).status, 200);
});

/** Sends bytes as they are. @returns What came until the first answer was there or the server hung up */
async function rawRequest(url: string, text: string): Promise<string> {
  const socket = connect(Number(new URL(url).port), '127.0.0.1');
  let answer = '';
  socket.on('error', () => undefined);
  socket.on('data', (data: Buffer) => {
    answer += data.toString('latin1');
    if (answer.includes('\r\n\r\n')) socket.destroy();
  });
  socket.write(text);
  await once(socket, 'close', { signal: AbortSignal.timeout(10_000) });
  return answer;
}
