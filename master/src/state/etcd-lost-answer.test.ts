/**
 * Commits whose answer never comes, or does not tell: applied, still on their way, or neither. Each is made once, and
 * its result is known.
 */
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { realEnv, silentLog } from '@store/core';
import { codeOf } from '@store/core/testing';
import t from 'tap';
import { EtcdCluster } from '../testing/etcd-cluster.js';
import { EtcdState } from './etcd-state.js';
import { get, put } from './state-user.js';

const env = realEnv(silentLog);
const cluster = await EtcdCluster.start(t, { members: 1 });
const { endpoint } = cluster.member(0);
type Fate = 'pass' | 'answer lost' | 'late' | 'no space' | 'applied, no space';
/** What becomes of the next transactions, one after the other. */
let fates: Fate[] = [];
/** What a full etcd answers: before it begins, or of a transaction that found no room when its turn came and was applied. */
const NO_SPACE = { message: 'etcdserver: mvcc: database space exceeded', code: 8 };
let late: (() => Promise<Response>) | null = null;

const proxy = http.createServer((request, response) => {
  const chunks: Buffer[] = [];
  request.on('data', (chunk: Buffer) => chunks.push(chunk));
  request.on('end', () => {
    const body = Buffer.concat(chunks).toString();
    const forward = () => fetch(endpoint + (request.url ?? ''), { method: 'POST', body });
    const now = request.url === '/v3/kv/txn' ? (fates.shift() ?? 'pass') : 'pass';
    const full = () => response.writeHead(429).end(JSON.stringify(NO_SPACE));
    if (now === 'no space') {
      full();
      return;
    }
    if (now === 'late') {
      late = forward;
      response.destroy();
      return;
    }
    void forward().then(async (answer) => {
      const text = await answer.text();
      if (now === 'answer lost') response.destroy();
      else if (now === 'applied, no space') full();
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
  fates = ['answer lost'];
  const result = await commit(revision, 'once');
  t.ok(result.applied);
  t.same(await get(state, 'k'), { value: 'once', revision: result.revision });
});

await t.test('a commit that arrives when it was given up is never applied', async (t) => {
  const { revision } = await put(state, 'k', 'before');
  fates = ['late'];
  const result = await commit(revision, 'second try');
  t.ok(result.applied, 'it was made again');
  await state.commit({ conditions: [], changes: [{ key: 'k', value: null }] });
  fates = ['late'];
  await put(state, 'k', 'without conditions');
  await put(state, 'k', 'newer');
  await late?.();
  t.equal((await get(state, 'k'))?.value, 'newer');
});

await t.test('a commit that a full etcd applied and complained about is applied', async (t) => {
  const { revision } = await put(state, 'k', 'before');
  fates = ['applied, no space'];
  const result = await commit(revision, 'there');
  t.ok(result.applied);
  t.same(await get(state, 'k'), { value: 'there', revision: result.revision });
  fates = ['no space'];
  t.equal(await codeOf(commit(result.revision, 'not there')), 'E_NO_SPACE');
  t.equal((await get(state, 'k'))?.value, 'there');
});

await t.test('who lost an answer and then finds etcd full is told what can be known', async (t) => {
  const { revision } = await put(state, 'k', 'before');
  fates = ['answer lost', 'no space'];
  const result = await commit(revision, 'applied');
  t.same(await get(state, 'k'), { value: 'applied', revision: result.revision });
  fates = ['late', 'no space'];
  t.equal(await codeOf(commit(result.revision, 'late')), 'E_IN_DOUBT', 'it may still arrive');
  fates = ['late', 'applied, no space'];
  const again = await commit(result.revision, 'second try');
  t.ok(again.applied, 'the first was refused for ever');
  await late?.();
  t.same(await get(state, 'k'), { value: 'second try', revision: again.revision });
});
