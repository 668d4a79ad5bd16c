// Jobs of BULL.ADD run in unmodified workers; jobs of unmodified clients are counted by BULL.STATS
// and removed by BULL.TRIM.
//
//   node worker.mjs --port N [--client bullmq|bullmq5|bullmq4] [--only text] [--oracle]
//
// A worker of v4 knows no marker, so with bullmq4 only what it added itself is looked at.
// --oracle adds with BullMQ and leaves the module's commands out: it shows that the script is sound
// on a server without the module. The server is flushed: never point this at one that matters.
import assert from 'node:assert/strict';
import { connect, options, within } from './lib.mjs';

const args = options({
  client: { type: 'string', default: 'bullmq' },
  only: { type: 'string', default: '' },
  oracle: { type: 'boolean', default: false },
});
const { FlowProducer, Queue, QueueEvents, Worker } = await import(args.client);
const connection = { host: args.host, port: args.port, maxRetriesPerRequest: null };
const redis = await connect(args);
const LIMIT = 15_000;

const PLAIN = { prefix: 'bull', name: 'plain' };
const SPEC = { prefix: 'bull:{tasks', name: 'critical}' };

/** A queue with its worker's processor and the events seen, all closed at the end. */
class Scene {
  constructor({ prefix, name }) {
    Object.assign(this, { prefix, name, base: `${prefix}:${name}`, runs: [], seen: new Map(), open: [] });
    this.settled = 0;
    this.waiters = [];
  }

  keep(thing) {
    thing.on?.('error', (error) => console.error(`${this.base}: ${error.message}`));
    this.open.push(thing);
    return thing;
  }

  async watch() {
    const events = this.keep(
      new QueueEvents(this.name, { connection, prefix: this.prefix, lastEventId: '0' }),
    );
    for (const event of ['added', 'waiting', 'delayed', 'active', 'completed', 'failed']) {
      events.on(event, ({ jobId, returnvalue }) => {
        const row = this.seen.get(jobId) ?? { events: [] };
        row.events.push(event);
        if (event === 'completed') row.returnvalue = returnvalue;
        this.seen.set(jobId, row);
        if (event === 'completed' || event === 'failed') {
          this.settled += 1;
          for (const { count, done } of this.waiters) if (this.settled >= count) done();
        }
      });
    }
    await events.waitUntilReady();
  }

  /** Resolves when QueueEvents has seen `count` jobs completed or failed. */
  finished(count) {
    const reached = new Promise((done) => {
      if (this.settled >= count) done();
      else this.waiters.push({ count, done });
    });
    return within(LIMIT, `${count} jobs finished in ${this.base}`, reached);
  }

  async work(processor = async (job) => ({ echo: job.data })) {
    const run = async (job) => {
      this.runs.push({ id: job.id, name: job.name, data: job.data, at: Date.now() });
      return processor(job);
    };
    const worker = this.keep(new Worker(this.name, run, { connection, prefix: this.prefix }));
    await worker.waitUntilReady();
  }

  queue() {
    this.client ??= this.keep(new Queue(this.name, { connection, prefix: this.prefix }));
    return this.client;
  }

  async add(name, data, opts = {}) {
    if (args.oracle) return (await this.queue().add(name, data, opts)).id;
    return redis.call('BULL.ADD', this.base, name, JSON.stringify(data), 'OPTS', JSON.stringify(opts));
  }

  async close() {
    for (const thing of this.open.reverse()) await thing.close();
  }
}

function flatMap(reply) {
  return Object.fromEntries(Array.from({ length: reply.length / 2 }, (_, i) => [reply[2 * i], reply[2 * i + 1]]));
}

async function stats(scene, expected) {
  if (args.oracle) return;
  const reply = flatMap(await redis.call('BULL.STATS', scene.base));
  const got = Object.fromEntries(Object.keys(expected).map((state) => [state, Number(reply[state])]));
  assert.deepEqual(got, expected, 'BULL.STATS counts');
}

