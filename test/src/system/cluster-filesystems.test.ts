// ext4 on an image of a cluster with three copies, and a program that writes files and syncs them. Every process is
// killed or restarted once: neither the program nor the filesystem learns of any of it.
import { join } from 'node:path';
import t from 'tap';
import { ext4Story } from '../ext4-story/ext4-story.js';
import { qemuDisk } from '../ext4-story/qemu-disk.js';
import { needs } from '../host/requirements.js';
import { sleep } from '../host/wait-until.js';
import { ProcessCluster } from '../server/process-cluster.js';
import type { RestartableProgram } from '../server/restartable-program.js';
import { StoreServer } from '../server/store-server.js';
import { SeededRandom, testSeed } from '../tagged-writer/seeded-random.js';
import { whole } from '../server/whole-cluster.js';

t.setTimeout(600_000);

const DAEMONS = 3;
const RECONNECT_DELAY_S = 60;
/** How long what was killed stays away, milliseconds: less and more than until others take its place. */
const AWAY_MS = { min: 100, max: 5000 } as const;

t.test(
  'ext4 on three copies goes on while daemons and the master are killed and everything is restarted',
  needs({
    root: true,
    fuse: true,
    commands: ['qemu-storage-daemon', 'losetup', 'mkfs.ext4', 'fusermount3'],
  }),
  async (t) => {
    const seed = testSeed();
    t.comment(`replay: STORE_SEED=${seed} node test/dist/system/cluster-filesystems.test.js`);
    const random = new SeededRandom(seed);
    const cluster = await ProcessCluster.start(t, DAEMONS);
    const socket = join(cluster.folder, 'nbd.sock');
    const serve = (): Promise<StoreServer> =>
      StoreServer.start(t, {
        ...{ image: 'vm1', createBytes: 256 * 1024 ** 2, socket },
        args: [...cluster.flags],
      });
    let gateway = await serve();

    const kill = async (program: RestartableProgram): Promise<void> => {
      await sleep(random.between(50, 500));
      await program.kill9();
      await sleep(random.between(AWAY_MS.min, AWAY_MS.max));
      await program.startAgain();
      await whole(cluster);
    };
    const restart = async (program: RestartableProgram): Promise<void> => {
      await program.stop();
      await program.startAgain();
      await whole(cluster);
    };
    const [first, second, third] = cluster.daemons;
    if (first === undefined || second === undefined || third === undefined)
      throw new Error('There are three daemons');
    const troubles: readonly (() => Promise<void>)[] = [
      () => kill(first),
      () => kill(second),
      () => kill(third),
      () => kill(cluster.master),
      async () => {
        for (const daemon of cluster.daemons) await restart(daemon);
        await restart(cluster.master);
        await gateway.stop();
        gateway = await serve();
      },
    ];
    await ext4Story(t, await qemuDisk(t, socket, RECONNECT_DELAY_S), {
      rounds: troubles.length,
      cause: async (round) => {
        await troubles[round]?.();
      },
    });
    await gateway.stop();
    await cluster.stop();
  },
);
