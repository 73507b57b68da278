/** The command line (or what stands in for it) is wrong: exit code 2. */
export class UsageError extends Error {
  override name = 'UsageError';
}
