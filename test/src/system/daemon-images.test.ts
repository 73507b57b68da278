// Images of a daemon are made, resized and removed as images in a folder are, whatever way the programs reach it.
import t from 'tap';
import type { Test } from 'tap';
import { DAEMON_WAYS, reachDaemon, type ReachedDaemon } from '../server/daemon-way.js';
import { runProgram, runProgramWell } from '../server/store-programs.js';
import { testSeed } from '../tagged-writer/seeded-random.js';

t.setTimeout(600_000);

const seed = testSeed();
t.comment(`replay: STORE_SEED=${seed} node test/dist/system/daemon-images.test.js`);

const MIB = 1024 ** 2;

for (const way of DAEMON_WAYS)
  t.test(`store-image at a daemon, over ${way.name}`, async (t) => {
    const reached = await reachDaemon(t, way, seed);
    await imagesAreMadeAndRemoved(t, reached);
    if (way.isSecure) await strangersStayOut(t, reached);
    await reached.daemon.stop();
  });

async function imagesAreMadeAndRemoved(t: Test, { flags }: ReachedDaemon): Promise<void> {
  const image = (...args: string[]): Promise<string> =>
    runProgramWell('store-image', [...args, ...flags, '--pool', 'testpool']);
  await image('create', 'vm1', '--size', '10M');
  await image('create', 'vm2', '--size', '3G');
  t.match(await image('ls'), /vm1[\s\S]*vm2/);
  t.match(JSON.parse(await image('info', 'vm2', '--json')), { size: 3 * 1024 ** 3 });
  await image('resize', 'vm1', '--size', '20M');
  t.match(JSON.parse(await image('info', 'vm1', '--json')), { size: 20 * MIB });
  await image('rm', 'vm1');
  t.notMatch(await image('ls'), /vm1/);
  const again = await runProgram('store-image', [
    ...['info', 'vm1', ...flags, '--pool', 'testpool'],
  ]);
  t.equal(again.code, 1);
  t.match(again.stderr, /vm1/, 'what is gone is named');
  const header = Buffer.from('0000000006400000', 'hex').toString('latin1');
  await runProgramWell(
    'store',
    ['write', 'testblock', '--data-file', '-', ...flags, '--pool', 'testpool'],
    { input: header },
  );
  t.match(JSON.parse(await image('info', 'testblock', '--json')), { size: 100 * MIB });
  await image('upgrade', 'testblock');
  t.match(JSON.parse(await image('info', 'testblock', '--json')), { size: 100 * MIB });
}

async function strangersStayOut(t: Test, { strangerFlags }: ReachedDaemon): Promise<void> {
  const { code, stderr, stdout } = await runProgram('store-image', [
    ...['ls', ...strangerFlags, '--pool', 'testpool'],
  ]);
  t.equal(code, 1, 'who has no ticket does not get in');
  t.equal(stdout, '');
  t.match(stderr, /ticket/);
}
