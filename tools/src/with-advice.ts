import { StoreError, type ErrorCode } from '@store/core';

/** Adds to expected failures of `work` what the user can do, unless the message already says. */
export async function withAdvice<T>(
  advice: Partial<Record<ErrorCode, string>>,
  work: () => Promise<T>,
): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof StoreError) || error.message.includes('; ')) throw error;
    const text = advice[error.code];
    if (text === undefined) throw error;
    throw new StoreError(error.code, `${error.message}; ${text}`, { cause: error });
  }
}
