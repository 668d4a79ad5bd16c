// The package against a cluster of `scripts/cluster up --acl --tls`, each role as its own user with its own certificate: six
// queues under load while a primary hands over to its replica, and adds and Workers while another one is killed.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { after, before, test } from 'node:test';
import { Queue, Worker } from 'bullmq';
import { Redis } from 'ioredis';
import {
  Health, NotAllowedError, Producer, QueueError, connect, queueOptions, queues, settingsFromEnv, shutdown, workerOptions,
} from 'redis-bull-client';
import { password, readEnv, tls } from '../../../tests/bullmq/cluster.mjs';
import { get, pause, run, until } from './support.mjs';

const env = readEnv(process.env.BULL_TEST_ENV);
const as = (user) =>
  settingsFromEnv({
    BULL_NODES: env.BULL_NODES,
    BULL_USER: user,
    BULL_PASSWORD: password(env, user),
    BULL_TLS_CA: `${env.BULL_TLS}/ca.crt`,
    BULL_TLS_CERT: `${env.BULL_TLS}/client-${user}.crt`,
    BULL_TLS_KEY: `${env.BULL_TLS}/client-${user}.key`,
  });

const all = Object.values(queues);
const admin = connect(as('admin'), 'worker');
/** A connection to one node. */
const nodeAt = ([, port]) => new Redis({ host: '127.0.0.1', port, username: 'admin', password: password(env, 'admin'), tls: { ...tls(env, 'admin'), servername: 'localhost' } });
/** The primary and the replica that have a queue's slot: address, port, id. */
async function nodesOf(queue) {
  const slot = await admin.cluster('KEYSLOT', queue.qualifiedName);
  const [, , ...nodes] = (await admin.cluster('SLOTS')).find(([first, last]) => first <= slot && slot <= last);
  return nodes;
}

const ran = new Map();
const added = new Map();
const failed = [];
let producer;
let health;
let port;
let parts;

before(async () => {
  producer = new Producer(as('api'), { patienceMs: 60_000 });
  const connection = connect(as('worker'), 'worker');
  const monitor = connect(as('metrics'), 'monitor');
  const workers = all.map((queue) => {
    const work = async (job) => {
      await pause(2);
      const key = `${queue.name} ${job.id}`;
      ran.set(key, (ran.get(key) ?? 0) + 1);
    };
    const worker = new Worker(queue.name, work, workerOptions(queue, connection));
    // A blocking command that a failover cuts is reported, and repeated.
    worker.on('error', () => {});
    return worker;
  });
  health = new Health({ queues: all, producer, workers, monitor });
  port = await health.listen(0);
  parts = { health, workers, producer, connections: [connection, monitor] };
  await until('ready', async () => (await get(port, '/health/ready')).status === 200);
});

after(async () => {
  admin.disconnect();
  assert.deepEqual(await shutdown(parts), []);
});

async function add(queue) {
  try {
    const job = await producer.add(queue, 'n', { pad: 'x'.repeat(200) });
    added.set(`${queue.name} ${job.id}`, queue);
  } catch (error) {
    failed.push(error);
  }
}

test('a primary that hands over stops neither producer nor workers, and nothing is lost', async () => {
  const { critical } = queues;
  const [, replica] = await nodesOf(critical);
  let stop = false;
  const load = (async () => {
    const open = [];
    while (!stop) {
      open.push(...all.map(add));
      await pause(25);
    }
    await Promise.all(open);
  })();
  const node = nodeAt(replica);
  try {
    await pause(700);
    // A replica whose link is not up yet refuses.
    await until('the replica is told to take over', async () => (await node.cluster('FAILOVER').catch(String)) === 'OK');
    await until('the replica is the primary', async () => (await node.role())[0] === 'master');
    const before = added.size;
    await until('adds go on after it', () => added.size > before + 100);
  } finally {
    stop = true;
    await load;
  }
  assert.deepEqual(failed, []);
  await until('every job has run', () => ran.size >= added.size);
  // A job is known to be completed a moment after it ran.
  await until('none is active', async () => (await Promise.all(all.map(({ qualifiedName }) => admin.llen(`${qualifiedName}:active`)))).every((left) => left === 0));
  assert.deepEqual([...ran.keys()].sort(), [...added.keys()].sort());
  assert.deepEqual([...ran].filter(([, times]) => times !== 1), [], 'once each');
  assert.equal((await nodesOf(critical))[0][1], replica[1]);
  node.disconnect();
});

