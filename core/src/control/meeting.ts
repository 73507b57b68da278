/**
 * How somebody and a master get to know each other, the same for daemons and clients: `meet` says who is there and who
 * leads; a client with a key then proves it, and the master has proved that it knows the key as well.
 */
import type { ClientKey } from '../auth/client-key.js';
import {
  EXPORTER_LABEL,
  makeProof,
  NONCE_BYTES,
  verifyProof,
  type Meeting,
} from '../auth/proof.js';
import type { Random } from '../env/env.js';
import { StoreError } from '../util/errors.js';
import { EXPORTER_BYTES } from '../wire/greeting.js';
import {
  base64,
  booleanIn,
  bytesIn,
  numberIn,
  textIn,
  type JsonFields,
} from '../wire/json-body.js';
import { PROTOCOL_VERSION } from '../wire/wire-limits.js';
import { CONTROL } from './control-ops.js';
import type { ControlChannel } from './control-channel.js';

const ID_BYTES = 16;
const NAME_BYTES_MAX = 128;
const ADDRESS_BYTES_MAX = 262;
const PROOF_BYTES = 32;

/** What comes first. */
export interface Greeting {
  readonly versionMin: number;
  readonly versionMax: number;
  /** What runs there, for logs: `store-nbd`. */
  readonly name: string;
  /** The client whose key will be proved; empty: nobody's. */
  readonly client: string;
  readonly nonce: Buffer;
}

/** What a master says to it. */
export interface MasterGreeting {
  readonly version: number;
  /** 16 bytes each. */
  readonly clusterId: Buffer;
  /** New with each start of the master. */
  readonly masterId: Buffer;
  readonly isLeader: boolean;
  /** Where the leader listens, at the same kind of entrance; empty: not known, or it is this one. */
  readonly leader: string;
  readonly nonce: Buffer;
  /** That the master knows the client's key; empty without a client. */
  readonly proof: Buffer;
}

function encodeGreeting(greeting: Greeting): JsonFields {
  return { ...greeting, nonce: base64(greeting.nonce) };
}

/** @throws StoreError `E_BAD_FRAME` */
export function decodeGreeting(fields: JsonFields): Greeting {
  return {
    versionMin: numberIn(fields, 'versionMin', 0xff),
    versionMax: numberIn(fields, 'versionMax', 0xff),
    name: textIn(fields, 'name', NAME_BYTES_MAX),
    client: textIn(fields, 'client', NAME_BYTES_MAX),
    nonce: bytesIn(fields, 'nonce', NONCE_BYTES),
  };
}

export function encodeMasterGreeting(greeting: MasterGreeting): JsonFields {
  const { clusterId, masterId, nonce, proof } = greeting;
  return {
    ...greeting,
    clusterId: base64(clusterId),
    masterId: base64(masterId),
    nonce: base64(nonce),
    proof: base64(proof),
  };
}

/** @throws StoreError `E_BAD_FRAME` */
function decodeMasterGreeting(fields: JsonFields): MasterGreeting {
  return {
    version: numberIn(fields, 'version', 0xff),
    clusterId: bytesIn(fields, 'clusterId', ID_BYTES),
    masterId: bytesIn(fields, 'masterId', ID_BYTES),
    isLeader: booleanIn(fields, 'isLeader'),
    leader: textIn(fields, 'leader', ADDRESS_BYTES_MAX),
    nonce: bytesIn(fields, 'nonce', NONCE_BYTES),
    proof: bytesIn(fields, 'proof', PROOF_BYTES, { upTo: true }),
  };
}

/** What both sides of a proof know of it. The client's name stands where a ticket would. */
export function meetingOf(
  greeting: Pick<Greeting, 'client' | 'nonce'>,
  master: Pick<MasterGreeting, 'clusterId' | 'masterId' | 'nonce'>,
  exporter: Buffer,
): Meeting {
  return {
    clientNonce: greeting.nonce,
    daemonNonce: master.nonce,
    diskId: master.clusterId,
    startId: master.masterId,
    ticketBytes: Buffer.from(greeting.client),
    exporter,
  };
}

/** The value that both ends of the channel's TLS know; empty without TLS. */
export function exporterOf(channel: ControlChannel): Buffer {
  return channel.exportKey(EXPORTER_LABEL, EXPORTER_BYTES);
}

/**
 * Meets a master, as `key` if there is one.
 * @returns who it is; or where the leader is, if it does not lead: then nothing was proved
 * @throws StoreError `E_DENIED` if it does not know the key, or does not take it
 */
export async function meetMaster(
  channel: ControlChannel,
  options: { name: string; key: ClientKey | null; random: Random; deadlineMs: number },
): Promise<MasterGreeting> {
  const { name, key, random, deadlineMs } = options;
  const greeting: Greeting = {
    versionMin: PROTOCOL_VERSION,
    versionMax: PROTOCOL_VERSION,
    name,
    client: key?.client ?? '',
    nonce: random.bytes(NONCE_BYTES),
  };
  const { fields } = await channel.ask(CONTROL.meet, encodeGreeting(greeting), { deadlineMs });
  const master = decodeMasterGreeting(fields);
  if (!master.isLeader || key === null) return master;
  const meeting = meetingOf(greeting, master, exporterOf(channel));
  if (!verifyProof(key.key, 'daemon', meeting, master.proof))
    throw new StoreError(
      'E_DENIED',
      `${channel.name} does not know the key of client "${key.client}": it is of another cluster, the key was changed, or somebody is in between`,
    );
  const proof = makeProof(key.key, 'client', meeting);
  await channel.ask(CONTROL.prove, { proof: base64(proof) }, { deadlineMs });
  return master;
}
