/**
 * The log of a program: pino, on standard error. On a terminal each line is text for people, elsewhere JSON for
 * machines. Lines are written before the call returns: the last ones before a crash are the ones that matter.
 */
import pino from 'pino';
import type { Log } from './log.js';

export const LOG_FORMATS = ['auto', 'json', 'text'] as const;
export type LogFormat = (typeof LOG_FORMATS)[number];

export interface RealLogOptions {
  /** Also what only developers want to know, and stack traces. */
  readonly debug: boolean;
  readonly format: LogFormat;
  /** File descriptor; 2 unless a test says otherwise. */
  readonly fd?: number;
  /** Whether `auto` means text. */
  readonly isTerminal: boolean;
}

const LEVEL_NAMES: Readonly<Record<number, string>> = {
  20: 'debug',
  30: 'info',
  40: 'warning',
  50: 'error',
  60: 'fatal',
};
/** Fields of pino's own, or shown elsewhere in the line. */
const HIDDEN_FIELDS: ReadonlySet<string> = new Set(['level', 'time', 'msg', 'err']);

/** @returns A log that writes at once. */
export function realLog(options: RealLogOptions): Log {
  const destination = pino.destination({ fd: options.fd ?? 2, sync: true });
  // Whoever read the log has gone. There is nowhere left to say so, and that is no reason to stop serving.
  destination.on('error', () => undefined);
  const isText = options.format === 'text' || (options.format === 'auto' && options.isTerminal);
  const stream = isText
    ? { write: (line: string) => destination.write(textLine(line, options.debug)) }
    : destination;
  return pino(
    {
      level: options.debug ? 'debug' : 'info',
      base: isText ? null : { pid: process.pid },
      timestamp: pino.stdTimeFunctions.isoTime,
      serializers: { err: options.debug ? pino.stdSerializers.err : shortError },
    },
    stream,
  );
}

/** What an error says, with what caused it, without stack traces. */
function shortError(error: unknown): unknown {
  if (!(error instanceof Error)) return error;
  const causes: string[] = [error.message];
  for (let cause = error.cause; cause instanceof Error && causes.length < 5; cause = cause.cause)
    if (!causes.includes(cause.message)) causes.push(cause.message);
  const code: unknown = 'code' in error ? error.code : undefined;
  return { type: error.name, ...(code === undefined ? {} : { code }), message: causes.join(': ') };
}

/** Values shown without quotes. */
const PLAIN = /^[^\s"=]+$/;

/** `12:00:00.000 warning The disk is nearly full freeBytes=4096: why` */
function textLine(json: string, debug: boolean): string {
  const line = JSON.parse(json) as Record<string, unknown>; // pino wrote it
  const { level, time, msg, err } = line;
  const clock = String(time).slice(11, 23);
  let text = `${clock} ${LEVEL_NAMES[Number(level)] ?? String(level)} ${String(msg)}`;
  for (const [name, value] of Object.entries(line))
    if (!HIDDEN_FIELDS.has(name))
      text += ` ${name}=${typeof value === 'string' && PLAIN.test(value) ? value : JSON.stringify(value)}`;
  if (typeof err === 'object' && err !== null && 'message' in err)
    text += `: ${String(err.message)}`;
  else if (err !== undefined) text += `: ${JSON.stringify(err)}`;
  // Names that clients send end up here: they must not move the cursor or pretend to be other lines.
  text = text.replace(
    /\p{Cc}/gu,
    (character) => `\\x${character.charCodeAt(0).toString(16).padStart(2, '0')}`,
  );
  if (debug && typeof err === 'object' && err !== null && 'stack' in err)
    text += `\n${String(err.stack)}`;
  return `${text}\n`;
}
