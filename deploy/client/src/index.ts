/** What this package offers; each file says what it is for. */
export * from './connections.js';
export * from './definitions.js';
export * from './errors.js';
export * from './health.js';
export * from './metrics.js';
export type { PoolOptions, PoolState } from './pool.js';
export * from './producer.js';
export * from './queues.generated.js';
export * from './shutdown.js';
