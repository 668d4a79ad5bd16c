// The same operations for the same seed: adds of every kind and what workers and operators do around them.
//
//   node seeded.mjs --port N [--client bullmq|bullmq5|bullmq4] [--seed S] [--count operations]
//
// One line an operation goes to stdout: what it was, and what came of it. Clock and random numbers stand still
// (still.mjs), so two servers that answer alike get the same commands and hold the same keys.
import { random, seed, wait } from './still.mjs';
import { options } from './lib.mjs';

const args = options({
  client: { type: 'string', default: 'bullmq' },
  seed: { type: 'string', default: '1' },
  count: { type: 'string', default: '300' },
});
seed(Number(args.seed));
const { FlowProducer, Queue, Worker } = await import(args.client);
const major = { bullmq4: 4, bullmq5: 5, bullmq: 6 }[args.client];
const connection = { host: args.host, port: args.port, maxRetriesPerRequest: null };

const NAMES = ['plain', '{tagged}', 'ünï'];
const queues = NAMES.map((name) => new Queue(name, { connection }));
const workers = NAMES.map((name) => new Worker(name, null, { connection, autorun: false }));
const flows = new FlowProducer({ connection });
for (const thing of [...queues, ...workers, flows]) thing.on('error', () => {});
// Opened one by one: the order of their commands is then always the same.
for (const thing of [...queues, ...workers, flows]) await thing.waitUntilReady?.();

const pick = (list) => list[random(list.length)];
const maybe = (share, value) => (random(100) < share ? value() : {});
const data = () =>
  pick([{}, { n: random(1e6) }, [], 'text é 一', null, 0, { deep: { list: [1, [2, { x: null }]] } }, 'x'.repeat(random(5000))]);
const name = () => pick(['job', 'mail', '', 'with:colon', 'é']);
const parents = [];
const waiting = [];

function dedup() {
  if (major < 5) return {};
  const deduplication = { id: `d${random(4)}`, ...maybe(50, () => ({ ttl: 3_630_000 })) };
  return { deduplication: { ...deduplication, ...maybe(20, () => ({ replace: true })), ...maybe(20, () => ({ extend: true })) } };
}

/** Options of one job. */
function opts() {
  return {
    ...pick([
      () => ({}),
      () => ({}),
      () => ({ delay: 1 + random(2000) }),
      () => ({ priority: 1 + random(9) }),
      () => ({ delay: 1 + random(2000), priority: 1 + random(9) }),
      () => ({ lifo: true }),
      dedup,
    ])(),
    ...maybe(15, () => ({ jobId: `custom-${random(30)}` })),
    ...maybe(30, () => ({ attempts: 1 + random(4), backoff: { type: 'exponential', delay: 100 } })),
    ...maybe(20, () => ({ removeOnComplete: pick([true, { count: 3 }, { age: 60 }]), removeOnFail: pick([true, 5]) })),
    ...maybe(10, () => ({ keepLogs: 3, stackTraceLimit: 2, sizeLimit: 6000 })),
  };
}

function node(depth, root = true) {
  const children = depth === 0 ? 0 : random(4);
  const free = opts();
  // BullMQ refuses it for all but a root that stands alone.
  if (children > 0 || !root) delete free.deduplication;
  // A job with children is never removed below: their order in a set is each server's own.
  if (children > 0 && free.jobId) free.jobId = free.jobId.replace('custom', 'parent');
  return {
    name: name(),
    queueName: pick(NAMES),
    data: data(),
    opts: free,
    ...(children > 0 ? { children: Array.from({ length: children }, () => node(depth - 1, false)) } : {}),
  };
}

const shown = ({ job, children = [] }) => [job.id, ...children.map(shown)];
function remember({ job, children }) {
  if (!children) return;
  parents.push({ id: job.id, queue: job.queueQualifiedName });
  children.forEach(remember);
}

