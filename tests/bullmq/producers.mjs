// Producers of every kind at once against a queue with a limit, and a worker that makes room.
//
//   node producers.mjs --port N [--cluster] [--client bullmq|bullmq5|bullmq4] [--prefix bull] [--name limited]
//                      [--producers 20] [--rounds 10] [--seconds limit]
//
// Of each kind (add, bulk, delayed, prioritized, flow) there are so many producers, each with a connection of its own that
// sends one thing after another for so many rounds. Children of flows go to <name>-kids, which has no worker, so no parent is
// released. One line a fact goes to stdout, n being a number that no other job has:
//
//   S kind n,n…   about to be sent       A kind n,n…       acknowledged
//   R kind n,n… text   an error          U kind n,n… text  the connection broke: unknown
//   P n           a worker runs it       E text            the worker's own error
//
// With --seconds, producers go on for as long and "stop" on stdin ends them. "mark" there is answered by MARK, behind all that
// was told before. The end is DRAINED when the worker has found nothing to do any more, else LEFT.
import { createInterface } from 'node:readline';
import Redis from 'ioredis';
import { options } from './lib.mjs';

const args = options({
  client: { type: 'string', default: 'bullmq' },
  cluster: { type: 'boolean', default: false },
  prefix: { type: 'string', default: 'bull' },
  name: { type: 'string', default: 'limited' },
  producers: { type: 'string', default: '20' },
  rounds: { type: 'string', default: '10' },
  seconds: { type: 'string' },
});
const { FlowProducer, Queue, Worker } = await import(args.client);
const prefix = args.prefix;
const opened = [];

/**
 * A connection; what was sent and got no answer is not sent again, as that would double it. A Worker's is taken without a look
 * at the cluster's state: where that look fails, connect() of ioredis 5.11 never settles.
 */
function connect(worker = false) {
  const settings = { maxRetriesPerRequest: null, autoResendUnfulfilledCommands: worker };
  const node = { host: args.host, port: args.port };
  const redis = args.cluster
    ? new Redis.Cluster([node], { redisOptions: settings, clusterRetryStrategy: () => 20, enableReadyCheck: !worker })
    : new Redis({ ...node, ...settings, retryStrategy: () => 20 });
  redis.on('error', () => {});
  opened.push(redis);
  return redis;
}

const say = (line) => process.stdout.write(`${line}\n`);
const pause = (ms) => new Promise((done) => setTimeout(done, ms));
const quiet = (thing) => (thing.on('error', () => {}), thing);
const lost = (error) => /closed|ECONN|EPIPE|ended|unfulfilled|refused to|Failed to refresh|CLUSTERDOWN/i.test(error.message);

let last = 0;
const number = () => (last += 1);
const job = (kind, opts = {}) => {
  const n = number();
  return { n, name: kind, data: { n, kind }, opts };
};
const soon = 3_600_000;

const one = (queue, made) => ({ jobs: [made], send: () => queue.add(made.name, made.data, made.opts) });

/** What a producer of a kind sends in one round: the jobs that count, and how to send them. */
const kinds = {
  flow: (_, flows) => {
    const root = { ...job('flow'), queueName: args.name };
    const child = (at) => ({ name: 'child', data: { of: root.n, at }, queueName: `${args.name}-kids` });
    const below = { ...child(1), children: [child(2)] };
    return { jobs: [root], send: () => flows.add({ ...root, children: [child(0), below, child(3)] }) };
  },
  delayed: (queue) => one(queue, job('delayed', { delay: soon })),
  prioritized: (queue) => one(queue, job('prioritized', { priority: 1 + (last % 5) })),
  bulk: (queue) => {
    const jobs = Array.from({ length: 5 }, () => job('bulk'));
    return { jobs, send: () => queue.addBulk(jobs) };
  },
  add: (queue) => one(queue, job('add')),
};

let stopping = false;
async function produce(kind) {
  const connection = connect();
  const queue = quiet(new Queue(args.name, { connection, prefix }));
  const flows = quiet(new FlowProducer({ connection, prefix }));
  for (let round = 0; !stopping && (args.seconds || round < Number(args.rounds)); round += 1) {
    const { jobs, send } = kinds[kind](queue, flows);
    const ns = jobs.map(({ n }) => n).join();
    say(`S ${kind} ${ns}`);
    try {
      const sent = send().then(() => say(`A ${kind} ${ns}`));
      await Promise.race([sent, pause(10_000).then(() => Promise.reject(new Error('unfulfilled after 10 s')))]);
    } catch (error) {
      say(`${lost(error) ? 'U' : 'R'} ${kind} ${ns} ${error.message.replaceAll('\n', ' ')}`);
    }
    await pause(1 + (last % 7));
  }
}

const worker = new Worker(
  args.name,
  async ({ data }) => {
    say(`P ${data.n}`);
    await pause(2);
    return data.n;
  },
  { connection: connect(true), prefix, concurrency: 4, lockDuration: 5000, stalledInterval: 2000, maxStalledCount: 5 },
);
worker.on('error', (error) => say(`${lost(error) ? 'L' : 'E'} ${error.message}`));
worker.on('failed', (_, error) => say(`E a job failed: ${error.message}`));

createInterface({ input: process.stdin }).on('line', (line) => {
  if (line === 'mark') say('MARK');
  else stopping = true;
});
const limit = args.seconds && setTimeout(() => (stopping = true), Number(args.seconds) * 1000);
const each = Object.keys(kinds).flatMap((kind) => Array(Number(args.producers)).fill(kind));
await Promise.all(each.map(produce));
clearTimeout(limit);

const queue = quiet(new Queue(args.name, { connection: connect(), prefix }));
const deadline = Date.now() + 60_000;
let left;
do {
  await pause(20);
  left = await queue.getJobCounts('wait', 'paused', 'prioritized', 'active').catch(() => null);
} while (Date.now() < deadline && !(left && Object.values(left).every((count) => count === 0)));
await Promise.race([worker.close(), pause(5000)]);
say(left && Object.values(left).every((count) => count === 0) ? 'DRAINED' : `LEFT ${JSON.stringify(left)}`);
process.exit(0);
