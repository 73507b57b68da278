/**
 * Bugs that a cluster like this one may have, each as a change to a running one. The simulator is worth what it finds of
 * these. Nothing in what ships knows of them.
 */
import type { ReplicaNode, ReplicationOptions } from '@store/daemon/testing';
import type { DaemonProcess } from './sim-daemon.js';
import type { SimClient } from './sim-client.js';
import type { Decisions } from './sim-master.js';
import type { MessageFilter } from './sim-network.js';
import type { ProfileName } from './profiles.js';

export interface Sabotage {
  readonly name: string;
  /** It must be found within so many seeds, from 1 on. */
  readonly seedsMax: number;
  readonly profile: ProfileName;
  /** Each new process of a daemon, before it does anything. */
  readonly daemon?: (process: DaemonProcess) => void;
  readonly node?: (node: ReplicaNode) => void;
  readonly client?: (client: SimClient) => void;
  readonly filter?: MessageFilter;
  readonly decisions?: Partial<Decisions>;
  readonly settings?: ReplicationOptions;
}

export const NO_SABOTAGE: Sabotage = { name: 'none', seedsMax: 0, profile: 'usual' };

export const SABOTAGES: readonly Sabotage[] = [];
