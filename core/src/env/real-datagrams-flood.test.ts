// Datagrams that find no room in their socket wait in this process, by reference in what lies under node:dgram. Loopback
// is never that slow, so this makes a network of its own that is.
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { realNetwork } from './real-network.js';
import { silentLog } from './silent-log.js';

const network = realNetwork(silentLog);
const SLOW_DEVICE = `ip link set lo up && tc qdisc add dev lo root tbf rate 40mbit burst 100k limit 100m && exec "$@"`;

if (process.argv[2] === 'flood') await floodSlowDevice();
else runTest();

/** Floods a device that is slower than we are: what finds no room in the socket waits in this process. */
async function floodSlowDevice(): Promise<void> {
  const counts = { heard: 0, spoilt: 0 };
  const nowhere = { received: () => undefined, failed: () => undefined };
  const address = { host: '127.0.0.1', port: 0 };
  const receiver = await network.openDatagrams(address, {
    ...nowhere,
    received: (datagram) => {
      counts.heard += 1;
      if (datagram[0] === 255 || datagram.some((byte) => byte !== datagram[0])) counts.spoilt += 1;
    },
  });
  const sender = await network.openDatagrams(address, nowhere);
  const part = Buffer.alloc(30_000);
  for (let number = 1; number <= 400; number += 1) {
    part.fill(number % 251);
    sender.send([part], receiver.address);
    part.fill(255);
  }
  const giveUp = performance.now() + 6000;
  let before = -1;
  while (counts.heard > before && performance.now() < giveUp) {
    before = counts.heard;
    await new Promise((resolve) => setTimeout(resolve, 500));
  }
  sender.close();
  receiver.close();
  process.stdout.write(JSON.stringify(counts));
}

function runTest(): void {
  const slowDeviceMissing =
    spawnSync('unshare', ['-n', 'bash', '-c', SLOW_DEVICE, 'bash', 'true']).status !== 0 &&
    'needs root and tc, to make a slow device';

  t.test(
    'what waits for a slow device is not spoilt by whoever uses the buffer again',
    { skip: slowDeviceMissing },
    async (t) => {
      const self = [process.execPath, fileURLToPath(import.meta.url), 'flood'];
      const { stdout, stderr } = spawnSync(
        'unshare',
        ['-n', 'bash', '-c', SLOW_DEVICE, 'bash', ...self],
        { encoding: 'utf8', timeout: 20_000 },
      );
      if (stdout === '') throw new Error(`The flood printed nothing: ${stderr}`);
      const { heard, spoilt } = JSON.parse(stdout) as { heard: number; spoilt: number }; // printed above
      t.equal(spoilt, 0);
      t.ok(heard > 50 && heard < 400, `${heard} of 400 arrived: some waited, and not without end`);
    },
  );
}
