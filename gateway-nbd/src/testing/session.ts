/** A client in transmission that speaks one of the three formats, so that one test can hold for all of them. */
import type { ListenAddress } from '@store/core';
import { NBD_CMD, NBD_OPT } from '../protocol/constants.js';
import { option, RawClient } from './raw-client.js';
import { compactRequest, contextRequest, extendedRequest, type WireRequest } from './wire.js';

export type Format = 'simple' | 'structured' | 'extended';
export const FORMATS: readonly Format[] = ['simple', 'structured', 'extended'];

const PAYLOAD_LEN = 1 << 5;
const DONE = 1;
const ERROR_TYPES = 0x8000;

export interface Answer {
  /** 0, or the number of the first error. */
  readonly error: number;
  /** What goes with the error, where the format carries words. */
  readonly message: string;
  /** Chunk types in order; empty for a simple reply. */
  readonly types: readonly number[];
}

export class Session {
  readonly client: RawClient;
  readonly format: Format;

  private constructor(client: RawClient, format: Format) {
    this.client = client;
    this.format = format;
  }

  /** Negotiates the format, contexts where it has them, and block sizes if asked, then goes. */
  static async begin(
    address: ListenAddress,
    format: Format,
    exportName = '',
    infos: readonly number[] = [],
  ): Promise<Session> {
    const client = await RawClient.greeted(address);
    const number = format === 'extended' ? NBD_OPT.EXTENDED_HEADERS : NBD_OPT.STRUCTURED_REPLY;
    if (format !== 'simple') {
      await client.enter(exportName, [option(number), selectAllocation(exportName)], infos);
    } else await client.enter(exportName, [], infos);
    return new Session(client, format);
  }

  /** The bytes of a request; a payload of an extended one gets its flag. */
  encode(request: WireRequest): Buffer {
    if (this.format !== 'extended') return compactRequest(request);
    const flag = request.payload === undefined ? 0 : PAYLOAD_LEN;
    return extendedRequest({ ...request, flags: (request.flags ?? 0) | flag });
  }

  /** Sends a request and reads its whole answer. @throws Error if it is not well-formed or another's */
  async ask(request: WireRequest): Promise<Answer> {
    this.client.send(this.encode(request));
    return this.answerTo(request);
  }

  /** Reads the answer to a request that is the only one open. */
  async answerTo(request: WireRequest): Promise<Answer> {
    const magic = (await this.client.peek(4)).readUInt32BE(0);
    if (magic === 0x67446698) return this.#simpleAnswer(request);
    const types: number[] = [];
    let error = 0;
    let message = '';
    for (;;) {
      const { flags, type, payload } = await this.#chunk(request);
      types.push(type);
      if (type >= ERROR_TYPES && error === 0) {
        error = payload.readUInt32BE(0);
        message = payload.subarray(6, 6 + payload.readUInt16BE(4)).toString();
      }
      if ((flags & DONE) !== 0) return { error, message, types };
    }
  }

  async #simpleAnswer(request: WireRequest): Promise<Answer> {
    const header = await this.client.read(16);
    if (this.format === 'extended') throw new Error('a simple reply to an extended request');
    if (this.format === 'structured' && request.type === NBD_CMD.READ)
      throw new Error('a simple reply to a READ');
    if (header.readBigUInt64BE(8) !== BigInt(request.cookie)) throw new Error('another cookie');
    const error = header.readUInt32BE(4);
    if (error === 0 && request.type === NBD_CMD.READ)
      await this.client.read(Number(request.length ?? 0));
    return { error, message: '', types: [] };
  }

  async #chunk(request: WireRequest): Promise<{ flags: number; type: number; payload: Buffer }> {
    const isExtended = this.format === 'extended';
    const header = await this.client.read(isExtended ? 32 : 20);
    if (header.readUInt32BE(0) !== (isExtended ? 0x6e8a278c : 0x668e33ef))
      throw new Error(`a chunk begins with ${header.toString('hex')}`);
    if (header.readBigUInt64BE(8) !== BigInt(request.cookie)) throw new Error('another cookie');
    if (isExtended && header.readBigUInt64BE(16) !== BigInt(request.offset ?? 0))
      throw new Error('another offset than that of the request');
    const bytes = isExtended ? Number(header.readBigUInt64BE(24)) : header.readUInt32BE(16);
    const payload = await this.client.read(bytes);
    return { flags: header.readUInt16BE(4), type: header.readUInt16BE(6), payload };
  }
}

function selectAllocation(exportName: string): Buffer {
  return option(NBD_OPT.SET_META_CONTEXT, contextRequest(exportName, ['base:allocation']));
}
