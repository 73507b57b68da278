import { once } from 'node:events';
import { request as httpRequest } from 'node:http';
import { connect } from 'node:net';
import { realClock, realTimers, silentLog, StoreError } from '@store/core';
import t from 'tap';
import { HttpServer, type HttpServerOptions } from './http-server.js';
import { EventReader } from './testing/event-reader.js';
import { SampleCluster } from './testing/sample-cluster.js';

const TOKEN = 'correct-horse-battery-staple';
const JSON_TYPE = { 'content-type': 'application/json' };
const ADMIN = { authorization: `Bearer ${TOKEN}` };

interface HasTeardown {
  teardown(undo: () => unknown): void;
}

async function served(
  t: HasTeardown,
  admin: SampleCluster,
  options: Partial<HttpServerOptions> = {},
): Promise<HttpServer> {
  const server = await HttpServer.listen(
    { host: '127.0.0.1', port: 0 },
    {
      admin,
      token: Buffer.from(TOKEN),
      metrics: () => Promise.resolve('store_up 1\n'),
      isHealthy: () => true,
      leads: () => true,
      masterOf: () => null,
      log: silentLog,
      clock: realClock(),
      timers: realTimers,
      ...options,
    },
  );
  t.teardown(() => server.close());
  return server;
}

async function json(response: Response): Promise<unknown> {
  return response.json();
}

t.test(
  'everybody may look: status, pools, daemons, and why a key lies where it does',
  async (t) => {
    const cluster = SampleCluster.degraded();
    const { url } = await served(t, cluster);
    const get = async (path: string): Promise<unknown> =>
      json(await fetch(`${url}/api/v1/${path}`));
    t.strictSame(await get('status'), JSON.parse(JSON.stringify(cluster.status())));
    t.match(await get('history'), { stepSeconds: 10 });
    t.match(await get('map'), { version: cluster.status().version });
    t.match(await get('pools'), [{ name: 'vms' }, { name: 'databases' }, { name: 'backup' }]);
    t.match(await get('pools/vms'), { name: 'vms', groupsDown: 2 });
    t.match(await get('daemons/2'), { id: 2, state: 'down' });
    t.match(await get('plan/rebalance'), { copiesMoved: 4, bytesMoved: null });
    t.match(await get('why?pool=vms&key=a%00%ff%25+b'), { pool: 'vms', key: 'a\0\xff% b' });
    t.match(await get('pools/no'), { code: 'E_NOT_FOUND', message: "There is no pool 'no'" });
    for (const [path, status] of [
      ['daemons/99', 404],
      ['daemons/0x2', 404],
      ['pools/no', 404],
      ['nothing', 404],
      ['why?pool=vms', 400],
      ['status?verbose=1', 400],
      ['pools/%ff', 400],
    ] as const)
      t.equal((await fetch(`${url}/api/v1/${path}`)).status, status, path);
  },
);

