// Debian's kernel and nbd-client on a cluster with three copies: real files on ext4 and ext3 are kept over a restart of the
// gateway, while a daemon is killed and started again.
import { reservePort } from '@store/core/testing';
import t from 'tap';
import { needs } from '../host/requirements.js';
import { tempFolder } from '../host/temp-folder.js';
import { buildGuestImage } from '../kernel/guest-image.js';
import { guestKernel } from '../kernel/guest-kernel.js';
import { Guest } from '../kernel/guest.js';
import { ProcessCluster } from '../server/process-cluster.js';
import { StoreServer } from '../server/store-server.js';
import { whole } from '../server/whole-cluster.js';

t.setTimeout(1_190_000);

/** Of `guest-init.sh`. */
const CHECKS = 27;

t.test(
  'a Linux kernel keeps ext4 and ext3 with real files on three copies, though a daemon dies',
  needs({
    commands: [
      ...['qemu-system-x86_64', 'busybox', 'cpio', 'nbd-client', 'mke2fs', 'depmod', 'apt-get'],
    ],
  }),
  async (t) => {
    const cluster = await ProcessCluster.start(t, 3);
    const kernel = await guestKernel();
    const image = await buildGuestImage(kernel, tempFolder(t));
    const serve = (port: number): Promise<StoreServer> =>
      StoreServer.start(t, {
        ...{ image: 'vm1', createBytes: 200 * 1024 ** 2, port },
        args: [...cluster.flags],
      });
    const port = await reservePort(); // it is served there again
    let server = await serve(port);
    const guest = Guest.boot(t, kernel, image, `store_port=${port}`);
    const [daemon] = cluster.daemons;
    let checks = 0;
    let done = false;
    for await (const message of guest.messages(1_160_000)) {
      const [, not, title] = /^(not )?ok (.*)/.exec(message) ?? [];
      if (title !== undefined) {
        checks += 1;
        t.ok(not === undefined, title);
      } else if (message === 'restart') {
        await daemon?.kill9();
        await server.stop(); // flushes without the one that is dead
        server = await serve(port);
        guest.say('restarted');
        await daemon?.startAgain();
      } else if (message === 'done') {
        done = true;
      }
    }
    t.ok(done, 'the guest ran to its end');
    t.equal(checks, CHECKS, 'the guest made all its checks');
    if (!t.passing()) t.comment(guest.console);
    await whole(cluster);
    await server.stop();
    await cluster.stop();
  },
);
