// The package against one server with the module, which the Rust test started and can kill and start again. The server is
// flushed and its settings are changed: never point this at one that matters.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { after, beforeEach, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Queue, Worker } from 'bullmq';
import {
  BusyError, ClientMetrics, ClosedError, Health, InvalidJobError, MissingParentError, NotAllowedError, OtherParentError,
  OutOfMemoryError, Producer, QueueError, ReadOnlyServerError, RejectedError, UnavailableError, UnknownOutcomeError, connect, queueOptions, queues,
  workerOptions,
} from 'redis-bull-client';
import { differences, dump, normalise } from '../../../tests/bullmq/lib.mjs';
import { control, get, losingProxy, pause, plain, run, settings, until } from './support.mjs';

const redis = plain();
const clients = async (name) => (await redis.call('CLIENT', 'LIST')).split('\n').filter((line) => line.includes(`name=${name} `)).length;
const { critical, low } = queues;

beforeEach(() => redis.flushall());
after(() => redis.disconnect());

/** Runs with a producer that is closed at the end. */
async function withProducer(options, work, at = settings) {
  const producer = new Producer(at, options);
  try {
    return await work(producer);
  } finally {
    await producer.close();
  }
}

const CASES = [
  ['plain', { n: 1 }],
  ['no data', undefined],
  ['text', 'ein Wörtchen\n"'],
  ['delayed', {}, { delay: 5000 }],
  ['prioritized', {}, { priority: 7 }],
  ['lifo', {}, { lifo: true }],
  ['own id', {}, { jobId: 'mine' }],
  ['again', { other: true }, { jobId: 'mine' }],
  ['other options', {}, { attempts: 9, backoff: 100, removeOnComplete: true, removeOnFail: 10, keepLogs: 3, stackTraceLimit: 2 }],
  ['deduplicated', {}, { deduplication: { id: 'd', ttl: 60_000 } }],
  ['deduplicated', {}, { deduplication: { id: 'd', ttl: 60_000 } }],
  ['at its time', {}, { timestamp: 1_700_000_000_000 }],
];

test('what the producer adds is what Queue.add adds, for each definition', async () => {
  for (const queue of Object.values(queues)) {
    const base = queue.qualifiedName;
    const left = {};
    const told = {};
    for (const way of ['Queue.add', 'add', 'addBulk']) {
      await redis.flushall();
      const bullmq = new Queue(queue.name, queueOptions(queue, redis));
      await bullmq.getVersion();
      const jobs = await withProducer({}, async (producer) => {
        const made = [];
        if (way === 'addBulk') {
          const results = await producer.addBulk(queue, CASES.map(([name, data, opts]) => ({ name, data, opts })));
          return results.map(({ value }) => value);
        }
        for (const [name, data, opts] of CASES) made.push(await (way === 'add' ? producer.add(queue, name, data, opts) : bullmq.add(name, data, opts)));
        return made;
      });
      await bullmq.close();
      left[way] = normalise(await dump(redis), { base, clock: true });
      told[way] = jobs.map((job) => JSON.parse(JSON.stringify({ ...job.asJSON(), timestamp: job.opts.timestamp, key: job.toKey(job.id) })));
    }
    assert.ok(Object.keys(left['Queue.add']).length > 10, 'there is something to compare');
    for (const way of ['add', 'addBulk']) {
      assert.deepEqual(differences(left['Queue.add'], left[way], ['Queue.add', way]), [], `${base} ${way}`);
      assert.deepEqual(told[way], told['Queue.add'], `${base} ${way}: the Job`);
    }
  }
});

test('a queue that does not exist yet is made, and the Job works', async () => {
  await withProducer({}, async (producer) => {
    const job = await producer.add(low, 'n', { a: 1 });
    const stored = Number(await redis.hget(`${low.qualifiedName}:${job.id}`, 'timestamp'));
    assert.ok(Math.abs(stored - job.timestamp) < 5000);
    assert.equal(await job.getState(), 'waiting');
  });
  assert.equal(await redis.hget(`${low.qualifiedName}:meta`, 'opts.maxLenEvents'), String(low.maxEvents));
});

