// Restarts of store-nbd in a real kernel: plain nbd-client knows no way to reconnect and needs none for a planned restart;
// the virtio disk of a QEMU guest survives planned restarts and kill -9. Neither writers nor filesystems learn of any.
import { join } from 'node:path';
import t from 'tap';
import { needs } from '../host/requirements.js';
import { tempFolder } from '../host/temp-folder.js';
import { sleep, waitUntil } from '../host/wait-until.js';
import { buildGuestImage } from '../kernel/guest-image.js';
import { guestKernel } from '../kernel/guest-kernel.js';
import { Guest } from '../kernel/guest.js';
import { ReplaceableServer } from '../server/replaceable-server.js';
import { SeededRandom, testSeed } from '../tagged-writer/seeded-random.js';

t.setTimeout(1_190_000);

const CHECKS = 29;
const ROUNDS = 20;
/** QEMU doubles its pauses between attempts, up to 16 s. */
const GOES_ON_MS = 120_000;
const GUEST_MS = 1_160_000;
const RECONNECT_DELAY_S = 60;

t.test(
  `ext4 survives ${ROUNDS} planned restarts on nbd-client and on a virtio disk, there ${ROUNDS} kills too`,
  needs({
    commands: [
      ...['qemu-system-x86_64', 'busybox', 'cpio', 'nbd-client', 'mke2fs', 'depmod', 'apt-get'],
    ],
  }),
  async (t) => {
    const seed = testSeed();
    t.comment(`replay: STORE_SEED=${seed} node test/dist/system/kernel-restarts.test.js`);
    const random = new SeededRandom(seed);
    const folder = tempFolder(t);
    const kernel = await guestKernel();
    const image = await buildGuestImage(kernel, folder, 'guest-restarts-init');
    const start = (dir: string, ...where: string[]): Promise<ReplaceableServer> =>
      ReplaceableServer.start(t, {
        dir: join(folder, dir),
        args: ['--pool', 'testpool', '--image', 'vm1', '--create', '1G', ...where],
      });
    const socket = join(folder, 'nbd.sock');
    const forClient = await start('client', '--port', '0');
    const forDisk = await start('disk', '--socket', socket);
    const port = /^nbd:\/\/[^/]*:(\d+)/m.exec(forClient.log)?.[1] ?? '';
    const guest = Guest.boot(t, kernel, image, `store_port=${port}`, null, virtioDisk(socket));

    const synced = new Map([
      ['nbd0', 0],
      ['vda', 0],
    ]);
    const countOf = (name: string): number => synced.get(name) ?? 0;
    let isGone = false;
    /** Waits until each writer has synced a file it had not begun yet. @returns How long that took */
    const goOn = async (...names: string[]): Promise<number> => {
      const startMs = performance.now();
      const enough = new Map(names.map((name) => [name, countOf(name) + 2]));
      await waitUntil(`synced files on ${names.join(' and ')}`, GOES_ON_MS, () => {
        if (isGone) throw new Error('the guest is gone');
        return [...enough].every(([name, count]) => countOf(name) >= count);
      });
      return Math.round(performance.now() - startMs);
    };
    const trouble: Record<string, () => Promise<number>> = {
      restart: async () => {
        await Promise.all([forClient.restart('SIGUSR2'), forDisk.restart('SIGUSR2')]);
        return goOn('nbd0', 'vda');
      },
      kill: async () => {
        await forDisk.kill9AndStart(random.between(0, 300));
        return goOn('vda');
      },
    };
    const cause = async (what: string, once: () => Promise<number>): Promise<void> => {
      const pausesMs: number[] = [];
      try {
        await goOn('vda');
        for (let round = 0; round < ROUNDS; round += 1) {
          await sleep(random.between(50, 500));
          pausesMs.push(await once());
        }
      } catch (error) {
        t.fail(`${what} ${pausesMs.length + 1}: ${String(error)}`);
      }
      t.equal(pausesMs.length, ROUNDS, `the writers went on after each ${what}`);
      pausesMs.sort((a, b) => a - b);
      t.comment(
        `from serving again to two more synced files: median ${pausesMs[ROUNDS / 2]} ms, worst ${pausesMs.at(-1)} ms`,
      );
      if (!isGone) guest.say('over');
    };

    let [checks, done] = [0, false];
    const kept = new Map<string, number>();
    const causing: Promise<void>[] = [];
    const bootMs = performance.now();
    for await (const message of guest.messages(GUEST_MS)) {
      const [, not, title] = /^(not )?ok (.*)/.exec(message) ?? [];
      const [, verb, name, count] = /^(synced|kept) (\w+) (\d+)/.exec(message) ?? [];
      const once = trouble[message];
      if (verb !== undefined && name !== undefined) {
        (verb === 'kept' ? kept : synced).set(name, Number(count));
      } else if (title !== undefined) {
        checks += 1;
        t.ok(not === undefined, `${title} (${Math.round((performance.now() - bootMs) / 1000)} s)`);
      } else if (once !== undefined) {
        causing.push(cause(message, once)); // beside this loop, which reads on what the guest says
      } else if (message === 'done') done = true;
      else t.fail(message); // an error of a writer
    }
    isGone = true;
    await Promise.all(causing);
    t.ok(done, 'the guest ran to its end');
    t.equal(checks, CHECKS, 'the guest made all its checks');
    for (const [name, count] of synced)
      t.ok(
        count > ROUNDS && kept.get(name) === count,
        `${count} synced files on ${name} were kept`,
      );
    if (!t.passing()) t.comment(guest.console);
    await Promise.all([forClient.stop(), forDisk.stop()]);
  },
);

/** The arguments of a guest's disk that is an export; without a delay the first lost connection is an I/O error. */
function virtioDisk(socket: string): string[] {
  const backend = `driver=nbd,server.type=unix,server.path=${socket},export=vm1`;
  return [
    ...['-blockdev', `node-name=disk,${backend},reconnect-delay=${RECONNECT_DELAY_S}`],
    ...['-device', 'virtio-blk-pci,drive=disk'],
  ];
}
