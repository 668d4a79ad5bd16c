/**
 * Adds jobs by BULL.ADD and BULL.MADD: BullMQ's options in, BullMQ's Job back, every refusal as a type of errors.ts. It never
 * falls back to BullMQ's own scripts. What it leaves in the server is what `Queue.add` leaves, unless a policy changed it.
 */
import { Job, Queue } from 'bullmq';
import type { JobsOptions } from 'bullmq';
import { queueOptions } from './definitions.js';
import type { QueueDefinition } from './definitions.js';
import type { Settings } from './connections.js';
import { BullError, InvalidJobError, UnknownOutcomeError, errorOfReply } from './errors.js';
import { Pool } from './pool.js';
import type { PoolOptions, PoolState, WhenLost } from './pool.js';

/** Jobs that go in one BULL.MADD: it runs whole, and others wait for it. */
const BULK = 500;

export interface NewJob<Data = unknown> {
  readonly name: string;
  readonly data: Data;
  readonly opts?: JobsOptions;
}

/** Is told of each command, when it is over. */
export interface ProducerObserver {
  added(queue: QueueDefinition, jobs: number): void;
  failed(queue: QueueDefinition, error: BullError, jobs: number): void;
  took(queue: QueueDefinition, seconds: number): void;
}

export interface ProducerOptions extends PoolOptions {
  readonly observer?: ProducerObserver;
}

type Made<Data> = Job<Data, unknown, string>;

export class Producer {
  readonly #pool: Pool;
  readonly #observer: ProducerObserver | undefined;
  /** What a Job needs for its own methods. */
  readonly #queues = new Map<string, Queue>();
  #lastAdd: number | undefined;

  constructor(settings: Settings, options: ProducerOptions = {}) {
    this.#pool = new Pool(settings, options);
    this.#observer = options.observer;
  }

  get state(): PoolState {
    return this.#pool.state;
  }

  /** Milliseconds since a job was last acknowledged. */
  get sinceLastAdd(): number | undefined {
    return this.#lastAdd === undefined ? undefined : performance.now() - this.#lastAdd;
  }

  /**
   * Adds a job, as `Queue.add` does. The Job's own methods run with the rights of this producer's user; its `timestamp` is
   * this process's, the server stores its own.
   *
   * @throws BullError; its `outcome` says whether the job may be in the queue. With `opts.jobId` a lost answer is not
   * reported: the add is repeated, which adds nothing where the job is there.
   */
  async add<Data>(queue: QueueDefinition, name: string, data: Data, opts?: JobsOptions): Promise<Made<Data>> {
    const job = this.#job(queue, { name, data, ...(opts && { opts }) });
    const answer = await this.#run(queue, ['BULL.ADD', queue.qualifiedName, name, dataOf(job), 'OPTS', optsOf(queue, opts)], [opts], 1);
    this.#added(queue, 1);
    job.id = String(answer);
    return job;
  }

  /**
   * Adds jobs in order, 500 a command. One that is refused keeps none of the others out: each has its own result, with the
   * Job or a BullError.
   */
  async addBulk<Data>(queue: QueueDefinition, jobs: readonly NewJob<Data>[]): Promise<PromiseSettledResult<Made<Data>>[]> {
    const results: PromiseSettledResult<Made<Data>>[] = [];
    for (let start = 0; start < jobs.length; start += BULK) {
      const part = jobs.slice(start, start + BULK);
      const made = part.map((job) => this.#job(queue, job));
      const answers = await this.#many(queue, part, made);
      made.forEach((job, at) => results.push(this.#settle(queue, job, answers[at])));
    }
    return results;
  }

  /**
   * Would a valid job be taken now? Sends an add with a word that BULL.ADD does not know: the server checks that it is up, a
   * primary, within memory and that the user may, and then refuses the word before anything is written. What a moment mends
   * (a connection that is being made) is waited for, at most `patienceMs`.
   *
   * @throws BullError as an add would.
   */
  async probe(queue: QueueDefinition, patienceMs = 500): Promise<void> {
    const words = ['BULL.ADD', queue.qualifiedName, 'probe', '{}', 'NOT-A-WORD'] as const;
    try {
      await this.#pool.ask(words, patienceMs);
    } catch (error) {
      if (error instanceof InvalidJobError && error.message.includes('NOT-A-WORD')) return;
      throw error;
    }
    throw new BullError('ERR', 'the server took a word that BULL.ADD does not have');
  }

  /** Refuses new jobs, waits for the answers of those under way, and ends the connections. */
  async close(): Promise<void> {
    await this.#pool.close();
    await Promise.allSettled([...this.#queues.values()].map((queue) => queue.close()));
  }

  #job<Data>(queue: QueueDefinition, { name, data, opts }: NewJob<Data>): Made<Data> {
    const merged: JobsOptions = { ...queue.jobOptions, ...opts };
    return new Job<Data, unknown, string>(this.#queue(queue), name, data, merged, opts?.jobId);
  }

  #queue(queue: QueueDefinition): Queue {
    const known = this.#queues.get(queue.qualifiedName);
    if (known) return known;
    const options = queueOptions(queue, this.#pool.connection);
    const made = new Queue(queue.name, { ...options, skipMetasUpdate: true, skipVersionCheck: true });
    // A user that may only add may not INFO; that stops no add.
    made.on('error', () => {});
    this.#queues.set(queue.qualifiedName, made);
    return made;
  }

  async #many(queue: QueueDefinition, part: readonly NewJob[], made: readonly Job[]): Promise<readonly unknown[]> {
    const words = part.flatMap(({ name, opts }, at) => [name, dataOf(made[at]), optsOf(queue, opts)]);
    try {
      const answer = await this.#run(queue, ['BULL.MADD', queue.qualifiedName, ...words], part.map(({ opts }) => opts), 0);
      if (Array.isArray(answer) && answer.length === part.length) return answer;
      throw new UnknownOutcomeError('ERR', `BULL.MADD answered ${JSON.stringify(answer)} to ${part.length} jobs`);
    } catch (error) {
      return part.map(() => error);
    }
  }

  #settle<Data>(queue: QueueDefinition, job: Made<Data>, answer: unknown): PromiseSettledResult<Made<Data>> {
    if (answer instanceof Error) {
      const reason = answer instanceof BullError ? answer : errorOfReply(answer.message, { cause: answer });
      this.#observer?.failed(queue, reason, 1);
      return { status: 'rejected', reason };
    }
    this.#added(queue, 1);
    job.id = String(answer);
    return { status: 'fulfilled', value: job };
  }

  #added(queue: QueueDefinition, jobs: number): void {
    this.#lastAdd = performance.now();
    this.#observer?.added(queue, jobs);
  }

  /** One command; `counted` jobs are told as failed with it. */
  async #run(
    queue: QueueDefinition,
    words: readonly [string, string, ...string[]],
    opts: readonly (JobsOptions | undefined)[],
    counted: number,
  ): Promise<unknown> {
    const began = performance.now();
    const whenLost: WhenLost = opts.every((one) => one?.jobId !== undefined) ? 'repeat' : 'report';
    try {
      return await this.#pool.send(words, whenLost);
    } catch (error) {
      if (counted > 0 && error instanceof BullError) this.#observer?.failed(queue, error, counted);
      throw error;
    } finally {
      this.#observer?.took(queue, (performance.now() - began) / 1000);
    }
  }
}

const dataOf = (job: Job | undefined) => JSON.stringify(job?.data === undefined ? {} : job.data);

const optsOf = (queue: QueueDefinition, opts: JobsOptions | undefined) => JSON.stringify({ ...queue.jobOptions, ...opts });
