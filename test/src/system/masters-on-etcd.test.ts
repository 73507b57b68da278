/** Masters die one after the other, and members of their etcd too: one master decides at a time, and nothing is lost. */
import t from 'tap';
import { needs } from '../host/requirements.js';
import { EtcdMasters } from '../server/etcd-masters.js';
import { SeededRandom, testSeed } from '../tagged-writer/seeded-random.js';

const seed = testSeed();
t.comment(`replay: STORE_SEED=${seed} node test/dist/system/masters-on-etcd.test.js`);

const KILLS = 20;
/** Now and then a member of etcd dies with the leader, and is back for the next but one. */
const MEMBER_EVERY = 4;
/** On a machine on which nothing else runs it is five; the lease of a leader lasts three. */
const ADMINISTRATION_MS_MAX = 30_000;

t.setTimeout(900_000);

t.test(
  `the leader is killed ${KILLS} times, with a member of etcd now and then`,
  needs({ commands: ['etcd'] }),
  async (t) => {
    const random = new SeededRandom(seed);
    const cluster = await EtcdMasters.start(t);
    const { masters, etcd } = cluster;
    const times: number[] = [];
    let member: number | null = null;
    for (let kill = 1; kill <= KILLS; kill += 1) {
      const leader = await cluster.leaderAfter(null);
      if (member !== null) {
        etcd.member(member).start();
        await etcd.ready([etcd.member(member)]);
        member = null;
      } else if (kill % MEMBER_EVERY === 0) {
        member = random.between(0, 2);
        await etcd.member(member).kill();
      }
      await leader.kill9();
      const [ms] = await Promise.all([cluster.makePool(`after-${kill}`), leader.startAgain()]);
      times.push(ms);
    }
    if (member !== null) etcd.member(member).start();
    await cluster.check(t);
    t.ok(cluster.history.terms.length > KILLS, `${cluster.history.terms.length} terms`);
    for (const { running } of masters) t.ok(running);
    times.sort((a, b) => a - b);
    const seconds = (ms = 0): string => (ms / 1000).toFixed(1);
    t.comment(
      `administration works again after ${seconds(times[0])} to ${seconds(times.at(-1))} s, ${seconds(times[KILLS / 2])} in the middle`,
    );
    t.ok((times.at(-1) ?? 0) < ADMINISTRATION_MS_MAX, 'soon enough each time');
  },
);
