/**
 * The fixed newstyle handshake of one connection, as a pure state machine: bytes in, actions out. It waits for
 * nothing and opens nothing: what it has to know of an export it asks for with a `look-up` action, and goes on when
 * `resume` brings the answer. Until then it keeps what the client has already sent.
 *
 * Guarantees: bounded memory (one option of at most 64 KiB, plus what arrives during a look-up), bounded work (64
 * options), and that after any option it does not know it is still in step with the client (H6).
 *
 * Specification: NetworkBlockDevice/nbd doc/proto.md, "Fixed newstyle negotiation".
 */
import { invariant, type StoreError } from '@store/core';
import type { ExportInfo } from '../backend.js';
import {
  NBD_FLAG_C_FIXED_NEWSTYLE,
  NBD_FLAG_C_NO_ZEROES,
  NBD_INFO,
  NBD_MAGIC,
  NBD_OPT,
  NBD_REP,
  optionName,
} from '../protocol/constants.js';
import {
  OPTION_BYTES_DROP,
  OPTION_BYTES_MAX,
  OPTIONS_MAX,
  STRING_BYTES_MAX,
} from '../protocol/limits.js';
import { decodeExportRequest, decodeName, type ExportRequest } from './export-request.js';
import {
  ackReply,
  errorReply,
  exportNameReply,
  greeting,
  infoBlockSizeReply,
  infoExportReply,
  infoStringReply,
  serverReply,
} from './option-reply.js';

/** What the machine has to know before it can go on. */
export type LookUp =
  | { readonly kind: 'list' }
  /** Size and flags only: nothing may be opened. */
  | { readonly kind: 'info'; readonly name: string }
  /** The client is going to use it: open it. */
  | { readonly kind: 'open'; readonly name: string };

/** What the machine learns of one export. `flags` are transmission flags. */
export interface ExportFacts {
  readonly bytes: number;
  readonly flags: number;
  readonly description: string;
}

/** The answer to a look-up; `found: null` means there is no export of that name. */
export type LookUpResult =
  | { readonly kind: 'list'; readonly exports: readonly ExportInfo[] }
  | { readonly kind: 'export'; readonly found: ExportFacts | null }
  | { readonly kind: 'failed'; readonly error: StoreError };

/** What the owner of the connection has to do, in this order. */
export type HandshakeAction =
  | { readonly kind: 'send'; readonly bytes: Buffer }
  | { readonly kind: 'look-up'; readonly what: LookUp }
  /** Requests begin; `rest` are the first bytes of them that have arrived. */
  | { readonly kind: 'transmit'; readonly rest: Buffer }
  /** The client said goodbye: send what is to be sent, then close. */
  | { readonly kind: 'end' }
  /** The client broke a rule that leaves no way to answer: close at once. */
  | { readonly kind: 'drop'; readonly reason: string };

const CLIENT_FLAGS_BYTES = 4;

// Option header, big-endian.
const AT_MAGIC_HIGH = 0; //  4
const AT_MAGIC_LOW = 4; //   4
const AT_OPTION = 8; //      4  NBD_OPT
const AT_LENGTH = 12; //     4  bytes of data that follow
const OPTION_HEADER_BYTES = 16;

type State = 'client-flags' | 'option-header' | 'option-data' | 'skip-data' | 'look-up' | 'over';

export class Handshake {
  #state: State = 'client-flags';
  /** What the state waits for, filled as bytes arrive. */
  #wanted: Buffer = Buffer.allocUnsafe(CLIENT_FLAGS_BYTES);
  #have = 0;
  #skipBytes = 0;
  /** Bytes that arrived and were not looked at. */
  #arrived: Buffer = Buffer.alloc(0);
  #actions: HandshakeAction[] = [];

  #fixedNewstyle = false;
  #noZeroes = false;
  #optionCount = 0;
  #option = 0;
  #asked: ExportRequest = { name: '', infos: new Set() };
  #shuttingDown = false;

  /** What to send to a new connection before anything is received. */
  start(): Buffer {
    return greeting();
  }

