// BULL.CHECK beside unmodified clients: it finds nothing in what they leave and in what they are busy with, it finds
// and mends seeded damage of every kind, and workers go on afterwards.
//
//   node check.mjs --port N [--client bullmq|bullmq5|bullmq4] [--only text] [--seconds of live traffic] [--seed n]
//
// The server is flushed: never point this at one that matters.
import assert from 'node:assert/strict';
import { connect, options, within } from './lib.mjs';

const args = options({
  client: { type: 'string', default: 'bullmq' },
  only: { type: 'string', default: '' },
  seconds: { type: 'string', default: '4' },
  seed: { type: 'string', default: '1' },
});
const { FlowProducer, Queue, Worker } = await import(args.client);
const major = { bullmq: 6, bullmq5: 5, bullmq4: 4 }[args.client];
const connection = { host: args.host, port: args.port, maxRetriesPerRequest: null };
const redis = await connect(args);
const LIMIT = 20_000;
const PREFIX = 'bull';
const [WORK, CHILDREN] = ['work', 'children'];
const pause = (ms) => new Promise((done) => setTimeout(done, ms));

/** From now on no job fails. */
let over = false;

/** xorshift32: the same choices for the same seed. */
let state = Number(args.seed) >>> 0 || 1;
function random(below) {
  state ^= state << 13;
  state ^= state >>> 17;
  state ^= state << 5;
  return (state >>> 0) % below;
}

const COUNTS = [
  'orphan-hashes', 'orphan-sub-keys', 'ghost-hashes', 'dangling-ids', 'ids-in-two-states', 'stale-dedup-keys',
  'stuck-parents', 'missing-markers',
];

async function check(name, ...words) {
  const reply = await redis.call('BULL.CHECK', `${PREFIX}:${name}`, ...words);
  return Object.fromEntries(Array.from({ length: reply.length / 2 }, (_, i) => [reply[2 * i], reply[2 * i + 1]]));
}

function assertSound(report, what) {
  assert.deepEqual(report.findings, [], what);
  assert.deepEqual([report.found, report.unsure, report.done], [0, 0, 1], what);
}

/** Clients that are all closed at the end. */
class Scene {
  constructor() {
    this.open = [];
  }

  keep(thing) {
    this.open.push(thing);
    thing.on('error', () => {});
    return thing;
  }

  queue(name = WORK) {
    return this.keep(new Queue(name, { connection, prefix: PREFIX }));
  }

  flows() {
    return this.keep(new FlowProducer({ connection, prefix: PREFIX }));
  }

  work(name, run, more = {}) {
    return this.keep(new Worker(name, run, { connection, prefix: PREFIX, concurrency: 4, ...more }));
  }

  async close() {
    for (const thing of this.open.reverse()) await thing.close();
  }
}

/**
 * Waits until nothing is left that a worker can run. A parent waits for a child that failed and may be tried again, so
 * failed children are.
 */
async function settled(...queues) {
  const since = Date.now();
  for (;;) {
    const counts = await Promise.all(queues.map((queue) => queue.getJobCounts()));
    const left = ({ completed, failed, ...left }) => Object.values(left).some((count) => count !== 0);
    if (!counts.some(left)) return counts[0];
    assert.ok(Date.now() - since < LIMIT, `standing still: ${JSON.stringify(counts)}`);
    for (const queue of queues) {
      for (const job of await queue.getFailed()) if (job?.name === 'child') await job.retry().catch(() => {});
    }
    await pause(50);
  }
}

