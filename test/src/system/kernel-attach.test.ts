// store-nbd attach in a real kernel: kill -9 of the server reaches neither the writer nor the filesystem.
import { join } from 'node:path';
import t from 'tap';
import { needs } from '../host/requirements.js';
import { tempFolder } from '../host/temp-folder.js';
import { sleep } from '../host/wait-until.js';
import { buildGuestImage } from '../kernel/guest-image.js';
import { guestKernel } from '../kernel/guest-kernel.js';
import { buildGuestPrograms } from '../kernel/guest-programs.js';
import { Guest } from '../kernel/guest.js';
import { StoreServer } from '../server/store-server.js';
import { SeededRandom, testSeed } from '../tagged-writer/seeded-random.js';

t.setTimeout(1_190_000);

const CHECKS = 38;
const KILLS = 20;
/** The kernel resends after 3 s what was in flight; the guest is slow. */
const GOES_ON_MS = 120_000;

t.test(
  `ext4 on store-nbd attach survives ${KILLS} kills of store-nbd, and a kill of its supervisor`,
  needs({
    commands: [
      ...['qemu-system-x86_64', 'busybox', 'cpio', 'nbd-client', 'mke2fs', 'depmod', 'apt-get'],
    ],
  }),
  async (t) => {
    const seed = testSeed();
    t.comment(`replay: STORE_SEED=${seed} node test/dist/system/kernel-attach.test.js`);
    const random = new SeededRandom(seed);
    const folder = tempFolder(t);
    const kernel = await guestKernel();
    const image = await buildGuestImage(kernel, folder, 'guest-attach-init');
    const disk = await buildGuestPrograms(folder);
    const options = { dir: join(folder, 'data'), image: 'vm1' };
    let server = await StoreServer.start(t, { ...options, createBytes: 1024 ** 3 });
    const port = Number(new URL(server.uri.replace('nbd:', 'http:')).port);
    const guest = Guest.boot(t, kernel, image, `store_port=${port}`, disk);

    const restart = async (): Promise<void> => {
      await server.kill9();
      await sleep(random.between(0, 300));
      server = await StoreServer.start(t, { ...options, port });
    };
    let synced = 0;
    let goesOn = (): void => undefined;
    const killAgainAndAgain = async (): Promise<number[]> => {
      const recoveries: number[] = [];
      for (let kill = 1; kill <= KILLS; kill += 1) {
        await sleep(random.between(100, 700));
        await restart();
        const servesAtMs = performance.now();
        const more = new Promise<void>((resolve) => (goesOn = resolve));
        const inTime = await Promise.race([
          more.then(() => true),
          sleep(GOES_ON_MS).then(() => false),
        ]);
        if (!inTime) throw new Error(`no file was synced for ${GOES_ON_MS} ms after kill ${kill}`);
        recoveries.push(Math.round(performance.now() - servesAtMs));
      }
      return recoveries.sort((a, b) => a - b);
    };

    let [checks, done, kept] = [0, false, 0];
    const bootMs = performance.now();
    for await (const message of guest.messages(1_160_000)) {
      const [, not, title] = /^(not )?ok (.*)/.exec(message) ?? [];
      const [, count] = /^synced (\d+)$/.exec(message) ?? [];
      const [, files] = /^kept (\d+) files$/.exec(message) ?? [];
      if (count !== undefined) {
        synced = Number(count);
        goesOn();
      } else if (title !== undefined) {
        checks += 1;
        t.ok(not === undefined, `${title} (${Math.round((performance.now() - bootMs) / 1000)} s)`);
      } else if (message === 'ready') {
        // Beside this loop, which goes on reading what the guest says.
        void killAgainAndAgain().then(
          (recoveries) => {
            t.equal(recoveries.length, KILLS, `${KILLS} kills`);
            t.comment(
              `from serving again to the next synced file: median ${recoveries[KILLS / 2]} ms, worst ${recoveries.at(-1)} ms`,
            );
            guest.say('over');
          },
          (error: unknown) => {
            t.fail(String(error));
            guest.say('over');
          },
        );
      } else if (message === 'restart') {
        await restart();
        guest.say('restarted');
      } else if (files !== undefined) kept = Number(files);
      else if (message === 'done') done = true;
      else t.fail(message); // an error of the writer
    }
    t.ok(done, 'the guest ran to its end');
    t.equal(checks, CHECKS, 'the guest made all its checks');
    t.ok(kept > KILLS && kept === synced, `${kept} synced files were kept`);
    if (!t.passing()) t.comment(guest.console);
    await server.stop();
  },
);
