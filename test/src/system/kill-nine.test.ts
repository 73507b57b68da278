// kill -9 loses no answered write, flushed or not; an unanswered one is there whole or not at all.
import { join } from 'node:path';
import t from 'tap';
import { tempFolder } from '../host/temp-folder.js';
import { sleep } from '../host/wait-until.js';
import { NbdClient } from '../nbd-client/nbd-client.js';
import { StoreServer } from '../server/store-server.js';
import { BLOCK_BYTES, DeviceHistory } from '../tagged-writer/device-history.js';
import { SeededRandom, testSeed } from '../tagged-writer/seeded-random.js';
import { recoverDevice, TaggedWriter } from '../tagged-writer/tagged-writer.js';

t.setTimeout(600_000);

const KILLS = 50;
const BLOCKS = 10 * 1024 + 77; // the image does not end with an object

t.test('store-nbd is killed 50 times under a writing client and loses nothing', async (t) => {
  const seed = testSeed();
  t.comment(`replay: STORE_SEED=${seed} node test/dist/system/kill-nine.test.js`);
  const random = new SeededRandom(seed);
  const history = new DeviceHistory(BLOCKS);
  const writer = new TaggedWriter({ history, random });
  const folder = tempFolder(t);
  const options = {
    dir: join(folder, 'data'),
    image: 'vm1',
    socket: join(folder, 'nbd.sock'),
    createBytes: BLOCKS * BLOCK_BYTES,
  };
  for (let kill = 1; kill <= KILLS; kill++) {
    const server = await StoreServer.start(t, options);
    const client = await NbdClient.connect(server.uri);
    const found = await recoverDevice(client, history, 'process');
    if (found.length > 0) return void t.same(found, [], `after kill ${kill - 1}\n${server.log}`);
    const writing = writer.run(client);
    await sleep(random.between(1, kill % 10 === 0 ? 3000 : 500));
    await server.kill9();
    await writing;
    if (writer.problems.length + writer.errors.length > 0) {
      t.same(writer.problems, [], `reads before kill ${kill}`);
      return void t.same(writer.errors, [], `errors before kill ${kill}\n${server.log}`);
    }
  }
  const server = await StoreServer.start(t, options);
  const client = await NbdClient.connect(server.uri);
  t.same(await recoverDevice(client, history, 'process'), [], `after kill ${KILLS}`);
  t.ok(writer.answers > KILLS * 20, `${writer.answers} requests were answered`);
  t.ok(writer.flushes > KILLS / 2, `${writer.flushes} flushes among them`);
  await client.disconnect();
  await server.stop();
});
