/**
 * How a connection begins: HELLO tells who is there and what both speak, BEGIN puts the connection in charge of a
 * session. A client that shows a ticket has the daemon's proof in the answer to HELLO and gives its own with BEGIN.
 */
import { NONCE_BYTES, IDENTITY_BYTES, PROOF_BYTES } from '../auth/proof.js';
import { TICKET_BYTES_MAX } from '../auth/ticket.js';
import { DATAGRAM_BYTES_MAX, POOL_NAME_BYTES_MAX } from '../util/limits.js';
import { ASSOCIATION_BYTES } from '../auth/datagram-header.js';
import {
  base64,
  booleanIn,
  bytesIn,
  decodeJson,
  encodeJson,
  numberIn,
  textIn,
  textsIn,
  type JsonFields,
} from './json-body.js';
import { U64_MAX } from './wire-limits.js';

const NAME_BYTES_MAX = 128;
const VERSION_MAX = 255;
export const SESSION_BYTES = 16;
/** So much both ends export from TLS, for the proof and, under this label, for the keys of datagrams without a ticket. */
export const EXPORTER_BYTES = 32;
export const DATAGRAM_LABEL = 'EXPORTER-store-datagrams';

export interface Hello {
  /** Versions of the protocol that the client speaks, both ends included. */
  readonly versionMin: number;
  readonly versionMax: number;
  /** What the client is, for people: `store-nbd vm1`. */
  readonly name: string;
  readonly nonce: Buffer;
  /** Encoded ticket; empty: none. */
  readonly ticket: Buffer;
}

export interface HelloAnswer {
  readonly version: number;
  readonly diskId: Buffer;
  readonly startId: Buffer;
  readonly nonce: Buffer;
  /** That the daemon knows the key of the ticket; empty without one. */
  readonly proof: Buffer;
}

export interface Begin {
  /** 16 random bytes that the client made for all its connections to this daemon. */
  readonly session: Buffer;
  /** Grows with each connection of the session. */
  readonly incarnation: number;
  /** That the client knows the key of its ticket; empty without one. */
  readonly proof: Buffer;
  /** The client wants to use datagrams, of at most so many bytes; 0: it does not. */
  readonly datagramBytes: number;
}

export interface BeginAnswer {
  /** The daemon knows the session, with what it answered in it. */
  readonly resumed: boolean;
  /** Changes when answered writes may have been lost. */
  readonly lineage: Buffer;
  /** Requests and bytes the client may have under way. */
  readonly requestsMax: number;
  readonly bytesMax: number;
  /** For datagrams; empty: none are served here. */
  readonly association: Buffer;
  /** Of a datagram at most; 0 without. */
  readonly datagramBytes: number;
  readonly isSealed: boolean;
}

export function encodeHello(hello: Hello): Buffer {
  return encodeJson({ ...hello, nonce: base64(hello.nonce), ticket: base64(hello.ticket) });
}

/** @throws StoreError `E_BAD_FRAME`, as all of these */
export function decodeHello(body: Buffer): Hello {
  const fields = decodeJson(body);
  return {
    versionMin: numberIn(fields, 'versionMin', VERSION_MAX),
    versionMax: numberIn(fields, 'versionMax', VERSION_MAX),
    name: textIn(fields, 'name', NAME_BYTES_MAX),
    nonce: bytesIn(fields, 'nonce', NONCE_BYTES),
    ticket: bytesIn(fields, 'ticket', TICKET_BYTES_MAX, { upTo: true }),
  };
}

export function encodeHelloAnswer(answer: HelloAnswer): Buffer {
  const { version, diskId, startId, nonce, proof } = answer;
  return encodeJson({
    version,
    diskId: base64(diskId),
    startId: base64(startId),
    nonce: base64(nonce),
    proof: base64(proof),
  });
}

export function decodeHelloAnswer(body: Buffer): HelloAnswer {
  const fields = decodeJson(body);
  return {
    version: numberIn(fields, 'version', VERSION_MAX),
    diskId: bytesIn(fields, 'diskId', IDENTITY_BYTES),
    startId: bytesIn(fields, 'startId', IDENTITY_BYTES),
    nonce: bytesIn(fields, 'nonce', NONCE_BYTES),
    proof: proofIn(fields),
  };
}

export function encodeBegin(begin: Begin): Buffer {
  return encodeJson({ ...begin, session: base64(begin.session), proof: base64(begin.proof) });
}

export function decodeBegin(body: Buffer): Begin {
  const fields = decodeJson(body);
  return {
    session: bytesIn(fields, 'session', SESSION_BYTES),
    incarnation: numberIn(fields, 'incarnation', U64_MAX),
    proof: proofIn(fields),
    datagramBytes: numberIn(fields, 'datagramBytes', DATAGRAM_BYTES_MAX),
  };
}

export function encodeBeginAnswer(answer: BeginAnswer): Buffer {
  return encodeJson({
    ...answer,
    lineage: base64(answer.lineage),
    association: base64(answer.association),
  });
}

export function decodeBeginAnswer(body: Buffer): BeginAnswer {
  const fields = decodeJson(body);
  const association = bytesIn(fields, 'association', ASSOCIATION_BYTES, { upTo: true });
  return {
    resumed: booleanIn(fields, 'resumed'),
    lineage: bytesIn(fields, 'lineage', IDENTITY_BYTES),
    requestsMax: numberIn(fields, 'requestsMax', U64_MAX),
    bytesMax: numberIn(fields, 'bytesMax', U64_MAX),
    association: association.length === ASSOCIATION_BYTES ? association : Buffer.alloc(0),
    datagramBytes: numberIn(fields, 'datagramBytes', DATAGRAM_BYTES_MAX),
    isSealed: booleanIn(fields, 'isSealed'),
  };
}

function proofIn(fields: JsonFields): Buffer {
  const proof = bytesIn(fields, 'proof', PROOF_BYTES, { upTo: true });
  return proof;
}

export interface OpenPool {
  readonly name: string;
  readonly create: boolean;
}

export function encodeOpenPool(request: OpenPool): Buffer {
  return encodeJson(request);
}

export function decodeOpenPool(body: Buffer): OpenPool {
  const fields = decodeJson(body);
  return {
    name: textIn(fields, 'name', POOL_NAME_BYTES_MAX),
    create: booleanIn(fields, 'create'),
  };
}

export interface OpenPoolAnswer {
  /** Names the pool in requests of this connection. */
  readonly pool: number;
  readonly objectBytes: number;
}

export function encodeOpenPoolAnswer(answer: OpenPoolAnswer): Buffer {
  return encodeJson(answer);
}

export function decodeOpenPoolAnswer(body: Buffer): OpenPoolAnswer {
  const fields = decodeJson(body);
  return {
    pool: numberIn(fields, 'pool', 2 ** 32 - 1),
    objectBytes: numberIn(fields, 'objectBytes', 2 ** 30),
  };
}

/** Names of pools in their order, those behind `after`; as many as fit. */
export interface PoolNames {
  readonly names: readonly string[];
  readonly isLast: boolean;
}

export function encodeListPools(after: string): Buffer {
  return encodeJson({ after });
}

export function decodeListPools(body: Buffer): string {
  return textIn(decodeJson(body), 'after', POOL_NAME_BYTES_MAX);
}

export function encodePoolNames(names: PoolNames): Buffer {
  return encodeJson(names);
}

export function decodePoolNames(body: Buffer): PoolNames {
  const fields = decodeJson(body);
  return {
    names: textsIn(fields, 'names', POOL_NAME_BYTES_MAX),
    isLast: booleanIn(fields, 'isLast'),
  };
}
