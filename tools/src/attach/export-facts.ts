import { formatSize } from '@store/core';
import { NBD_FLAG } from '@store/gateway-nbd';
import type { ExportFacts } from './nbd-dial.js';

/** What the kernel relies on once a device is set up. */
const RELIED_ON = {
  flush: NBD_FLAG.SEND_FLUSH,
  'forced unit access': NBD_FLAG.SEND_FUA,
  trim: NBD_FLAG.SEND_TRIM,
  'write zeroes': NBD_FLAG.SEND_WRITE_ZEROES,
  'several connections': NBD_FLAG.CAN_MULTI_CONN,
} as const;

/**
 * Why a connection must not join the others of a device, or null. The kernel would not notice: it goes on sending
 * requests made for the export as it was.
 * @param attachedReadOnly - The device never writes, whatever the export allows.
 */
export function factsChange(
  before: Pick<ExportFacts, 'sizeBytes' | 'flags'>,
  now: ExportFacts,
  attachedReadOnly: boolean,
): string | null {
  if (now.sizeBytes !== before.sizeBytes)
    return `the export has ${formatSize(now.sizeBytes)} now (${now.sizeBytes} bytes), and had ${formatSize(before.sizeBytes)} (${before.sizeBytes} bytes)`;
  const readOnly = (flags: number): boolean => (flags & NBD_FLAG.READ_ONLY) !== 0;
  if (!attachedReadOnly && readOnly(now.flags) !== readOnly(before.flags))
    return `the export is ${readOnly(now.flags) ? 'read-only' : 'writable'} now`;
  const lost = Object.entries(RELIED_ON)
    .filter(([, flag]) => (before.flags & flag) !== 0 && (now.flags & flag) === 0)
    .map(([name]) => name);
  return lost.length === 0 ? null : `the server no longer offers ${lost.join(', ')}`;
}
