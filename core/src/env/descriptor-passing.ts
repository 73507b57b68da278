/**
 * Open descriptors travel with bytes over a Unix socket (SCM_RIGHTS, unix(7)).
 *
 * A descriptor that arrives is open in this process whether anybody wants it or not: whatever is wrong with a message,
 * what came with it is closed here. The kernel never joins the bytes of two messages that carry descriptors, so those
 * that arrive belong, in order, to the bytes they were sent with.
 */
import { getSystemErrorName } from 'node:util';
import { StoreError } from '../util/errors.js';
import { invariant } from '../util/invariant.js';
import { EAGAIN } from './real-native.js';
import { needSocketCalls } from './socket-calls.js';

/** At most so many with one message; the kernel's own limit is 253. */
export const DESCRIPTORS_MAX = 64;

const SOL_SOCKET = 1;
const SCM_RIGHTS = 1;
const MSG_CTRUNC = 8;

// struct cmsghdr
const AT_LENGTH = 0; //  8  of the header and the data
const AT_LEVEL = 8; //   4  SOL_SOCKET
const AT_TYPE = 12; //   4  SCM_RIGHTS
const CMSGHDR_BYTES = 16;
const DESCRIPTOR_BYTES = 4;
const ALIGNMENT = 8;

const NOTHING = Buffer.alloc(0);

/** What arrived; `descriptors` belong to the receiver. */
export interface Arrival {
  /** At the start of the target; null: nothing is there yet, 0: the peer is gone. */
  readonly bytes: number | null;
  readonly descriptors: number[];
}

/**
 * Sends as much of `bytes` as the socket takes, the descriptors with its first byte. The caller keeps its own.
 * @returns How much was sent, null: nothing, the socket is full
 * @throws StoreError `E_CLOSED` if the peer is gone, `E_SYSTEM`
 */
export function sendWithDescriptors(
  socket: number,
  bytes: Buffer,
  descriptors: readonly number[],
): number | null {
  invariant(bytes.length > 0, 'descriptors travel with bytes');
  invariant(descriptors.length <= DESCRIPTORS_MAX, 'descriptors fit into one message');
  const control = descriptors.length === 0 ? NOTHING : controlMessage(descriptors);
  const sent = needSocketCalls('Passing on sockets').send(socket, bytes, control);
  if (sent >= 0) return sent;
  if (sent === -EAGAIN) return null;
  const name = getSystemErrorName(sent);
  throw new StoreError(
    name === 'EPIPE' || name === 'ECONNRESET' ? 'E_CLOSED' : 'E_SYSTEM',
    `Sockets could not be passed on: ${name}`,
  );
}

/**
 * Receives what is there, up to the length of `target`, and no more than one message with descriptors.
 * @throws StoreError `E_FORMAT` if descriptors were lost on the way or are none, `E_SYSTEM`
 */
export function receiveWithDescriptors(socket: number, target: Buffer): Arrival {
  const calls = needSocketCalls('Taking over sockets');
  const control = Buffer.alloc(
    Math.ceil((CMSGHDR_BYTES + DESCRIPTORS_MAX * DESCRIPTOR_BYTES) / ALIGNMENT) * ALIGNMENT,
  );
  const { bytes, controlBytes, flags } = calls.receive(socket, target, control);
  if (bytes === -EAGAIN) return { bytes: null, descriptors: [] };
  if (bytes < 0) {
    const name = getSystemErrorName(bytes);
    if (name === 'ECONNRESET') return { bytes: 0, descriptors: [] };
    throw new StoreError('E_SYSTEM', `Sockets could not be taken over: ${name}`);
  }
  const descriptors = descriptorsIn(control.subarray(0, controlBytes));
  if ((flags & MSG_CTRUNC) === 0) return { bytes, descriptors };
  for (const descriptor of descriptors) calls.close(descriptor);
  throw new StoreError(
    'E_FORMAT',
    `More than ${DESCRIPTORS_MAX} descriptors came with one message, or this process may not have more; raise its limit (ulimit -n)`,
  );
}

function controlMessage(descriptors: readonly number[]): Buffer {
  const length = CMSGHDR_BYTES + descriptors.length * DESCRIPTOR_BYTES;
  const control = Buffer.alloc(Math.ceil(length / ALIGNMENT) * ALIGNMENT);
  control.writeUInt32LE(length, AT_LENGTH);
  control.writeInt32LE(SOL_SOCKET, AT_LEVEL);
  control.writeInt32LE(SCM_RIGHTS, AT_TYPE);
  descriptors.forEach((descriptor, index) =>
    control.writeInt32LE(descriptor, CMSGHDR_BYTES + index * DESCRIPTOR_BYTES),
  );
  return control;
}

/** The descriptors in the control messages of one `recvmsg`. */
function descriptorsIn(control: Buffer): number[] {
  const found: number[] = [];
  let at = 0;
  while (at + CMSGHDR_BYTES <= control.length) {
    const length = control.readUInt32LE(at + AT_LENGTH);
    const end = Math.min(at + length, control.length);
    const isRights =
      control.readInt32LE(at + AT_LEVEL) === SOL_SOCKET &&
      control.readInt32LE(at + AT_TYPE) === SCM_RIGHTS;
    for (let one = at + CMSGHDR_BYTES; isRights && one + DESCRIPTOR_BYTES <= end; one += 4)
      found.push(control.readInt32LE(one));
    if (length < CMSGHDR_BYTES) break;
    at += Math.ceil(length / ALIGNMENT) * ALIGNMENT;
  }
  return found;
}