async function flow(times) {
  const roots = Array.from({ length: times }, () => node(1 + random(3)));
  const trees = times === 1 ? [await flows.add(roots[0])] : await flows.addBulk(roots);
  trees.forEach(remember);
  return trees.map(shown);
}

async function add() {
  const job = await pick(queues).add(name(), data(), opts());
  waiting.push(job);
  return job.id;
}

async function child() {
  const parent = random(5) === 0 || parents.length === 0 ? { id: 'nobody', queue: 'bull:plain' } : pick(parents);
  const free = opts();
  delete free.deduplication;
  return (await pick(queues).add(name(), data(), { ...free, parent })).id;
}

async function bulk() {
  const jobs = Array.from({ length: 1 + random(6) }, () => ({ name: name(), data: data(), opts: opts() }));
  return (await pick(queues).addBulk(jobs)).map(({ id }) => id);
}

async function scheduler() {
  const every = () => ({ every: 1000 * (1 + random(9)) });
  const cron = () => ({ pattern: `${random(60)} * * * *`, tz: 'UTC' });
  const template = { name: name(), data: data(), opts: maybe(50, () => ({ priority: 1 + random(3), attempts: 2 })) };
  return (await pick(queues).upsertJobScheduler(`s${random(5)}`, { ...pick([every, cron])(), ...maybe(30, () => ({ limit: 5 })) }, template))?.id;
}

async function repeatable() {
  const repeat = pick([{ every: 1000 * (1 + random(9)) }, { pattern: `${random(60)} * * * *`, tz: 'UTC' }]);
  const job = await pick(queues).add(name(), data(), { repeat, ...maybe(30, () => ({ priority: 2 })) });
  return job?.id;
}

/** One job through a worker, as far as it goes. */
async function work() {
  const worker = pick(workers);
  const job = await worker.getNextJob('token', { block: false });
  if (!job) return 'nothing to do';
  wait(random(20));
  if (random(4) > 0) await job.moveToCompleted({ done: random(9) }, 'token', false);
  else await job.moveToFailed(new Error('on purpose'), 'token', false);
  return job.id;
}

async function one() {
  const job = waiting.splice(random(waiting.length), 1)[0];
  if (!job) return 'none';
  return pick([
    () => job.remove(),
    () => job.promote(),
    () => job.changePriority({ priority: random(4) }),
    () => job.changeDelay(random(3000)),
    () => job.retry(),
    () => job.updateProgress(random(100)),
  ])();
}

const operations = [
  ...Array(8).fill(['add', add]),
  ...Array(4).fill(['bulk', bulk]),
  ...Array(3).fill(['flow', () => flow(1)]),
  ['flows', () => flow(1 + random(3))],
  ...Array(2).fill(['child', child]),
  ...(major >= 5 ? Array(2).fill(['scheduler', scheduler]) : []),
  ...(major >= 5 ? [['no scheduler', () => pick(queues).removeJobScheduler(`s${random(5)}`)]] : []),
  ...(major <= 5 ? Array(2).fill(['repeatable', repeatable]) : []),
  ...Array(8).fill(['work', work]),
  ...Array(2).fill(['one', one]),
  ['pause', () => pick(queues).pause()],
  ...Array(2).fill(['resume', () => pick(queues).resume()]),
  ['concurrency', () => (major >= 5 ? pick(queues).setGlobalConcurrency(1 + random(3)) : undefined)],
  ['clean', () => pick(queues).clean(0, 3, pick(['completed', 'failed']))],
];

for (let at = 0; at < Number(args.count); at += 1) {
  wait(1 + random(400));
  const [what, run] = pick(operations);
  let outcome;
  try {
    outcome = await run();
  } catch (error) {
    outcome = `${error.name}: ${error.message}`;
  }
  console.log(`${at} ${what} ${JSON.stringify(outcome)}`);
}
for (const thing of [...workers, ...queues, flows]) await thing.close();
