// While store-nbd serves an image to a client that never stops writing, other programs work on the same folder through it:
// neither disturbs the other, and what they were told is there after a kill -9.
import { createHash, randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { run } from '../host/command.js';
import { tempFolder } from '../host/temp-folder.js';
import { NbdClient } from '../nbd-client/nbd-client.js';
import { StorageDaemon } from '../server/storage-daemon.js';
import { programPath, runProgram, runProgramWell } from '../server/store-programs.js';
import { StoreServer } from '../server/store-server.js';
import { BLOCK_BYTES, DeviceHistory } from '../tagged-writer/device-history.js';
import { SeededRandom, testSeed } from '../tagged-writer/seeded-random.js';
import { recoverDevice, TaggedWriter } from '../tagged-writer/tagged-writer.js';

t.setTimeout(330_000);

const seed = testSeed();
t.comment(`replay: STORE_SEED=${seed} node test/dist/system/owner-socket.test.js`);

const BLOCKS = 4096;
const IMAGES = ['a', 'b', 'c', 'd', 'e', 'f'];

t.test('six images are made, resized and removed while store-nbd serves a seventh', async (t) => {
  const folder = tempFolder(t);
  const dir = join(folder, 'data');
  const at = ['--dir', dir, '--pool', 'testpool'];
  const image = (...args: string[]): Promise<string> =>
    runProgramWell('store-image', [...args, ...at]);
  const history = new DeviceHistory(BLOCKS);
  const writer = new TaggedWriter({ history, random: new SeededRandom(seed), depth: 8 });
  const options = {
    ...{ dir, image: 'vm1', socket: join(folder, 'nbd.sock') },
    createBytes: BLOCKS * BLOCK_BYTES,
  };
  const server = await StoreServer.start(t, options);
  const client = await NbdClient.connect(server.uri);
  const writing = writer.run(client);

  await Promise.all(IMAGES.map((name) => image('create', name, '--size', '10M')));
  const bytes = randomBytes(3_000_000);
  writeFileSync(join(folder, 'bytes'), bytes);
  await runProgramWell('store', ['write', 'object', '--data-file', join(folder, 'bytes'), ...at]);
  const refused = await runProgram('store-image', ['rm', 'vm1', ...at]);
  t.equal(refused.code, 1, 'what is served stays');
  t.match(refused.stderr, new RegExp(`served by store-nbd.*${server.pid}`));
  await Promise.all(['a', 'b', 'c'].map((name) => image('rm', name)));
  await Promise.all(['d', 'e'].map((name) => image('resize', name, '--size', '30M')));
  const digest = await run('bash', [
    '-c',
    '"$0" read object "$@" | sha256sum',
    programPath('store'),
    ...at,
  ]);
  t.equal(digest.slice(0, 64), createHash('sha256').update(bytes).digest('hex'), 'an object');
  const answersBefore = writer.answers;
  const listed = await image('ls', '--json');
  t.ok(writer.answers > answersBefore, 'the client goes on meanwhile');
  await server.kill9();
  await writing;
  t.same(writer.problems, [], 'all reads were right');
  t.same(writer.errors, [], 'the client got no error');

  t.same(JSON.parse(await image('ls', '--json')), JSON.parse(listed), 'after kill -9');
  const again = await StoreServer.start(t, options);
  const reader = await NbdClient.connect(again.uri);
  t.same(await recoverDevice(reader, history, 'process'), [], 'nothing of the client is lost');
  t.same(JSON.parse(await image('ls', '--json')), JSON.parse(listed), 'through the next owner');
  t.match(JSON.parse(await image('info', 'd', '--json')), { size: 30 * 1024 ** 2 });
  await reader.disconnect();
  await again.stop();
});

t.test('programs that are given the folder of a daemon go through it', async (t) => {
  const dir = join(tempFolder(t), 'data');
  const at = ['--dir', dir, '--pool', 'testpool'];
  const daemon = await StorageDaemon.start(t, { dir });
  const far = ['--storage-daemon', daemon.address, '--pool', 'testpool'];
  await runProgramWell('store-image', ['create', 'near', '--size', '10M', ...at]);
  await runProgramWell('store-image', ['create', 'far', '--size', '10M', ...far]);
  const listed = await runProgramWell('store-image', ['ls', '--json', ...at]);
  t.match(listed, /far[\s\S]*near/);
  t.equal(await runProgramWell('store-image', ['ls', '--json', ...far]), listed);
  await daemon.kill9();
  t.equal(await runProgramWell('store-image', ['ls', '--json', ...at]), listed, 'after kill -9');
  await daemon.startAgain();
  t.equal(await runProgramWell('store-image', ['ls', '--json', ...far]), listed);
  await daemon.stop();
});