test('real workers run jobs of all six queues, with retries, and metrics tell', async () => {
  const metrics = new ClientMetrics();
  const connection = connect(settings, 'worker');
  const seen = new Map();
  const workers = Object.values(queues).map((queue) => {
    const run = async (job) => {
      const key = `${queue.qualifiedName}:${job.id}`;
      seen.set(key, (seen.get(key) ?? 0) + 1);
      if (job.data.fails && job.attemptsMade === 0) throw new Error('on purpose');
    };
    const worker = new Worker(queue.name, run, workerOptions(queue, connection));
    metrics.watchWorker(queue, worker);
    return worker;
  });
  await withProducer({ observer: metrics }, async (producer) => {
    metrics.watchProducer(producer);
    for (const queue of Object.values(queues)) {
      const jobs = Array.from({ length: 20 }, (_, n) => ({ name: 'n', data: { fails: n === 0 }, opts: { backoff: 10 } }));
      const results = await producer.addBulk(queue, jobs);
      assert.ok(results.every(({ status }) => status === 'fulfilled'));
      await producer.add(queue, 'one', {});
    }
    const completed = () => Promise.all(Object.values(queues).map(({ qualifiedName }) => redis.zcard(`${qualifiedName}:completed`)));
    await until('all are completed', async () => (await completed()).every((count) => count === 21));
    assert.equal(seen.size, 6 * 21);
    assert.equal([...seen.values()].filter((times) => times === 2).length, 6, 'the six that fail once run twice');
    const text = await metrics.registry.metrics();
    assert.match(text, /bull_client_jobs_added_total\{queue="bull:\{tasks:low\}"\} 21/);
    assert.match(text, /bull_client_job_seconds_count\{queue="bull:\{tasks:low\}",outcome="completed"\} 21/);
    assert.match(text, /bull_client_connections 2/);
  });
  await Promise.all(workers.map((worker) => worker.close()));
  connection.disconnect();
});

/** Runs while the last save of the server has failed, which makes it refuse writes. */
async function whereSavingFails(work) {
  const persistence = async (field) => new RegExp(`^${field}:(.*)\r$`, 'm').exec(await redis.info('persistence'))[1];
  const [, process] = /^process_id:(\d+)/m.exec(await redis.info('server'));
  // A key takes a second to save: the process that saves is there to be killed.
  await redis.config('SET', 'save', '36000 1000000', 'rdb-key-save-delay', '1000000');
  await redis.bgsave();
  await run('pkill', ['-KILL', '-P', process]);
  await until('the save has failed', async () => (await persistence('rdb_last_bgsave_status')) === 'err');
  await work();
  await redis.config('SET', 'save', '', 'rdb-key-save-delay', '0');
  await redis.bgsave();
  await until('a save has succeeded', async () => (await persistence('rdb_last_bgsave_status')) === 'ok');
}

