// A server at maxmemory, filled by unmodified producers: stock workers stop with OOM, and after one BULL.EMERGENCY they
// go on and run every job that was acknowledged.
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
const limit = (await memory()) + 24 * 1024 * 1024;
await redis.config('SET', 'maxmemory', String(limit), 'maxmemory-policy', 'noeviction');
await redis.call('BULL.PROFILE', 'SET', base('charges'), 'priority', '1');
await redis.call('BULL.PROFILE', 'SET', base('mails'), 'priority', '5');

const queues = QUEUES.map((name) => new Queue(name, { connection }));
const acked = new Map();
const ran = new Set();
const refusals = { producers: 0, workers: 0 };
const oom = (error) => /\bOOM\b/.test(error.message);
const workers = QUEUES.map((name) => {
  const worker = new Worker(
    name,
    async (job) => {
      await pause(2);
      ran.add(`${name}:${job.id}`);
      return 'x'.repeat(200);
    },
    { connection, concurrency: 6, lockDuration: 2000, stalledInterval: 1000, maxStalledCount: 100 },
  );
  worker.on('error', (error) => (refusals.workers += oom(error)));
  return worker;
});

let full = false;
async function produce(queue) {
  for (let n = 0; !full; n += 1) {
    const opts = [{}, {}, { priority: 3 }, { delay: 3000 }][n % 4];
    try {
      const job = await queue.add('job', { n, pad: 'x'.repeat(1000) }, opts);
      acked.set(`${queue.name}:${job.id}`, n);
    } catch (error) {
      assert.ok(oom(error), error.stack);
      refusals.producers += 1;
      full = true;
    }
    // Half of what is added finishes before memory is full.
    while (!full && (await unfinished([queue])) > 1500) await pause(10);
  }
}

try {
  await within(60_000, 'filling', Promise.all([...queues, ...queues, ...queues].map(produce)));
  for (const queue of queues) queue.on('error', () => {});
  // Something more, so that no gap is left, also where the server's buffers give some memory back.
  const client = await connect(args);
  let fillers = 0;
  const fill = async (size) => {
    for (;;) {
      const reply = await client.set(`filler:${(fillers += 1)}`, 'x'.repeat(size)).catch((error) => error);
      if (reply instanceof Error) return;
    }
  };
  const stand = async (ms) => {
    const still = await unfinished(queues);
    for (const since = Date.now(); Date.now() - since < ms; await pause(20)) {
      await fill(20_000);
      await fill(200);
    }
    return (await unfinished(queues)) === still;
  };
  const begun = ran.size;
  await until('workers stand still for two seconds', 30_000, () => stand(2000));
  const before = { ran: ran.size, unfinished: await unfinished(queues) };
  const moved = ran.size - begun;
  console.log(`ok   full at ${limit} bytes: ${acked.size} acknowledged, ${ran.size} ran, ${before.unfinished} unfinished`);
  assert.ok(refusals.workers > 0, 'workers are refused with OOM');
  assert.ok(before.unfinished > 500, 'there is something to lose');
  console.log(`ok   stock workers stand still: ${refusals.workers} OOM errors, ${moved} more jobs begun, none finished in 2 s`);

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

  await until('every acknowledged job ran', 40_000, async () => [...acked.keys()].every((key) => ran.has(key)));
  await until('nothing is left', 20_000, async () => (await unfinished(queues)) === 0);
  const job = await queues[0].add('after', {});
  await until('new jobs run', 10_000, async () => ran.has(`charges:${job.id}`));
  for (const name of QUEUES) {
    const check = map(await redis.call('BULL.CHECK', base(name)));
    assert.deepEqual([check.found, check.findings], [0, []], `${name} is sound`);
  }
  console.log(`ok   workers went on: all ${acked.size} acknowledged jobs ran, none is left, both queues are sound`);
  await client.quit();
} catch (error) {
  console.log(`FAIL ${error.stack}`);
  process.exitCode = 1;
}
await Promise.all([...workers, ...queues].map((thing) => thing.close(true)));
await redis.quit();
process.exit();
