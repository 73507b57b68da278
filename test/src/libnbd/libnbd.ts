import { fileURLToPath } from 'node:url';
import { run } from '../host/command.js';

/** A request as libnbd sends it. */
export interface LibnbdRequest {
  readonly op: 'pread' | 'pwrite' | 'trim' | 'zero' | 'cache' | 'flush';
  readonly offset?: number;
  readonly bytes?: number;
  readonly flags?: number;
}

const SCRIPT = fileURLToPath(new URL('../../src/libnbd/requests.py', import.meta.url));

/** Sends the requests one after the other over one connection. @returns `ok` or the name of each error */
export async function libnbdAnswers(
  uri: string,
  requests: readonly LibnbdRequest[],
): Promise<string[]> {
  const complete = requests.map((request) => ({ offset: 0, bytes: 0, flags: 0, ...request }));
  // Debian's python, which has the bindings, not another one earlier in PATH
  const said = await run('/usr/bin/python3', [SCRIPT, uri], { input: JSON.stringify(complete) });
  return JSON.parse(said) as string[]; // what the script prints
}
