// The specification's load on a cluster of `scripts/cluster`: the six queues of the placement by their weights, each with its
// own number of concurrent workers, with BullMQ's own Queue and Worker over ioredis' Cluster. Run by `scripts/cluster load`.
//
//   node cluster-load.mjs --env target/cluster/7800/env [--seconds 60] [--rate 500] [--bytes 10240] [--work-ms 10] [--wait]
//                         [--lock-ms 30000] [--json]
//
// A job has an id of its own, so that a producer may send it again where it got no answer; it counts as acknowledged with the
// answer, and with --wait as held when its primary's replica has it too: WAIT 1 on the connection that added it. After the
// load all that was acknowledged must run, and each id must be in exactly one state of its queue. "stop" on stdin ends the
// load early; a line "at N" there is answered by "sent …" when so many jobs are acknowledged. Workers are a process of their own.
//
// One load at a time: another's workers would take its jobs. In the end the finished jobs of the six queues are removed. The end is 1 where a job is lost or is there twice. Jobs that ran again are counted and are no error: BullMQ gives a job
// back to the workers when the node that knew of its end is gone.
import { fork } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { parseArgs } from 'node:util';
import { Queue, Worker } from 'bullmq';
import slotOf from 'cluster-key-slot';
import { connect, readEnv } from './cluster.mjs';
import { fail } from './lib.mjs';

const { values: args } = parseArgs({
  options: {
    env: { type: 'string' },
    seconds: { type: 'string', default: '60' },
    rate: { type: 'string', default: '500' },
    bytes: { type: 'string', default: '10240' },
    'work-ms': { type: 'string', default: '10' },
    'lock-ms': { type: 'string', default: '30000' },
    wait: { type: 'boolean', default: false },
    json: { type: 'boolean', default: false },
    worker: { type: 'boolean', default: false },
  },
});
const number = (name) => {
  const value = Number(args[name]);
  return value > 0 ? value : fail(`--${name} is no number above 0: ${args[name]}`);
};
const [seconds, rate, bytes, workMs, lockMs] = ['seconds', 'rate', 'bytes', 'work-ms', 'lock-ms'].map(number);
const env = readEnv(args.env ?? fail('--env FILE is missing'));
/** Milliseconds that two processes share. */
const now = () => performance.timeOrigin + performance.now();
const pause = (ms) => new Promise((done) => setTimeout(done, ms));
/** Outlasts a failover: every try is a tenth of a second. */
const patient = { maxRedirections: 600, slotsRefreshInterval: 5000 };

/** The queues of the placement: BullMQ's prefix and name, weight, concurrency. */
const queues = readFileSync(env.BULL_PLACEMENT, 'utf8')
  .split('\n')
  .map((line) => line.trim().split(/\s+/))
  .filter(([kind]) => kind === 'queue')
  .map(([, key, , weight, concurrency]) => {
    const at = key.lastIndexOf(':');
    return { key, prefix: key.slice(0, at), name: key.slice(at + 1), weight: Number(weight), concurrency: Number(concurrency) };
  });
const short = ({ name }) => name.replace(/[{}]/g, '');

/** The workers: tells each start of a job to the parent, in batches. */
async function work() {
  let ran = [];
  const flush = () => {
    if (ran.length > 0 && process.connected) process.send({ ran });
    ran = [];
  };
  setInterval(flush, 20);
  const workers = queues.map(({ prefix, name, concurrency }) => {
    const run = async (job) => {
      ran.push([job.data.run, job.data.n, now()]);
      await pause(workMs);
      return job.data.n;
    };
    const worker = new Worker(name, run, {
      connection: connect(env, 'worker', patient),
      prefix,
      concurrency,
      lockDuration: lockMs,
      stalledInterval: lockMs,
      maxStalledCount: 10,
      runRetryDelay: 500,
      drainDelay: 1,
    });
    worker.on('error', () => {});
    return worker;
  });
  await Promise.all(workers.map((worker) => worker.waitUntilReady()));
  process.send({ ready: true });
  process.on('message', async () => {
    await Promise.race([Promise.all(workers.map((worker) => worker.close())), pause(5000)]);
    flush();
    process.exit(0);
  });
  process.on('disconnect', () => process.exit(1));
}

