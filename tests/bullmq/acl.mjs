// The users of deploy/acl/users.acl.in with the real client: what each needs passes, every other command of the server is refused.
//
//   node acl.mjs --env target/cluster/7800/env      a cluster of `scripts/cluster up --acl`, with or without --tls
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import net from 'node:net';
import nodeTls from 'node:tls';
import { parseArgs } from 'node:util';
import { FlowProducer, Queue, QueueEvents, Worker } from 'bullmq';
import { connect, nodes, password, readEnv, tls } from './cluster.mjs';
import { fail, within } from './lib.mjs';

const { values } = parseArgs({ options: { env: { type: 'string' } } });
const env = readEnv(values.env ?? fail('--env FILE is missing'));
const QUEUE = { prefix: 'bull:{tasks', name: 'critical}' };
const base = 'bull:{tasks:critical}';
const LIMIT = 20_000;
const open = [];
const keep = (thing) => {
  thing.on?.('error', (error) => console.error(error.message));
  open.push(thing);
  return thing;
};
const as = (user, more) => {
  const cluster = connect(env, user, more);
  open.unshift({ close: () => cluster.disconnect() });
  return cluster;
};
const refused = (promise, what) =>
  assert.rejects(promise, (error) => /NOPERM/.test(error.message) || fail(`${what}: ${error.message}`), what);
const ok = (text) => console.log(`ok  ${text}`);

/** Rights of a user in the template: the commands, lower case. */
function granted(user, version) {
  const template = readFileSync(new URL('../../deploy/acl/users.acl.in', import.meta.url), 'utf8');
  const lines = template.split('\n').filter((line) => !line.startsWith('#')).join('\n').replaceAll('\n  ', ' ');
  const line = lines.split('\n').find((one) => one.startsWith(`user ${user} `)) ?? fail(`no user ${user}`);
  const since = (word) => /^(valkey-)?(\d+\.\d+):(.*)$/.exec(word);
  const words = line.split(/ +/).flatMap((word) => {
    const [, valkey, from, right] = since(word) ?? [];
    if (!from) return [word];
    return (valkey ? version.valkey : version.redis) >= Number(from) ? [right] : [];
  });
  return new Set(words.filter((word) => word.startsWith('+')).map((word) => word.slice(1)));
}

/** Sends commands in one raw connection; the first line of each reply, while every reply is one line. */
function raw(user, commands) {
  const [{ port }] = nodes(env);
  const options = { host: '127.0.0.1', port, servername: 'localhost', ...tls(env, user) };
  const socket = env.BULL_TLS ? nodeTls.connect(options) : net.connect(options);
  const all = [['AUTH', user, password(env, user)], ...commands];
  const text = all.map((words) => `*${words.length}\r\n${words.map((w) => `$${Buffer.byteLength(w)}\r\n${w}\r\n`).join('')}`);
  const replies = new Promise((done, lost) => {
    let seen = '';
    socket.on('data', (data) => {
      seen += data;
      const lines = seen.split('\r\n');
      if (lines.length > all.length) done(lines.slice(1, all.length));
    });
    socket.on('error', lost);
    socket.on('end', () => lost(new Error(`${user}: the server hung up after ${seen.slice(-200)}`)));
  });
  socket.write(text.join(''));
  return within(LIMIT, `${user}: the replies`, replies).finally(() => socket.destroy());
}

const admin = as('admin');
const version = await (async () => {
  const info = await admin.info('server');
  const [, own] = /valkey_version:(\d+\.\d+)/.exec(info) ?? [];
  return { valkey: Number(own ?? 0), redis: Number(/redis_version:(\d+\.\d+)/.exec(info)[1]) };
})();

/** Every command and subcommand of the server with the fewest arguments that it takes. */
const everything = (await admin.call('COMMAND')).flatMap(function rows([name, arity, , , , , , , , subcommands = []]) {
  if (subcommands.length > 0) return subcommands.flatMap(rows);
  const words = name.toLowerCase().split('|');
  return [{ name: words.join('|'), words: [...words, ...Array(Math.max(0, Math.abs(arity) - words.length)).fill('x')] }];
});
assert.ok(everything.length > 200, `only ${everything.length} commands`);
// Those that the server lets everybody do.
const FREE = new Set(['auth', 'hello', 'quit', 'reset']);