test('each refusal has its type, and leaves nothing', async () => {
  const wasm = readFileSync(new URL('../../../target/policies/payload_cap.wasm', import.meta.url));
  await redis.call('BULL.POLICY', 'LOAD', 'payload-cap', 'CONFIG', '{"max-job-bytes":1000}', wasm);
  const metrics = new ClientMetrics();
  await withProducer({ observer: metrics, patienceMs: 2000 }, async (producer) => {
    const refused = async (type, what, check = () => true) => {
      const before = await redis.dbsize();
      await assert.rejects(what(), (error) => error instanceof type && error.outcome === 'not-added' && check(error) !== false);
      assert.equal(await redis.dbsize(), before, `${type.name}: nothing is written`);
    };
    const add = (opts, data = {}) => () => producer.add(critical, 'n', data, opts);
    await refused(RejectedError, add({}, 'x'.repeat(2000)), (error) => {
      assert.deepEqual([error.code, error.policy, error.reason], ['BULLREJECT', 'payload-cap', 'data 2002 of at most 1000 bytes']);
    });
    const bulk = await producer.addBulk(critical, [{ name: 'a', data: 1 }, { name: 'b', data: 'x'.repeat(2000) }, { name: 'c', data: 3 }]);
    assert.deepEqual(bulk.map(({ status }) => status), ['fulfilled', 'rejected', 'fulfilled']);
    assert.ok(bulk[1].reason instanceof RejectedError && bulk[1].reason.policy === 'payload-cap');
    assert.deepEqual([bulk[0].value.id, bulk[2].value.id], ['1', '2']);
    await refused(InvalidJobError, add({ priority: 2 ** 21 }));
    await refused(InvalidJobError, add({ jobId: '12' }));
    await refused(MissingParentError, add({ parent: { id: 'nobody', queue: critical.qualifiedName } }));

    const [one, two] = await Promise.all(['one', 'two'].map((name) => producer.add(critical, name, {})));
    const child = (parent) => add({ jobId: 'child', parent: { id: parent.id, queue: critical.qualifiedName } });
    await child(one)();
    await refused(OtherParentError, child(two), ({ code }) => code === 'BULLPARENT');

    await redis.set(`${low.qualifiedName}:wait`, 'a string');
    await refused(QueueError, () => producer.add(low, 'n', {}), ({ code }) => code === 'WRONGTYPE');

    await redis.config('SET', 'min-replicas-to-write', '3');
    await refused(ReadOnlyServerError, add(), ({ code }) => code === 'NOREPLICAS');
    await redis.config('SET', 'min-replicas-to-write', '0');

    await whereSavingFails(() => refused(ReadOnlyServerError, add(), ({ code }) => code === 'MISCONF'));

    await redis.config('SET', 'maxmemory', '1mb');
    await refused(OutOfMemoryError, add(), ({ code }) => code === 'OOM');
    await redis.config('SET', 'maxmemory', '0');

    await redis.call('ACL', 'SETUSER', 'other', 'on', '>pw', '~mine:*', '+@all');
    const other = { ...settings, user: 'other', password: 'pw' };
    await withProducer({}, (stranger) => refused(NotAllowedError, () => stranger.add(critical, 'n', {}), ({ code }) => code === 'NOPERM'), other);
    const wrong = { ...settings, user: 'other', password: 'no' };
    await withProducer({ patienceMs: 500 }, (stranger) => assert.rejects(stranger.add(critical, 'n', {})), wrong);
    await add()();

    // As much fuel as makes an instance, and too little for its decisions.
    await redis.config('SET', 'bull.policy-fuel', '1000');
    await redis.call('BULL.POLICY', 'LOAD', 'payload-cap', 'CONFIG', '{"max-job-bytes":1000}', 'ONERROR', 'reject', wasm);
    await refused(RejectedError, add(), ({ reason }) => reason.startsWith('the policy failed: '));
    await redis.config('SET', 'bull.policy-fuel', '100000');
    const text = await metrics.registry.metrics();
    assert.match(text, /not_added_total\{queue="bull:\{tasks:critical\}",code="BULLREJECT",outcome="not-added"\} 3/);
    assert.match(text, /not_added_total\{queue="bull:\{tasks:critical\}",code="OOM",outcome="not-added"\} 1/);
  });
  await redis.call('BULL.POLICY', 'REMOVE', 'payload-cap');
  await redis.call('ACL', 'DELUSER', 'other');
});

test('a user that may only add adds, and a Job comes back', async () => {
  await redis.call('ACL', 'SETUSER', 'adder', 'on', '>pw', '~bull:*', 'resetchannels', '-@all', '+ping', '+bull.add', '+bull.madd', '+client|setname');
  await withProducer({}, async (producer) => {
    assert.equal((await producer.add(critical, 'n', {})).id, '1');
    await producer.probe(critical);
  }, { ...settings, user: 'adder', password: 'pw' });
  await redis.call('ACL', 'DELUSER', 'adder');
});

