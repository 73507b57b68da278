/** The old process of a planned restart, from the moment its store is closed. `messages.ts` tells the whole story. */
import {
  StoreError,
  type DescriptorChannel,
  type ListeningDescriptor,
  type Log,
} from '@store/core';
import { encodeSession, type Estate } from '@store/gateway-nbd';
import { messageIn, type Message } from './messages.js';
import { receiveUnlessStopped, type StopCheck } from './stop-check.js';

/** To open the store, which may have to be recovered, and every export. */
const READY_MS = 30_000;
const SERVING_MS = 10_000;
/** To end after `stop`, and after being killed. */
const END_MS = 5000;

/**
 * Offers everything to the new process. Once this resolves it is the new one's, and nothing here may be used again.
 * @param check - Throws if this process was told to stop: then all stays here, to be drained.
 * @throws StoreError if the new process does not take it. It will not touch anything then: all goes on here
 */
export async function passOn(
  channel: DescriptorChannel,
  estate: Estate,
  control: ListeningDescriptor,
  check: StopCheck,
): Promise<void> {
  check();
  const say = (message: Message, more: Parameters<DescriptorChannel['send']>[1] = {}) =>
    channel.send(message, more);
  const sockets = [...estate.sockets, control];
  await say(
    { kind: 'sockets', paths: sockets.map(({ path }) => path) },
    { descriptors: sockets.map(({ descriptor }) => descriptor) },
  );
  for (const session of estate.sessions)
    await say(
      { kind: 'session', record: encodeSession(session) },
      { body: session.leftover, descriptors: [session.descriptor] },
    );
  await say({ kind: 'all' });
  const answer = await receiveUnlessStopped(channel, READY_MS, check);
  if (answer === null)
    throw new StoreError('E_CLOSED', 'It ended before it was ready; its own log says why');
  const message = messageIn(answer);
  if (message.kind === 'no') throw new StoreError('E_INVALID', message.message);
  if (message.kind !== 'ready')
    throw new StoreError('E_FORMAT', `It said '${message.kind}' instead of 'ready'`);
  check();
  await say({ kind: 'go' }); // too short to be sent in part: it counts or it does not
}

/** After `passOn`: waits until the new process serves. */
export async function awaitServing(channel: DescriptorChannel, log: Log): Promise<void> {
  try {
    const answer = await channel.receive(SERVING_MS);
    if (answer === null) log.error({}, 'The new process ended just after it took over');
  } catch (error) {
    if (!(error instanceof StoreError)) throw error;
    log.error({}, `The new process took over and is silent: ${error.message}`);
  }
}

/** After `passOn` failed: makes sure that the new process is gone, because it may hold the folder. */
export async function withdraw(
  channel: DescriptorChannel,
  message: string,
  log: Log,
): Promise<void> {
  const pid = channel.peer?.pid;
  try {
    await channel.send({ kind: 'stop', message });
    if (await hasEnded(channel)) return;
    log.error(
      { process: pid },
      'The new process does not end; killing it, which has not served anybody',
    );
    // Its end of the connection is open, so the number still means this process.
    if (pid !== undefined) process.kill(pid, 'SIGKILL');
    if (!(await hasEnded(channel))) log.error({ process: pid }, 'The new process cannot be killed');
  } catch (error) {
    if (error instanceof StoreError && error.code === 'E_CLOSED') return; // it is gone
    if (error instanceof StoreError || isNoSuchProcess(error)) {
      log.error({ process: pid, err: error }, 'The new process could not be told to stop');
      return;
    }
    throw error;
  } finally {
    channel.close();
  }
}

function isNoSuchProcess(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'ESRCH';
}

/** What it may say now means nothing. */
async function hasEnded(channel: DescriptorChannel): Promise<boolean> {
  try {
    for (let said = 0; said < 10; said += 1)
      if ((await channel.receive(END_MS)) === null) return true;
    return false;
  } catch (error) {
    if (error instanceof StoreError && error.code === 'E_TIMEOUT') return false;
    throw error;
  }
}