/** Jobs of every kind that the client knows, in one draw. */
async function produce(queues, flows, n) {
  const kinds = [
    {},
    { lifo: true },
    { delay: random(200) },
    { priority: 1 + random(9) },
    { attempts: 3, backoff: 20 },
    { jobId: `custom-${random(200)}` },
    { removeOnComplete: true, removeOnFail: true },
    { removeOnComplete: 3 },
    { removeOnComplete: { age: 1, count: 20 }, removeOnFail: { age: 1 } },
    { keepLogs: 2 },
  ];
  if (major > 4) {
    kinds.push(
      { deduplication: { id: `simple-${random(20)}` } },
      { deduplication: { id: `ttl-${random(20)}`, ttl: 100 } },
      { deduplication: { id: `extend-${random(5)}`, ttl: 50, extend: true } },
      { delay: 60, deduplication: { id: `replace-${random(5)}`, ttl: 500, extend: true, replace: true } },
      { removeOnComplete: true, deduplication: { id: `last-${random(3)}`, keepLastIfActive: true } },
    );
  }
  const data = { n, slow: random(6) === 0, fail: random(5) === 0, log: random(3) === 0 };
  if (random(4) > 0) return queues[random(2)].add('job', data, kinds[random(kinds.length)]);
  const on = [{}, {}, { failParentOnFailure: true }, { removeDependencyOnFailure: true }];
  if (major > 4) on.push({ ignoreDependencyOnFailure: true });
  const child = () => ({
    name: 'child',
    queueName: [WORK, CHILDREN][random(2)],
    data: { ...data, fail: random(4) === 0 },
    opts: { ...on[random(on.length)], removeOnComplete: random(2) === 0 },
  });
  return flows.add({
    name: 'parent', queueName: WORK, data, opts: { priority: random(3) },
    children: Array.from({ length: 1 + random(4) }, child),
  });
}

async function run(job) {
  if (job.data.fail && over) return 'at last';
  if (job.data.log) for (const row of ['a', 'b', 'c']) await job.log(row);
  if (job.data.slow) await pause(random(120));
  if (job.data.fail) throw new Error('on purpose');
  return { ran: job.data.n };
}

/** Disturbs a queue as operators and dashboards do. */
async function meddle(queue) {
  switch (random(9)) {
    case 0:
      await queue.pause();
      await pause(random(150));
      return queue.resume();
    case 1:
      return queue.clean(500, 50, ['completed', 'failed', 'delayed', 'wait'][random(4)]);
    case 2: {
      const [job] = await queue.getJobs(['wait', 'delayed', 'prioritized', 'failed'].slice(0, major > 4 ? 4 : 2), 0, 0);
      return job?.remove().catch(() => {});
    }
    case 3:
      return queue.retryJobs({ state: 'failed', count: 20 });
    case 4:
      return queue.promoteJobs({ count: 5 });
    case 5:
      return queue.getJobCounts();
    case 6: {
      const [job] = await queue.getDelayed(0, 0);
      return job?.changePriority?.({ priority: random(5) }).catch(() => {});
    }
    default:
      if (major < 5) return queue.getJobCounts();
      if (random(3) === 0) return queue.removeJobScheduler(`s${random(3)}`);
      return queue.upsertJobScheduler(`s${random(3)}`, { every: 40 + random(100) }, { name: 'tick', data: {} });
  }
}

/** Nothing false while everything moves, looked at again and again. */
async function live() {
  const scene = new Scene();
  try {
    const queues = [scene.queue(WORK), scene.queue(CHILDREN)];
    const flows = scene.flows();
    for (const queue of queues) await queue.add('first', {});
    scene.work(WORK, run);
    scene.work(WORK, run, { limiter: { max: 40, duration: 100 } });
    scene.work(CHILDREN, run);
    const until = Date.now() + 1000 * Number(args.seconds);
    let [n, checks, examined] = [0, 0, 0];
    // Longer where a busy machine leaves time for a few checks only.
    const going = () => Date.now() < until || checks < 20;
    const producing = Array.from({ length: 4 }, async () => {
      while (going()) {
        await produce(queues, flows, (n += 1));
        await pause(random(5));
      }
    });
    const meddling = queues.map(async (queue) => {
      while (going()) {
        await meddle(queue);
        await pause(random(40));
      }
    });
    const checking = queues.map(async (queue) => {
      while (going()) {
        const report = await check(queue.name);
        assertSound(report, `check ${checks} of ${queue.name}`);
        checks += 1;
        examined += report.examined;
      }
    });
    await Promise.all([...producing, ...meddling, ...checking]);
    for (const queue of queues) {
      await queue.resume();
      if (major > 4) for (const { key } of await queue.getJobSchedulers()) await queue.removeJobScheduler(key);
    }
    over = true;
    await settled(...queues);
    for (const { name } of queues) assertSound(await check(name), `${name} at rest`);
    return `${n} adds, ${checks} checks, ${examined} ids and keys`;
  } finally {
    await scene.close();
  }
}

