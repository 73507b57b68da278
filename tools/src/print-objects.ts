/** How objects are shown to people and programs. */
import { OBJECT_KIND, type ObjectKind, type ObjectStat } from '@store/core';

/** What `--kind` takes, and what is shown. */
export const KIND_NAMES = ['object', 'image', 'data'] as const;
export type KindName = (typeof KIND_NAMES)[number];

const KINDS: Record<KindName, ObjectKind> = {
  object: OBJECT_KIND.plain,
  image: OBJECT_KIND.imageHeader,
  data: OBJECT_KIND.imageData,
};

export function kindOf(name: KindName): ObjectKind {
  return KINDS[name];
}

export interface ListedObject {
  readonly key: Buffer;
  readonly stat: ObjectStat;
}

/** The facts of an object, for JSON. A key that is no text is given as bytes in hexadecimal digits, too. */
export function objectFacts({ key, stat }: ListedObject): Record<string, unknown> {
  const text = key.toString();
  const isText = Buffer.from(text).equals(key);
  return {
    key: text,
    ...(isText ? {} : { keyHex: key.toString('hex') }),
    kind: nameOf(stat),
    bytes: stat.length,
    allocatedBytes: stat.allocatedBytes,
    version: stat.version,
  };
}

/** A line for each object, under a heading. */
export function objectTable(objects: readonly ListedObject[]): string {
  const rows = objects.map(({ key, stat }) => [keyText(key), String(stat.length), nameOf(stat)]);
  const all = [['KEY', 'BYTES', 'KIND'], ...rows];
  const widths = [0, 1].map((column) =>
    all.reduce((widest, row) => Math.max(widest, (row[column] ?? '').length), 0),
  );
  return all
    .map(([key = '', bytes = '', kind = '']) =>
      [key.padEnd(widths[0] ?? 0), bytes.padStart(widths[1] ?? 0), kind].join('  '),
    )
    .join('\n');
}

/** A key in one line: other people's names must not move the cursor. */
function keyText(key: Buffer): string {
  return key.toString().replace(/\p{Cc}/gu, '?');
}

function nameOf({ kind }: ObjectStat): KindName {
  return KIND_NAMES.find((name) => KINDS[name] === kind) ?? 'object';
}