/** All but what the template grants is refused, whatever the key. */
async function nothingElse(user) {
  const may = granted(user, version);
  const others = everything.filter(({ name }) => !may.has(name) && !may.has(name.split('|')[0]) && !FREE.has(name));
  const replies = await raw(user, others.map(({ words }) => words));
  others.forEach(({ name }, at) => assert.match(replies[at], /^-(EXECABORT .*NOPERM|NOPERM|ERR (DEBUG|MODULE) command not allowed)/, `${user} ${name}: ${replies[at]}`));
  ok(`${user}: ${others.length} other commands are refused`);
}

async function workerAndProducers() {
  const seen = [];
  const events = keep(new QueueEvents(QUEUE.name, { connection: as('worker'), prefix: QUEUE.prefix, lastEventId: '0' }));
  await events.waitUntilReady();
  events.on('completed', ({ jobId }) => seen.push(jobId));
  const tries = new Map();
  const worker = keep(
    new Worker(
      QUEUE.name,
      async (job, token) => {
        await job.updateProgress(50);
        await job.log('a row');
        await job.updateData({ ...job.data, seen: true });
        tries.set(job.id, (tries.get(job.id) ?? 0) + 1);
        if (job.name === 'fails' && tries.get(job.id) === 1) throw new Error('on purpose');
        if (job.name === 'parent') return Object.values(await job.getChildrenValues());
        if (job.name === 'lock') await job.extendLock(token, 5000);
        return job.name;
      },
      { connection: as('worker'), prefix: QUEUE.prefix, concurrency: 4, stalledInterval: 500, metrics: { maxDataPoints: 10 } },
    ),
  );
  await worker.waitUntilReady();
  ok('worker: Worker and QueueEvents start');

  const queue = keep(new Queue(QUEUE.name, { connection: as('api-bullmq'), prefix: QUEUE.prefix }));
  const jobs = [
    await queue.add('plain', { a: 1 }),
    await queue.add('delayed', {}, { delay: 50 }),
    await queue.add('first', {}, { priority: 3 }),
    await queue.add('lock', {}, { lifo: true, jobId: 'custom-1' }),
    await queue.add('fails', {}, { attempts: 3, backoff: { type: 'fixed', delay: 20 } }),
    await queue.add('once', {}, { deduplication: { id: 'd1', ttl: 60_000 } }),
    await queue.add('trimmed', {}, { removeOnComplete: { age: 3600, count: 100 } }),
    ...(await queue.addBulk([{ name: 'bulk', data: {} }, { name: 'bulk', data: {} }])),
  ];
  const flows = keep(new FlowProducer({ connection: as('api-bullmq'), prefix: QUEUE.prefix }));
  const child = { name: 'child', queueName: QUEUE.name, data: {} };
  const flow = await flows.add({ name: 'parent', queueName: QUEUE.name, data: {}, children: [child, child] });
  jobs.push(flow.job, ...flow.children.map((one) => one.job));
  const scheduled = await queue.upsertJobScheduler('clock', { every: 3_600_000 }, { name: 'tick' });
  ok('api-bullmq: add, addBulk, flows, schedulers');

  // INFO is not among its rights: no ready check of single nodes.
  const api = as('api', { redisOptions: { enableReadyCheck: false } });
  const ids = [await api.call('BULL.ADD', base, 'native', '{"n":1}')];
  ids.push(...(await api.call('BULL.MADD', base, 'native', '{"n":2}', '-', 'native', '{"n":3}', '{"priority":1}')));
  ok('api: BULL.ADD, BULL.MADD');
  const wanted = [...jobs.map((job) => job.id), ...ids.map(String), scheduled.id];
  const missing = () => wanted.filter((id) => !seen.includes(id));
  const deadline = Date.now() + LIMIT;
  while (missing().length > 0 && Date.now() < deadline) await new Promise((done) => setTimeout(done, 20));
  assert.deepEqual(missing(), [], 'every job is completed');
  ok(`worker: ${wanted.length} jobs completed, with progress, logs, retries, children, locks and trims`);

  // By another prefix nothing goes, whoever it is.
  const foreign = (user) => new Queue('x}', { connection: as(user), prefix: 'other:{y' });
  await refused(foreign('api-bullmq').add('x', {}), 'api-bullmq on a foreign key');
  await refused(api.call('BULL.ADD', 'other:{y:x}', 'n', '{}'), 'api on a foreign key');
  await refused(as('worker').set('other', '1'), 'worker on a foreign key');
  // A script has no more rights than its user.
  await assert.rejects(as('worker').eval("return redis.call('FLUSHALL')", 1, `${base}:meta`), /not allowed|NOPERM|permission|can't run this/i);
  await refused(api.eval('return 1', 0), 'api and scripts');
  await refused(api.del(`${base}:wait`), 'api and DEL');
  await refused(api.hgetall(`${base}:1`), 'api and a job');
  ok('foreign keys, and commands within scripts, are refused');
}

async function metrics() {
  const client = as('metrics');
  const stats = await client.call('BULL.STATS', base);
  assert.ok(stats.includes('completed-total'));
  const node = client.nodes('master')[0];
  await node.call('BULL.QUEUES');
  await node.call('BULL.STATS');
  await node.info();
  await node.call('SLOWLOG', 'LEN');
  await node.call('LATENCY', 'LATEST');
  await refused(node.call('CONFIG', 'GET', 'masterauth'), 'metrics and CONFIG GET');
  await refused(client.call('BULL.STATS', 'other:{y:x}'), 'metrics on a foreign key');
  ok('metrics: BULL.STATS, BULL.QUEUES, INFO, SLOWLOG, LATENCY');
}

async function operatorAndProbe() {
  const client = as('operator');
  await client.call('BULL.TRIM', base, 'COMPLETED', '1h');
  await client.call('BULL.PROFILE', 'SET', base, 'max-jobs', '10000');
  for (const node of client.nodes('master')) {
    await node.call('BULL.POLICY', 'LIST');
    await node.call('CLUSTER', 'NODES');
    await node.call('BGSAVE', 'SCHEDULE');
  }
  await refused(client.hgetall(`${base}:1`), 'operator and a job');
  await refused(client.call('BULL.ADD', base, 'n', '{}'), 'operator and BULL.ADD');
  ok('operator: trims, limits, policies, saves; reads no job');
  const replies = await raw('probe', [['PING']]);
  assert.equal(replies[0], '+PONG');
  ok('probe: PING');
}

async function everythingOfAdmin() {
  const queue = keep(new Queue(QUEUE.name, { connection: admin, prefix: QUEUE.prefix }));
  const counts = await queue.getJobCounts();
  assert.ok(counts.completed > 0);
  await queue.pause();
  await queue.getWorkers();
  await queue.resume();
  await queue.clean(0, 5, 'completed');
  await queue.removeJobScheduler('clock');
  await queue.obliterate({ force: true });
  ok('admin: counts, pause, clean, obliterate');
}

async function nobody() {
  const [{ port }] = nodes(env);
  const socket = env.BULL_TLS
    ? nodeTls.connect({ host: '127.0.0.1', port, servername: 'localhost', ...tls(env, 'worker') })
    : net.connect(port, '127.0.0.1');
  const line = await within(LIMIT, 'a reply', new Promise((done, lost) => {
    socket.on('data', (data) => done(String(data)));
    socket.on('error', lost);
    socket.write('PING\r\n');
  }));
  assert.match(line, /^-NOAUTH/);
  socket.destroy();
  ok('without a password: NOAUTH');
  if (!env.BULL_TLS) return;
  // Without a certificate the handshake itself fails, with any password.
  const bare = nodeTls.connect({ host: '127.0.0.1', port, servername: 'localhost', ca: tls(env, 'worker').ca });
  const error = await within(LIMIT, 'an end', new Promise((done) => {
    bare.on('data', (data) => done(new Error(`an answer: ${data}`)));
    bare.on('error', done);
    bare.write('PING\r\n');
  }));
  assert.match(String(error.code), /SSL|ECONNRESET|TLS/, error.message);
  ok('without a certificate: no connection');
}

try {
  await nobody();
  for (const user of ['worker', 'api', 'api-bullmq', 'metrics', 'operator', 'probe']) await nothingElse(user);
  // On Valkey 9 the link of moving slots is this user's, and writes.
  if (!granted('replica', version).has('@write')) await nothingElse('replica');
  await workerAndProducers();
  await metrics();
  await operatorAndProbe();
  for (const thing of open.filter((one) => one.waitUntilReady)) await thing.close();
  await everythingOfAdmin();
  process.exit(0);
} catch (error) {
  fail(error.stack);
}
