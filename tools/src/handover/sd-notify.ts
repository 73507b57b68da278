/**
 * Tells systemd how the service is doing (sd_notify(3)): a datagram to the socket named in NOTIFY_SOCKET. Without that
 * variable nobody wants to know.
 */
import {
  closeDescriptor,
  SOCK_DGRAM,
  socketCalls,
  systemError,
  UNIX_PATH_BYTES_MAX,
  type Log,
} from '@store/core';

const NO_CONTROL = Buffer.alloc(0);

/**
 * Sends a state, for example `{ READY: '1', STATUS: 'Serving' }`. What goes wrong is a log line: a service that cannot
 * report still serves.
 */
export function sdNotify(state: Readonly<Record<string, string>>, log: Log): void {
  const place = process.env['NOTIFY_SOCKET'];
  if (place === undefined || place === '') return;
  const problem = send(place, state);
  if (problem !== null) log.warn({ socket: place }, `systemd was not told: ${problem}`);
}

/** @returns What went wrong, or null */
function send(place: string, state: Readonly<Record<string, string>>): string | null {
  const calls = socketCalls();
  if (calls === null) return 'this needs the npm package koffi; install the packages again';
  if (!/^[/@]/.test(place) || Buffer.byteLength(place) > UNIX_PATH_BYTES_MAX)
    return 'NOTIFY_SOCKET is not the path of a socket';
  const socket = calls.unixSocket(SOCK_DGRAM);
  if (socket < 0) return systemError('socket', socket).message;
  const lines = Object.entries(state).map(
    ([name, value]) => `${name}=${value.replace(/\n/g, ' ')}`,
  );
  let result = calls.connectUnix(socket, place.replace(/^@/, '\0'));
  if (result === 0) result = calls.send(socket, Buffer.from(lines.join('\n')), NO_CONTROL);
  closeDescriptor(socket);
  return result < 0 ? systemError('send', result).message : null;
}
