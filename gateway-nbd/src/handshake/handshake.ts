/**
 * The fixed newstyle handshake of one connection, as a pure state machine: bytes in, actions out. It waits for
 * nothing and opens nothing: what it has to know of an export it asks for with a `look-up` action, and goes on when
 * `resume` brings the answer. Until then it keeps what the client has already sent.
 *
 * Guarantees: bounded memory (one option of at most 64 KiB, plus what arrives during a look-up), bounded work (64
 * options), that after any option it does not know it is still in step with the client (H6), and that nothing said
 * in the clear has any effect once TLS is on (T7, T8).
 *
 * Specification: NetworkBlockDevice/nbd doc/proto.md, "Fixed newstyle negotiation".
 */
import { invariant, type StoreError } from '@store/core';
import type { ExportFacts, ExportInfo } from '../backend.js';
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
import { contextsOf, listContexts, selectContexts } from './metadata-contexts.js';
import type { HeaderKind, Negotiated, SelectedContext } from './negotiated.js';
import {
  decodeContextRequest,
  decodeExportRequest,
  decodeString,
  type ContextRequest,
  type ExportRequest,
} from './option-data.js';
import {
  ackReply,
  errorReply,
  exportNameReply,
  greeting,
  infoBlockSizeReply,
  infoExportReply,
  infoStringReply,
  metaContextReply,
  serverReply,
} from './option-reply.js';
import { transmissionFlags } from './transmission-flags.js';

/** What the machine has to know before it can go on. */
export type LookUp =
  | { readonly kind: 'list' }
  /** Size and flags only: nothing may be opened. */
  | { readonly kind: 'info'; readonly name: string }
  /** The client is going to use it: open it. */
  | { readonly kind: 'open'; readonly name: string };

/** The answer to a look-up; `found: null` means there is no export of that name. */
export type LookUpResult =
  | { readonly kind: 'list'; readonly exports: readonly ExportInfo[] }
  | { readonly kind: 'export'; readonly found: ExportFacts | null }
  | { readonly kind: 'failed'; readonly error: StoreError };

/** What the owner of the connection has to do, in this order. */
export type HandshakeAction =
  | { readonly kind: 'send'; readonly bytes: Buffer }
  | { readonly kind: 'look-up'; readonly what: LookUp }
  /** Put TLS over the connection, then call `tlsStarted`; nothing may be received in the clear any more. */
  | { readonly kind: 'start-tls' }
  /** Requests begin; `rest` are the first bytes of them that have arrived. */
  | { readonly kind: 'transmit'; readonly negotiated: Negotiated; readonly rest: Buffer }
  /** The client said goodbye: send what is to be sent, then close. */
  | { readonly kind: 'end' }
  /** The client broke a rule that leaves no way to answer: close at once. */
  | { readonly kind: 'drop'; readonly reason: string };

/** What the server decided before the client came. */
export interface HandshakeRules {
  /** T2: `off` is NOTLS, the others as the specification names them. */
  readonly tls: 'off' | 'selective' | 'forced';
  /** Exports of a selective server that are for TLS only. */
  readonly needsTls: (exportName: string) => boolean;
  /** Smallest block, a power of two; advertised to whoever asks (S8). */
  readonly blockBytesMin: number;
}

const CLIENT_FLAGS_BYTES = 4;

// Option header, big-endian.
const AT_MAGIC_HIGH = 0; //  4
const AT_MAGIC_LOW = 4; //   4
const AT_OPTION = 8; //      4  NBD_OPT
const AT_LENGTH = 12; //     4  bytes of data that follow
const OPTION_HEADER_BYTES = 16;

type State =
  'client-flags' | 'option-header' | 'option-data' | 'skip-data' | 'look-up' | 'start-tls' | 'over';

/** Contexts count only for the export they were selected for. */
interface Selection {
  readonly exportName: string;
  readonly contexts: readonly SelectedContext[];
}

const TLS_REQUIRED = 'Begin with TLS: this server speaks nothing else';

/** Stands for data that was dropped. */
const SOME_DATA = Buffer.alloc(1);

const NO_SELECTION: Selection = { exportName: '', contexts: [] };

export class Handshake {
  readonly #rules: HandshakeRules;
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
  #queries: readonly string[] = [];
  #shuttingDown = false;

  #tlsActive = false;
  #headers: HeaderKind = 'simple';
  #selection: Selection = NO_SELECTION;

  constructor(rules: HandshakeRules) {
    this.#rules = rules;
  }

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

