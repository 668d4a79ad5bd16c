/**
 * Three answers over HTTP, for an orchestrator and for people: is this process alive, would an add succeed now, and what is
 * there to see. It changes nothing, and what it asks of the server is bounded in time and asked once, however many ask.
 */
import { createServer } from 'node:http';
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Cluster } from 'ioredis';
import type { Redis } from 'ioredis';
import type { Worker } from 'bullmq';
import type { Registry } from 'prom-client';
import type { Connection } from './connections.js';
import type { QueueDefinition } from './definitions.js';
import { BullError } from './errors.js';
import { sendOnce } from './pool.js';
import type { Producer } from './producer.js';

/** What a probe, and one question of `detailed`, may take, in milliseconds. */
const PROBE_MS = 500;
const QUESTION_MS = 1500;

export interface HealthOptions {
  /** The queues that this process needs. */
  readonly queues: readonly QueueDefinition[];
  readonly producer: Producer;
  readonly workers?: readonly Worker[];
  /** For `detailed`: a connection of role `monitor` whose user may BULL.STATS and INFO, such as `metrics`. */
  readonly monitor?: Connection;
  /** Served as /metrics. */
  readonly registry?: Registry;
}

type Facts = Record<string, unknown>;

interface Readiness {
  readonly ready: boolean;
  readonly queues: Facts;
}

const told = (error: unknown) =>
  error instanceof BullError ? `${error.code} ${error.message}` : error instanceof Error ? error.message : String(error);

export class Health {
  readonly #options: HealthOptions;
  readonly #server: Server;
  #stopping = false;
  #asked: Promise<Readiness> | undefined;

  constructor(options: HealthOptions) {
    this.#options = options;
    this.#server = createServer((request, response) => void this.#answer(request, response));
  }

  /** Listens; port 0 takes a free one. In a pod the host is `0.0.0.0`: probes come from outside. */
  listen(port: number, host = '127.0.0.1'): Promise<number> {
    return new Promise((done, refuse) => {
      this.#server.once('error', refuse);
      this.#server.listen(port, host, () => done((this.#server.address() as AddressInfo).port));
    });
  }

  /** From now on `ready` is 503, whatever the server says. */
  stopping(): void {
    this.#stopping = true;
  }

  close(): Promise<void> {
    return new Promise((done) => {
      this.#server.close(() => done());
      this.#server.closeIdleConnections();
    });
  }

  /** Probes every queue once; those who ask meanwhile get the same answer. */
  readiness(): Promise<Readiness> {
    this.#asked ??= this.#probe().finally(() => (this.#asked = undefined));
    return this.#asked;
  }

  async #probe(): Promise<Readiness> {
    const { queues, producer } = this.#options;
    const rows = await Promise.all(
      queues.map(async (queue) => {
        try {
          await producer.probe(queue, PROBE_MS);
          return [queue.qualifiedName, 'ok'] as const;
        } catch (error) {
          return [queue.qualifiedName, told(error)] as const;
        }
      }),
    );
    return { ready: !this.#stopping && rows.every(([, state]) => state === 'ok'), queues: Object.fromEntries(rows) };
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const send = (status: number, body: string, type = 'application/json') => {
      response.writeHead(status, { 'content-type': type, 'cache-control': 'no-store' }).end(body);
    };
    const json = (status: number, facts: Facts) => send(status, `${JSON.stringify(facts)}\n`);
    if (request.method !== 'GET' && request.method !== 'HEAD') return json(405, { error: 'only GET' });
    try {
      switch (new URL(request.url ?? '/', 'http://localhost').pathname) {
        case '/health/live':
          return json(200, { status: 'alive' });
        case '/health/ready': {
          const { ready, queues } = await this.readiness();
          return json(ready ? 200 : 503, { status: this.#status(ready), queues });
        }
        case '/health/detailed': {
          const [{ ready, queues }, more] = await Promise.all([this.readiness(), this.#details()]);
          return json(ready ? 200 : 503, { status: this.#status(ready), adds: queues, ...more });
        }
        case '/metrics': {
          const { registry } = this.#options;
          if (registry) return send(200, await registry.metrics(), registry.contentType);
        }
      }
      return json(404, { error: 'no such path' });
    } catch (error) {
      return json(500, { error: told(error) });
    }
  }

  #status(ready: boolean): string {
    return this.#stopping ? 'stopping' : ready ? 'ready' : 'not ready';
  }

  async #details(): Promise<Facts> {
    const { producer, queues, workers = [], monitor } = this.#options;
    const since = producer.sinceLastAdd;
    return {
      producer: { ...producer.state, lastAddMs: since === undefined ? null : Math.round(since) },
      workers: workers.map((worker) => ({ queue: worker.qualifiedName, running: worker.isRunning(), paused: worker.isPaused() })),
      ...(monitor && { queues: await rows(queues, (one) => one.qualifiedName, (one) => statsOf(monitor, one)) }),
      ...(monitor && { nodes: await rows(await nodesOf(monitor), addressOf, memoryOf) }),
    };
  }
}

/** A row by name for each; what cannot be had has its reason. */
async function rows<T>(all: readonly T[], name: (one: T) => string, facts: (one: T) => Promise<Facts>): Promise<Facts> {
  const made = all.map(async (one) => [name(one), await facts(one).catch((error) => ({ error: told(error) }))] as const);
  return Object.fromEntries(await Promise.all(made));
}

async function statsOf(monitor: Connection, queue: QueueDefinition): Promise<Facts> {
  const flat = (await sendOnce(monitor, ['BULL.STATS', queue.qualifiedName], QUESTION_MS)) as unknown[];
  const of = (field: string) => flat[flat.indexOf(field) + 1];
  const counts = ['waiting', 'active', 'delayed', 'prioritized', 'completed', 'failed', 'paused', 'oldest-waiting-ms'];
  return Object.fromEntries(counts.map((field) => [field, of(field)]));
}

/** The primaries as they are now: a client otherwise learns of a failover from its own commands. */
async function nodesOf(monitor: Connection): Promise<readonly Redis[]> {
  if (!(monitor instanceof Cluster)) return [monitor];
  await new Promise<void>((done) => monitor.refreshSlotsCache(() => done()));
  return monitor.nodes('master');
}

const addressOf = ({ options }: Redis) => `${options.host}:${options.port}`;

async function memoryOf(node: Redis): Promise<Facts> {
  const info = await node.info('memory');
  const number = (field: string) => Number(new RegExp(`^${field}:(\\d+)`, 'm').exec(info)?.[1]);
  const [used, max] = [number('used_memory'), number('maxmemory')];
  // Without a limit there is no part of it.
  return { used, max, percent: max > 0 ? Number(((used / max) * 100).toFixed(2)) : null };
}
