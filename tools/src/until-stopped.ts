/** Resolves when the user wants the program to stop. */
export async function untilStopped(stop: AbortSignal): Promise<void> {
  if (stop.aborted) return;
  await new Promise<void>((resolve) => {
    stop.addEventListener('abort', () => resolve(), { once: true });
  });
}

/** Waits for `work`, which may wait for somebody who is gone. @returns null: the user wants the program to stop first */
export async function unlessStopped<T>(work: Promise<T>, stop: AbortSignal): Promise<T | null> {
  let ended = (): void => undefined;
  const stopped = new Promise<null>((resolve) => {
    ended = () => resolve(null);
    if (stop.aborted) ended();
    stop.addEventListener('abort', ended, { once: true });
  });
  try {
    return await Promise.race([work, stopped]);
  } finally {
    stop.removeEventListener('abort', ended);
  }
}
