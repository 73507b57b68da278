/** nbdcopy, which moves whole images over several connections with 64 requests of 256 KiB in flight on each. */
import { SATURATED, type ClientReport } from './clients.js';
import type { Programs } from './programs.js';
import type { CopyWork } from './rows.js';
import type { RunningServer } from './running-server.js';

export interface CopyOptions {
  readonly folder: string;
  /** As large as the image, full of random bytes. */
  readonly sourceFile: string;
  readonly imageBytes: number;
  readonly limitMs: number;
}

/** Copies once and takes the time, with what a copy into an image needs to be durable. */
export async function runNbdcopy(
  programs: Programs,
  server: RunningServer,
  work: CopyWork,
  options: CopyOptions,
): Promise<ClientReport> {
  const target =
    work.direction === 'in' ? ['--flush', options.sourceFile, server.uri] : [server.uri, 'null:'];
  const copy = ['nbdcopy', `--connections=${work.connections}`, ...target];
  // bash tells the time of what it ran; its arguments are not parsed again.
  const script = `TIMEFORMAT='times %R %U %S'; time "$@"`;
  const [command = '', ...args] = [...server.client.wrapper, 'bash', '-c', script, 'bash', ...copy];
  const { stderr } = await programs.run(command, args, {
    env: server.client.env,
    cwd: options.folder,
    limitMs: options.limitMs,
  });
  const times = /^times ([\d.]+) ([\d.]+) ([\d.]+)$/m.exec(stderr)?.slice(1).map(Number);
  const [seconds = NaN, user = NaN, system = NaN] = times ?? [];
  if (!(seconds > 0)) throw new Error(`bash told no time: ${stderr.slice(-300)}`);
  const clientCores = (user + system) / seconds;
  return {
    value: options.imageBytes / 1e6 / seconds,
    requests: null,
    bytes: options.imageBytes,
    seconds,
    latencyUs: null,
    clientCores,
    clientSaturated: clientCores >= SATURATED * work.connections,
  };
}
