import t from 'tap';
import { ClientRequest } from '../client/client-request.js';
import { OBJECT_KIND, ObjectRef } from '../pool/object-pool.js';
import { SimDisk } from '../sim/sim-disk.js';
import { simEnv } from '../sim/sim-env.js';
import { SimRandom } from '../sim/sim-random.js';
import { SimScheduler } from '../sim/sim-scheduler.js';
import { StoreError } from '../util/errors.js';
import { OP } from '../wire/ops.js';
import { HeldRequests } from './held-requests.js';

const DEADLINE_MS = 10_000;
const WHY = new StoreError('E_STALE_MAP', 'Not the primary');

interface Story {
  readonly scheduler: SimScheduler;
  readonly held: HeldRequests;
  /** What happened, and when. */
  readonly log: string[];
}

/** @param again - What becomes of a request that is tried again */
function begin(again: (held: HeldRequests, request: ClientRequest) => void): Story {
  const scheduler = new SimScheduler();
  const random = new SimRandom(1);
  const env = simEnv(scheduler, random, new SimDisk(scheduler, random));
  const log: string[] = [];
  const held = new HeldRequests(env, DEADLINE_MS, {
    seek: () => log.push('seek'),
    again: (request) => {
      log.push('again');
      again(held, request);
    },
    late: (_request, why) => log.push(`late ${why?.code ?? ''} ${Math.round(scheduler.now)}`),
  });
  return { scheduler, held, log };
}

function newRequest(): ClientRequest {
  const ref = new ObjectRef(OBJECT_KIND.plain, 'object');
  return new ClientRequest(OP.read, null, ref, 0, 0, () => undefined);
}

/** Lets virtual time pass until nothing is left to do. */
async function runAll({ scheduler }: Story): Promise<void> {
  do await new Promise(setImmediate);
  while (scheduler.step());
}

t.test('a request is tried ever less often until its deadline, and then given up', async (t) => {
  const story = begin((held, request) => held.hold(request, WHY));
  story.held.hold(newRequest(), WHY);
  await runAll(story);
  t.equal(story.log.at(-1), `late E_STALE_MAP ${DEADLINE_MS}`);
  const tries = story.log.filter((line) => line === 'again').length;
  t.ok(tries >= 5 && tries < 25, `${tries} tries`);
  t.ok(story.log.filter((line) => line === 'seek').length >= tries, 'each time masters are asked');
});

t.test('a newer map lets all try at once', async (t) => {
  const story = begin(() => undefined);
  story.held.hold(newRequest(), null);
  story.held.hold(newRequest(), null);
  story.held.mapIsNew();
  t.strictSame(story.log, ['seek', 'again', 'again']);
  t.equal(story.scheduler.now, 0);
  await runAll(story);
  t.equal(story.log.length, 3, 'nobody is left');
});

t.test('time that a request has used up elsewhere is not given to it again', async (t) => {
  const story = begin((held, request) => held.hold(request, null));
  const request = newRequest();
  request.lateAt = 300;
  story.held.hold(request, null);
  await runAll(story);
  t.equal(story.log.at(-1), 'late  300');
});
