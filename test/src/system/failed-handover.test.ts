// A planned restart that does not succeed: whoever dies, refuses or talks nonsense, the clients go on.
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import {
  DescriptorChannel,
  closeDescriptor,
  needSocketCalls,
  realClock,
  realTimers,
} from '@store/core';
import t, { type Test } from 'tap';
import { tempFolder } from '../host/temp-folder.js';
import { sleep, waitUntil } from '../host/wait-until.js';
import { NbdClient } from '../nbd-client/nbd-client.js';
import { RawConnection } from '../nbd-client/raw-connection.js';
import { isAlive, ReplaceableServer } from '../server/replaceable-server.js';
import { startWrittenServer } from '../server/written-server.js';
import { recoverDevice } from '../tagged-writer/tagged-writer.js';

t.setTimeout(600_000);

const BLOCKS = 4096;
const HELLO = { kind: 'hello', pool: 'testpool', address: null };

interface Scene {
  readonly server: ReplaceableServer;
  readonly dir: string;
  readonly uri: string;
  /** Somebody has called who negotiates: a hand-over waits for him, for a second at most. */
  readonly callSlowly: () => Promise<void>;
  /** Stops the writer, and checks that it met no error and lost nothing. */
  readonly verify: () => Promise<void>;
}

async function scene(t: Test): Promise<Scene> {
  const { server, dir, socket, uri, history, writer, client, running } = await startWrittenServer(
    t,
    BLOCKS,
  );
  const callSlowly = async (): Promise<void> => {
    await RawConnection.open({ socket });
    await sleep(50); // until it is accepted
  };
  const verify = async (): Promise<void> => {
    const before = writer.answers;
    await waitUntil('the writer to go on', 10_000, () => writer.answers > before + 50);
    writer.stop();
    await running;
    t.equal(client.ended, null, 'the client is connected as ever');
    t.same([...writer.errors, ...writer.problems], [], 'it met no error');
    t.same(await recoverDevice(client, history, 'process'), [], 'nothing is lost');
    await client.disconnect();
  };
  return { server, dir, uri, callSlowly, verify };
}

/** A connection to the control socket, as a new process has one. */
function call(dir: string, version = 1): DescriptorChannel {
  const calls = needSocketCalls('This test');
  const socket = calls.unixSocket(1);
  const result = calls.connectUnix(socket, join(dir, 'store-nbd.ctl'));
  if (result !== 0) throw new Error(`connect: ${result}`);
  return new DescriptorChannel(socket, { clock: realClock(), timers: realTimers, version });
}

/** What the server says until it has sent everything. */
async function receiveAll(channel: DescriptorChannel): Promise<string[]> {
  const kinds: string[] = [];
  for (;;) {
    const message = await channel.receive(20_000);
    if (message === null) throw new Error(`it ended after ${kinds.join(' ')}`);
    message.descriptors.forEach(closeDescriptor);
    const { kind } = message.value as { kind: string }; // what the server sends
    kinds.push(kind);
    if (kind === 'all') return kinds;
  }
}

const ENDINGS: Readonly<Record<string, (channel: DescriptorChannel) => Promise<unknown>>> = {
  'dies before it has anything': (channel) => channel.receive(20_000),
  'dies when it has everything': receiveAll,
  'says no': async (channel) => {
    await receiveAll(channel);
    await channel.send({ kind: 'no', message: 'my disk is full' });
    await channel.receive(20_000);
  },
  'talks nonsense': async (channel) => {
    await receiveAll(channel);
    await channel.send({ kind: 'what' });
    await channel.receive(20_000);
  },
};

for (const [what, play] of Object.entries(ENDINGS))
  t.test(`the old process goes on if the new one ${what}`, async (t) => {
    const { server, dir, verify } = await scene(t);
    const { pid } = server;
    const channel = call(dir);
    await channel.send(HELLO);
    await play(channel);
    channel.close();
    await waitUntil('the old process to go on', 20_000, () =>
      server.log.includes('The new process did not take over, serving on'),
    );
    await waitUntil('it to have the folder', 20_000, () => server.pid === pid);
    await verify();
    await server.restart('SIGUSR2');
    t.pass('and can be replaced after all');
    await server.stop();
  });

t.test('a few callers are heard at a time, and none can fill the memory', async (t) => {
  const { server, dir, verify } = await scene(t);
  const answerTo = async (channel: DescriptorChannel): Promise<string> => {
    const answer = await channel.receive(10_000);
    return JSON.stringify(answer?.value);
  };
  const silent = [1, 2, 3, 4].map(() => call(dir));
  const fifth = call(dir); // accepted after those
  await fifth.send(HELLO).catch(() => undefined); // it may be refused before
  t.match(await answerTo(fifth), /"refused".*4 processes have called .*; try again/);
  fifth.close();
  for (const channel of silent) channel.close();
  await waitUntil(
    'the silent ones to be forgotten',
    10_000,
    () => server.log.split('It said nothing').length > silent.length,
  );
  // Neither a long value nor a body is waited for, nor taken.
  for (const [value, options] of [
    [{ ...HELLO, pool: 'x'.repeat(100_000) }, {}],
    [HELLO, { body: Buffer.alloc(32 * 1024 * 1024) }],
    [HELLO, { descriptors: [0] }],
  ] as const) {
    const greedy = call(dir);
    await greedy.send(value, options).catch(() => undefined); // it is refused while it sends
    t.match(await answerTo(greedy), /"refused".*(too long|more descriptors)/);
    greedy.close();
  }
  await verify();
  await server.restart('--replace');
  t.pass('and it can be replaced');
  await server.stop();
});

