// The old process dies in the middle of a planned restart, played by this one: the new process, a real one, goes on with
// what it has got, because nobody else can.
import { join } from 'node:path';
import {
  DescriptorChannel,
  ImageCatalog,
  realEnv,
  realRandom,
  silentLog,
  type Listener,
} from '@store/core';
import { openFileStore } from '@store/daemon';
import { closeEstate, encodeSession, serveNbd, type Estate } from '@store/gateway-nbd';
import { ImageExports } from '@store/tools';
import t, { type Test } from 'tap';
import { tempFolder } from '../host/temp-folder.js';
import { encodeRequest, NbdClient } from '../nbd-client/nbd-client.js';
import { NBD_CMD_WRITE } from '../nbd-client/nbd-constants.js';
import { go, greet } from '../nbd-client/nbd-handshake.js';
import { ConnectionLost, RawConnection } from '../nbd-client/raw-connection.js';
import { ReplaceableServer } from '../server/replaceable-server.js';

t.setTimeout(360_000);

const env = realEnv(silentLog);
const PAYLOAD = Buffer.alloc(200_000, 'payload');
const HALF = 70_000;

interface Left {
  readonly estate: Estate;
  readonly clients: readonly [RawConnection, RawConnection];
  /** A call of the new process, after its hello. */
  readonly calls: Promise<DescriptorChannel>;
  readonly control: Listener;
  /** Ends when a new process serves. */
  successor(): Promise<ReplaceableServer>;
}

/** Serves an image to two clients here, and stops with a request of each half received. */
async function leave(t: Test): Promise<Left> {
  const folder = tempFolder(t);
  const dir = join(folder, 'data');
  const socket = join(folder, 'nbd.sock');
  const store = await openFileStore(env, dir, {
    create: true,
    onFailure: (error) => t.fail(error.message),
  });
  const catalog = new ImageCatalog(await store.openPool('p', { create: true }), realRandom);
  await catalog.create('vm1', 2 ** 24);
  const exports = new ImageExports(catalog, { only: 'vm1', readOnly: false });
  const server = await serveNbd(exports, { env, address: { path: socket } });
  const clients = [await enter(socket), await enter(socket)] as const;
  for (const client of clients) {
    const request = { type: NBD_CMD_WRITE, offset: 4096, length: PAYLOAD.length };
    client.write(encodeRequest(request, 99n), PAYLOAD.subarray(0, HALF));
  }
  await new Promise((resolve) => setTimeout(resolve, 100));
  const estate = await server.handOver();
  await store.close();
  // The rest of it may still lie in the socket where the machine is busy.
  for (const { leftover } of estate.sessions) t.ok(leftover.length <= 28 + HALF, 'not all of it');
  let accept: (channel: DescriptorChannel) => void = () => undefined;
  const calls = new Promise<DescriptorChannel>((resolve) => (accept = resolve));
  const path = join(dir, 'store-nbd.ctl');
  const control = await env.network.listen({ path }, (connection) => {
    const descriptor = connection.release() ?? -1;
    accept(new DescriptorChannel(descriptor, { ...env, version: 1 }));
  });
  const args = ['--pool', 'p', '--image', 'vm1', '--socket', socket, '--replace'];
  return {
    estate,
    clients,
    calls,
    control,
    successor: () => ReplaceableServer.start(t, { dir, args }),
  };
}

async function enter(socket: string): Promise<RawConnection> {
  const connection = await RawConnection.open({ socket });
  await greet(connection);
  await go(connection, '');
  return connection;
}

async function sendSession(
  channel: DescriptorChannel,
  { sessions }: Estate,
  index: number,
): Promise<void> {
  const session = sessions[index];
  if (session === undefined) throw new Error('there are two');
  const { descriptor, leftover } = session;
  await channel.send(
    { kind: 'session', record: encodeSession(session) },
    { body: leftover, descriptors: [descriptor] },
  );
}

async function sendSockets(channel: DescriptorChannel, { estate, control }: Left): Promise<void> {
  const sockets = [...estate.sockets, control.release()];
  await channel.send(
    { kind: 'sockets', paths: sockets.map(({ path }) => path) },
    { descriptors: sockets.map(({ descriptor }) => descriptor) },
  );
}

for (const died of ['between two sessions', 'before it said go'] as const)
  t.test(`the new process serves whom it has got from one that died ${died}`, async (t) => {
    const left = await leave(t);
    const starting = left.successor();
    const channel = await left.calls;
    t.match((await channel.receive(20_000))?.value, { kind: 'hello', pool: 'p' });
    await sendSockets(channel, left);
    await sendSession(channel, left.estate, 0);
    if (died === 'before it said go') {
      await sendSession(channel, left.estate, 1);
      await channel.send({ kind: 'all' });
      t.match((await channel.receive(20_000))?.value, { kind: 'ready' });
    }
    // As the death of a process: every descriptor that it had is closed.
    channel.close();
    closeEstate(left.estate);
    const server = await starting;
    t.match(server.log, /The running server died/);
    const [one, other] = left.clients;
    for (const [client, isServed] of [
      [one, true],
      [other, died === 'before it said go'],
    ] as const) {
      client.write(PAYLOAD.subarray(HALF));
      if (!isServed) {
        await t.rejects(client.read(16), ConnectionLost, 'who was not handed over is disconnected');
        continue;
      }
      const reply = await client.read(16);
      t.equal(reply.readUInt32BE(4), 0, 'the request that was half there is done');
      t.equal(reply.readBigUInt64BE(8), 99n);
    }
    const late = await NbdClient.connect(server.uri);
    const { data } = await late.read(4096, PAYLOAD.length);
    t.ok(data.equals(PAYLOAD), 'whoever connects now finds what was written');
    await late.disconnect();
    await server.stop();
  });
