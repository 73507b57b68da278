export { FileStore, openFileStore, type OpenOptions } from './store/file-store.js';
export { checkFolder, type CheckOptions, type CheckReport } from './store/check.js';