  /** Takes bytes from the client. */
  receive(chunk: Buffer): HandshakeAction[] {
    if (this.#state === 'over') return [];
    this.#arrived = this.#arrived.length === 0 ? chunk : Buffer.concat([this.#arrived, chunk]);
    if (this.#arrived.length > OPTION_BYTES_DROP) this.#drop('The client sends without waiting');
    return this.#run();
  }

  /** Answers the last `look-up`. */
  resume(result: LookUpResult): HandshakeAction[] {
    if (this.#state === 'over') return [];
    invariant(this.#state === 'look-up', 'a result was asked for');
    this.#await('option-header', OPTION_HEADER_BYTES);
    this.#answer(result);
    return this.#run();
  }

  /** True while an answer to a `look-up` is missing: the client waits for us. */
  get isLookingUp(): boolean {
    return this.#state === 'look-up';
  }

  /** H10: from now on options are answered SHUTDOWN. */
  shutDown(): void {
    this.#shuttingDown = true;
  }

  #run(): HandshakeAction[] {
    while (this.#arrived.length > 0 && this.#state !== 'look-up' && this.#state !== 'over') {
      if (this.#state === 'skip-data') this.#skip();
      else if (this.#fill()) this.#step();
    }
    const actions = this.#actions;
    this.#actions = [];
    return actions;
  }

  #await(state: State, bytes: number): void {
    this.#state = state;
    this.#wanted = Buffer.allocUnsafe(bytes);
    this.#have = 0;
  }

  /** Moves bytes into what is wanted; true if that is complete. */
  #fill(): boolean {
    const taken = this.#arrived.copy(this.#wanted, this.#have);
    this.#have += taken;
    this.#arrived = this.#arrived.subarray(taken);
    return this.#have === this.#wanted.length;
  }

  #skip(): void {
    const skipped = Math.min(this.#skipBytes, this.#arrived.length);
    this.#skipBytes -= skipped;
    this.#arrived = this.#arrived.subarray(skipped);
    if (this.#skipBytes > 0) return;
    this.#error(NBD_REP.ERR_TOO_BIG, `An option has at most ${OPTION_BYTES_MAX} bytes`);
    this.#await('option-header', OPTION_HEADER_BYTES);
  }

  #step(): void {
    if (this.#state === 'client-flags') {
      this.#takeClientFlags(this.#wanted.readUInt32BE(0));
    } else if (this.#state === 'option-header') {
      this.#takeOptionHeader(this.#wanted);
    } else {
      const data = this.#wanted;
      this.#await('option-header', OPTION_HEADER_BYTES);
      this.#takeOption(data);
    }
  }

  /** H2, H3 */
  #takeClientFlags(flags: number): void {
    const unknown = flags & ~(NBD_FLAG_C_FIXED_NEWSTYLE | NBD_FLAG_C_NO_ZEROES);
    if (unknown !== 0) {
      this.#drop(`The client sets flags that were not offered: 0x${(unknown >>> 0).toString(16)}`);
      return;
    }
    this.#fixedNewstyle = (flags & NBD_FLAG_C_FIXED_NEWSTYLE) !== 0;
    this.#noZeroes = (flags & NBD_FLAG_C_NO_ZEROES) !== 0;
    this.#await('option-header', OPTION_HEADER_BYTES);
  }

  /** H4, H11 */
  #takeOptionHeader(header: Buffer): void {
    if (
      header.readUInt32BE(AT_MAGIC_HIGH) !== NBD_MAGIC.IHAVEOPT_HIGH ||
      header.readUInt32BE(AT_MAGIC_LOW) !== NBD_MAGIC.IHAVEOPT_LOW
    ) {
      this.#drop('An option begins with the wrong magic number');
      return;
    }
    this.#option = header.readUInt32BE(AT_OPTION);
    const bytes = header.readUInt32BE(AT_LENGTH);
    this.#optionCount += 1;
    if (this.#optionCount > OPTIONS_MAX) {
      this.#drop(`The client sent more than ${OPTIONS_MAX} options`);
    } else if (!this.#fixedNewstyle && this.#option !== NBD_OPT.EXPORT_NAME) {
      this.#drop(`A client without fixed newstyle sent ${optionName(this.#option)}`);
    } else if (this.#option === NBD_OPT.EXPORT_NAME && bytes > STRING_BYTES_MAX) {
      this.#drop(`The client asked for an export name of ${bytes} bytes`);
    } else if (bytes > OPTION_BYTES_DROP) {
      this.#drop(`The client announced an option of ${bytes} bytes`);
    } else if (bytes > OPTION_BYTES_MAX) {
      this.#state = 'skip-data';
      this.#skipBytes = bytes;
    } else if (bytes === 0) {
      this.#await('option-header', OPTION_HEADER_BYTES);
      this.#takeOption(Buffer.alloc(0));
    } else {
      this.#await('option-data', bytes);
    }
  }

  #takeOption(data: Buffer): void {
    if (this.#shuttingDown && this.#option !== NBD_OPT.ABORT) {
      if (this.#option === NBD_OPT.EXPORT_NAME) this.#drop('The server is shutting down');
      else this.#error(NBD_REP.ERR_SHUTDOWN, 'The server is shutting down');
      return;
    }
    switch (this.#option) {
      case NBD_OPT.EXPORT_NAME:
        this.#takeExportName(data);
        return;
      case NBD_OPT.ABORT: // data of it is ignored
        this.#send(ackReply(this.#option));
        this.#over({ kind: 'end' });
        return;
      case NBD_OPT.LIST:
        if (data.length > 0) this.#error(NBD_REP.ERR_INVALID, 'LIST has no data');
        else this.#lookUp({ kind: 'list' });
        return;
      case NBD_OPT.INFO:
      case NBD_OPT.GO:
        this.#takeExportRequest(data);
        return;
      // Known, and not offered: each gets its own case when it is.
      case NBD_OPT.STARTTLS:
      case NBD_OPT.STRUCTURED_REPLY:
      case NBD_OPT.LIST_META_CONTEXT:
      case NBD_OPT.SET_META_CONTEXT:
      case NBD_OPT.EXTENDED_HEADERS:
      default:
        this.#error(NBD_REP.ERR_UNSUP, `${optionName(this.#option)} is not supported`);
    }
  }

  #takeExportName(data: Buffer): void {
    const name = decodeName(data);
    if (typeof name === 'string') {
      this.#asked = { name, infos: new Set() };
      this.#lookUp({ kind: 'open', name });
    } else {
      this.#drop(name.error);
    }
  }

