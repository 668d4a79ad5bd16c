// Real workers measure their own jobs; BULL.STATS must say the same.
//
//   node measure.mjs --port N [--client bullmq|bullmq5|bullmq4] [--jobs 100000]
//
// Half of the jobs are removed as they complete. One in a hundred fails for good, one in fifty fails once and is tried
// again. One in ten runs for 150 ms, the others for 20 ms. Exits with 0 where all totals are exact and the p95 of the
// run time lies in the workers' own bucket or the next one.
import assert from 'node:assert/strict';
import { connect, options, within } from './lib.mjs';

const args = options({ client: { type: 'string', default: 'bullmq' }, jobs: { type: 'string', default: '100000' } });
const { Queue, Worker } = await import(args.client);
const connection = { host: args.host, port: args.port, maxRetriesPerRequest: null };
const redis = await connect(args);
const total = Number(args.jobs);
const where = { prefix: 'bull:{tasks', name: 'critical}' };
const base = `${where.prefix}:${where.name}`;
const LIMIT = 240_000;
const BATCH = 1_000;
const BOUNDS = [1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1e3, 2.5e3, 5e3, 1e4, 3e4, 6e4, 1.2e5, 3e5, 6e5, 1.8e6, 3.6e6];
const bucket = (ms) => BOUNDS.filter((bound) => bound < ms).length;

const sleep = (ms) => new Promise((done) => setTimeout(done, ms));
const runs = [];
let settled = 0;
let failed = 0;
let retried = 0;

const worker = new Worker(
  where.name,
  async (job) => {
    const start = performance.now();
    try {
      await sleep(job.data.ms);
      if (job.data.fail === 'always') throw new Error('on purpose');
      if (job.data.fail === 'once' && !job.data.tried) {
        retried += 1;
        await job.updateData({ ...job.data, tried: true });
        throw new Error('once');
      }
    } finally {
      job.ran = performance.now() - start;
    }
  },
  { connection, prefix: where.prefix, concurrency: 250, autorun: false },
);
const done = new Promise((resolve, reject) => {
  const end = (job) => {
    runs.push(job.ran);
    settled += 1;
    if (settled === total) resolve();
  };
  worker.on('error', reject);
  worker.on('completed', end);
  worker.on('failed', (job) => {
    // A job that will be tried again is not failed.
    if (job.finishedOn === undefined) return;
    failed += 1;
    end(job);
  });
});
await worker.waitUntilReady();

const queue = new Queue(where.name, { connection, prefix: where.prefix });
const began = Date.now();
worker.run();
for (let at = 0; at < total; at += BATCH) {
  const batch = [];
  for (let i = at; i < Math.min(at + BATCH, total); i += 1) {
    const fail = i % 100 === 7 ? 'always' : i % 50 === 3 ? 'once' : undefined;
    const opts = { removeOnComplete: i % 2 === 0, attempts: fail === 'once' ? 2 : 1 };
    batch.push({ name: 'job', data: { ms: i % 10 === 0 ? 150 : 20, fail }, opts });
  }
  await queue.addBulk(batch);
}
await within(LIMIT, `${total} jobs`, done);
const seconds = (Date.now() - began) / 1000;
await worker.close();

const reply = await redis.call('BULL.STATS', base);
const stats = Object.fromEntries(Array.from({ length: reply.length / 2 }, (_, i) => [reply[2 * i], reply[2 * i + 1]]));
runs.sort((a, b) => a - b);
const p95 = runs[Math.ceil(runs.length * 0.95) - 1];
const theirs = Number(stats['run-p95-ms']);
console.log(
  `${total} jobs in ${seconds.toFixed(1)} s, ${failed} failed, ${retried} tried again; ` +
    `p95 of the run time: workers ${p95.toFixed(1)} ms, BULL.STATS ${theirs} ms; wait p95 ${stats['wait-p95-ms']} ms`,
);
const want = { added: total, completed: total - failed, failed, stalled: 0 };
const got = Object.fromEntries(Object.keys(want).map((name) => [name, Number(stats[`${name}-total`])]));
assert.deepEqual(got, want, 'totals');
assert.equal(failed, Array.from({ length: total }, (_, i) => i).filter((i) => i % 100 === 7).length);
assert.equal(Number(stats['failed-last-hour']), failed, 'failed in the last hour');
assert.ok(Math.abs(bucket(p95) - bucket(theirs)) <= 1, `p95 of the run time: ${theirs} ms, measured ${p95} ms`);
assert.ok(Number(stats.completed) <= total / 2, 'half of the jobs are gone');
await queue.close();
await redis.quit();
