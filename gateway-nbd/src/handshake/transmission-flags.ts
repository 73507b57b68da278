import type { ExportFacts } from '../backend.js';
import { NBD_FLAG } from '../protocol/constants.js';
import type { HeaderKind } from './negotiated.js';

/**
 * Transmission flags of an export for one client. Facts, not hopes: each of them is kept.
 * @param hasContexts - The client selected metadata contexts for this export.
 */
export function transmissionFlags(
  facts: Pick<ExportFacts, 'readOnly' | 'fastZeroBytes'>,
  headers: HeaderKind,
  hasContexts: boolean,
): number {
  const { HAS_FLAGS, SEND_FLUSH, SEND_FUA, SEND_CACHE, CAN_MULTI_CONN } = NBD_FLAG;
  const { READ_ONLY, SEND_TRIM, SEND_WRITE_ZEROES, SEND_FAST_ZERO, SEND_DF } = NBD_FLAG;
  let flags = HAS_FLAGS | SEND_FLUSH | SEND_FUA | SEND_CACHE | CAN_MULTI_CONN;
  if (facts.readOnly) flags |= READ_ONLY;
  else flags |= SEND_TRIM | SEND_WRITE_ZEROES;
  if (!facts.readOnly && (facts.fastZeroBytes ?? 0) > 0) flags |= SEND_FAST_ZERO;
  if (headers !== 'simple') flags |= SEND_DF;
  if (headers === 'extended' && hasContexts) flags |= NBD_FLAG.BLOCK_STATUS_PAYLOAD;
  return flags;
}