  /** TLS is on: what was negotiated in the clear is forgotten (T8). */
  tlsStarted(): void {
    invariant(this.#state === 'start-tls', 'TLS was asked for');
    this.#tlsActive = true;
    this.#headers = 'simple';
    this.#selection = NO_SELECTION;
    this.#await('option-header', OPTION_HEADER_BYTES);
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
    while (this.#arrived.length > 0 && this.#isReading) {
      if (this.#state === 'skip-data') this.#skip();
      else if (this.#fill()) this.#step();
    }
    const actions = this.#actions;
    this.#actions = [];
    return actions;
  }

  get #isReading(): boolean {
    return this.#state !== 'look-up' && this.#state !== 'start-tls' && this.#state !== 'over';
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
    this.#await('option-header', OPTION_HEADER_BYTES);
    this.#takeOversizedOption();
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

  /** T5 */
  get #refusesInTheClear(): boolean {
    return this.#rules.tls === 'forced' && !this.#tlsActive;
  }

  /** T6 */
  #isHiddenInTheClear(exportName: string): boolean {
    return this.#rules.tls === 'selective' && !this.#tlsActive && this.#rules.needsTls(exportName);
  }

  #takeOption(data: Buffer): void {
    const option = this.#option;
    if (option === NBD_OPT.ABORT) {
      this.#send(ackReply(option)); // data of it is ignored
      this.#over({ kind: 'end' });
    } else if (this.#shuttingDown) {
      this.#refuse(NBD_REP.ERR_SHUTDOWN, 'The server is shutting down');
    } else if (option === NBD_OPT.STARTTLS) {
      this.#takeStartTls(data);
    } else if (this.#refusesInTheClear) {
      this.#refuse(NBD_REP.ERR_TLS_REQD, TLS_REQUIRED);
    } else {
      this.#takeOptionInPeace(data);
    }
  }

  /** An option whose data was too long to keep: what takes none is answered as if some had been kept. */
  #takeOversizedOption(): void {
    const option = this.#option;
    if (option === NBD_OPT.SET_META_CONTEXT) this.#selection = NO_SELECTION; // also if this fails
    const isForAnyData = option === NBD_OPT.ABORT || option === NBD_OPT.STARTTLS;
    if (isForAnyData || this.#shuttingDown || this.#refusesInTheClear) this.#takeOption(SOME_DATA);
    else this.#error(NBD_REP.ERR_TOO_BIG, `An option has at most ${OPTION_BYTES_MAX} bytes`);
  }

  #takeOptionInPeace(data: Buffer): void {
    switch (this.#option) {
      case NBD_OPT.EXPORT_NAME:
        this.#takeExportName(data);
        return;
      case NBD_OPT.LIST:
        if (this.#hasNoData(data)) this.#lookUp({ kind: 'list' });
        return;
      case NBD_OPT.INFO:
      case NBD_OPT.GO:
        this.#takeExportRequest(data);
        return;
      case NBD_OPT.STRUCTURED_REPLY:
        if (this.#hasNoData(data)) this.#takeStructuredReply();
        return;
      case NBD_OPT.EXTENDED_HEADERS:
        if (!this.#hasNoData(data)) return;
        this.#headers = 'extended';
        this.#send(ackReply(this.#option));
        return;
      case NBD_OPT.LIST_META_CONTEXT:
      case NBD_OPT.SET_META_CONTEXT:
        this.#takeContextRequest(data);
        return;
      default:
        this.#error(NBD_REP.ERR_UNSUP, `${optionName(this.#option)} is not supported`);
    }
  }

  #hasNoData(data: Buffer): boolean {
    if (data.length === 0) return true;
    this.#error(NBD_REP.ERR_INVALID, `${optionName(this.#option)} has no data`);
    return false;
  }

  /** T3, T4, T7, T9 */
  #takeStartTls(data: Buffer): void {
    if (!this.#hasNoData(data)) return;
    if (this.#tlsActive) this.#error(NBD_REP.ERR_INVALID, 'TLS is on already');
    else if (this.#rules.tls === 'off')
      this.#error(NBD_REP.ERR_POLICY, 'This server was started without TLS');
    else if (this.#arrived.length > 0)
      this.#drop('The client sent something in the clear after STARTTLS');
    else {
      this.#send(ackReply(this.#option));
      this.#state = 'start-tls';
      this.#actions.push({ kind: 'start-tls' });
    }
  }

  #takeStructuredReply(): void {
    if (this.#headers === 'extended') {
      this.#error(NBD_REP.ERR_EXT_HEADER_REQD, 'Extended headers are on already');
      return;
    }
    this.#headers = 'structured';
    this.#send(ackReply(this.#option));
  }

  #takeExportName(data: Buffer): void {
    const name = decodeString(data);
    if (typeof name !== 'string') this.#drop(name.error);
    else if (this.#headers === 'extended')
      this.#drop('EXPORT_NAME does not go with extended headers'); // E10
    else if (this.#isHiddenInTheClear(name)) this.#drop(`Export '${name}' needs TLS`);
    else {
      this.#asked = { name, infos: new Set() };
      this.#lookUp({ kind: 'open', name });
    }
  }

  #takeExportRequest(data: Buffer): void {
    const request = decodeExportRequest(data);
    if ('error' in request) {
      this.#error(NBD_REP.ERR_INVALID, request.error);
    } else if (this.#isHiddenInTheClear(request.name)) {
      this.#error(NBD_REP.ERR_TLS_REQD, `Export '${request.name}' needs TLS`);
    } else {
      this.#asked = request;
      const kind = this.#option === NBD_OPT.GO ? 'open' : 'info';
      this.#lookUp({ kind, name: request.name });
    }
  }

  #takeContextRequest(data: Buffer): void {
    const sets = this.#option === NBD_OPT.SET_META_CONTEXT;
    if (sets) this.#selection = NO_SELECTION; // also if this fails
    const request = decodeContextRequest(data);
    if ('error' in request) {
      this.#error(NBD_REP.ERR_INVALID, request.error);
    } else if (sets && this.#headers === 'simple') {
      this.#error(NBD_REP.ERR_INVALID, 'Metadata contexts need structured replies');
    } else if (this.#isHiddenInTheClear(request.name)) {
      this.#answerUnknown(request.name); // TLS_REQD is not allowed here (T6)
    } else {
      this.#rememberContextRequest(request);
      this.#lookUp({ kind: 'info', name: request.name });
    }
  }

  #rememberContextRequest(request: ContextRequest): void {
    this.#asked = { name: request.name, infos: new Set() };
    this.#queries = request.queries;
  }

  #answer(result: LookUpResult): void {
    if (result.kind === 'failed') this.#answerFailure(result.error);
    else if (result.kind === 'list') this.#answerList(result.exports);
    else if (this.#option === NBD_OPT.EXPORT_NAME) this.#answerExportName(result.found);
    else if (result.found === null) this.#answerUnknown(this.#asked.name);
    else if (this.#option === NBD_OPT.INFO || this.#option === NBD_OPT.GO)
      this.#answerExport(result.found);
    else this.#answerContexts(result.found);
  }

  #answerFailure(error: StoreError): void {
    this.#refuse(
      error.code === 'E_CLOSED' ? NBD_REP.ERR_SHUTDOWN : NBD_REP.ERR_POLICY,
      error.message,
    );
  }

