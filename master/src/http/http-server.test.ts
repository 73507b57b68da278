import { StoreError } from '@store/core';
import t from 'tap';
import { SampleCluster } from './testing/sample-cluster.js';
import { SAMPLE_TOKEN, sampleServer } from './testing/sample-server.js';

const JSON_TYPE = { 'content-type': 'application/json' };
const ADMIN = { authorization: `Bearer ${SAMPLE_TOKEN}` };

async function json(response: Response): Promise<unknown> {
  return response.json();
}

t.test(
  'everybody may look: status, pools, daemons, and why a key lies where it does',
  async (t) => {
    const cluster = SampleCluster.degraded();
    const { url } = await sampleServer(t, cluster);
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
  const { url } = await sampleServer(t, cluster);
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
  const { url } = await sampleServer(t, cluster);
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
    for (const authorization of [
      '',
      'Basic eDp5',
      'Bearer',
      `Bearer ${SAMPLE_TOKEN}x`,
      'Bearer \u00e9',
    ]) {
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

  const closed = await sampleServer(t, cluster, { token: null });
  const refused = await fetch(`${closed.url}/api/v1/clients`, { headers: ADMIN });
  t.equal(refused.status, 403);
  t.match(await json(refused), { code: 'E_DENIED', message: /started without an HTTP token/ });
});

t.test('a path has the methods it has, and HEAD is GET without the body', async (t) => {
  const { url } = await sampleServer(t, SampleCluster.healthy());
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
  const { url } = await sampleServer(t, SampleCluster.healthy(), options);
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
  const { url } = await sampleServer(t, cluster, { leads: () => false, masterOf: () => leader });
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
  const late = await sampleServer(t, cluster, { masterOf: () => leader });
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
    const { url } = await sampleServer(t, cluster);
    const response = await fetch(`${url}/api/v1/map`);
    t.equal(response.status, 500);
    t.match(await json(response), { code: 'E_SYSTEM', message: /its log says why$/ });
  },
);

t.test('the dashboard is not sent again while it is the same', async (t) => {
  const { url } = await sampleServer(t, SampleCluster.healthy());
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
  const { url } = await sampleServer(t, SampleCluster.healthy());
  for (const path of ['/', '/app.js', '/metrics', '/api/v1/status', '/api/v1/clients', '/none']) {
    const { headers } = await fetch(`${url}${path}`);
    t.match(headers.get('content-security-policy'), /default-src 'self';.*frame-ancestors 'none'/);
    t.equal(headers.get('x-content-type-options'), 'nosniff');
    t.equal(headers.get('access-control-allow-origin'), null);
    const isFile = path === '/' || path === '/app.js';
    t.equal(headers.get('cache-control'), isFile ? 'no-cache' : 'no-store', path);
  }
});

t.test('a port that is taken is said in one sentence', async (t) => {
  const { url } = await sampleServer(t, SampleCluster.healthy());
  const again = sampleServer(t, SampleCluster.healthy(), {}, Number(new URL(url).port));
  await t.rejects(again, {
    code: 'E_SYSTEM',
    message: /^Cannot serve HTTP on 127\.0\.0\.1:\d+: the port is taken/,
  });
});
