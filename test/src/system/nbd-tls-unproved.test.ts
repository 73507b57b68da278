// A client that names an identity and does not have its key must not be taken for it. OpenSSL skips a pre-shared key
// whose hash no offered suite has, and goes on with the certificate: the name is known then, but nothing is proved.
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { connect as connectTls, type TLSSocket } from 'node:tls';
import t from 'tap';
import { needs } from '../host/requirements.js';
import { PSK_KEYS, tlsSetup } from '../tls-files/tls-setup.js';

t.setTimeout(360_000);

const OPTION_STARTTLS = 5;
const OPTION_LIST = 3;
const LIMIT_MS = 10_000;

function option(number: number): Buffer {
  const bytes = Buffer.alloc(16);
  bytes.write('IHAVEOPT');
  bytes.writeUInt32BE(number, 8);
  return bytes;
}

/** A socket on which STARTTLS was acknowledged. */
async function startTls(port: number): Promise<Socket> {
  const socket = connect(port, '127.0.0.1');
  const signal = AbortSignal.timeout(LIMIT_MS);
  await once(socket, 'data', { signal });
  socket.write(Buffer.concat([Buffer.from([0, 0, 0, 3]), option(OPTION_STARTTLS)]));
  await once(socket, 'data', { signal });
  socket.removeAllListeners('data');
  return socket;
}

/** Names `alice`, with `key`, offering `ciphers`. @returns What the server answers to LIST; empty if it hangs up */
async function listAsAlice(uri: string, key: string, ciphers: string): Promise<string> {
  const socket = await startTls(Number(new URL(uri.replace('nbds', 'http')).port));
  return new Promise((resolve, reject) => {
    let answer = '';
    const limit = setTimeout(
      () => reject(new Error('the server neither answers nor hangs up')),
      LIMIT_MS,
    );
    const client: TLSSocket = connectTls({
      socket,
      ciphers,
      rejectUnauthorized: false,
      checkServerIdentity: () => undefined,
      pskCallback: () => ({ psk: Buffer.from(key, 'hex'), identity: 'alice' }),
    });
    client.on('secureConnect', () => client.write(option(OPTION_LIST)));
    client.on('data', (data: Buffer) => {
      answer += data.toString('latin1');
      client.destroy();
    });
    client.on('error', () => undefined); // a refusal: `close` follows
    client.on('close', () => {
      clearTimeout(limit);
      resolve(answer);
    });
  });
}

t.test('who names an identity has to have its key', needs({ commands: ['openssl'] }), async (t) => {
  const setup = await tlsSetup(t);
  const server = await setup.serve(t);
  const suites = [
    'TLS_AES_128_GCM_SHA256',
    'TLS_AES_256_GCM_SHA384',
    'TLS_AES_256_GCM_SHA384:TLS_AES_128_GCM_SHA256',
    'PSK-AES128-GCM-SHA256',
    'ECDHE-ECDSA-AES128-GCM-SHA256',
  ];
  for (const ciphers of suites)
    t.equal(await listAsAlice(server.uri, 'ff'.repeat(16), ciphers), '', ciphers);
  t.match(await listAsAlice(server.uri, PSK_KEYS.alice, 'TLS_AES_128_GCM_SHA256'), /vm1/);
  await server.stop();
});