/** The words that this server's BULL.TRIM knows. */
async function trimWords() {
  const [, docs] = await redis.call('COMMAND', 'DOCS', 'BULL.TRIM');
  const list = docs[docs.indexOf('arguments') + 1];
  return list.filter((arg) => arg.includes('token')).map((arg) => arg[arg.indexOf('token') + 1]);
}

/** What a queue looks like in the middle of its life: some of everything done, some to do. */
async function lived(scene, Other) {
  const queues = [scene.queue(WORK), scene.queue(CHILDREN)];
  const flows = scene.flows();
  // Jobs and leftovers of another version.
  const legacy = scene.keep(new Other.Queue(WORK, { connection, prefix: PREFIX }));
  for (let n = 0; n < 20; n += 1) await legacy.add('old', { n, log: n % 2 === 0, fail: n % 4 === 0 }, { delay: n % 3 });
  const workers = [scene.work(WORK, run), scene.work(CHILDREN, run)];
  for (let n = 0; n < 120; n += 1) await produce(queues, flows, n);
  if (major > 4) await queues[0].upsertJobScheduler('s', { every: 3_600_000 }, { name: 'tick', data: {} });
  await pause(300);
  for (const worker of workers) await worker.close();
  await queues[0].pause();
  await legacy.add('old', { n: -1 });
  for (let n = 0; n < 30; n += 1) await produce(queues, flows, n);
  await queues[0].resume();
  return queues;
}

async function trimmed(words, Other) {
  const scene = new Scene();
  try {
    const queues = await lived(scene, Other);
    for (const { name } of queues) assertSound(await check(name), `${name} before the trim`);
    let removed = 0;
    for (const { name } of queues) {
      const reply = await redis.call('BULL.TRIM', `${PREFIX}:${name}`, ...words);
      removed += Number(reply[reply.indexOf('completed') + 1]) + Number(reply[reply.indexOf('failed') + 1]);
      assertSound(await check(name), `${name} after the trim`);
    }
    for (const { name } of queues) scene.work(name, run);
    if (major > 4) for (const queue of queues) await queue.removeJobScheduler('s');
    over = true;
    await settled(...queues);
    for (const { name } of queues) assertSound(await check(name), `${name} at the end`);
    return `${removed} removed`;
  } finally {
    await scene.close();
  }
}

const key = (suffix) => `${PREFIX}:${WORK}:${suffix}`;
const fields = (id) => ['name', 'n', 'data', '{"n":1}', 'opts', '{"attempts":0}', 'timestamp', Date.now(), 'delay', 0, 'priority', 0, ...id];

/** Damage by name: what does it, and what must be counted. */
const DAMAGE = {
  'a finished job in no state': {
    async make() {
      await redis.hset(key('lost'), ...fields(['finishedOn', 5, 'returnvalue', 'null']));
      await redis.rpush(key('lost:logs'), 'row');
    },
    counts: { 'orphan-hashes': 1 },
    runs: 0,
  },
  'an unfinished job in no state': {
    async make(queue) {
      const job = await queue.add('job', {});
      await redis.lrem(key('wait'), 1, job.id);
    },
    counts: { 'orphan-hashes': 1 },
    runs: 1,
  },
  'parts of a job that is gone': {
    async make() {
      await redis.rpush(key('gone:logs'), 'row');
      await redis.hset(key('gone:processed'), 'bull:x:1', '1');
      await redis.sadd(key('gone:dependencies'), 'bull:x:2');
    },
    counts: { 'orphan-sub-keys': 3 },
    runs: 0,
  },
  'hashes deleted by hand': {
    async make(queue) {
      const jobs = [await queue.add('job', {}), await queue.add('job', {}, { delay: 9000 }), await queue.add('job', {}, { priority: 3 })];
      await redis.del(...jobs.map(({ id }) => key(id)));
      await redis.zadd(key('completed'), 5, 'gone');
    },
    counts: { 'dangling-ids': 4 },
    runs: 0,
  },
  'a ghost that BullMQ itself made': {
    async make(queue) {
      const job = await queue.add('job', {}, { delay: 100_000 });
      await redis.del(key(job.id));
      await redis.hset(key(job.id), 'delay', 0);
    },
    counts: { 'ghost-hashes': 1 },
    runs: 0,
  },
  'a job in two states': {
    async make(queue) {
      const job = await queue.add('job', {});
      await redis.zadd(key('prioritized'), 5, job.id);
      await redis.rpush(key('wait'), job.id);
    },
    counts: { 'ids-in-two-states': 2 },
    runs: 1,
  },
  'a deduplication key without an owner': {
    async make() {
      await redis.set(key('de:d'), '77');
      await redis.hset(key('dn:d'), 'name', 'n');
    },
    counts: { 'stale-dedup-keys': 1 },
    // The key swallowed this add in BullMQ up to 6.3.
    after: (queue) => queue.add('job', {}, { deduplication: { id: 'd' } }),
    runs: 1,
  },
  'a parent whose child is gone': {
    async make(queue, flows) {
      const tree = await flows.add({
        name: 'parent', queueName: WORK, data: {}, children: [{ name: 'child', queueName: CHILDREN, data: {} }],
      });
      const child = tree.children[0].job;
      await redis.del(`${PREFIX}:${CHILDREN}:${child.id}`);
      await redis.lrem(`${PREFIX}:${CHILDREN}:wait`, 0, child.id);
    },
    counts: { 'stuck-parents': 1 },
    runs: 1,
  },
  'a marker that is gone': {
    async make(queue) {
      await queue.add('job', {});
      await redis.del(key('marker'));
    },
    counts: { 'missing-markers': 1 },
    runs: 1,
  },
};

