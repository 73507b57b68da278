export { FileStore, openFileStore, type OpenOptions } from './store/file-store.js';