test('200 adds at once keep within the pool, in order; what is too much is refused', async () => {
  await withProducer({ connections: 1, maxInFlight: 16, maxWaiting: 200 }, async (producer) => {
    // Adds that meet no connection yet try again, each at its own time; the order is that of a connection.
    await producer.probe(critical);
    const jobs = await Promise.all(Array.from({ length: 200 }, (_, n) => producer.add(critical, 'n', { n })));
    const ids = jobs.map((job) => Number(job.id));
    assert.deepEqual(ids, [...ids].sort((a, b) => a - b), 'first come, first served');
    assert.equal(await redis.llen(`${critical.qualifiedName}:wait`), 200);
    assert.equal(producer.state.peak, 16);
  });
  await withProducer({ connections: 3, maxInFlight: 16, maxWaiting: 50 }, async (producer) => {
    const results = await Promise.allSettled(Array.from({ length: 200 }, () => producer.add(low, 'n', {})));
    const refused = results.filter(({ status }) => status === 'rejected');
    assert.equal(await clients('bull-producer'), 3, 'as many connections as asked for');
    assert.deepEqual([producer.state.peak, refused.length], [16, 200 - 16 - 50]);
    assert.ok(refused.every(({ reason }) => reason instanceof BusyError && reason.outcome === 'not-added'));
    assert.equal(await redis.llen(`${low.qualifiedName}:wait`), 66);
  });
  assert.throws(() => new Producer(settings, { connections: 0 }), RangeError);
});

test('a lost answer is said to be unknown; with an id of its own the job is there once', async () => {
  const proxy = await losingProxy();
  const list = `${critical.qualifiedName}:wait`;
  await withProducer({ connections: 1 }, async (producer) => {
    await producer.add(critical, 'warm', {});
    proxy.losing = 1;
    await assert.rejects(producer.add(critical, 'n', {}), (error) => error instanceof UnknownOutcomeError && error.outcome === 'unknown');
    assert.deepEqual([proxy.lost, await redis.llen(list)], [1, 2], 'it was added, and not sent again');
    proxy.losing = 2;
    assert.equal((await producer.add(critical, 'n', {}, { jobId: 'mine' })).id, 'mine');
    assert.deepEqual([proxy.lost, await redis.llen(list)], [3, 3], 'sent three times, added once');
  }, proxy.settings);
  proxy.close();
});

test('a server that stands still ends the patience, as unknown', async () => {
  await withProducer({ connections: 1, patienceMs: 300 }, async (producer) => {
    await producer.add(critical, 'warm', {});
    const asleep = redis.call('DEBUG', 'SLEEP', '1');
    await pause(50);
    await assert.rejects(producer.add(critical, 'n', {}), UnknownOutcomeError);
    await asleep;
    // The server had it all the time, and takes it after all.
    await until('the job is there', async () => (await redis.llen(`${critical.qualifiedName}:wait`)) === 2);
  });
});

test('ready is 503 while the server is full, loads or is down, and 200 after; adds wait for it', async () => {
  const monitor = connect(settings, 'monitor');
  await withProducer({ patienceMs: 15_000 }, async (producer) => {
    const health = new Health({ queues: [critical, low], producer, monitor, registry: new ClientMetrics().registry });
    const port = await health.listen(0);
    const ready = () => get(port, '/health/ready');
    const becomes = (status) => until(`ready is ${status}`, async () => (await ready()).status === status);
    await becomes(200);
    await producer.add(critical, 'n', {});
    const before = await redis.dbsize();
    assert.deepEqual((await ready()).body, { status: 'ready', queues: { [critical.qualifiedName]: 'ok', [low.qualifiedName]: 'ok' } });
    assert.equal(await redis.dbsize(), before, 'a probe writes nothing');
    const { status, body } = await get(port, '/health/detailed');
    assert.equal(status, 200);
    assert.deepEqual([body.queues[critical.qualifiedName].waiting, body.queues[low.qualifiedName].error], [1, `NOQUEUE no queue '${low.qualifiedName}' on this node`]);
    assert.ok(body.producer.lastAddMs >= 0 && Object.values(body.nodes)[0].percent === null);
    assert.match((await get(port, '/metrics')).body, /bull_client_adds_waiting 0/);
    assert.equal((await get(port, '/else')).status, 404);

    await redis.config('SET', 'maxmemory', '1mb');
    const full = await ready();
    assert.equal(full.status, 503);
    assert.match(full.body.queues[critical.qualifiedName], /^OOM /);
    assert.equal((await get(port, '/health/live')).status, 200);
    await redis.config('SET', 'maxmemory', '0');
    await becomes(200);

    // Some seconds of loading, with a look at the clients every KB.
    const pipeline = redis.pipeline();
    for (let n = 0; n < 300; n += 1) pipeline.set(`filler:${n}`, 'x'.repeat(200));
    await pipeline.exec();
    await redis.config('SET', 'loading-process-events-interval-bytes', '1024');
    await redis.config('SET', 'key-load-delay', '5000');
    const reload = redis.call('DEBUG', 'RELOAD').catch((error) => error);
    const loads = async () => {
      const { status, body } = await ready();
      return status === 503 && /^LOADING /.test(body.queues[low.qualifiedName]);
    };
    await until('ready tells that the server loads', loads);
    const added = producer.add(low, 'while it loads', {});
    assert.equal(await reload, 'OK');
    await added;
    await becomes(200);
    await redis.config('SET', 'key-load-delay', '0');
    assert.equal(await redis.llen(`${low.qualifiedName}:wait`), 1);

    await control('kill');
    await until('ready tells that nobody is there', async () => {
      const { status, body } = await ready();
      assert.equal(status, 503);
      return /^AWAY /.test(body.queues[critical.qualifiedName]);
    });
    assert.equal((await get(port, '/health/live')).status, 200);
    assert.equal((await get(port, '/health/detailed')).status, 503);
    await withProducer({ patienceMs: 200 }, (hasty) => assert.rejects(hasty.add(critical, 'n', {}), UnavailableError));
    const later = producer.add(critical, 'while it is down', {});
    await pause(300);
    await control('start');
    const { id } = await later;
    await becomes(200);
    await until('the test is connected again', async () => (await redis.ping().catch(() => '')) === 'PONG');
    assert.ok((await redis.lrange(`${critical.qualifiedName}:wait`, 0, -1)).includes(id));

    health.stopping();
    assert.deepEqual((await ready()).body.status, 'stopping');
    assert.equal((await ready()).status, 503);
    await health.close();
  });
  monitor.disconnect();
});

