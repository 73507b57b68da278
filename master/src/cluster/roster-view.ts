/** What decisions about groups want to know of who is there. Nothing of it is stored. */

/** Monotonic milliseconds. */
export interface RosterView {
  /** The start of a daemon that is connected; null: it is not. */
  startOf(daemon: number): string | null;
  /** Since when it is connected, or is not, as far as this master knows. */
  sinceOf(daemon: number): number;
  /** Its disk takes nothing new. */
  isFull(daemon: number): boolean;
}

/** Whether that start of a daemon is there. */
export type IsAlive = (daemon: number, startId: string) => boolean;

export function aliveIn(view: RosterView): IsAlive {
  return (daemon, startId) => view.startOf(daemon) === startId;
}
