/** The new process of a planned restart, `store-nbd --replace`. `messages.ts` tells the whole story. */
import {
  closeDescriptor,
  DescriptorChannel,
  needSocketCalls,
  SOCK_STREAM,
  StoreError,
  systemError,
  type ChannelMessage,
  type Env,
  type ListeningDescriptor,
} from '@store/core';
import { decodeSession, type HandedSession } from '@store/gateway-nbd';
import { HAND_OVER_VERSION, messageIn, type Hello, type Message } from './messages.js';
import { receiveUnlessStopped, type StopCheck } from './stop-check.js';

/** The old one waits for its clients, flushes and closes its store before it says the first word. */
const FIRST_WORD_MS = 90_000;
const NEXT_WORD_MS = 15_000;
const GO_MS = 30_000;

/** What the old process has sent. Its descriptors are ours. */
export interface Received {
  readonly sockets: readonly ListeningDescriptor[];
  readonly control: ListeningDescriptor | null;
  readonly sessions: readonly HandedSession[];
  /** The old process has died: this may be a part of what there was, and nobody else goes on with it. */
  readonly isOrphaned: boolean;
}

/**
 * A connection to the running server's control socket.
 * @returns Null if nobody listens there
 */
export function callServer(env: Env, path: string): DescriptorChannel | null {
  const calls = needSocketCalls('--replace');
  const socket = calls.unixSocket(SOCK_STREAM);
  if (socket < 0) throw systemError('socket', socket);
  const result = calls.connectUnix(socket, path);
  if (result === 0) return new DescriptorChannel(socket, { ...env, version: HAND_OVER_VERSION });
  closeDescriptor(socket);
  const error = systemError(`Cannot reach the running server on ${path}`, result);
  if (error.code === 'ENOENT' || error.code === 'ECONNREFUSED') return null;
  throw new StoreError('E_SYSTEM', error.message, { cause: error });
}

/**
 * Asks the old process to hand over, and receives it all.
 * @throws StoreError if it refuses, or this process is told to stop, in which cases it goes on serving
 */
export async function receiveAll(
  channel: DescriptorChannel,
  hello: Hello,
  check: StopCheck,
): Promise<Received> {
  const sockets: ListeningDescriptor[] = [];
  const sessions: HandedSession[] = [];
  await saidTo(channel, hello);
  for (let limitMs = FIRST_WORD_MS; ; limitMs = NEXT_WORD_MS) {
    const received = await receiveUnlessStopped(channel, limitMs, check);
    const message = received === null ? null : messageIn(received);
    if (received === null || message === null || message.kind === 'all') {
      const control = sockets.pop() ?? null;
      return { sockets, control, sessions, isOrphaned: message === null };
    }
    take(received, message, sockets, sessions);
  }
}

function take(
  { descriptors, body }: ChannelMessage,
  message: Message,
  sockets: ListeningDescriptor[],
  sessions: HandedSession[],
): void {
  switch (message.kind) {
    case 'sockets':
      for (const [index, descriptor] of descriptors.entries())
        sockets.push({ descriptor, path: message.paths[index] ?? null });
      return;
    case 'session': {
      const [descriptor] = descriptors;
      if (descriptor === undefined)
        throw new StoreError('E_FORMAT', 'A session came without its connection');
      sessions.push(decodeSession(message.record, descriptor, Buffer.from(body)));
      return;
    }
    case 'refused':
    case 'stop':
      throw new StoreError('E_IN_USE', `The running server does not hand over: ${message.message}`);
    default:
      throw new StoreError('E_FORMAT', `The running server says '${message.kind}' too early`);
  }
}

/**
 * Says that everything could be taken, and waits until it is ours.
 * @returns False if the old process has died, which makes it ours as well
 * @throws StoreError if the old process goes on instead, as it does if this one is told to stop
 */
export async function takeIt(channel: DescriptorChannel, check: StopCheck): Promise<boolean> {
  check();
  await saidTo(channel, { kind: 'ready' });
  let answer: ChannelMessage | null;
  try {
    answer = await receiveUnlessStopped(channel, GO_MS, check);
  } catch (error) {
    const givesUp =
      error instanceof StoreError && (error.code === 'E_TIMEOUT' || error.code === 'E_CLOSED');
    if (!givesUp) throw error;
    // From here on it cannot say `go` any more; if it already has, that counts.
    channel.endReceiving();
    answer = await channel.receive(0);
    if (answer === null) throw error;
  }
  if (answer === null) return false;
  const message = messageIn(answer);
  if (message.kind === 'go') return true;
  const why = message.kind === 'stop' ? message.message : `it said '${message.kind}'`;
  throw new StoreError('E_IN_USE', `The running server goes on itself: ${why}`);
}

/** Someone who is gone may have said something before: that is for `receive` to find out. */
async function saidTo(channel: DescriptorChannel, message: Message): Promise<void> {
  try {
    await channel.send(message);
  } catch (error) {
    if (!(error instanceof StoreError) || error.code !== 'E_CLOSED') throw error;
  }
}
