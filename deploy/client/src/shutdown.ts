/**
 * Ends a process so that nothing is lost: no new work, then the end of what runs, then the adds that are under way, and the
 * connections last. It starts nothing, and ends only what it is given.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Queue, QueueEvents, Worker } from 'bullmq';
import type { Connection } from './connections.js';
import type { Health } from './health.js';
import type { Producer } from './producer.js';

/** A Worker that runs no job for so long, and has not ended, waits for nothing. */
const IDLE_MS = 2000;

export interface Parts {
  readonly health?: Health;
  readonly workers?: readonly Worker[];
  /** Queues, QueueEvents and FlowProducers of BullMQ. */
  readonly queues?: readonly (Queue | QueueEvents)[];
  readonly producer?: Producer;
  readonly connections?: readonly Connection[];
  /**
   * Milliseconds that running jobs may take, by default 25,000: less than an orchestrator waits. A job that runs longer is
   * run again by another worker when its lock is gone.
   */
  readonly patienceMs?: number;
}

/** What could not be ended in time, or with an error; empty where all went well. */
export async function shutdown(parts: Parts): Promise<string[]> {
  const troubles: string[] = [];
  const attempt = async (what: string, work: () => Promise<unknown>) => {
    try {
      await work();
    } catch (error) {
      troubles.push(`${what}: ${error instanceof Error ? error.message : String(error)}`);
    }
  };
  parts.health?.stopping();
  // Jobs that run may add jobs: the producer goes after them.
  await Promise.all(
    (parts.workers ?? []).map((worker) => attempt(`worker of ${worker.name}`, () => endWorker(worker, parts.patienceMs ?? 25_000))),
  );
  await attempt('producer', async () => parts.producer?.close());
  await Promise.all((parts.queues ?? []).map((queue) => attempt(`queue ${queue.name}`, () => queue.close())));
  for (const connection of parts.connections ?? []) connection.disconnect();
  await attempt('health', async () => parts.health?.close());
  return troubles;
}

/** Jobs that a Worker runs now, by the locks that it renews; undefined where a BullMQ does not tell. */
function running(worker: Worker): number | undefined {
  const { lockManager } = worker as unknown as { lockManager?: { getActiveJobCount?(): number } };
  return lockManager?.getActiveJobCount?.();
}

async function endWorker(worker: Worker, patienceMs: number): Promise<void> {
  const ended = worker.close().then(() => true);
  const began = performance.now();
  let idle = began;
  for (;;) {
    if (await Promise.race([ended, sleep(50, false)])) return;
    const now = performance.now();
    if (running(worker) !== 0) idle = now;
    // BullMQ 6.7 awaits its blocking connection, which may be for ever (`enableReadyCheck` in connections.ts). Without a job
    // there is nothing to wait for.
    const given = now - idle >= IDLE_MS;
    if (!given && now - began < patienceMs) continue;
    ended.catch(() => {});
    worker.disconnect().catch(() => {});
    if (given) return;
    throw new Error(`did not end within ${patienceMs} ms; what still runs is run again when its lock is gone`);
  }
}

/** Calls `shutdown` at SIGTERM and SIGINT, and ends the process: with 0, or with 1 and the troubles on stderr. */
export function shutdownOnSignals(parts: Parts): void {
  let begun = false;
  const end = async () => {
    if (begun) return;
    begun = true;
    const troubles = await shutdown(parts);
    for (const trouble of troubles) console.error(`shutdown: ${trouble}`);
    process.exit(troubles.length === 0 ? 0 : 1);
  };
  process.on('SIGTERM', () => void end());
  process.on('SIGINT', () => void end());
}