  #answerList(exports: readonly ExportInfo[]): void {
    const usable = exports.filter(
      ({ name }) => Buffer.byteLength(name) <= STRING_BYTES_MAX && !this.#isHiddenInTheClear(name),
    );
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
    this.#send(exportNameReply(found.bytes, this.#flagsOf(found), this.#noZeroes));
    this.#transmit();
  }

  #answerExport(found: ExportFacts): void {
    const { name, infos } = this.#asked;
    const option = this.#option;
    const replies = [infoExportReply(option, found.bytes, this.#flagsOf(found))];
    if (infos.has(NBD_INFO.NAME)) replies.push(infoStringReply(option, NBD_INFO.NAME, name));
    if (infos.has(NBD_INFO.DESCRIPTION) && found.description !== '')
      replies.push(infoStringReply(option, NBD_INFO.DESCRIPTION, found.description));
    if (infos.has(NBD_INFO.BLOCK_SIZE))
      replies.push(infoBlockSizeReply(option, this.#rules.blockBytesMin));
    this.#send(Buffer.concat([...replies, ackReply(option)]));
    if (option === NBD_OPT.GO) this.#transmit();
  }

  #answerContexts(found: ExportFacts): void {
    const option = this.#option;
    const available = contextsOf(found);
    const sets = option === NBD_OPT.SET_META_CONTEXT;
    const names = (sets ? selectContexts : listContexts)(available, this.#queries);
    const contexts = names.map((name) => ({ id: sets ? available.indexOf(name) + 1 : 0, name }));
    if (sets) this.#selection = { exportName: this.#asked.name, contexts };
    const replies = contexts.map(({ id, name }) => metaContextReply(option, id, name));
    this.#send(Buffer.concat([...replies, ackReply(option)]));
  }

  #answerUnknown(name: string): void {
    this.#error(NBD_REP.ERR_UNKNOWN, `There is no export '${name}'`);
  }

  #flagsOf(found: ExportFacts): number {
    return transmissionFlags(found, this.#headers, this.#selectedContexts.length > 0);
  }

  /** What was selected, if that was for the export that is now asked for. */
  get #selectedContexts(): readonly SelectedContext[] {
    return this.#selection.exportName === this.#asked.name ? this.#selection.contexts : [];
  }

  #transmit(): void {
    const negotiated = {
      exportName: this.#asked.name,
      headers: this.#headers,
      contexts: this.#selectedContexts,
      knowsBlockSizes: this.#asked.infos.has(NBD_INFO.BLOCK_SIZE),
    };
    this.#over({ kind: 'transmit', negotiated, rest: this.#arrived });
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

  /** An error reply, or the end where the option has none. */
  #refuse(type: number, message: string): void {
    if (this.#option === NBD_OPT.EXPORT_NAME) this.#drop(message);
    else this.#error(type, message);
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
