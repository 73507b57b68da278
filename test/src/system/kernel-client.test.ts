// The main job: Debian's kernel with its own nbd driver and nbd-client makes filesystems on our image and keeps real files.
import { join } from 'node:path';
import t from 'tap';
import { needs } from '../host/requirements.js';
import { tempFolder } from '../host/temp-folder.js';
import { buildGuestImage } from '../kernel/guest-image.js';
import { guestKernel } from '../kernel/guest-kernel.js';
import { Guest } from '../kernel/guest.js';
import { StoreServer } from '../server/store-server.js';

t.setTimeout(1_190_000);

const CHECKS = 27;

t.test(
  'a Linux kernel keeps ext4 and ext3 with real files on an image, also over a restart of store-nbd',
  needs({
    commands: [
      'qemu-system-x86_64',
      'busybox',
      'cpio',
      'nbd-client',
      'mke2fs',
      'depmod',
      'apt-get',
    ],
  }),
  async (t) => {
    const folder = tempFolder(t);
    const kernel = await guestKernel();
    const image = await buildGuestImage(kernel, folder);
    const options = { dir: join(folder, 'data'), image: 'vm1', createBytes: 200 * 1024 ** 2 };
    let server = await StoreServer.start(t, options);
    const port = Number(new URL(server.uri.replace('nbd:', 'http:')).port);
    const guest = Guest.boot(t, kernel, image, `store_port=${port}`);
    let checks = 0;
    let done = false;
    for await (const message of guest.messages(1_160_000)) {
      const [, not, title] = /^(not )?ok (.*)/.exec(message) ?? [];
      if (title !== undefined) {
        checks += 1;
        t.ok(not === undefined, title);
      } else if (message === 'restart') {
        await server.stop();
        server = await StoreServer.start(t, { ...options, port });
        guest.say('restarted');
      } else if (message === 'done') {
        done = true;
      }
    }
    t.ok(done, 'the guest ran to its end');
    t.equal(checks, CHECKS, 'the guest made all its checks');
    if (!t.passing()) t.comment(guest.console);
    await server.stop();
  },
);
