import { OP } from '@store/core';
import t from 'tap';
import { frame, RawClient, writeBody } from './testing/raw-client.js';
import { ServedMemory } from './testing/served-memory.js';
import { until } from './testing/until.js';

t.test(
  'a payload is kept while its request runs, even if an older one ends meanwhile',
  async (t) => {
    const served = await ServedMemory.open();
    t.teardown(() => served.close());
    const client = await RawClient.open(served.address);
    const write = (requestId: number, letter: string): void => {
      const payload = Buffer.alloc(4096, letter);
      const body = writeBody(client.pool, letter, 0, payload);
      client.send(frame({ op: OP.write, requestId, body, payload }));
    };
    const { store } = served;
    store.isHolding = true;
    write(100, 'a');
    await until(() => store.held.length === 1, 'the first is held');
    // The second ends the first before it is held itself.
    store.before = () => store.held.shift()?.();
    write(101, 'b');
    await until(() => store.log.length === 2 && client.answers.length === 1, 'the first has ended');
    store.before = () => undefined;
    for (let id = 102; id < 110; id += 1) write(id, 'c');
    await until(() => store.held.length === 9, 'more has arrived');
    store.release();
    for (let id = 100; id < 110; id += 1) t.equal((await client.answer(id)).status, 0);
    await client.close();
  },
);
