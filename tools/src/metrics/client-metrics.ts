/** What a program that works over the network tells of its way to the daemon. */
import type { ClusterStore, RemoteStore } from '@store/core';
import { single, type AddMetric } from './registry.js';

/** One daemon, or a cluster. */
export type NetworkStore = RemoteStore | ClusterStore;

/** Adds the metrics of a client. */
export function addClientMetrics(add: AddMetric, store: NetworkStore): void {
  const counter = (name: string, help: string, value: (store: NetworkStore) => number): void =>
    add('counter', name, help, () => single(value(store)));
  counter(
    'store_client_connects_total',
    'Connections made to the daemon',
    ({ counters }) => counters.connects,
  );
  counter(
    'store_client_resent_total',
    'Requests sent again on another connection',
    ({ counters }) => counters.resent,
  );
  counter(
    'store_client_timeouts_total',
    'Requests given up at their deadline',
    ({ counters }) => counters.timeouts,
  );
  counter(
    'store_client_damaged_total',
    'Data that did not match its checksums on the way',
    ({ counters }) => counters.damaged,
  );
  counter(
    'store_client_datagrams_sent_total',
    'Datagrams sent',
    ({ counters }) => counters.datagramsSent,
  );
  counter(
    'store_client_datagrams_resent_total',
    'Of these, sent again',
    ({ counters }) => counters.datagramsResent,
  );
  add('gauge', 'store_client_in_flight', 'Requests not answered yet', () =>
    single(store.openCount),
  );
}
