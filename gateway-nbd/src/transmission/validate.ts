/** The one check every request passes; what lies behind trusts it (NBD.md section 11). */
import { formatSize } from '@store/core';
import type { Backend } from '../backend.js';
import type { Negotiated } from '../handshake/negotiated.js';
import {
  commandName,
  NBD_CMD,
  NBD_CMD_FLAG,
  NBD_ERROR,
  type NbdError,
} from '../protocol/constants.js';
import { PAYLOAD_BYTES_MAX } from '../protocol/limits.js';
import type { Request } from './request.js';

const { FUA, NO_HOLE, DF, REQ_ONE, FAST_ZERO, PAYLOAD_LEN } = NBD_CMD_FLAG;
const { EPERM, EINVAL, ENOSPC, EOVERFLOW, ENOTSUP } = NBD_ERROR;

interface CommandRules {
  /** Flags it may carry; any other is EINVAL (X8). FUA is accepted everywhere (X4). */
  readonly flags: number;
  /** Flags it may carry if replies have chunks. */
  readonly chunkFlags: number;
  /** EPERM on a read-only export. */
  readonly changes: boolean;
  /** The answer if any byte lies past the end. */
  readonly pastEnd: NbdError;
}

const READING = { flags: FUA, chunkFlags: 0, changes: false, pastEnd: EINVAL };
const CHANGING = { flags: FUA, chunkFlags: 0, changes: true, pastEnd: EINVAL };
const RULES: Readonly<Record<number, CommandRules | undefined>> = {
  [NBD_CMD.READ]: { ...READING, chunkFlags: DF },
  [NBD_CMD.WRITE]: { ...CHANGING, pastEnd: ENOSPC },
  [NBD_CMD.FLUSH]: READING,
  [NBD_CMD.TRIM]: CHANGING,
  [NBD_CMD.CACHE]: READING,
  [NBD_CMD.WRITE_ZEROES]: { ...CHANGING, flags: FUA | NO_HOLE | FAST_ZERO, pastEnd: ENOSPC },
  [NBD_CMD.BLOCK_STATUS]: { ...READING, chunkFlags: REQ_ONE },
};

/** Why a request may not run. */
export interface Refusal {
  readonly error: NbdError;
  /** A sentence for people. */
  readonly message: string;
}

/** What decides, beside the request itself. */
export interface Door {
  readonly backend: Backend;
  /** This client may not write, or nobody may. */
  readonly readOnly: boolean;
  readonly negotiated: Negotiated;
  /** Block that offsets and lengths are multiples of, for this client. */
  readonly blockBytes: number;
}

/**
 * @param hasPayload - A payload was announced.
 * @returns Why the request may not run; null if it may.
 */
export function validate(request: Request, hasPayload: boolean, door: Door): Refusal | null {
  const { type, flags, offset, length } = request;
  const rule = RULES[type];
  if (rule === undefined) return invalid(`${commandName(type)} is not a command of this server`);
  const { headers } = door.negotiated;
  if (type === NBD_CMD.BLOCK_STATUS && door.negotiated.contexts.length === 0)
    return invalid('BLOCK_STATUS needs a metadata context that was selected for this export');
  const bad = flags & ~allowedFlags(rule, type, door);
  if (bad !== 0) return invalid(`${commandName(type)} does not take the flags 0x${hex(bad)}`);
  if (rule.changes && door.readOnly) return { error: EPERM, message: 'The export is read-only' };
  if (type === NBD_CMD.FLUSH)
    return offset === 0 && length === 0 ? null : invalid('FLUSH has no offset and no length');
  if (type === NBD_CMD.BLOCK_STATUS && hasPayload) return validateStatusPayload(length, door);
  if (type === NBD_CMD.WRITE && !hasPayload && length > 0)
    return invalid('A WRITE brings its data: PAYLOAD_LEN is missing');
  // Sums above 2^53 are rounded, and larger than any export either way.
  if (offset + length > door.backend.bytes) return pastEnd(request, rule.pastEnd, door);
  if (door.blockBytes > 1 && !isAligned(offset, length, door.blockBytes))
    return invalid(`Offset and length are multiples of ${door.blockBytes} bytes`);
  if (type === NBD_CMD.READ && length > PAYLOAD_BYTES_MAX) return tooLong(headers);
  if (type === NBD_CMD.BLOCK_STATUS && length === 0)
    return invalid('BLOCK_STATUS of no bytes has no answer');
  if ((flags & FAST_ZERO) !== 0 && !zeroesFast(request, door.backend))
    return { error: ENOTSUP, message: 'Zeroing this range is not faster than writing it' };
  return null;
}

function allowedFlags(rule: CommandRules, type: number, door: Door): number {
  const { headers } = door.negotiated;
  let allowed = rule.flags;
  if (headers !== 'simple') allowed |= rule.chunkFlags;
  if (headers === 'extended' && type === NBD_CMD.WRITE) allowed |= PAYLOAD_LEN;
  if (headers === 'extended' && type === NBD_CMD.BLOCK_STATUS) allowed |= PAYLOAD_LEN;
  if ((door.backend.fastZeroBytes ?? 0) === 0) allowed &= ~FAST_ZERO;
  return allowed;
}

/** E7: u64 effect length and at least one u32 context id; no more ids than contexts were selected. */
function validateStatusPayload(bytes: number, door: Door): Refusal | null {
  const ids = (bytes - 8) / 4;
  if (Number.isInteger(ids) && ids >= 1 && ids <= door.negotiated.contexts.length) return null;
  return invalid('The payload of BLOCK_STATUS is a length and ids of selected contexts');
}

/** Whole blocks can be unmapped; part of one has to be read and written. */
function zeroesFast(request: Request, backend: Backend): boolean {
  if ((request.flags & NO_HOLE) !== 0) return false;
  const { offset, length } = request;
  const end = offset + length;
  const unit = backend.fastZeroBytes ?? 0;
  return offset % unit === 0 && (end % unit === 0 || end === backend.bytes);
}

function isAligned(offset: number, length: number, blockBytes: number): boolean {
  return offset % blockBytes === 0 && length % blockBytes === 0;
}

function pastEnd(request: Request, error: NbdError, door: Door): Refusal {
  const { type, offset, length } = request;
  const end = door.backend.bytes;
  const message = `${commandName(type)} of ${length} bytes at ${offset} goes past the end of the export, ${end} bytes`;
  return { error, message };
}

function tooLong(headers: Negotiated['headers']): Refusal {
  const message = `A READ has at most ${formatSize(PAYLOAD_BYTES_MAX)}`;
  return { error: headers === 'simple' ? EINVAL : EOVERFLOW, message };
}

function invalid(message: string): Refusal {
  return { error: EINVAL, message };
}

function hex(flags: number): string {
  return flags.toString(16);
}
