/** Who writes to an image, as its header says. */
import { isMoment, momentText } from '../auth/moment.js';
import { StoreError } from '../util/errors.js';

/** Long enough for the name of a host, and for that of an image. */
const OWNER_TEXT_MAX = 512;

/** Who may take the role again without asking: a gateway of the same host that serves the same export. */
export interface ImageOwner {
  readonly host: string;
  /** Name of the export. */
  readonly name: string;
}

export interface ImageWriter {
  /** 1 for the first one; grows by one with each. */
  readonly token: number;
  /** Number of the layer that is written to: how many were sealed before. */
  readonly layer: number;
  /** Null: nobody is the writer just now, and the token is that of the last. */
  readonly owner: ImageOwner | null;
  /** When it became so: seconds since 1970. */
  readonly since: number;
  /** `pending`: the guards of some groups may still be lower; whoever finds that raises them. */
  readonly state: 'pending' | 'ready';
}

/** @throws StoreError `E_INVALID` unless a header can name an owner so */
export function checkOwnerName(text: string): void {
  if (isOwnerText(text)) return;
  throw new StoreError(
    'E_INVALID',
    `Who writes to an image is named by 1 to ${OWNER_TEXT_MAX} characters, none of them a control character`,
  );
}

/** What is wrong with the writer of a header that was read; null: nothing. */
export function writerProblem(value: unknown): string | null {
  if (!isRecord(value) || Object.keys(value).length !== 5) return 'it has not the five fields';
  const { token, layer, owner, since, state } = value;
  if (!isCount(token) || token < 1) return 'its token is no number from 1 on';
  if (!isCount(layer) || layer > 2 ** 32 - 1) return 'its layer is no number';
  if (typeof since !== 'number' || !isMoment(since)) return 'its time is no number';
  if (state !== 'pending' && state !== 'ready') return 'its state is not known';
  return owner === null || isOwner(owner) ? null : 'its owner has no host and name';
}

/** Both mean the same gateway. */
export function isSameOwner(a: ImageOwner, b: ImageOwner): boolean {
  return a.host === b.host && a.name === b.name;
}

/** Why somebody else cannot have the role. */
export function takenError(image: string, writer: ImageWriter): StoreError {
  return inUse(image, writer, ', or open it with --read-only');
}

/** Why an image cannot be removed, or made smaller. */
export function servedError(image: string, writer: ImageWriter): StoreError {
  return inUse(image, writer, '');
}

function inUse(image: string, { owner, since }: ImageWriter, otherwise: string): StoreError {
  const who =
    owner === null ? 'nobody any more' : `host ${owner.host}, which serves it as '${owner.name}'`;
  return new StoreError(
    'E_IN_USE',
    `The writer of image '${image}' is ${who}, since ${momentText(since)}; stop it there, or take the image away from it with --force${otherwise}`,
  );
}

function isOwner(value: unknown): boolean {
  if (!isRecord(value) || Object.keys(value).length !== 2) return false;
  const { host, name } = value;
  return isOwnerText(host) && isOwnerText(name);
}

function isOwnerText(value: unknown): boolean {
  if (typeof value !== 'string' || value.length === 0 || value.length > OWNER_TEXT_MAX)
    return false;
  return !/\p{Cc}/u.test(value); // it is shown to people
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && Number(value) >= 0;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