/** Removes all that has finished by now. */
async function trim(scene) {
  const now = Date.now();
  while (Date.now() <= now) await new Promise(setImmediate);
  if (args.oracle) {
    for (const state of ['completed', 'failed']) await scene.queue().clean(0, 0, state);
  } else {
    await redis.call('BULL.TRIM', scene.base, 'COMPLETED', '0', 'FAILED', '0');
  }
}

async function gone(scene, ids) {
  const keys = await redis.keys('*');
  for (const id of ids) {
    const left = keys.filter((key) => key === `${scene.base}:${id}` || key.startsWith(`${scene.base}:${id}:`));
    assert.deepEqual(left, [], `keys of job ${id} after the trim`);
  }
}

/** Adds `jobs` ([data, opts] each), runs a worker, and checks order, data, results and events. */
async function runs(where, jobs, { order, events, early = false }) {
  const scene = new Scene(where);
  try {
    await scene.watch();
    if (early) await scene.work();
    const ids = [];
    const since = Date.now();
    for (const [data, opts] of jobs) ids.push(await scene.add('job', data, opts));
    if (!early) await scene.work();
    await scene.finished(jobs.length);
    const wanted = (order ?? jobs.map((_, i) => i)).map((i) => ({ id: ids[i], name: 'job', data: jobs[i][0] }));
    assert.deepEqual(scene.runs.map(({ id, name, data }) => ({ id, name, data })), wanted, 'what ran, in order');
    jobs.forEach(([data, opts], i) => {
      const { events: seen, returnvalue } = scene.seen.get(ids[i]);
      assert.deepEqual(seen, events, `events of job ${ids[i]}`);
      assert.deepEqual(returnvalue, { echo: data }, `return value of job ${ids[i]}`);
      if (opts?.jobId) assert.equal(ids[i], opts.jobId);
      const ran = scene.runs.find(({ id }) => id === ids[i]);
      assert.ok(ran.at - since >= (opts?.delay ?? 0), `job ${ids[i]} ran after ${ran.at - since} ms`);
    });
    await stats(scene, { waiting: 0, active: 0, delayed: 0, prioritized: 0, completed: jobs.length, failed: 0 });
  } finally {
    await scene.close();
  }
}

const PLAINLY = ['added', 'waiting', 'active', 'completed'];
const DELAYED = ['added', 'delayed', 'waiting', 'active', 'completed'];
const several = (...opts) => opts.map((each, n) => [{ n, text: 'é 一 "/"' }, each]);

const added = [
  ['standard', several({}, {}, {}), { events: PLAINLY }],
  ['standard, worker waits already', several({}), { events: PLAINLY, early: true }],
  ['delayed by 50 ms', several({ delay: 50 }), { events: DELAYED }],
  ['delayed by 50 ms, worker waits already', several({ delay: 50 }), { events: DELAYED, early: true }],
  ['delayed, later then sooner', several({ delay: 1500 }, { delay: 50 }), { events: DELAYED, order: [1, 0], early: true }],
  ['prioritized', several({ priority: 9 }, { priority: 1 }, { priority: 9 }, { priority: 5 }), { events: PLAINLY, order: [1, 3, 0, 2] }],
  ['prioritized, worker waits already', several({ priority: 3 }), { events: PLAINLY, early: true }],
  ['lifo', several({ lifo: true }, { lifo: true }, {}, { lifo: true }), { events: PLAINLY, order: [3, 1, 0, 2] }],
  ['custom id', several({ jobId: 'order-1' }, { jobId: 'a:b:c' }), { events: PLAINLY }],
  ['attempts and backoff', several({ attempts: 3, backoff: { type: 'exponential', delay: 10 } }), { events: PLAINLY }],
].flatMap(([name, jobs, expected]) =>
  [PLAIN, SPEC].map((where) => [`${name}, ${where.prefix}:${where.name}`, () => runs(where, jobs, expected)]),
);

