/** A simulated world, for tests: `@store/core/sim`. */
export * from './sim/sim-data-file.js';
export * from './sim/sim-disk.js';
export * from './sim/sim-env.js';
export * from './sim/sim-meta-store.js';
export * from './sim/sim-random.js';
export * from './sim/sim-scheduler.js';
