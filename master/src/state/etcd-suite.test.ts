import t from 'tap';
import { realEnv, silentLog } from '@store/core';
import { EtcdCluster } from '../testing/etcd-cluster.js';
import { EtcdState } from './etcd-state.js';
import { stateStoreSuite } from './state-store.suite.js';

t.setTimeout(270_000);
const env = realEnv(silentLog);
const cluster = await EtcdCluster.start(t);
let stories = 0;

await stateStoreSuite(t, 'a state in etcd', () => {
  stories += 1;
  const name = `story-${stories}`;
  const states: EtcdState[] = [];
  const connect = (): Promise<EtcdState> => {
    // Each client begins at another member.
    const { endpoints } = cluster;
    const first = states.length % endpoints.length;
    const state = new EtcdState(env, {
      endpoints: [...endpoints.slice(first), ...endpoints.slice(0, first)],
      cluster: name,
      tls: null,
      user: null,
    });
    states.push(state);
    return Promise.resolve(state);
  };
  const close = async (): Promise<void> => {
    await Promise.all(states.map((state) => state.close()));
  };
  return Promise.resolve({ connect, close });
});
