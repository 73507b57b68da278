import { formatSize, type ListedImage } from '@store/core';

/** A table of images for people. */
export function imageTable(images: readonly ListedImage[]): string {
  const rows = images.map((image) =>
    'problem' in image
      ? [image.name, '-', `unreadable: ${image.problem}`]
      : [image.name, formatSize(image.size), image.state],
  );
  const all = [['NAME', 'SIZE', 'STATE'], ...rows].map((row) => row.map(printable));
  const widths = [0, 1].map((column) => Math.max(...all.map((row) => row[column]?.length ?? 0)));
  return all
    .map(([name = '', size = '', state = '']) =>
      [name.padEnd(widths[0] ?? 0), size.padStart(widths[1] ?? 0), state].join('  '),
    )
    .join('\n');
}

/** A name made elsewhere must not move the cursor. */
function printable(text: string): string {
  return text.replace(/\p{Cc}/gu, '?');
}