async function damaged({ make, counts, after, runs }) {
  const scene = new Scene();
  try {
    const [queue, flows] = [scene.queue(), scene.flows()];
    await queue.waitUntilReady();
    await make(queue, flows);
    const expected = Object.fromEntries(COUNTS.map((name) => [name, counts[name] ?? 0]));
    const got = (report) => Object.fromEntries(COUNTS.map((name) => [name, report[name]]));
    const total = Object.values(counts).reduce((sum, count) => sum + count);
    const found = await check(WORK);
    assert.deepEqual(got(found), expected, `found: ${found.findings}`);
    assert.equal(found.repaired, 0);
    const mended = await check(WORK, 'REPAIR');
    assert.deepEqual([got(mended), mended.repaired], [expected, total], `mended: ${mended.findings}`);
    assertSound(await check(WORK), 'after the repair');
    await after?.(queue);
    await queue.add('last', {});
    const ran = [];
    scene.work(WORK, async (job) => ran.push([job.name, JSON.stringify(job.data)]));
    const { completed, failed } = await settled(queue);
    assert.deepEqual([ran.length, completed, failed], [runs + 1, runs + 1, 0], `ran ${JSON.stringify(ran)}`);
    assert.ok(ran.every(([name]) => name), 'a ghost was run');
    assertSound(await check(WORK), 'after the worker');
    return found.findings.join(', ');
  } finally {
    await scene.close();
  }
}

const TRIMS = [
  ['COMPLETED', '0'],
  ['FAILED', '0'],
  ['COMPLETED', '0', 'FAILED', '0'],
  ['COMPLETED', '0', 'FAILED', '0', 'LIMIT', '7'],
  ['KEEPCOMPLETED', '2', 'KEEPFAILED', '1'],
  ['WAITING', '0'],
  ['EVENTS', '5'],
  ['MAXBYTES', '1kb'],
];

const cases = [['nothing false beside live clients', live]];
const known = await trimWords();
for (const other of ['bullmq4', 'bullmq5'].filter((other) => other !== args.client)) {
  for (const words of TRIMS.filter((words) => words.every((word) => !/^[A-Z]/.test(word) || known.includes(word)))) {
    cases.push([`sound after TRIM ${words.join(' ')}, with leftovers of ${other}`, async () => trimmed(words, await import(other))]);
  }
}
if (major === 6) for (const [name, damage] of Object.entries(DAMAGE)) cases.push([`damage: ${name}`, () => damaged(damage)]);

let passed = 0;
let failed = 0;
for (const [name, test] of cases.filter(([name]) => name.includes(args.only))) {
  await redis.flushall();
  over = false;
  try {
    const note = await within(10 * LIMIT, name, test());
    passed += 1;
    console.log(`ok   ${name}: ${note}`);
  } catch (error) {
    failed += 1;
    console.log(`FAIL ${name}\n       ${error.stack.replaceAll('\n', '\n       ')}`);
  }
}
console.log(`${passed} passed, ${failed} failed`);
await redis.quit();
process.exit(failed === 0 && passed > 0 ? 0 : 1);