test('a process that is told to end loses nothing and runs nothing twice', async () => {
  const child = spawn(process.execPath, [fileURLToPath(new URL('shutdown.mjs', import.meta.url))], { stdio: ['ignore', 'pipe', 'inherit'] });
  const added = [];
  const ran = [];
  createInterface({ input: child.stdout }).on('line', (line) => (line.startsWith('A ') ? added : ran).push(line.slice(2)));
  const ended = once(child, 'close');
  await until('jobs come and go', () => added.length > 200 && ran.length > 100);
  child.kill('SIGTERM');
  assert.deepEqual(await ended, [0, null]);
  const base = low.qualifiedName;
  assert.equal(await redis.llen(`${base}:active`), 0, 'no job is left half-way');
  assert.equal(await redis.llen(`${base}:wait`), added.length - ran.length, 'what was acknowledged and did not run still waits');
  const connection = connect(settings, 'worker');
  const worker = new Worker(low.name, async (job) => void ran.push(job.id), workerOptions(low, connection));
  await until('the rest has run', () => ran.length >= added.length);
  assert.deepEqual(ran.map(Number).sort((a, b) => a - b), added.map(Number).sort((a, b) => a - b));
  await worker.close();
  connection.disconnect();
});

test('the example of the README runs', async () => {
  const text = readFileSync(new URL('../README.md', import.meta.url), 'utf8');
  const [, example] = /```js\n(.*?)```/s.exec(text);
  assert.ok(example.trim().split('\n').length <= 12, 'it is short');
  // By its name the package is found from here, as from any other that installs it.
  const out = await run(process.execPath, ['--input-type=module', '--eval', example], { cwd: fileURLToPath(new URL('..', import.meta.url)), timeout: 10_000 });
  assert.equal(out, 'job 1 in bull:{tasks:critical}\nhello world\n');
});

test('a closing producer finishes what it took, and takes no more', async () => {
  const producer = new Producer(settings, { maxInFlight: 4 });
  const under = Array.from({ length: 100 }, (_, n) => producer.add(critical, 'n', { n }));
  const closed = producer.close();
  await assert.rejects(producer.add(critical, 'n', {}), ClosedError);
  await closed;
  await Promise.all(under);
  assert.equal(await redis.llen(`${critical.qualifiedName}:wait`), 100);
  await until('its connections are gone', async () => (await clients('bull-producer')) === 0);
});
