/** Commits whose answer never comes: applied, or still on their way. Each is made once, and its result is known. */
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { realEnv, silentLog } from '@store/core';
import t from 'tap';
import { EtcdCluster } from '../testing/etcd-cluster.js';
import { EtcdState } from './etcd-state.js';
import { get, put } from './state-user.js';

const env = realEnv(silentLog);
const cluster = await EtcdCluster.start(t, { members: 1 });
const { endpoint } = cluster.member(0);
/** What becomes of the next transaction. */
let fate: 'pass' | 'answer lost' | 'late' = 'pass';
let late: (() => Promise<Response>) | null = null;

const proxy = http.createServer((request, response) => {
  const chunks: Buffer[] = [];
  request.on('data', (chunk: Buffer) => chunks.push(chunk));
  request.on('end', () => {
    const body = Buffer.concat(chunks).toString();
    const forward = () => fetch(endpoint + (request.url ?? ''), { method: 'POST', body });
    const now = request.url === '/v3/kv/txn' ? fate : 'pass';
    if (now !== 'pass') fate = 'pass';
    if (now === 'late') {
      late = forward;
      response.destroy();
      return;
    }
    void forward().then(async (answer) => {
      const text = await answer.text();
      if (now === 'answer lost') response.destroy();
      else response.writeHead(answer.status).end(text);
    });
  });
});
await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve));
t.teardown(() => {
  proxy.close();
  proxy.closeAllConnections();
});
const { port } = proxy.address() as AddressInfo; // it listens on TCP
const endpoints = [`http://127.0.0.1:${port}`];
const state = new EtcdState(env, { endpoints, cluster: 'lost', tls: null, user: null });
t.teardown(() => state.close());
const commit = (revision: number, value: string) =>
  state.commit({
    conditions: [{ key: 'k', revision }],
    changes: [{ key: 'k', value: Buffer.from(value) }],
  });

await t.test('a commit that was applied is known to be, though its answer was lost', async (t) => {
  const { revision } = await put(state, 'k', 'before');
  fate = 'answer lost';
  const result = await commit(revision, 'once');
  t.ok(result.applied);
  t.same(await get(state, 'k'), { value: 'once', revision: result.revision });
});

await t.test('a commit that arrives when it was given up is never applied', async (t) => {
  const { revision } = await put(state, 'k', 'before');
  fate = 'late';
  const result = await commit(revision, 'second try');
  t.ok(result.applied, 'it was made again');
  await state.commit({ conditions: [], changes: [{ key: 'k', value: null }] });
  fate = 'late';
  await put(state, 'k', 'without conditions');
  await put(state, 'k', 'newer');
  await late?.();
  t.equal((await get(state, 'k'))?.value, 'newer');
});
