import type { Backend } from '../backend.js';
import { NBD_CMD, NBD_CMD_FLAG, NBD_ERROR, type NbdError } from '../protocol/constants.js';
import { PAYLOAD_BYTES_MAX } from '../protocol/limits.js';

const { FUA, NO_HOLE } = NBD_CMD_FLAG;

interface CommandRules {
  /** Flags it may carry; any other is EINVAL (X8). FUA is accepted everywhere (X4). */
  readonly flags: number;
  /** EPERM on a read-only export. */
  readonly changes: boolean;
  /** Its length is bounded by what a payload may have. */
  readonly payload: boolean;
  /** The answer if any byte lies past the end. */
  readonly pastEnd: NbdError;
}

const { EINVAL, ENOSPC } = NBD_ERROR;
const RULES: Readonly<Record<number, CommandRules | undefined>> = {
  [NBD_CMD.READ]: { flags: FUA, changes: false, payload: true, pastEnd: EINVAL },
  [NBD_CMD.WRITE]: { flags: FUA, changes: true, payload: true, pastEnd: ENOSPC },
  [NBD_CMD.FLUSH]: { flags: FUA, changes: false, payload: false, pastEnd: EINVAL },
  [NBD_CMD.TRIM]: { flags: FUA, changes: true, payload: false, pastEnd: EINVAL },
  [NBD_CMD.CACHE]: { flags: FUA, changes: false, payload: false, pastEnd: EINVAL },
  [NBD_CMD.WRITE_ZEROES]: {
    flags: FUA | NO_HOLE,
    changes: true,
    payload: false,
    pastEnd: ENOSPC,
  },
};

/** The fields of a request that decide whether it may run. */
export interface RequestFields {
  readonly type: number;
  readonly flags: number;
  readonly offset: number;
  readonly length: number;
}

/**
 * The one check every request passes; what lies behind trusts it (NBD.md section 11). DISC is not its business.
 * @returns The error to answer, `NONE` if the request may run.
 */
export function validate(request: RequestFields, backend: Backend): NbdError {
  const rule = RULES[request.type];
  if (rule === undefined || (request.flags & ~rule.flags) !== 0) return NBD_ERROR.EINVAL;
  if (rule.changes && backend.readOnly) return NBD_ERROR.EPERM;
  if (request.type === NBD_CMD.FLUSH)
    return request.offset === 0 && request.length === 0 ? NBD_ERROR.NONE : NBD_ERROR.EINVAL;
  if (rule.payload && request.length > PAYLOAD_BYTES_MAX) return NBD_ERROR.EINVAL;
  // Sums above 2^53 are rounded, and larger than any export either way.
  if (request.offset + request.length > backend.bytes) return rule.pastEnd;
  return NBD_ERROR.NONE;
}