t.test('a call that makes no sense is refused, and disturbs nobody', async (t) => {
  const { server, dir, verify } = await scene(t);
  const said = async (version: number, message: unknown): Promise<unknown> => {
    const channel = call(dir, version);
    await channel.send(message);
    const answer = await channel.receive(10_000).catch((error: unknown) => String(error));
    channel.close();
    return typeof answer === 'string' ? answer : answer?.value;
  };
  t.match(await said(1, { ...HELLO, pool: 'other' }), {
    kind: 'refused',
    message: "It serves pool 'testpool' and the new process wants 'other'; stop it first",
  });
  t.match(await said(1, { ...HELLO, address: { host: '127.0.0.1', port: 1 } }), {
    kind: 'refused',
    message: /^It listens on .*nbd.sock and the new process wants 127.0.0.1:1; start it with/,
  });
  t.match(await said(1, { kind: 'go' }), { kind: 'refused', message: "It said 'go' first" });
  t.match(await said(2, HELLO), /speaks version 1 of the hand-over, this one 2/);
  const silent = call(dir);
  await server.restart('--replace');
  silent.close();
  await verify();
  await server.stop();
});

t.test('a new process that is killed at any moment before it serves costs nothing', async (t) => {
  const { server, verify } = await scene(t);
  for (const afterMs of [50, 150, 250, 350, 450]) {
    const before = server.log.length;
    const pid = server.spawn(['--replace']);
    await sleep(afterMs);
    if (server.log.slice(before).includes('Handing over')) break; // too late: it may have taken the clients
    process.kill(pid, 'SIGKILL');
    await sleep(300);
  }
  await verify();
});

t.test(
  'the old process waits for the folder while a new one that gave up still has it',
  async (t) => {
    const { server, dir, verify } = await scene(t);
    const { pid } = server;
    const channel = call(dir);
    await channel.send(HELLO);
    await receiveAll(channel);
    const holding = ['--exclusive', join(dir, 'lock'), 'sh', '-c', 'echo held; sleep 3'];
    const holder = spawn('flock', holding, { stdio: ['ignore', 'pipe', 'inherit'] });
    const over = new Promise((resolve) => holder.once('exit', resolve));
    await new Promise((resolve) => holder.stdout.once('data', resolve));
    channel.close();
    await over;
    await waitUntil('the old process to go on', 20_000, () => server.pid === pid);
    await verify();
    await server.stop();
  },
);

t.test('a new process that hangs is ended, and the old one goes on', async (t) => {
  const { server, callSlowly, verify } = await scene(t);
  const { pid } = server;
  await callSlowly();
  const hangs = server.spawn(['--replace']);
  await waitUntil('the hand-over to begin', 20_000, () => server.log.includes('Handing over'));
  process.kill(hangs, 'SIGSTOP');
  t.notMatch(server.log, /Took over/, 'it hangs before it serves');
  await waitUntil('the old process to go on', 60_000, () =>
    server.log.includes('The new process did not take over, serving on'),
  );
  await waitUntil('the new one to be gone', 20_000, () => !isAlive(hangs));
  await waitUntil('the old one to have the folder', 20_000, () => server.pid === pid);
  await verify();
  await server.stop();
});

t.test('the new process starts when the old one dies as it hands over', async (t) => {
  const { server, uri, callSlowly } = await scene(t);
  const { pid } = server;
  await callSlowly();
  server.spawn(['--replace']);
  await waitUntil('the hand-over to begin', 20_000, () => server.log.includes('Handing over'));
  process.kill(pid, 'SIGKILL');
  await waitUntil('another one to have the folder', 20_000, () => ![0, pid].includes(server.pid));
  await waitUntil('it to serve', 20_000, async () => {
    try {
      const client = await NbdClient.connect(uri);
      const { error } = await client.read(0, 4096);
      await client.disconnect();
      return error === 0;
    } catch {
      return false; // not yet
    }
  });
  t.pass('it serves');
  await server.stop();
});

t.test('--replace without a server is an ordinary start', async (t) => {
  const folder = tempFolder(t);
  const args = ['--pool', 'testpool', '--image', 'a', '--create', '1M', '--port', '0', '--replace'];
  const server = await ReplaceableServer.start(t, { dir: join(folder, 'data'), args });
  t.match(server.log, /No server runs that could be replaced: starting as always/);
  await server.stop();
});
