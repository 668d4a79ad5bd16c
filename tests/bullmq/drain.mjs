// A worker that drains one queue until it is killed: --port N --queue NAME [--concurrency N] [--ms N]. A job takes --ms;
// one whose name is `bad` fails. Says `ready` once it works.
import { setTimeout as sleep } from 'node:timers/promises';
import { Worker } from 'bullmq';
import { connect, fail, options } from './lib.mjs';

const { port, queue, concurrency, ms } = options({
  queue: { type: 'string' },
  concurrency: { type: 'string', default: '2' },
  ms: { type: 'string', default: '2' },
});
if (!queue) fail('--queue NAME is missing');

const worker = new Worker(
  queue,
  async (job) => {
    await sleep(Number(ms));
    if (job.name === 'bad') throw new Error('bad');
    return null;
  },
  { connection: await connect({ port }), concurrency: Number(concurrency) },
);
worker.on('error', () => {});
await worker.waitUntilReady();
console.log('ready');
