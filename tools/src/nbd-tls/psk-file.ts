/**
 * Pre-shared keys as GnuTLS's psktool writes them and qemu and nbdkit read them: `identity:hexkey`, one a line.
 * Messages name the line, never what stands there: it may be a key.
 */
import { StoreError } from '@store/core';

/** OpenSSL takes no longer identities. */
const IDENTITY_BYTES_MAX = 128;
/** Shorter keys can be guessed. */
const KEY_BYTES_MIN = 16;
const KEY_BYTES_MAX = 256;

/**
 * The keys by their identity, at least one.
 * @param path - For messages.
 * @throws StoreError `E_INVALID` naming the line
 */
export function parsePskFile(path: string, text: string): Map<string, Buffer> {
  const keys = new Map<string, Buffer>();
  const lineOf = new Map<string, number>();
  for (const [index, line] of text.split(/\r?\n/).entries()) {
    const number = index + 1;
    const refuse = (why: string): never => {
      throw new StoreError('E_INVALID', `${path}, line ${number}: ${why}`);
    };
    if (line === '' || line === '#' || line.startsWith('# ')) continue;
    const colon = line.indexOf(':');
    if (colon < 0) refuse('Not identity:hexkey; make a line with psktool -u NAME -p FILE');
    const identity = line.slice(0, colon);
    const hex = line.slice(colon + 1).trim();
    if (identity === '') refuse('The identity before the colon is empty');
    if (identity.startsWith('#')) refuse('An identity in hex (#…) is not understood; write it out');
    if (identity.trim() !== identity || /\p{Cc}/u.test(identity))
      refuse('The identity has spaces around it, or control characters');
    if (Buffer.byteLength(identity) > IDENTITY_BYTES_MAX)
      refuse(`The identity has more than ${IDENTITY_BYTES_MAX} bytes`);
    if (!/^(?:[\da-f]{2})+$/i.test(hex)) refuse('The key after the colon is not hexadecimal');
    const key = Buffer.from(hex, 'hex');
    if (key.length < KEY_BYTES_MIN || key.length > KEY_BYTES_MAX)
      refuse(`The key has ${key.length} bytes, not ${KEY_BYTES_MIN} to ${KEY_BYTES_MAX}`);
    const earlier = lineOf.get(identity);
    if (earlier !== undefined) refuse(`The identity of line ${earlier} again; remove one of them`);
    keys.set(identity, key);
    lineOf.set(identity, number);
  }
  if (keys.size === 0)
    throw new StoreError(
      'E_INVALID',
      `${path} has no key; make one with psktool -u NAME -p ${path}`,
    );
  return keys;
}