/** Groups WAIT 1: one at a time on a queue's connection, for all jobs that were added on it since the last. */
class Waits {
  constructor(cluster, key) {
    this.cluster = cluster;
    this.slot = slotOf(`${key}:meta`);
    this.open = [];
    this.busy = false;
  }
  /** The connection that writes of this queue take now. */
  connection() {
    const address = this.cluster.slots[this.slot]?.[0];
    const redis = address && this.cluster.connectionPool.getInstanceByKey(address);
    return { redis, socket: redis?.stream };
  }
  /** Resolves to whether a replica has what was added on that connection. */
  held(before) {
    return new Promise((done) => {
      this.open.push({ before, done });
      if (!this.busy) this.next();
    });
  }
  async next() {
    this.busy = true;
    while (this.open.length > 0) {
      const group = this.open;
      this.open = [];
      const { redis, socket } = this.connection();
      const replicas = redis ? await redis.wait(1, 100).catch(() => 0) : 0;
      // Another connection, then or now: WAIT was not about these writes.
      const same = this.connection().socket === socket;
      for (const { before, done } of group) done(replicas >= 1 && same && before.socket === socket);
    }
    this.busy = false;
  }
}

async function load() {
  const child = fork(process.argv[1], [...process.argv.slice(2), '--worker'], { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
  const up = new Promise((done) => child.once('message', done));
  child.on('exit', (code) => code && fail(`the workers ended with ${code}`));
  await up;

  const run = Date.now().toString(36);
  const jobs = []; // queue, sent, acked, held, runs
  const pickup = [];
  const starts = new Map(queues.map((queue) => [queue, []]));
  child.on('message', ({ ran = [] }) => {
    for (const [of, n, at] of ran) {
      // What another load left behind.
      if (of !== run) continue;
      const job = jobs[n];
      job.runs += 1;
      if (job.runs === 1) pickup.push(at - job.sent);
      starts.get(job.queue).push(at);
    }
  });

  const producers = new Map();
  for (const queue of queues) {
    const cluster = connect(env, 'api-bullmq', patient);
    const bull = new Queue(queue.name, { connection: cluster, prefix: queue.prefix });
    bull.on('error', () => {});
    await bull.waitUntilReady();
    producers.set(queue, { bull, waits: new Waits(cluster, queue.key), acks: [] });
  }

  const id = (n) => `load-${run}-${n}`;
  const pad = 'x'.repeat(Math.max(0, bytes - 40));
  const opts = { attempts: 3, backoff: { type: 'exponential', delay: 1000 } };
  const errors = new Map();
  let retries = 0;
  let acked = 0;
  let open = 0;
  let stopping = false;
  const asked = [];
  async function add(n) {
    const job = jobs[n];
    const { bull, waits, acks } = producers.get(job.queue);
    open += 1;
    job.sent = now();
    // The same id again: BullMQ adds it once.
    for (;;) {
      const before = waits.connection();
      try {
        await bull.add('load', { run, n, pad }, { ...opts, jobId: id(n) });
        job.acked = true;
        acked += 1;
        acks.push(now());
        if (args.wait) job.held = await waits.held(before);
        break;
      } catch (error) {
        const what = error.message.replace(/\d+/g, 'N').slice(0, 80);
        errors.set(what, (errors.get(what) ?? 0) + 1);
        // The last word of a policy.
        if (/BULLREJECT/.test(error.message)) {
          job.refused = true;
          break;
        }
        retries += 1;
        await pause(200);
      }
    }
    open -= 1;
    while (asked.length > 0 && acked >= asked[0]) console.log(`sent ${asked.shift()}`);
  }

  createInterface({ input: process.stdin }).on('line', (line) => {
    const [, count] = /^at (\d+)$/.exec(line) ?? [];
    if (count) asked.push(Number(count));
    else if (line === 'stop') stopping = true;
  });
  const credit = queues.map(() => 0);
  const choose = () => {
    let best = 0;
    queues.forEach(({ weight }, at) => {
      credit[at] += weight;
      if (credit[at] > credit[best]) best = at;
    });
    credit[best] -= 100;
    return queues[best];
  };
  const began = now();
  let due = began;
  while (!stopping && now() - began < seconds * 1000) {
    // A shard that is away makes no endless backlog here.
    while (due <= now() && open < 5000) {
      jobs.push({ queue: choose(), sent: 0, acked: false, held: false, runs: 0 });
      add(jobs.length - 1);
      due += 1000 / rate;
    }
    due = Math.max(due, now() - 1000);
    await pause(2);
  }
  const took = (now() - began) / 1000;
  const answered = now() + 60_000;
  while (open > 0 && now() < answered) await pause(20);

  // All that is acknowledged runs; the end is when nothing did for longer than a lost lock is kept.
  let left = Infinity;
  let moved = now();
  for (;;) {
    const waiting = jobs.filter((job) => job.acked && job.runs === 0).length;
    if (waiting < left) moved = now();
    left = waiting;
    if (left === 0 || now() - moved > 3000 + 3 * lockMs) break;
    await pause(50);
  }
  // What ran ends, and what a dead node knew the end of runs again.
  const admin = connect(env, 'admin', patient);
  const unfinished = async () => {
    let sum = 0;
    for (const { key } of queues) sum += (await admin.llen(`${key}:active`)) + (await admin.llen(`${key}:wait`)) + (await admin.zcard(`${key}:delayed`));
    return sum;
  };
  const patience = now() + 3000 + 3 * lockMs;
  while ((await unfinished()) > 0 && now() < patience) await pause(50);
  child.removeAllListeners('exit');
  const ended = new Promise((done) => child.once('exit', done));
  child.send('close');
  await Promise.race([ended, pause(8000)]);
  child.kill('SIGKILL');

  // What the servers hold of this run: every state of every queue.
  const places = new Map();
  for (const { key } of queues) {
    for (const state of ['wait', 'paused', 'active']) for (const one of await admin.lrange(`${key}:${state}`, 0, -1)) place(one, `${key}:${state}`);
    for (const state of ['completed', 'failed', 'delayed', 'prioritized', 'waiting-children']) {
      for (const one of await admin.zrange(`${key}:${state}`, 0, -1)) place(one, `${key}:${state}`);
    }
  }
  function place(one, where) {
    if (one.startsWith(`load-${run}-`)) places.set(one, [...(places.get(one) ?? []), where]);
  }
  const facts = report();
  // The next load finds the queues as this one did; their budgets count finished jobs too.
  for (const { key } of queues) await admin.call('BULL.TRIM', key, 'COMPLETED', '1ms');
  console.log(args.json ? JSON.stringify(facts) : text(facts));
  process.exitCode = facts.lost + facts.absent + facts.doubled === 0 ? 0 : 1;
  process.stdout.write('', () => process.exit());

  function report() {
    const sorted = pickup.sort((a, b) => a - b);
    const percentile = (part) => Number((sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? 0).toFixed(1));
    const gap = (times) => {
      let longest = 0;
      times.forEach((at, i) => i > 0 && (longest = Math.max(longest, at - times[i - 1])));
      return Math.round(longest);
    };
    const mine = jobs.map((job, n) => ({ ...job, places: places.get(id(n)) ?? [] }));
    const count = (keep) => mine.filter(keep).length;
    return {
      seconds: Number(took.toFixed(1)),
      sent: jobs.length,
      acknowledged: acked,
      refused: count((job) => job.refused),
      held: args.wait ? count((job) => job.held) : null,
      once: count((job) => job.runs === 1),
      again: count((job) => job.runs > 1),
      lost: count((job) => job.acked && job.runs === 0),
      absent: count((job) => (args.wait ? job.held : job.acked) && job.places.length === 0),
      doubled: count((job) => job.places.length > 1),
      unfinished: count((job) => job.places.length > 0 && !job.places[0].endsWith(':completed')),
      unanswered: open,
      retries,
      errors: Object.fromEntries(errors),
      concurrency: queues.reduce((sum, queue) => sum + queue.concurrency, 0),
      pickup: { p50: percentile(0.5), p99: percentile(0.99), max: percentile(1) },
      queues: Object.fromEntries(
        queues.map((queue) => [
          short(queue),
          { sent: count((job) => job.queue === queue), 'longest-pause-of-producers': gap(producers.get(queue).acks), 'longest-pause-of-workers': gap(starts.get(queue)) },
        ]),
      ),
    };
  }

  function text(facts) {
    const rows = Object.entries(facts.queues).map(
      ([name, row]) => `  ${name.padEnd(12)}${String(row.sent).padStart(8)} jobs, longest pause of producers ${row['longest-pause-of-producers']} ms, of workers ${row['longest-pause-of-workers']} ms`,
    );
    return [
      `${facts.sent} jobs of ${bytes} bytes in ${facts.seconds} s (${(facts.sent / facts.seconds).toFixed(0)} a second), ${facts.concurrency} concurrent workers`,
      `acknowledged ${facts.acknowledged}${args.wait ? `, held by a replica ${facts.held}` : ''}, refused ${facts.refused}, unanswered ${facts.unanswered}, sent again ${facts.retries}`,
      `run once ${facts.once}, run again ${facts.again}, lost ${facts.lost}, absent ${facts.absent}, doubled ${facts.doubled}, unfinished ${facts.unfinished}`,
      `pickup p50 ${facts.pickup.p50} ms, p99 ${facts.pickup.p99} ms, max ${facts.pickup.max} ms`,
      ...rows,
      ...Object.entries(facts.errors).map(([what, times]) => `  error, ${times} times: ${what}`),
    ].join('\n');
  }
}

if (args.worker) await work();
else await load();
