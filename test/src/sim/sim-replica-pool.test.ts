import { SimRandom } from '@store/core/sim';
import { replicaPoolSuite } from '@store/daemon/testing';
import t from 'tap';
import { POOL_ID } from './sim-master.js';
import { SimDisk } from './sim-disk.js';
import { SimHost, SimProcess } from './sim-process.js';
import { SimReplicaPool } from './sim-replica-pool.js';
import { SimWorld } from './sim-world.js';

t.setTimeout(300_000);
let seed = 0;

// The model stands for the engine: what is promised of the one must hold for the other.
void replicaPoolSuite(t, 'the simulated pool', () => {
  seed += 1;
  const world = new SimWorld({ seed, isTraced: false });
  const make = (name: string): SimReplicaPool => {
    const process = new SimProcess(new SimHost(world, name));
    const disk = new SimDisk(name, new SimRandom(seed, name.length));
    return new SimReplicaPool({ world, disk, poolId: POOL_ID, process, failed: () => undefined });
  };
  const [ours, theirs] = [make('d1'), make('d22')];
  return Promise.resolve({
    ours,
    theirs,
    wait: async <T>(work: () => Promise<T>): Promise<T> => {
      let isOver = false;
      const result = work().finally(() => {
        isOver = true;
      });
      while (!isOver) {
        await new Promise((resolve) => setImmediate(resolve));
        world.scheduler.step();
      }
      return result;
    },
    rot: (object, block) => {
      const found = ours.disk.shelf(POOL_ID).objectAt(object);
      const bytes = Buffer.from(found.now.blocks[block] ?? Buffer.alloc(4096));
      bytes[7] = (bytes[7] ?? 0) ^ 1;
      found.now.blocks[block] = bytes;
      return Promise.resolve();
    },
    close: () => Promise.resolve(),
  });
});
