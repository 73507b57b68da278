/** Waiting for the other process does not keep this one from stopping when it is told to. */
import { StoreError, type ChannelMessage, type DescriptorChannel } from '@store/core';

/** So long a process that is told to stop may go on waiting. */
const SLICE_MS = 100;

/** @throws StoreError `E_CLOSED` if this process was told to stop */
export type StopCheck = () => void;

/**
 * The next message; null: the peer has gone.
 * @throws StoreError what `check` throws, if it does meanwhile, and what `receive` throws. What arrives later can still
 * be received
 */
export async function receiveUnlessStopped(
  channel: DescriptorChannel,
  limitMs: number,
  check: StopCheck,
): Promise<ChannelMessage | null> {
  for (let leftMs = limitMs; ; leftMs -= SLICE_MS) {
    check();
    try {
      return await channel.receive(Math.min(leftMs, SLICE_MS));
    } catch (error) {
      if (!(error instanceof StoreError) || error.code !== 'E_TIMEOUT') throw error;
      if (leftMs > SLICE_MS) continue;
      const message = `The other process said nothing for ${limitMs / 1000} s`;
      throw new StoreError('E_TIMEOUT', message, { cause: error });
    }
  }
}
