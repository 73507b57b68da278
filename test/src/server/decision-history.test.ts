import type { StateListener, StateStore } from '@store/master';
import t from 'tap';
import { DecisionHistory } from './decision-history.js';

/** A store of which only the watch is used. */
async function watched(): Promise<{ history: DecisionHistory; tell: StateListener['changed'] }> {
  let listener: StateListener | null = null;
  const unused = (): never => {
    throw new Error('not used');
  };
  const store: StateStore = {
    read: () => Promise.resolve({ revision: 1, entries: [] }),
    watch: (_prefix, _afterRevision, given) => {
      listener = given;
      return { stop: () => undefined };
    },
    commit: unused,
    compact: unused,
    lease: unused,
    close: unused,
  };
  const history = await DecisionHistory.begin(store);
  return { history, tell: (batch) => listener?.changed(batch) };
}

function change(key: string, value: object | null) {
  return { key, value: value === null ? null : Buffer.from(JSON.stringify(value)) };
}

t.test('a history tells who decided without leading, and which decision is missing', async (t) => {
  const { history, tell } = await watched();
  let revision = 1;
  const happens = (key: string, value: object | null): string[] => {
    revision += 1;
    tell({ revision, changes: [change(key, value)] });
    return history.problems.splice(0);
  };
  t.same(happens('leader', { id: 'a' }), []);
  t.same(happens('cluster', { serial: 0, by: 'a' }), []);
  t.same(happens('cluster', { serial: 1, by: 'a' }), []);
  t.same(happens('cluster', { serial: 3, by: 'a' }), ['decision 3 follows 1']);
  t.same(happens('cluster', { serial: 3, by: 'a' }), ['decision 3 follows 3']);
  t.same(happens('leader', { id: 'b' }), ['b took over from a, which still led']);
  t.same(happens('cluster', { serial: 4, by: 'a' }), ['decision 4 is of a while b led']);
  t.same(happens('leader', null), []);
  t.same(happens('cluster', { serial: 5, by: 'b' }), ['decision 5 is of b while nobody led']);
  t.same(happens('cluster', null), ['revision 11 has removed the cluster']);
  t.equal(history.decisionCount, 6);
});
