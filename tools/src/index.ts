export { ImageExports } from './image-exports.js';
