/**
 * What is known of a queue, and BullMQ's options made of it. It reads nothing and connects to nothing: the six definitions
 * are made at build time, others may be written by hand.
 */
import type { DefaultJobOptions, QueueOptions, WorkerOptions } from 'bullmq';
import type { Connection } from './connections.js';

export interface QueueDefinition {
  /** What BullMQ calls `qualifiedName` and the module's commands take, such as `bull:{tasks:critical}`. */
  readonly qualifiedName: string;
  /** BullMQ's `prefix`. In a cluster prefix and name have the hash tag between them. */
  readonly prefix: string;
  /** BullMQ's name of the queue; it has no colon. */
  readonly name: string;
  /** The shard of deploy/placement. */
  readonly shard: number;
  /** 1 is the most important. */
  readonly priority: number;
  /** Jobs that run at a time, in all workers together. */
  readonly concurrency: number;
  /** Unfinished jobs. */
  readonly maxJobs: number;
  /** Bytes of the whole queue. */
  readonly maxBytes: number;
  /** Bytes of one job's data. */
  readonly maxJobBytes: number;
  /** Entries of the event stream. */
  readonly maxEvents: number;
  /** Attempts, backoff, and how long and how many finished jobs stay. */
  readonly jobOptions: Readonly<DefaultJobOptions>;
}

/** The hash tag of a name: what lies between the first `{` and the next `}`, where that is not empty. */
export function hashTag(qualifiedName: string): string | undefined {
  return /^[^{]*\{([^}]+)\}/.exec(qualifiedName)?.[1];
}

/** Options of `new Queue(queue.name, …)`. */
export function queueOptions(queue: QueueDefinition, connection: Connection): QueueOptions {
  return {
    connection,
    prefix: queue.prefix,
    defaultJobOptions: queue.jobOptions,
    streams: { events: { maxLen: queue.maxEvents } },
  };
}

/**
 * Options of `new Worker(queue.name, …)`. BullMQ counts `concurrency` by Worker: with more than one process call
 * `queue.setGlobalConcurrency(queue.concurrency)` once, which bounds all of them together.
 */
export function workerOptions(queue: QueueDefinition, connection: Connection): WorkerOptions {
  return {
    connection,
    prefix: queue.prefix,
    concurrency: queue.concurrency,
  };
}