test('detailed tells of six queues and three primaries, and no read goes to a replica', async () => {
  const { status, body } = await get(port, '/health/detailed');
  assert.equal(status, 200);
  assert.deepEqual(Object.keys(body.adds), all.map(({ qualifiedName }) => qualifiedName));
  const shown = all.map(({ qualifiedName }) => body.queues[qualifiedName].completed);
  assert.deepEqual(shown, all.map((queue) => [...added.values()].filter((one) => one === queue).length));
  const nodes = Object.values(body.nodes);
  assert.equal(nodes.length, 3);
  assert.ok(nodes.every(({ used, max, percent }) => used > 0 && max > used && percent > 0 && percent < 100), JSON.stringify(nodes));
  assert.equal(body.workers.length, 6);
  // The replicas of the two shards that did not hand over have only ever been told of writes.
  for (const queue of [queues.low, queues.batch]) {
    const [, replica] = await nodesOf(queue);
    const node = nodeAt(replica);
    assert.doesNotMatch(await node.info('commandstats'), /cmdstat_(evalsha|bull\.stats|hgetall|xread)/i, replica[1]);
    node.disconnect();
  }
});

test('the user api may add and nothing else', async () => {
  const connection = connect(as('api'), 'worker');
  await assert.rejects(new Queue(queues.low.name, { ...queueOptions(queues.low, connection), skipMetasUpdate: true }).add('n', {}), /NOPERM/);
  connection.disconnect();
  const stranger = new Producer(as('metrics'), { patienceMs: 2000 });
  await assert.rejects(stranger.add(queues.low, 'n', {}), NotAllowedError);
  await stranger.close();
});

test('a blocking connection is made anew while the cluster says fail', async () => {
  const connection = connect(as('worker'), 'worker');
  connection.readyCheck = (done) => done(null, 'fail');
  await until('it is ready', () => connection.status === 'ready');
  // What BullMQ does where a blocking command is late.
  const ended = once(connection, 'end');
  connection.disconnect();
  await ended;
  await connection.connect();
  assert.equal(await connection.exists(queues.low.qualifiedName), 0);
  connection.disconnect();
});

test('a queue whose name has no hash tag is refused with its own type', async () => {
  const untagged = { ...queues.low, qualifiedName: 'bull:untagged', prefix: 'bull', name: 'untagged' };
  await assert.rejects(producer.add(untagged, 'n', {}), (error) => error instanceof QueueError && error.code === 'CROSSSLOT' && error.outcome === 'not-added');
});

test('a primary that is killed makes adds and workers wait for the promotion, and no job is lost', async () => {
  const { low, normal } = queues;
  const [primary] = await nodesOf(low);
  const number = String(primary[1] - Number(env.BULL_NODES.trim().split(/ +/)[0].split(':')[1]) + 1);
  const words = ['--port', String(primary[1] - Number(number) + 1)];
  const script = fileURLToPath(new URL('../../../scripts/cluster', import.meta.url));
  await run(script, [...words, 'kill', number]);
  await until('ready tells of it', async () => (await get(port, '/health/ready')).status === 503);
  const before = added.size;
  const waiting = [...Array(10)].flatMap(() => [add(low), add(normal)]);
  assert.equal((await get(port, '/health/live')).status, 200);
  await Promise.all(waiting);
  assert.deepEqual([failed, added.size], [[], before + 20]);
  for (const [key, queue] of [...added].slice(before)) {
    assert.equal(await admin.exists(`${queue.qualifiedName}:${key.split(' ')[1]}`), 1, key);
  }
  await until('ready again', async () => (await get(port, '/health/ready')).status === 200);
  // The Workers that waited at the dead primary wait at the new one.
  await until('every job has run', () => [...added.keys()].every((key) => ran.has(key)), 60_000);
});