t.test('changes reach the cluster as they were meant, dry runs as dry runs', async (t) => {
  const cluster = SampleCluster.healthy();
  const { url } = await served(t, cluster);
  const send = async (method: string, path: string, body?: object): Promise<Response> =>
    fetch(`${url}/api/v1/${path}`, {
      method,
      headers: { ...JSON_TYPE, ...ADMIN },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
  const pool = { name: 'a/b', replicas: 2, failureDomain: 'rack', groups: 64 };
  t.equal((await send('POST', 'pools', pool)).status, 201);
  t.equal((await send('POST', 'pools?dryRun=true', pool)).status, 200);
  t.equal((await send('PATCH', 'pools/a%2Fb', { newName: 'c', durability: 'write' })).status, 200);
  t.equal((await send('DELETE', 'pools/c?dryRun=true')).status, 200);
  t.equal((await send('PATCH', 'daemons/3', { membership: 'out', weight: null })).status, 200);
  t.equal((await send('DELETE', 'daemons/3')).status, 200);
  t.match(await json(await send('POST', 'clients', { name: 'n', rights: { vms: 'r' } })), {
    keyFile: 'the new key',
  });
  t.equal((await send('PATCH', 'clients/vm-host', { isAdmin: true })).status, 204);
  t.match(await json(await send('POST', 'clients/vm-host/rotate')), { keyFile: 'another key' });
  t.equal((await send('DELETE', 'clients/vm-host')).status, 204);
  const { name, ...settings } = pool;
  t.strictSame(cluster.changes, [
    ['createPool', name, settings, false],
    ['createPool', name, settings, true],
    ['setPool', name, { newName: 'c', durability: 'write' }, false],
    ['removePool', 'c', true],
    ['changeDaemon', 3, { membership: 'out', weight: null }, false],
    ['removeDaemon', 3, false],
    ['createClient', 'n', { isAdmin: false, rights: { vms: 'r' } }],
    ['setClient', 'vm-host', { isAdmin: true, rights: { vms: 'rw' } }],
    ['rotateClient', 'vm-host'],
    ['removeClient', 'vm-host'],
  ]);
  t.equal((await send('POST', 'clients', { name: 'vm-host' })).status, 409);
  t.equal((await send('PATCH', 'clients/nobody', {})).status, 404);
});

t.test('whoever has no token changes nothing and sees no clients, and is told how', async (t) => {
  const cluster = SampleCluster.healthy();
  const { url } = await served(t, cluster);
  const attempts: readonly (readonly [string, string])[] = [
    ['GET', 'clients'],
    ['POST', 'pools'],
    ['PATCH', 'pools/vms'],
    ['DELETE', 'pools/vms'],
    ['PATCH', 'daemons/1'],
    ['DELETE', 'daemons/1'],
    ['POST', 'clients'],
    ['PATCH', 'clients/vm-host'],
    ['DELETE', 'clients/vm-host'],
    ['POST', 'clients/vm-host/rotate'],
  ];
  for (const [method, path] of attempts)
    for (const authorization of ['', 'Basic eDp5', 'Bearer', `Bearer ${TOKEN}x`, 'Bearer \u00e9']) {
      const response = await fetch(`${url}/api/v1/${path}`, {
        method,
        headers: authorization === '' ? JSON_TYPE : { ...JSON_TYPE, authorization },
        ...(method === 'GET' || method === 'DELETE' ? {} : { body: '{"name":"x"}' }),
      });
      t.equal(response.status, 401, `${method} ${path} with '${authorization}'`);
      t.match(response.headers.get('www-authenticate'), /^Bearer /);
      t.match(await json(response), { code: 'E_DENIED', message: /Authorization: Bearer TOKEN/ });
    }
  t.strictSame(cluster.changes, []);
  t.match(await json(await fetch(`${url}/api/v1/clients`, { headers: ADMIN })), [
    { name: 'vm-host' },
  ]);

  const closed = await served(t, cluster, { token: null });
  const refused = await fetch(`${closed.url}/api/v1/clients`, { headers: ADMIN });
  t.equal(refused.status, 403);
  t.match(await json(refused), { code: 'E_DENIED', message: /started without an HTTP token/ });
});

t.test('a body that is not quite right is refused whole', async (t) => {
  const cluster = SampleCluster.healthy();
  const { url } = await served(t, cluster);
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
  const { url } = await served(t, cluster);
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

t.test('a path has the methods it has, and HEAD is GET without the body', async (t) => {
  const { url } = await served(t, SampleCluster.healthy());
  for (const [method, path, allow] of [
    ['POST', '/api/v1/status', 'GET, HEAD'],
    ['PUT', '/api/v1/pools/vms', 'GET, HEAD, PATCH, DELETE'],
    ['GET', '/api/v1/clients/vm-host/rotate', 'POST'],
    ['POST', '/api/v1/events', 'GET, HEAD'],
    ['POST', '/metrics', 'GET, HEAD'],
    ['DELETE', '/', 'GET, HEAD'],
  ] as const) {
    const response = await fetch(`${url}${path}`, { method });
    t.equal(response.status, 405, `${method} ${path}`);
    t.equal(response.headers.get('allow'), allow);
  }
  for (const path of ['/', '/metrics', '/healthz', '/api/v1/status', '/api/v1/events']) {
    const response = await fetch(`${url}${path}`, { method: 'HEAD' });
    t.equal(response.status, 200, `HEAD ${path}`);
    t.equal(await response.text(), '');
  }
});

t.test('probes and Prometheus are answered by every master', async (t) => {
  let isHealthy = true;
  const options = { isHealthy: () => isHealthy, leads: () => false };
  const { url } = await served(t, SampleCluster.healthy(), options);
  const probe = await fetch(`${url}/healthz`);
  t.strictSame([probe.status, await probe.text()], [200, 'ok\n']);
  isHealthy = false;
  t.equal((await fetch(`${url}/healthz`)).status, 503);
  const metrics = await fetch(`${url}/metrics`);
  t.match(metrics.headers.get('content-type'), /^text\/plain; version=0.0.4/);
  t.equal(await metrics.text(), 'store_up 1\n');
});

t.test('a master that does not lead sends people to the one that does', async (t) => {
  const cluster = SampleCluster.healthy();
  let leader: string | null = 'http://10.0.0.11:9822';
  const { url } = await served(t, cluster, { leads: () => false, masterOf: () => leader });
  const options = { redirect: 'manual' } as const;
  const read = await fetch(`${url}/api/v1/pools/vms?x=1`, options);
  t.equal(read.status, 307);
  t.equal(read.headers.get('location'), 'http://10.0.0.11:9822/api/v1/pools/vms?x=1');
  t.equal((await fetch(`${url}/`, options)).headers.get('location'), 'http://10.0.0.11:9822/');
  t.equal((await fetch(`${url}/api/v1/events`, options)).status, 307);
  t.equal((await fetch(`${url}/style.css`, options)).status, 200);
  leader = null;
  const nobody = await fetch(`${url}/api/v1/status`);
  t.equal(nobody.status, 503);
  t.match(await json(nobody), { code: 'E_NOT_LEADER' });
  t.equal((await fetch(`${url}/`)).status, 200);

  // It may find out only while it answers.
  cluster.status = () => {
    throw new StoreError('E_NOT_LEADER', 'Another master leads');
  };
  leader = 'http://10.0.0.12:9822/';
  const late = await served(t, cluster, { masterOf: () => leader });
  const response = await fetch(`${late.url}/api/v1/status`, options);
  t.equal(response.headers.get('location'), 'http://10.0.0.12:9822/api/v1/status');
});

t.test(
  'a failure of the master itself is a 500 that tells nothing but to look into the log',
  async (t) => {
    const cluster = SampleCluster.healthy();
    cluster.map = () => {
      throw new TypeError('secret is undefined');
    };
    const { url } = await served(t, cluster);
    const response = await fetch(`${url}/api/v1/map`);
    t.equal(response.status, 500);
    t.match(await json(response), { code: 'E_SYSTEM', message: /its log says why$/ });
  },
);

t.test('a page of a stranger whose name leads here reads nothing', async (t) => {
  const options = { hostNames: ['Store.Example.org'] };
  const { url } = await served(t, SampleCluster.healthy(), options);
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
  const { url } = await served(t, SampleCluster.healthy());
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

t.test('the dashboard is not sent again while it is the same', async (t) => {
  const { url } = await served(t, SampleCluster.healthy());
  const page = await fetch(url);
  t.match(page.headers.get('content-type'), /^text\/html/);
  t.match(await page.text(), /<title>/);
  const etag = page.headers.get('etag') ?? '';
  for (const known of [etag, `"x", W/${etag}`]) {
    const again = await fetch(url, { headers: { 'if-none-match': known } });
    t.strictSame([again.status, await again.text()], [304, ''], known);
  }
  t.equal((await fetch(url, { headers: { 'if-none-match': '"x"' } })).status, 200);
});

t.test('every answer tells browsers to be careful, and secrets are not kept', async (t) => {
  const { url } = await served(t, SampleCluster.healthy());
  for (const path of ['/', '/app.js', '/metrics', '/api/v1/status', '/api/v1/clients', '/none']) {
    const { headers } = await fetch(`${url}${path}`);
    t.match(headers.get('content-security-policy'), /default-src 'self';.*frame-ancestors 'none'/);
    t.equal(headers.get('x-content-type-options'), 'nosniff');
    t.equal(headers.get('access-control-allow-origin'), null);
    const isFile = path === '/' || path === '/app.js';
    t.equal(headers.get('cache-control'), isFile ? 'no-cache' : 'no-store', path);
  }
});

t.test('whoever sends slowly, or nothing, or too long headers, does not stay', async (t) => {
  const limits = { headersMs: 300, requestMs: 600, idleMs: 5000 };
  const { url } = await served(t, SampleCluster.healthy(), { limits });
  const post =
    `POST /api/v1/pools HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n` +
    `Authorization: Bearer ${TOKEN}\r\nContent-Length: 100\r\n\r\n{"name"`;
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

t.test('a watcher gets all at once, then what is new, and at most so often', async (t) => {
  const cluster = SampleCluster.healthy();
  const server = await served(t, cluster, { limits: { pushMs: 100 } });
  const reader = await EventReader.open(t, `${server.url}/api/v1/events`);
  t.equal((await reader.next()).name, 'history');
  t.match(await reader.next(), { name: 'status', value: { version: 412 } });
  const startMs = performance.now();
  for (let version = 500; version < 600; version += 1) cluster.report({ version });
  t.match(await reader.next(), { name: 'status', value: { version: 500 } });
  t.match(await reader.next(), { name: 'status', value: { version: 599 } });
  t.ok(performance.now() - startMs > 80, 'the second report waited');

  const { samples, stepSeconds } = cluster.history();
  const last = samples.at(-1);
  if (last === undefined) throw new Error('the history is empty');
  const next = { ...last, time: last.time + stepSeconds };
  cluster.report({ version: 700 }, { stepSeconds, samples: [...samples.slice(1), next] });
  t.strictSame(await reader.next(), { name: 'samples', value: { stepSeconds, samples: [next] } });
  t.match(await reader.next(), { name: 'status', value: { version: 700 } });
  reader.close();
});

t.test('watchers are counted, hear that the master lives, and leave nothing behind', async (t) => {
  const cluster = SampleCluster.healthy();
  let leads = true;
  const limits = { watchers: 2, aliveMs: 50 };
  const server = await served(t, cluster, { limits, leads: () => leads });
  const url = `${server.url}/api/v1/events`;
  const first = await EventReader.open(t, url);
  const second = await EventReader.open(t, url);
  const third = await fetch(url);
  t.equal(third.status, 503);
  t.match(await json(third), { code: 'E_BUSY' });
  t.equal(cluster.listeners, 1);
  await first.skipTo('alive');
  await second.skipTo('alive');
  leads = false;
  await first.ended();
  await second.ended();
  t.equal(server.watchers, 0);
  t.equal(cluster.listeners, 0);
});

t.test('a watcher that does not read costs one report, and is dropped', async (t) => {
  const cluster = SampleCluster.healthy(200);
  const limits = { pushMs: 1, aliveMs: 50, stalledMs: 300 };
  const server = await served(t, cluster, { limits });
  const socket = connect(Number(new URL(server.url).port), '127.0.0.1');
  socket.pause();
  t.teardown(() => socket.destroy());
  socket.write('GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n');
  const endMs = performance.now() + 20_000;
  let version = 1000;
  const isOver = (): boolean => server.watchers === 0 && version > 1001;
  while (!isOver() && performance.now() < endMs) {
    version += 1;
    cluster.report({ version });
    await realTimers.sleep(5);
  }
  t.equal(server.watchers, 0);
  t.equal(cluster.listeners, 0);
});

t.test('a port that is taken is said in one sentence', async (t) => {
  const { url } = await served(t, SampleCluster.healthy());
  const [clock, timers] = [realClock(), realTimers];
  await t.rejects(
    HttpServer.listen(
      { host: '127.0.0.1', port: Number(new URL(url).port) },
      {
        admin: SampleCluster.healthy(),
        token: null,
        metrics: () => Promise.resolve(''),
        isHealthy: () => true,
        leads: () => true,
        masterOf: () => null,
        log: silentLog,
        clock,
        timers,
      },
    ),
    { code: 'E_SYSTEM', message: /^Cannot serve HTTP on 127\.0\.0\.1:\d+: the port is taken/ },
  );
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
