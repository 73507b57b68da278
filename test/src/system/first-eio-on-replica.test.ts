// The disk of one of four daemons answers a write with EIO: that daemon ends with 70 and is not started again, nobody who writes
// hears of it, and its copies are made anew on the fourth.
import { join } from 'node:path';
import t from 'tap';
import { run } from '../host/command.js';
import { startUnderFiu } from '../host/libfiu.js';
import { needs } from '../host/requirements.js';
import { tempFolder } from '../host/temp-folder.js';
import { ReplicaStory } from '../replicas/replica-story.js';

t.setTimeout(600_000);

const EXIT_DISK_FAILED = 70;

t.test(
  'a daemon whose disk fails ends, and the others go on',
  needs({ commands: ['fiu-run', 'fiu-ctrl'] }),
  async (t) => {
    const control = join(tempFolder(t), 'fiu');
    const story = await startUnderFiu(() =>
      ReplicaStory.begin(t, 'first-eio-on-replica', {
        daemons: 4,
        wrapperOf: (number) => (number === 1 ? ['fiu-run', '-x', '-f', control] : []),
      }),
    );
    const { cluster } = story;
    await story.writes();
    const failing = cluster.daemon(1);
    const id = await cluster.idOf(1);
    const command = 'enable name=posix/io/rw/pwrite*,failinfo=5';
    await run('fiu-ctrl', ['-f', control, '-c', command, `${failing.pid}`]);
    t.equal(await failing.exited(20_000), EXIT_DISK_FAILED, failing.log.slice(-1000));
    await story.goesOn(500);
    await cluster.store('daemon', 'out', `${id}`, '--yes');
    t.comment(`all copies are there after ${Math.round(await cluster.healthy(60_000, [id]))} ms`);
    await story.endsWell({ without: [1] });
  },
);
