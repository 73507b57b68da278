/** Thrown when our own code is wrong. Nobody handles it: the process logs it and exits 70. */
export class InvariantError extends Error {
  override name = 'InvariantError';
}

/**
 * States what must be true if our code is right. It stays on in production: a wrong assumption about
 * somebody's data is worse than a stopped process.
 * @throws InvariantError if `condition` is false.
 */
export function invariant(condition: boolean, message: string): asserts condition {
  if (!condition) throw new InvariantError(message);
}
