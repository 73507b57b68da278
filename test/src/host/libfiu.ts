/**
 * Starting programs under libfiu: a thread of its own sometimes breaks a child that the program starts early (`flock`), or
 * hangs. That is no fault of the program, which is started again then.
 */
const STARTS_MAX = 8;
const FAILED_STARTS = /flock|did not serve within/;

/** @param start - Is called again after a failure that libfiu is known for. @throws what it threw */
export async function startUnderFiu<T>(start: () => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt += 1)
    try {
      return await start();
    } catch (error) {
      if (attempt === STARTS_MAX || !FAILED_STARTS.test(String(error))) throw error;
    }
}
