/**
 * Socket activation (sd_listen_fds(3)): systemd, `systemd-socket-activate` or `nbdinfo -- [ store-nbd … ]` have opened
 * the sockets, from descriptor 3 on.
 */
import type { ListeningDescriptor } from '@store/core';
import { UsageError } from '../usage-error.js';

const FIRST = 3;
/** Far more than anybody has, and few enough to be handed on in one message. */
const SOCKETS_MAX = 32;

/**
 * The sockets this process was started with; none if that is not how it was started. Programs that we start do not
 * take them for theirs.
 * @throws UsageError
 */
export function passedSockets(environment: NodeJS.ProcessEnv = process.env): ListeningDescriptor[] {
  const { LISTEN_FDS: text, LISTEN_PID: pid } = environment;
  for (const name of ['LISTEN_FDS', 'LISTEN_PID', 'LISTEN_FDNAMES'])
    Reflect.deleteProperty(environment, name);
  if (text === undefined || pid !== String(process.pid)) return []; // meant for another process
  const count = Number(text);
  if (!Number.isInteger(count) || count < 1 || count > SOCKETS_MAX)
    throw new UsageError(
      `LISTEN_FDS is '${text}'; it is the number of sockets passed to this process, 1 to ${SOCKETS_MAX}`,
    );
  // The files of Unix sockets are of whoever made them.
  return Array.from({ length: count }, (_, index) => ({ descriptor: FIRST + index, path: null }));
}
