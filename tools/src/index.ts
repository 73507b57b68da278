export { ImageExports } from './image-exports.js';
export { realEnv } from './real-env.js';
