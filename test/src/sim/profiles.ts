/** What kinds of runs there are: the usual one, and some that are all about one thing which is rare there. */
import { USUAL_RATES, type FaultRates } from './faults.js';
import type { PoolShape } from './sim-master.js';

export interface Profile {
  readonly rates: FaultRates;
  /** Leave out half of the kinds of faults, for each seed others. */
  readonly isSwarm: boolean;
  /** What is not said is drawn for each seed. */
  readonly shape: Partial<PoolShape>;
  readonly daemons?: number;
  /** Lanes of each client that only read. */
  readonly readers?: number;
  /** Clients take the writer role of an image from each other. */
  readonly hasRoles?: boolean;
  /** So many gateways use images, through the client and the image layer that ship. */
  readonly gateways?: number;
  /** An operator lets groups go on with copies that were not in sync, when nobody who was is there. */
  readonly acceptsLosses?: boolean;
  /** Who stops as planned, and is told that it counts nowhere, does so: what else goes wrong takes nobody's groups away. */
  readonly areStopsClean?: boolean;
  /** Milliseconds of faults. */
  readonly chaosMs: number;
  /** Between two operations of a lane of a client. */
  readonly pauseMs: number;
}

const USUAL: Profile = {
  rates: USUAL_RATES,
  isSwarm: true,
  shape: {},
  chaosMs: 20_000,
  pauseMs: 60,
};

const profiles = {
  usual: USUAL,
  /** Nothing goes wrong. */
  calm: { ...USUAL, rates: {}, chaosMs: 8000 },
  /** Members come and go, and what the masters answer is lost or late. */
  joins: {
    ...USUAL,
    isSwarm: false,
    rates: { kill: 3000, quickRestart: 5000, answerLost: 700, electMaster: 2500, clog: 400 },
  },
  /** Primaries are cut off from the others, or stopped, and clients still reach them. */
  leases: {
    ...USUAL,
    isSwarm: false,
    rates: {
      clientsOnly: 2000,
      isolateFromDaemons: 5000,
      pausePrimary: 4000,
      skew: 1000,
      block: 2000,
    },
    readers: 4,
    pauseMs: 30,
  },
  /** Few copies, and all of them are gone now and then. */
  lastReplica: {
    ...USUAL,
    isSwarm: false,
    shape: { replicas: 2, minReplicas: 1 },
    rates: { kill: 3000, power: 2500, powerAll: 9000, killPrimary: 5000 },
    daemons: 3,
  },
  /** The power fails everywhere, between flushes. */
  power: {
    ...USUAL,
    isSwarm: false,
    rates: { powerAll: 3500, power: 5000, clog: 1000, slowDisk: 3000 },
    pauseMs: 25,
  },
  /** Disks lie. */
  damage: {
    ...USUAL,
    isSwarm: false,
    rates: { rot: 250, lostWrite: 500, misdirectedWrite: 500, readError: 500, kill: 6000 },
    pauseMs: 30,
  },
  /** Disks are full. */
  full: {
    ...USUAL,
    isSwarm: false,
    rates: { full: 2000, notMade: 1000, kill: 6000, loseDisk: 9000 },
  },
  /** Primaries die in the middle of things, at once or slowly. */
  failover: {
    ...USUAL,
    isSwarm: false,
    rates: { killPrimary: 2500, pausePrimary: 5000, clog: 300, slowDisk: 4000, breakLink: 1500 },
    pauseMs: 20,
  },
  /** An image goes from one writer to the next, while primaries die and hang, members join, and the power fails. */
  writers: {
    ...USUAL,
    isSwarm: true,
    hasRoles: true,
    rates: {
      killPrimary: 3000,
      pausePrimary: 4000,
      kill: 4000,
      powerAll: 12_000,
      clog: 400,
      slowDisk: 3000,
      breakLink: 1500,
      clientsOnly: 4000,
    },
    pauseMs: 25,
  },
  /** A primary is alone, and does not hear that another one has just joined it. */
  joinRaces: {
    ...USUAL,
    isSwarm: false,
    shape: { replicas: 2, minReplicas: 1 },
    rates: { cutAfterJoin: 1500, kill: 2500, killPrimary: 6000 },
    daemons: 3,
    pauseMs: 12,
  },
  /** A primary cannot reach one of its members any more, and dies. */
  cutOff: {
    ...USUAL,
    isSwarm: false,
    shape: { replicas: 3 },
    rates: { killCutOff: 1200, kill: 9000, slowDisk: 4000 },
    pauseMs: 8,
  },
  /** Daemons are stopped as they should be, one after the other or several at a time. */
  planned: {
    ...USUAL,
    isSwarm: false,
    rates: {
      leave: 2500,
      kill: 9000,
      pausePrimary: 8000,
      clog: 500,
      breakLink: 2500,
      answerLost: 3000,
    },
    pauseMs: 30,
  },
  /** The same, and nobody dies; clients leave most groups alone, so that members join them without a change. */
  restarts: {
    ...USUAL,
    isSwarm: false,
    areStopsClean: true,
    rates: { leave: 1500, clog: 500, slowDisk: 4000, answerLost: 2500 },
    pauseMs: 500,
  },
  /** Copies that nobody has are given up: whoever had them is gone, or comes back later. */
  givenUp: {
    ...USUAL,
    isSwarm: true,
    shape: { minReplicas: 1 },
    rates: {
      ...{ kill: 2500, killPrimary: 3500, power: 6000, powerAll: 9000, loseOnly: 4000 },
      ...{ clog: 1500, breakLink: 3000, isolateFromMasters: 5000, isolate: 9000 },
      ...{ electMaster: 6000, answerLost: 5000, pausePrimary: 8000 },
    },
    daemons: 3,
    acceptsLosses: true,
  },
  /** Images are made, served, taken, resized and removed by gateways that die as well. */
  images: {
    ...USUAL,
    gateways: 3,
    rates: {
      ...{ kill: 6000, killPrimary: 7000, quickRestart: 9000, pausePrimary: 7000, pause: 9000 },
      ...{ power: 12_000, powerAll: 7000, clog: 800, block: 4000, clientsOnly: 8000 },
      ...{
        breakLink: 1500,
        isolate: 9000,
        skew: 6000,
        slowDisk: 4000,
        full: 8000,
        loseDisk: 15_000,
      },
      ...{ electMaster: 7000, mastersDown: 20_000, answerLost: 5000 },
      ...{ killGateway: 4000, pauseGateway: 3000, leave: 9000 },
    },
    pauseMs: 300,
  },
} satisfies Record<string, Profile>;

export type ProfileName = keyof typeof profiles;
export const PROFILES: Readonly<Record<ProfileName, Profile>> = profiles;
