/**
 * The files of the dashboard, read once: what is not among them cannot be asked for, whatever a path looks like.
 * A browser keeps them, and asks each time whether they are still the same.
 */
import { createHash } from 'node:crypto';
// eslint-disable-next-line no-restricted-imports -- files of this package, as its code is
import { readdirSync, readFileSync } from 'node:fs';
import { extname } from 'node:path';

const TYPES: Readonly<Record<string, string>> = {
  '.html': 'text/html; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.svg': 'image/svg+xml',
};

export interface DashboardFile {
  readonly type: string;
  readonly bytes: Buffer;
  readonly etag: string;
}

/** By path: `/`, `/app.js`. */
export type DashboardFiles = ReadonlyMap<string, DashboardFile>;

export function dashboardFiles(): DashboardFiles {
  const folder = new URL('../../dashboard/', import.meta.url);
  const files = new Map<string, DashboardFile>();
  for (const name of readdirSync(folder)) {
    const type = TYPES[extname(name)];
    if (type === undefined) continue;
    const bytes = readFileSync(new URL(name, folder));
    const etag = `"${createHash('sha256').update(bytes).digest('base64url').slice(0, 22)}"`;
    files.set(name === 'index.html' ? '/' : `/${name}`, { type, bytes, etag });
  }
  return files;
}
