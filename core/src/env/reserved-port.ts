/* eslint-disable no-restricted-imports -- test equipment reaches the real machine */
/**
 * TCP ports for tests, of programs that cannot choose one themselves, or that are ended and started again at the same
 * place. A port that was free a moment ago is anybody's, and tests run beside each other: so these lie below what the
 * kernel hands out, and whoever reserved one holds an abstract socket with its number until its process ends.
 */
import { randomInt } from 'node:crypto';
import { createServer } from 'node:net';

/** What Linux hands out by itself begins at 32768. */
const FIRST = 20_000;
const END = 32_768;
const TRIES = 1000;

/** @returns a port that is nobody's else until this process ends. @throws Error if there seems to be none */
export async function reservePort(): Promise<number> {
  for (let tries = 0; tries < TRIES; tries += 1) {
    const port = randomInt(FIRST, END);
    if ((await hold(port)) && (await isFree(port))) return port;
  }
  throw new Error(`Of the ports ${FIRST} to ${END - 1}, none was found that nobody uses`);
}

/** @returns whether it is ours now */
function hold(port: number): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const holder = createServer().unref();
    holder.on('error', (error) => {
      if (isInUse(error)) resolve(false);
      else reject(error);
    });
    holder.listen({ path: `\0store-test-port-${port}` }, () => resolve(true));
  });
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.on('error', (error) => {
      if (isInUse(error)) resolve(false);
      else reject(error);
    });
    server.listen({ port, exclusive: true }, () => server.close(() => resolve(true)));
  });
}

function isInUse(error: NodeJS.ErrnoException): boolean {
  return error.code === 'EADDRINUSE';
}
