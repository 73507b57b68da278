/**
 * What a scrub that was asked for has found so far, from the answers of daemons, which count from their start on. A daemon
 * that goes, or starts anew, has forgotten what it was to do: what it did not say is not done.
 */
import type { DaemonScrub, ScrubFinding, ScrubReport } from '@store/core';

/** How it ended. */
export interface Repaired {
  /** That were to be looked through, and were. */
  readonly groups: number;
  readonly looked: number;
  readonly objects: number;
  readonly found: number;
  readonly mended: number;
  /** As far as daemons told of them. */
  readonly findings: readonly ScrubFinding[];
  readonly report: ScrubReport;
}

/** Of one start of a daemon. */
interface Part {
  readonly startId: string;
  readonly before: DaemonScrub['found'];
  readonly begun: number;
  now: DaemonScrub;
  isGone: boolean;
  readonly findings: Map<number, ScrubFinding>;
}

export class RepairTally {
  readonly #before = new Map<number, DaemonScrub>();
  readonly #parts = new Map<number, Part>();
  #report: ScrubReport;

  /** @param before - How scrubs stood before this one was asked for. */
  constructor(before: ScrubReport) {
    this.#report = before;
    for (const { daemon, scrub } of before.daemons)
      if (scrub !== null) this.#before.set(daemon, scrub);
  }

  /** What the daemons answered when it was asked for. */
  begun(report: ScrubReport): void {
    this.#report = report;
    for (const { daemon, scrub } of report.daemons) {
      if (scrub === null || scrub.begun === 0) continue;
      const { startId, begun } = scrub;
      const known = this.#before.get(daemon);
      const before = known?.startId === startId ? known.found : scrub.found;
      const findings = new Map<number, ScrubFinding>();
      this.#parts.set(daemon, { startId, before, begun, now: scrub, isGone: false, findings });
    }
    this.look(report);
  }

  /** How it stands. */
  look(report: ScrubReport): void {
    const { groupsOutOfReach } = this.#report;
    this.#report = { ...report, groupsOutOfReach };
    for (const [daemon, part] of this.#parts) {
      const found = report.daemons.find((one) => one.daemon === daemon);
      if (found?.problem !== undefined && found.problem !== null) continue; // it may answer later
      const scrub = found?.scrub ?? null;
      part.isGone = scrub?.startId !== part.startId;
      if (scrub === null || part.isGone) continue;
      part.now = scrub;
      for (const finding of scrub.findings)
        if (finding.number > part.before.errors) part.findings.set(finding.number, finding);
    }
  }

  get isOver(): boolean {
    return [...this.#parts.values()].every(({ isGone, now }) => isGone || now.wanted === 0);
  }

  get groups(): number {
    return this.#sum(({ begun }) => begun);
  }

  get done(): number {
    return this.#sum(({ begun, now, before }) =>
      Math.min(begun, now.found.groupsDone - before.groupsDone),
    );
  }

  get found(): number {
    return this.#sum(({ now, before }) => now.found.errors - before.errors);
  }

  result(): Repaired {
    return {
      groups: this.groups,
      looked: this.done,
      objects: this.#sum(({ now, before }) => now.found.objectsDone - before.objectsDone),
      found: this.found,
      mended: this.#sum(({ now, before }) => now.found.repaired - before.repaired),
      findings: [...this.#parts.values()].flatMap(({ findings }) => [...findings.values()]),
      report: this.#report,
    };
  }

  #sum(of: (part: Part) => number): number {
    return [...this.#parts.values()].reduce((total, part) => total + of(part), 0);
  }
}
