// A server at maxmemory, filled by unmodified producers: stock workers stop with OOM, and after one BULL.EMERGENCY they
// go on and run every job that was acknowledged, those that were running when memory was full included.
//
// Redis refuses a script at its first write, and only a write that may need memory. BullMQ's script that finishes a job
// begins with a removal, so it passes, and takes the next job too: workers that have jobs go on over maxmemory. The one that
// takes a first job is refused, unless a delayed job is due. So the workers here die in the middle of their jobs when memory
// is nearly full, others start when it is, and no delayed job is due by then.
//
//   node emergency.mjs --port N
//
// The server is flushed and its maxmemory set: never point this at one that matters.
import assert from 'node:assert/strict';
import { Queue, Worker } from 'bullmq';
import { connect, options, within } from './lib.mjs';

const args = options();
const connection = { host: args.host, port: args.port, maxRetriesPerRequest: null };
const redis = await connect(args);
const QUEUES = ['charges', 'mails'];
const base = (name) => `bull:${name}`;
const pause = (ms) => new Promise((done) => setTimeout(done, ms));
const map = (reply) => Object.fromEntries(Array.from({ length: reply.length / 2 }, (_, i) => [reply[2 * i], reply[2 * i + 1]]));

async function memory() {
  const info = await redis.info('memory');
  return Number(/used_memory:(\d+)/.exec(info)[1]);
}

/** Jobs that have not finished, of both queues. */
async function unfinished(queues) {
  const counts = await Promise.all(queues.map((queue) => queue.getJobCounts()));
  return counts.reduce((sum, { completed, failed, ...left }) => sum + Object.values(left).reduce((a, b) => a + b, 0), 0);
}

async function until(what, ms, done) {
  const since = Date.now();
  while (!(await done())) {
    assert.ok(Date.now() - since < ms, `${what}: not within ${ms} ms`);
    await pause(20);
  }
}

await redis.flushall();
const ROOM = 24 * 1024 * 1024;
const limit = (await memory()) + ROOM;
await redis.config('SET', 'maxmemory', String(limit), 'maxmemory-policy', 'noeviction');
await redis.call('BULL.PROFILE', 'SET', base('charges'), 'priority', '1');
await redis.call('BULL.PROFILE', 'SET', base('mails'), 'priority', '5');

const queues = QUEUES.map((name) => new Queue(name, { connection }));
const acked = new Map();
const ran = new Set();
const refusals = { producers: 0, workers: 0 };
const oom = (error) => /\bOOM\b/.test(error.message);
let held = false;
const start = (name) => {
  const worker = new Worker(
    name,
    async (job) => {
      await pause(2);
      if (held) await new Promise(() => {});
      ran.add(`${name}:${job.id}`);
      return 'x'.repeat(200);
    },
    { connection, concurrency: 6, lockDuration: 2000, stalledInterval: 1000, maxStalledCount: 100, runRetryDelay: 500 },
  );
  worker.on('error', (error) => (refusals.workers += oom(error)));
  return worker;
};
let workers = QUEUES.map(start);

let full = false;
async function produce(queue) {
  for (let n = 0; !full; n += 1) {
    const opts = [{}, {}, { priority: 3 }, held ? { delay: 600_000 } : {}][n % 4];
    try {
      const job = await queue.add('job', { n, pad: 'x'.repeat(1000) }, opts);
      acked.set(`${queue.name}:${job.id}`, n);
    } catch (error) {
      assert.ok(oom(error), error.stack);
      refusals.producers += 1;
      full = true;
    }
    // Workers finish jobs while most of memory fills, and what is added then is there to be lost: few enough that there is
    // room for their results and events afterwards, some 900 bytes each.
    held ||= (await memory()) > limit - ROOM / 8;
    while (!full && !held && (await unfinished([queue])) > 1000) await pause(10);
  }
}

try {
  await within(60_000, 'filling', Promise.all([...queues, ...queues, ...queues].map(produce)));
  for (const queue of queues) queue.on('error', () => {});
  await Promise.all(workers.map((worker) => worker.close(true)));
  // Over the limit by more than buffers come and go, as BullMQ's own scripts bring it there.
  const over = "redis.call('DEL', KEYS[1]) redis.call('SET', KEYS[1], string.rep('x', 2 ^ 21))";
  await redis.eval(over, 1, 'filler');
  assert.ok((await memory()) > limit, 'memory is full');
  const before = { ran: ran.size, unfinished: await unfinished(queues) };
  console.log(`ok   full at ${limit} bytes: ${acked.size} acknowledged, ${before.ran} ran, ${before.unfinished} unfinished`);
  assert.ok(before.unfinished > 500, 'there is something to lose');
  held = false;
  refusals.workers = 0;
  workers = QUEUES.map(start);
  await until('new workers are refused', 30_000, () => refusals.workers >= 10);
  await pause(2000);
  assert.deepEqual({ ran: ran.size, unfinished: await unfinished(queues) }, before, 'workers stand still');
  console.log(`ok   stock workers stand still: ${refusals.workers} OOM errors, no job begun`);

  const dry = map(await redis.call('BULL.EMERGENCY', 'DRYRUN'));
  assert.equal(dry['under-target'], 1, 'the plan reaches its target');
  const since = Date.now();
  const reply = map(await redis.call('BULL.EMERGENCY'));
  assert.deepEqual([reply.done, reply['under-target']], [1, 1], JSON.stringify(reply));
  console.log(
    `ok   BULL.EMERGENCY in ${Date.now() - since} ms: ${reply.before} to ${reply.after} bytes, step ${reply.step}, ` +
      `${reply.completed} completed jobs went; the dry run said ${dry.after}`,
  );
  assert.ok((await memory()) < limit * 0.85, 'memory is below the limit');
  const rows = reply.plan.map(map);
  assert.equal(rows[0].queue, base('mails'), 'the least important queue first');

  await Promise.all(queues.map((queue) => queue.promoteJobs()));
  await until('every acknowledged job ran', 40_000, async () => [...acked.keys()].every((key) => ran.has(key)));
  await until('nothing is left', 20_000, async () => (await unfinished(queues)) === 0);
  const job = await queues[0].add('after', {});
  await until('new jobs run', 10_000, async () => ran.has(`charges:${job.id}`));
  for (const name of QUEUES) {
    const check = map(await redis.call('BULL.CHECK', base(name)));
    assert.deepEqual([check.found, check.findings], [0, []], `${name} is sound`);
  }
  console.log(`ok   workers went on: all ${acked.size} acknowledged jobs ran, none is left, both queues are sound`);
} catch (error) {
  console.log(`FAIL ${error.stack}`);
  process.exitCode = 1;
}
await Promise.all([...workers, ...queues].map((thing) => thing.close(true)));
await redis.quit();
process.exit();
