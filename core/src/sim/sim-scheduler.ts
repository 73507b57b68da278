/** Virtual time: events in order of (time, arrival). Nothing happens unless somebody steps it. */
export class SimScheduler {
  #now = 0;
  #sequence = 0;
  readonly #events: SimEvent[] = [];

  /** Virtual milliseconds. */
  get now(): number {
    return this.#now;
  }

  get pending(): number {
    return this.#events.length;
  }

  /** @returns a handle for `cancel` */
  at(delayMs: number, run: () => void): SimEvent {
    const event = { time: this.#now + delayMs, sequence: (this.#sequence += 1), run };
    this.#events.push(event);
    let child = this.#events.length - 1;
    while (child > 0) {
      const parent = (child - 1) >> 1;
      if (!this.#isBefore(child, parent)) break;
      this.#swap(child, parent);
      child = parent;
    }
    return event;
  }

  cancel(event: SimEvent): void {
    event.run = () => undefined;
  }

  /** Runs the next event. @returns false if there is none */
  step(): boolean {
    const first = this.#events[0];
    const last = this.#events.pop();
    if (first === undefined || last === undefined) return false;
    if (first !== last) {
      this.#events[0] = last;
      this.#sink();
    }
    this.#now = Math.max(this.#now, first.time);
    first.run();
    return true;
  }

  #sink(): void {
    for (let parent = 0; ;) {
      const left = parent * 2 + 1;
      let least = parent;
      if (left < this.#events.length && this.#isBefore(left, least)) least = left;
      if (left + 1 < this.#events.length && this.#isBefore(left + 1, least)) least = left + 1;
      if (least === parent) return;
      this.#swap(parent, least);
      parent = least;
    }
  }

  #isBefore(left: number, right: number): boolean {
    const [a, b] = [this.#events[left], this.#events[right]] as [SimEvent, SimEvent]; // in bounds
    return a.time < b.time || (a.time === b.time && a.sequence < b.sequence);
  }

  #swap(left: number, right: number): void {
    const [a, b] = [this.#events[left], this.#events[right]] as [SimEvent, SimEvent]; // in bounds
    this.#events[left] = b;
    this.#events[right] = a;
  }
}

export interface SimEvent {
  readonly time: number;
  readonly sequence: number;
  run: () => void;
}
