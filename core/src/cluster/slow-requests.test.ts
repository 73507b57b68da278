import t from 'tap';
import { ClientRequest } from '../client/client-request.js';
import type { Log } from '../env/log.js';
import { OBJECT_KIND, ObjectRef } from '../pool/object-pool.js';
import { SimDisk } from '../sim/sim-disk.js';
import { simEnv } from '../sim/sim-env.js';
import { SimRandom } from '../sim/sim-random.js';
import { SimScheduler } from '../sim/sim-scheduler.js';
import { OP } from '../wire/ops.js';
import { SlowRequests } from './slow-requests.js';

interface Story {
  readonly slow: SlowRequests;
  readonly open: ClientRequest[];
  /** What was logged, and at which second. */
  readonly said: string[];
  readonly scheduler: SimScheduler;
  /** Takes a request about a group. */
  readonly take: (group: number) => ClientRequest;
  readonly passes: (seconds: number) => void;
}

function begin(reasonOf: (group: number) => string = () => 'it hangs'): Story {
  const scheduler = new SimScheduler();
  const random = new SimRandom(1);
  const said: string[] = [];
  const note = (_fields: unknown, text: string): void => {
    said.push(`${Math.round(scheduler.now / 1000)} s: ${text}`);
  };
  const log = { info: note, warn: note } as unknown as Log; // no other is used
  const env = { ...simEnv(scheduler, random, new SimDisk(scheduler, random)), log };
  const open: ClientRequest[] = [];
  const groups = new Map<ClientRequest, number>();
  const groupOf = (request: ClientRequest): number => groups.get(request) ?? 0;
  const slow = new SlowRequests({ env, pool: 'p', open: () => open, groupOf, reasonOf });
  return {
    ...{ slow, open, said, scheduler },
    take: (group) => {
      const ref = new ObjectRef(OBJECT_KIND.plain, 'object');
      const request = new ClientRequest(OP.read, null, ref, 0, 0, () => undefined);
      groups.set(request, group);
      open.push(request);
      slow.began(request);
      return request;
    },
    passes: (seconds) => {
      const over: true[] = [];
      env.timers.after(seconds * 1000, () => over.push(true));
      while (over.length === 0) scheduler.step();
    },
  };
}

t.test('who waits for long is told why, once in a while, and when it is over', (t) => {
  const { take, passes, open, said } = begin();
  take(7);
  passes(9);
  t.same(said, [], 'a failover is no matter');
  passes(7);
  t.same(said, [
    "15 s: 1 request has waited for more than 10 s. Group 7 of pool 'p': it hangs. See: store status",
  ]);
  passes(40);
  t.equal(said.length, 1);
  passes(20);
  t.equal(said.length, 2);
  open.length = 0;
  passes(6);
  t.match(said.at(-1), /: No request waits for long any more$/);
  passes(100);
  t.equal(said.length, 3);
  t.end();
});

t.test('groups with the same reason are told together, a few of them', (t) => {
  const { take, passes, said } = begin((group) => (group < 90 ? 'it hangs' : 'no primary'));
  for (const group of [99, 6, 5, 4, 3, 2, 2, 1]) take(group);
  passes(16);
  t.same(said, [
    "15 s: 8 requests have waited for more than 10 s. Groups 1, 2, 3, 4 (and 2 more) of pool 'p': it hangs. Group 99 of pool 'p': no primary. See: store status",
  ]);
  t.end();
});

t.test('another reason is said at once', (t) => {
  let reason = 'it hangs';
  const { take, passes, said } = begin(() => reason);
  take(1);
  passes(21);
  reason = 'no primary';
  passes(5);
  t.equal(said.length, 2);
  t.match(said[1], 'no primary');
  passes(30);
  t.equal(said.length, 2);
  t.end();
});

t.test('many short requests are never slow, and nothing runs when there are none', (t) => {
  const { take, passes, open, said, slow, scheduler } = begin();
  for (let second = 0; second < 60; second += 1) {
    take(1);
    passes(1);
    open.shift();
  }
  t.same(said, []);
  passes(10);
  t.notOk(scheduler.step(), 'no timer is left');
  take(1);
  slow.close();
  passes(60);
  t.same(said, []);
  t.end();
});
