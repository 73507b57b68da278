export { EmbeddedState } from './state/embedded-state.js';
export * from './state/election.js';
export * from './state/state-rules.js';
export type * from './state/state-store.js';
export { EtcdState, type EtcdStateOptions } from './state/etcd-state.js';
export type { EtcdOptions, EtcdUser } from './state/etcd-gateway.js';
export type { EtcdTls } from './state/etcd-http.js';
export type * from './admin/admin-service.js';
