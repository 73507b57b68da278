import {
  IHAVEOPT,
  NBDMAGIC,
  NBD_FLAG_C_FIXED_NEWSTYLE,
  NBD_FLAG_C_NO_ZEROES,
  NBD_INFO_EXPORT,
  NBD_OPT_EXTENDED_HEADERS,
  NBD_OPT_GO,
  NBD_OPT_STRUCTURED_REPLY,
  NBD_REP_ACK,
  NBD_REP_FLAG_ERROR,
  NBD_REP_INFO,
  NBD_REP_MAGIC,
} from './nbd-constants.js';
import type { RawConnection } from './raw-connection.js';

/** A reply packet to an option. */
export interface OptionReply {
  readonly option: number;
  readonly type: number;
  readonly data: Buffer;
}

/** What the server says of an export. */
export interface ExportFacts {
  readonly bytes: number;
  readonly flags: number;
}

/** Reads the server's greeting and answers it. @returns The handshake flags of the server */
export async function greet(
  connection: RawConnection,
  clientFlags: number = NBD_FLAG_C_FIXED_NEWSTYLE | NBD_FLAG_C_NO_ZEROES,
): Promise<number> {
  const greeting = await connection.read(18);
  if (greeting.readBigUInt64BE(0) !== NBDMAGIC || greeting.readBigUInt64BE(8) !== IHAVEOPT)
    throw new Error(`not an NBD server of the fixed newstyle: ${greeting.toString('hex')}`);
  const flags = Buffer.alloc(4);
  flags.writeUInt32BE(clientFlags);
  connection.write(flags);
  return greeting.readUInt16BE(16);
}

/** How requests and replies look. */
export type HeaderKind = 'simple' | 'structured' | 'extended';

/** Asks for headers of that kind. @throws Error if the server does not have them */
export async function negotiateHeaders(
  connection: RawConnection,
  headers: HeaderKind,
): Promise<void> {
  if (headers === 'simple') return;
  const option = headers === 'extended' ? NBD_OPT_EXTENDED_HEADERS : NBD_OPT_STRUCTURED_REPLY;
  connection.write(encodeOption(option, Buffer.alloc(0)));
  const { type } = await readOptionReply(connection);
  if (type !== NBD_REP_ACK) throw new Error(`${headers} headers were answered ${type}`);
}

/** The bytes of an option; `bytes` is the length it claims. */
export function encodeOption(option: number, data: Buffer, bytes: number = data.length): Buffer {
  const header = Buffer.alloc(16);
  header.writeBigUInt64BE(IHAVEOPT, 0);
  header.writeUInt32BE(option, 8);
  header.writeUInt32BE(bytes, 12);
  return Buffer.concat([header, data]);
}

/** The data of INFO and GO. */
export function encodeInfoRequest(name: string, infos: readonly number[] = []): Buffer {
  const bytes = Buffer.from(name);
  const data = Buffer.alloc(4 + bytes.length + 2 + 2 * infos.length);
  data.writeUInt32BE(bytes.length, 0);
  bytes.copy(data, 4);
  data.writeUInt16BE(infos.length, 4 + bytes.length);
  infos.forEach((info, index) => data.writeUInt16BE(info, 6 + bytes.length + 2 * index));
  return data;
}

export async function readOptionReply(connection: RawConnection): Promise<OptionReply> {
  const header = await connection.read(20);
  if (header.readBigUInt64BE(0) !== NBD_REP_MAGIC)
    throw new Error(`not an option reply: ${header.toString('hex')}`);
  const bytes = header.readUInt32BE(16);
  if (bytes > 65_536) throw new Error(`an option reply of ${bytes} bytes`);
  const data = bytes === 0 ? Buffer.alloc(0) : await connection.read(bytes);
  return { option: header.readUInt32BE(8), type: header.readUInt32BE(12), data };
}

/** Sends an option and collects its replies, up to and with the final one. */
export async function sendOption(
  connection: RawConnection,
  option: number,
  data: Buffer = Buffer.alloc(0),
): Promise<OptionReply[]> {
  connection.write(encodeOption(option, data));
  const replies: OptionReply[] = [];
  for (;;) {
    const reply = await readOptionReply(connection);
    if (reply.option !== option) throw new Error(`reply to option ${reply.option}, not ${option}`);
    replies.push(reply);
    if (reply.type === NBD_REP_ACK || reply.type >= NBD_REP_FLAG_ERROR) return replies;
  }
}

/** Enters transmission. @throws Error with the server's words if it refuses */
export async function go(connection: RawConnection, exportName: string): Promise<ExportFacts> {
  const replies = await sendOption(connection, NBD_OPT_GO, encodeInfoRequest(exportName));
  const last = replies.at(-1);
  if (last?.type !== NBD_REP_ACK)
    throw new Error(`NBD_OPT_GO refused: ${last?.type.toString(16)} ${last?.data.toString()}`);
  const info = replies.find(
    ({ type, data }) => type === NBD_REP_INFO && data.readUInt16BE(0) === NBD_INFO_EXPORT,
  );
  if (info?.data.length !== 12) throw new Error('NBD_OPT_GO without NBD_INFO_EXPORT');
  return { bytes: Number(info.data.readBigUInt64BE(2)), flags: info.data.readUInt16BE(10) };
}
