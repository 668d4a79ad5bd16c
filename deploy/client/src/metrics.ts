/**
 * What only this process knows, as Prometheus metrics: its adds, its pool, the jobs that its workers run. What is true of the
 * queues themselves (backlog, rates, bytes) the module exports, once a node and not once a process.
 */
import { Counter, Gauge, Histogram, Registry } from 'prom-client';
import type { Worker } from 'bullmq';
import type { QueueDefinition } from './definitions.js';
import type { BullError } from './errors.js';
import type { Producer, ProducerObserver } from './producer.js';

const ADD_SECONDS = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5, 15];
const JOB_SECONDS = [0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900];

export class ClientMetrics implements ProducerObserver {
  readonly #added: Counter<'queue'>;
  readonly #failed: Counter<'queue' | 'code' | 'outcome'>;
  readonly #took: Histogram<'queue'>;
  readonly #jobs: Histogram<'queue' | 'outcome'>;
  #producer: Producer | undefined;

  constructor(readonly registry: Registry = new Registry()) {
    const registers = [registry];
    this.#added = new Counter({
      name: 'bull_client_jobs_added_total', help: 'Jobs that were acknowledged', labelNames: ['queue'], registers,
    });
    this.#failed = new Counter({
      name: 'bull_client_jobs_not_added_total', help: 'Jobs whose add failed, by the code of the error',
      labelNames: ['queue', 'code', 'outcome'], registers,
    });
    this.#took = new Histogram({
      name: 'bull_client_add_seconds', help: 'Time of one BULL.ADD or BULL.MADD, with waiting and repeats',
      labelNames: ['queue'], buckets: ADD_SECONDS, registers,
    });
    this.#jobs = new Histogram({
      name: 'bull_client_job_seconds', help: 'Run time of jobs in this process', labelNames: ['queue', 'outcome'],
      buckets: JOB_SECONDS, registers,
    });
    const watched = () => this.#producer;
    const state = (name: string, help: string, value: (producer: Producer) => number) =>
      new Gauge({
        name, help, registers,
        collect() {
          const producer = watched();
          this.set(producer ? value(producer) : 0);
        },
      });
    state('bull_client_adds_in_flight', 'Commands under way', (producer) => producer.state.inFlight);
    state('bull_client_adds_waiting', 'Commands that wait for their turn', (producer) => producer.state.waiting);
    state('bull_client_connections', 'Connections of the producer', (producer) => producer.state.connections);
  }

  /** The producer whose pool is shown. */
  watchProducer(producer: Producer): void {
    this.#producer = producer;
  }

  /** Follows the jobs that a Worker runs. */
  watchWorker(queue: QueueDefinition, worker: Worker): void {
    const label = { queue: queue.qualifiedName };
    const ended = (outcome: string, job?: { processedOn?: number; finishedOn?: number }) => {
      if (job?.processedOn === undefined) return;
      this.#jobs.observe({ ...label, outcome }, ((job.finishedOn ?? Date.now()) - job.processedOn) / 1000);
    };
    worker.on('completed', (job) => ended('completed', job));
    worker.on('failed', (job) => ended('failed', job));
  }

  added(queue: QueueDefinition, jobs: number): void {
    this.#added.inc({ queue: queue.qualifiedName }, jobs);
  }

  failed(queue: QueueDefinition, error: BullError, jobs: number): void {
    this.#failed.inc({ queue: queue.qualifiedName, code: error.code, outcome: error.outcome }, jobs);
  }

  took(queue: QueueDefinition, seconds: number): void {
    this.#took.observe({ queue: queue.qualifiedName }, seconds);
  }
}
