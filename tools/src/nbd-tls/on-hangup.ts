/**
 * Runs `work` on each SIGHUP, never twice at a time; a signal during a run makes one more run.
 * @param work - Answers for its own errors.
 */
export function onHangup(work: () => Promise<void>): void {
  let isRunning = false;
  let isAsked = false;
  const run = async (): Promise<void> => {
    isAsked = true;
    if (isRunning) return;
    isRunning = true;
    while (isAsked) {
      isAsked = false;
      await work();
    }
    isRunning = false;
  };
  process.on('SIGHUP', () => void run());
}
