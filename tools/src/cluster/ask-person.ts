/** Asks whoever sits at the terminal. */
import { createInterface } from 'node:readline';
import { StoreError } from '@store/core';
import { UsageError } from '../usage-error.js';

/** What has to be typed before something is done: `y`, or a name that nobody types by mistake. */
export type Consent = { readonly kind: 'yes' } | { readonly kind: 'name'; readonly name: string };

/** @throws UsageError if nobody is there to be asked */
export function needTerminal(): void {
  if (process.stdin.isTTY && process.stderr.isTTY) return;
  throw new UsageError(
    'This changes the cluster and there is no terminal to ask on; look with --dry-run, then add --yes',
  );
}

/** @throws StoreError `E_CANCELLED` unless the person agrees */
export async function needConsent(consent: Consent, stop: AbortSignal): Promise<void> {
  const isGiven =
    consent.kind === 'yes'
      ? /^y(es)?$/i.test((await ask('Go on? [y/N] ', stop)).trim())
      : (await ask('This cannot be undone. To go on, type its name: ', stop)).trim() ===
        consent.name;
  if (!isGiven) throw new StoreError('E_CANCELLED', 'Nothing was changed');
}

/** The line that is typed; empty if there is none. */
async function ask(question: string, stop: AbortSignal): Promise<string> {
  process.stderr.write(question);
  const lines = createInterface({ input: process.stdin });
  try {
    return await new Promise<string>((resolve) => {
      const nothing = (): void => {
        process.stderr.write('\n');
        resolve('');
      };
      lines.once('line', (line) => {
        lines.off('close', nothing);
        resolve(line);
      });
      lines.once('close', nothing);
      stop.addEventListener('abort', () => lines.close(), { once: true });
    });
  } finally {
    lines.close();
  }
}
