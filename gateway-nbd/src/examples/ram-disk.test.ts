import t from 'tap';
import { NBD_CMD } from '../protocol/constants.js';
import { RawClient } from '../testing/raw-client.js';
import { startServer } from '../testing/test-server.js';
import { catalogOfOne } from '../catalog-of-one.js';
import { RamDisk } from './ram-disk.js';

t.test('the example serves what was written to it, as the default export', async (t) => {
  const { server, stop } = await startServer(catalogOfOne(new RamDisk(65536)));
  t.teardown(stop);
  const client = await RawClient.go(server.address);
  const payload = Buffer.from('hello');
  t.equal(await client.ask({ type: NBD_CMD.WRITE, cookie: 1, offset: 65531, payload }), 0);
  t.equal(await client.ask({ type: NBD_CMD.READ, cookie: 2, offset: 65531, length: 5 }), 0);
  t.equal((await client.read(5)).toString(), 'hello');
  t.equal(await client.ask({ type: NBD_CMD.WRITE_ZEROES, cookie: 3, offset: 65531, length: 4 }), 0);
  t.equal(await client.ask({ type: NBD_CMD.READ, cookie: 4, offset: 65531, length: 5 }), 0);
  t.equal((await client.read(5)).toString(), '\0\0\0\0o');
  client.close();
});
