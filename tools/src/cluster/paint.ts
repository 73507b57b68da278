/** Colours, where they are wanted: on a terminal, unless NO_COLOR is set (no-color.org). */
const CODES = { red: 31, green: 32, yellow: 33, bold: 1 } as const;

export type Paint = (colour: keyof typeof CODES, text: string) => string;

export const PLAIN: Paint = (_, text) => text;

export function paintFor(
  { isTTY }: { readonly isTTY?: boolean },
  { NO_COLOR, TERM }: NodeJS.ProcessEnv,
): Paint {
  const isWanted = isTTY === true && TERM !== 'dumb' && (NO_COLOR ?? '') === '';
  return isWanted ? (colour, text) => `\x1b[${CODES[colour]}m${text}\x1b[0m` : PLAIN;
}
