export { EmbeddedState } from './state/embedded-state.js';
export * from './state/election.js';
export * from './state/state-rules.js';
export type * from './state/state-store.js';
