// A load that survives restarts of its server, with a log of what was acknowledged.
//
//   node load.mjs --port N --seed S [--rate jobs-a-second] [--prefix bull] [--name soak] [--seconds limit]
//
// Producers of three kinds (Queue.add of an unmodified client, BULL.ADD, BULL.MADD) send jobs of every kind with a number
// of their own in `data`; an unmodified Worker runs them. One line a fact goes to stdout:
//
//   S n          about to be sent            A n id   acknowledged with this id
//   R n text     refused by the server       U n      the connection broke: unknown
//   P n          a worker runs it
//
// "stop" on stdin ends the producers; the load ends when nothing that can run is left, at the latest after 60 s. "mark" is
// answered by MARK when all that had come over the connections by then was told.
import { createInterface } from 'node:readline';
import Redis from 'ioredis';
import { Queue, Worker } from 'bullmq';
import { options } from './lib.mjs';

const args = options({
  seed: { type: 'string', default: '1' },
  rate: { type: 'string', default: '400' },
  prefix: { type: 'string', default: 'bull' },
  name: { type: 'string', default: 'soak' },
  seconds: { type: 'string', default: '600' },
});
const base = `${args.prefix}:${args.name}`;
// ioredis looks again after a second where a server still loads its file.
const again = { retryStrategy: () => 20, maxLoadingRetryTime: 20 };
const working = { host: args.host, port: args.port, maxRetriesPerRequest: null, ...again };
// What a producer sent and got no answer to is unknown: sending it again would double it.
const settings = { ...working, autoResendUnfulfilledCommands: false };

/**
 * What waits for an answer on a connection. ioredis forgets what it does not send again: its promise would never end, and
 * the producers would come to a standstill.
 */
function watched(client) {
  const waiting = new Set();
  client.on('close', () => waiting.forEach((lose) => lose(new Error('Connection is closed.'))));
  return (answer) =>
    new Promise((done, lose) => {
      waiting.add(lose);
      answer.then(done, lose).finally(() => waiting.delete(lose));
    });
}
/** xorshift32: the same jobs for the same seed. */
let state = Number(args.seed) >>> 0 || 1;
function random(below) {
  state ^= state << 13;
  state ^= state >>> 17;
  state ^= state << 5;
  return (state >>> 0) % below;
}

const say = (line) => process.stdout.write(`${line}\n`);
const redis = new Redis(settings);
redis.on('error', () => {});
const connection = new Redis(settings);
connection.on('error', () => {});
const queue = new Queue(args.name, { connection, prefix: args.prefix });
queue.on('error', () => {});
const direct = watched(redis);
const through = watched(connection);
// Two kills in the moment that a worker takes a job are too many by default: BullMQ fails it, and it never runs.
const enough = { maxStalledCount: 1_000_000 };
const worker = new Worker(
  args.name,
  async (job) => {
    say(`P ${job.data.n}`);
    if (job.data.log) await job.log('a row');
    if (job.data.fails) throw new Error('on purpose');
    return { done: job.data.n };
  },
  { connection: working, prefix: args.prefix, concurrency: 8, lockDuration: 2000, stalledInterval: 1000, ...enough },
);
worker.on('error', (error) => process.env.LOAD_DEBUG && console.error('worker', error.message));

let next = 0;
/** A job of a random kind: its data and BullMQ's options. */
function draw() {
  const n = (next += 1);
  const data = { n, pad: 'x'.repeat(random(400)), fails: random(20) === 0, log: random(10) === 0 };
  const kinds = [
    {},
    {},
    { priority: 1 + random(5) },
    { delay: random(300) },
    { lifo: true },
    { attempts: 2, backoff: 50 },
    { jobId: `custom-${n}` },
    { deduplication: { id: `d${n}`, ttl: 3_600_000 } },
  ];
  return { n, data, opts: kinds[random(kinds.length)] };
}

const lost = (error) => /closed|ECONN|EPIPE|ended|unfulfilled/i.test(error.message);
function told(n, error) {
  say(lost(error) ? `U ${n}` : `R ${n} ${error.message}`);
}

async function send() {
  const way = random(3);
  const jobs = Array.from({ length: way === 2 ? 5 : 1 }, draw);
  for (const { n } of jobs) say(`S ${n}`);
  try {
    if (way === 0) {
      const [{ n, data, opts }] = jobs;
      say(`A ${n} ${(await through(queue.add('job', data, opts))).id}`);
    } else if (way === 1) {
      const [{ n, data, opts }] = jobs;
      const words = ['job', JSON.stringify(data), 'OPTS', JSON.stringify(opts)];
      const id = await direct(redis.call('BULL.ADD', base, ...words));
      say(`A ${n} ${id}`);
    } else {
      const words = jobs.flatMap(({ data, opts }) => ['job', JSON.stringify(data), JSON.stringify(opts)]);
      const ids = await direct(redis.call('BULL.MADD', base, ...words));
      jobs.forEach(({ n }, at) => (ids[at] instanceof Error ? told(n, ids[at]) : say(`A ${n} ${ids[at]}`)));
    }
  } catch (error) {
    for (const { n } of jobs) told(n, error);
  }
}

let stopping = false;
const open = new Set();
const pause = (ms) => new Promise((done) => setTimeout(done, ms));

async function produce() {
  const gap = 1000 / Number(args.rate);
  let due = performance.now();
  while (!stopping) {
    due = Math.max(due + gap, performance.now() - 100);
    const one = send().finally(() => open.delete(one));
    open.add(one);
    // A server that is away makes no endless backlog here.
    while (open.size > 200 && !stopping) await pause(5);
    await pause(Math.max(0, due - performance.now()));
  }
  await Promise.race([Promise.all(open), pause(10_000)]);
}

async function drained() {
  const deadline = Date.now() + 60_000;
  let left = null;
  while (Date.now() < deadline) {
    left = await queue.getJobCounts('wait', 'paused', 'prioritized', 'delayed', 'active').catch(() => null);
    if (left && Object.values(left).every((count) => count === 0)) return null;
    await pause(20);
  }
  return left;
}

createInterface({ input: process.stdin }).on('line', (line) => {
  // A round of the event loop later: what came together with this line is read as well.
  if (line === 'mark') setTimeout(() => say('MARK'), 20);
  else stopping = true;
});
const limit = setTimeout(() => (stopping = true), Number(args.seconds) * 1000);
await produce();
clearTimeout(limit);
const left = await drained();
await Promise.race([worker.close(), pause(5000)]);
say(left === null ? 'DRAINED' : `LEFT 0 ${JSON.stringify(left)}`);
process.exit(0);
