/** Structured logging: fields first, then a sentence. The real one is pino, on stderr. */
export interface Log {
  debug(fields: object, message: string): void;
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
  fatal(fields: object, message: string): void;
  /** A log whose every line also carries `fields`. */
  child(fields: object): Log;
}