/** A job that fails twice is tried a third time: `attempts` and `backoff` are understood. */
async function retried() {
  const scene = new Scene(PLAIN);
  try {
    await scene.watch();
    let tries = 0;
    await scene.work(async () => {
      tries += 1;
      if (tries < 3) throw new Error(`try ${tries}`);
      return tries;
    });
    const id = await scene.add('job', {}, { attempts: 3, backoff: 10 });
    await scene.finished(1);
    assert.equal(scene.seen.get(id).returnvalue, 3);
  } finally {
    await scene.close();
  }
}

/** Jobs of an unmodified client: counted, finished, trimmed away. */
async function counted(where) {
  const scene = new Scene(where);
  try {
    await scene.watch();
    const queue = scene.queue();
    const jobs = [];
    for (const opts of [{}, {}, {}, { delay: 3_600_000 }, { priority: 4 }, { priority: 2, attempts: 1 }]) {
      jobs.push(await queue.add('job', { fail: opts.attempts === 1 }, opts));
    }
    await stats(scene, { waiting: 3, active: 0, delayed: 1, prioritized: 2, completed: 0, failed: 0 });
    await jobs[3].promote();
    await scene.work(async (job) => {
      await job.log('a row');
      if (job.data.fail) throw new Error('on purpose');
      return job.id;
    });
    await scene.finished(6);
    await stats(scene, { waiting: 0, active: 0, delayed: 0, prioritized: 0, completed: 5, failed: 1 });
    await trim(scene);
    await gone(scene, jobs.map(({ id }) => id));
    const left = Object.entries(await queue.getJobCounts()).filter(([, count]) => count !== 0);
    assert.deepEqual(left, [], 'getJobCounts after the trim');
    await stats(scene, { waiting: 0, active: 0, delayed: 0, prioritized: 0, completed: 0, failed: 0 });
  } finally {
    await scene.close();
  }
}

/** A trim between the children of a flow takes the finished child and leaves the parent whole. */
async function flow(where) {
  const scene = new Scene(where);
  const flows = scene.keep(new FlowProducer({ connection, prefix: where.prefix }));
  try {
    await scene.watch();
    let open;
    const gate = new Promise((resolve) => (open = resolve));
    await scene.work(async (job) => {
      if (job.name === 'slow') await within(LIMIT, 'the trim', gate);
      return job.name === 'parent' ? Object.values(await job.getChildrenValues()).sort() : job.name;
    });
    const queueName = where.name;
    const child = (name, lifo) => ({ name, queueName, data: {}, opts: { lifo } });
    const tree = await flows.add({
      name: 'parent', queueName, data: {}, children: [child('quick'), child('slow')],
    });
    await scene.finished(1);
    await trim(scene);
    const quick = tree.children.find(({ job }) => job.name === 'quick').job;
    await gone(scene, [quick.id]);
    open();
    await scene.finished(3);
    assert.deepEqual(scene.seen.get(tree.job.id).returnvalue, ['quick', 'slow'], 'what the parent got');
    await trim(scene);
    await gone(scene, [tree.job.id, ...tree.children.map(({ job }) => job.id)]);
  } finally {
    await scene.close();
  }
}

const cases = args.client === 'bullmq4' ? [] : [...added, ['retried after failures', retried]];
for (const where of [PLAIN, SPEC]) {
  cases.push([`counted and trimmed, ${where.prefix}:${where.name}`, () => counted(where)]);
  cases.push([`flow around a trim, ${where.prefix}:${where.name}`, () => flow(where)]);
}

let passed = 0;
let failed = 0;
for (const [name, check] of cases.filter(([name]) => name.includes(args.only))) {
  await redis.flushall();
  try {
    await within(2 * LIMIT, name, check());
    passed += 1;
    console.log(`ok   ${name}`);
  } catch (error) {
    failed += 1;
    console.log(`FAIL ${name}\n       ${error.message.replaceAll('\n', '\n       ')}`);
  }
}
console.log(`${passed} passed, ${failed} failed`);
await redis.quit();
process.exit(failed === 0 && passed > 0 ? 0 : 1);
