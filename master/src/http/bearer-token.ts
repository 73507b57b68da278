import { createHash, timingSafeEqual } from 'node:crypto';
import { HttpFailure } from './http-failure.js';

/**
 * Checks that an Authorization header carries `token`. How long that takes says nothing about how much was right:
 * digests are compared, of the same length whatever was sent.
 * @param token - Null: this master lets nobody change anything over HTTP.
 * @throws HttpFailure 401 or 403, with a message that says how to do it
 */
export function checkToken(header: string | undefined, token: Buffer | null): void {
  if (token === null)
    throw new HttpFailure(
      403,
      'E_DENIED',
      'This master was started without an HTTP token, so that this cannot be done over HTTP; use the store command',
    );
  if (header === undefined)
    throw unauthorized('This needs the token of this master: Authorization: Bearer TOKEN', '');
  const [, given] = /^bearer +(\S+) *$/i.exec(header) ?? [];
  if (given === undefined)
    throw unauthorized(
      'The Authorization header is not of the form: Authorization: Bearer TOKEN',
      ', error="invalid_request"',
    );
  // Node gives headers as latin1: a character for each byte that came
  if (!timingSafeEqual(digest(Buffer.from(given, 'latin1')), digest(token)))
    throw unauthorized(
      'The token is not that of this master; it has to be sent as: Authorization: Bearer TOKEN',
      ', error="invalid_token"',
    );
}

function digest(secret: Buffer): Buffer {
  return createHash('sha256').update(secret).digest();
}

function unauthorized(message: string, detail: string): HttpFailure {
  return new HttpFailure(401, 'E_DENIED', message, {
    'www-authenticate': `Bearer realm="store"${detail}`,
  });
}
