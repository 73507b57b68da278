import { connect } from 'node:net';
import { realTimers, StoreError } from '@store/core';
import t from 'tap';
import { EventReader } from './testing/event-reader.js';
import { SampleCluster } from './testing/sample-cluster.js';
import { sampleServer } from './testing/sample-server.js';

async function json(response: Response): Promise<unknown> {
  return response.json();
}

t.test('a watcher gets all at once, then what is new, and at most so often', async (t) => {
  const cluster = SampleCluster.healthy();
  const server = await sampleServer(t, cluster, { limits: { pushMs: 100 } });
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
  const server = await sampleServer(t, cluster, { limits, leads: () => leads });
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
  const server = await sampleServer(t, cluster, { limits });
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

t.test('watchers of a master that does not know any more are sent away', async (t) => {
  const cluster = SampleCluster.healthy();
  const server = await sampleServer(t, cluster, { limits: { pushMs: 50 } });
  const reader = await EventReader.open(t, `${server.url}/api/v1/events`);
  await reader.skipTo('status');
  cluster.status = () => {
    throw new StoreError('E_NOT_LEADER', 'Another master leads');
  };
  cluster.report({});
  await reader.ended();
  t.equal(server.watchers, 0);
  t.equal(cluster.listeners, 0);
});