  #takeExportRequest(data: Buffer): void {
    const request = decodeExportRequest(data);
    if ('error' in request) {
      this.#error(NBD_REP.ERR_INVALID, request.error);
      return;
    }
    this.#asked = request;
    const kind = this.#option === NBD_OPT.GO ? 'open' : 'info';
    this.#lookUp({ kind, name: request.name });
  }

  #answer(result: LookUpResult): void {
    if (result.kind === 'failed') this.#answerFailure(result.error);
    else if (result.kind === 'list') this.#answerList(result.exports);
    else if (this.#option === NBD_OPT.EXPORT_NAME) this.#answerExportName(result.found);
    else this.#answerExport(result.found);
  }

  #answerFailure(error: StoreError): void {
    if (this.#option === NBD_OPT.EXPORT_NAME) {
      this.#drop(error.message);
      return;
    }
    const type = error.code === 'E_CLOSED' ? NBD_REP.ERR_SHUTDOWN : NBD_REP.ERR_POLICY;
    this.#error(type, error.message);
  }

  #answerList(exports: readonly ExportInfo[]): void {
    const usable = exports.filter(({ name }) => Buffer.byteLength(name) <= STRING_BYTES_MAX);
    const replies = usable.map(({ name, description }) =>
      serverReply(this.#option, name, description),
    );
    this.#send(Buffer.concat([...replies, ackReply(this.#option)]));
  }

  #answerExportName(found: ExportFacts | null): void {
    if (found === null) {
      this.#drop(`There is no export '${this.#asked.name}'`);
      return;
    }
    this.#send(exportNameReply(found.bytes, found.flags, this.#noZeroes));
    this.#transmit();
  }

  #answerExport(found: ExportFacts | null): void {
    const { name, infos } = this.#asked;
    const option = this.#option;
    if (found === null) {
      this.#error(NBD_REP.ERR_UNKNOWN, `There is no export '${name}'`);
      return;
    }
    const replies = [infoExportReply(option, found.bytes, found.flags)];
    if (infos.has(NBD_INFO.NAME)) replies.push(infoStringReply(option, NBD_INFO.NAME, name));
    if (infos.has(NBD_INFO.DESCRIPTION) && found.description !== '')
      replies.push(infoStringReply(option, NBD_INFO.DESCRIPTION, found.description));
    if (infos.has(NBD_INFO.BLOCK_SIZE)) replies.push(infoBlockSizeReply(option));
    this.#send(Buffer.concat([...replies, ackReply(option)]));
    if (option === NBD_OPT.GO) this.#transmit();
  }

  #transmit(): void {
    this.#over({ kind: 'transmit', rest: this.#arrived });
  }

  #lookUp(what: LookUp): void {
    this.#state = 'look-up';
    this.#actions.push({ kind: 'look-up', what });
  }

  #send(bytes: Buffer): void {
    this.#actions.push({ kind: 'send', bytes });
  }

  #error(type: number, message: string): void {
    this.#send(errorReply(this.#option, type, message));
  }

  #drop(reason: string): void {
    this.#over({ kind: 'drop', reason });
  }

  #over(action: HandshakeAction): void {
    this.#actions.push(action);
    this.#state = 'over';
    this.#arrived = Buffer.alloc(0);
  }
}
