/** A log that keeps what it is told, for tests that ask what people would have read. */
import type { Log } from '@store/core';

export interface NotedLine {
  readonly level: 'debug' | 'info' | 'warn' | 'error' | 'fatal';
  readonly message: string;
}

export class NotedLog implements Log {
  readonly lines: NotedLine[] = [];

  debug(_fields: object, message: string): void {
    this.lines.push({ level: 'debug', message });
  }

  info(_fields: object, message: string): void {
    this.lines.push({ level: 'info', message });
  }

  warn(_fields: object, message: string): void {
    this.lines.push({ level: 'warn', message });
  }

  error(_fields: object, message: string): void {
    this.lines.push({ level: 'error', message });
  }

  fatal(_fields: object, message: string): void {
    this.lines.push({ level: 'fatal', message });
  }

  child(): Log {
    return this;
  }

  get errors(): string[] {
    return this.lines.filter(({ level }) => level === 'error').map(({ message }) => message);
  }
}
