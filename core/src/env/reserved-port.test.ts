import { once } from 'node:events';
import { createServer } from 'node:net';
import t from 'tap';
import { reservePort } from './reserved-port.js';

await t.test('ports that are reserved are nobody else’s, and free to be used', async (t) => {
  const ports = await Promise.all(Array.from({ length: 50 }, reservePort));
  t.equal(new Set(ports).size, 50);
  const server = createServer().listen(ports[0], '127.0.0.1');
  await once(server, 'listening');
  server.close();
});
