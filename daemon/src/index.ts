export { FileStore, openFileStore, type OpenOptions } from './store/file-store.js';
export type { EngineCounters } from './store/engine.js';
export type { StoreState } from './store/store-state.js';
export { checkFolder, type CheckOptions, type CheckReport } from './store/check.js';
