import { StoreError, silentLog } from '@store/core';
import { SimRandom, simEnv } from '@store/core/sim';
import t, { type Test } from 'tap';
import { Compactor } from './compactor.js';
import { SimState } from './sim-state.js';
import { put, StoppableEnv } from './state-user.js';
import type { StateStore } from './state-store.js';

const OPTIONS = { intervalMs: 1000, keepMs: 10_000, keepRevisions: 20 };

interface Tools {
  readonly sim: SimState;
  readonly warnings: string[];
  /** Revisions that the store was asked to compact. */
  readonly asked: number[];
  /** So many compactions fail. */
  failures: number;
  readonly change: (count: number) => Promise<number>;
}

async function story(title: string, play: (t: Test, tools: Tools) => Promise<void>): Promise<void> {
  await t.test(title, async (t) => {
    const sim = new SimState(1);
    const state = await sim.open();
    const tools: Tools = {
      sim,
      warnings: [],
      asked: [],
      failures: 0,
      change: async (count) => {
        for (let at = 1; at < count; at += 1) await sim.wait(put(state, 'k', `${at}`));
        return (await sim.wait(put(state, 'k', 'last'))).revision;
      },
    };
    const env = simEnv(sim.scheduler, new SimRandom(1, 9), sim.disk);
    const log = { ...silentLog, warn: (_: object, text: string) => tools.warnings.push(text) };
    const store: StateStore = {
      ...new StoppableEnv(env).store(state),
      compact: async (revision) => {
        tools.asked.push(revision);
        if (tools.failures > 0) {
          tools.failures -= 1;
          throw new StoreError('E_UNREACHABLE', 'None of 3 members answers');
        }
        return state.compact(revision);
      },
    };
    const compactor = new Compactor({ ...env, log }, store, OPTIONS);
    await play(t, tools);
    await sim.wait(compactor.close());
    await sim.wait(state.close());
  });
}

await story('so many revisions are kept', async (t, { sim, asked, change }) => {
  const revision = await change(50);
  await sim.passMs(2000);
  t.same(asked, [revision - OPTIONS.keepRevisions]);
  await sim.passMs(2000);
  t.equal(asked.length, 1, 'nothing is asked twice');
});

await story('what is older than it is kept goes', async (t, { sim, asked, change }) => {
  const revision = await change(5);
  await sim.passMs(OPTIONS.keepMs - 2000);
  await change(3);
  t.same(asked, []);
  await sim.passMs(4000);
  t.equal(asked.at(-1), revision);
  await sim.passMs(OPTIONS.keepMs);
  t.equal(asked.at(-1), revision + 3);
});

await story('a failure is a warning, and tried again', async (t, tools) => {
  tools.failures = 2;
  const revision = await tools.change(50);
  await tools.sim.passMs(5000);
  t.same(
    tools.asked,
    Array.from({ length: 3 }, () => revision - OPTIONS.keepRevisions),
  );
  t.match(tools.warnings, [/not compacted: None of 3/, /not compacted/]);
  t.equal(tools.warnings.length, 2);
});
