// Adds random jobs with BullMQ to database 0 and with this module to database 1, and compares all keys of the queue
// after each batch.
//
//   node random-differential.mjs --port N [--jobs 2000] [--seed N] [--client bullmq|bullmq5]
//
// The seed, also BULL_SEED, is printed; the same seed draws the same jobs. Batches are single adds, bulks (BULL.MADD
// where the server has it) and flows: there the real client makes the parents on both sides, and BULL.ADD the leaves.
// Between batches jobs become active, complete or vanish, on both sides alike. The server is flushed at the start and
// left full: its dump is the test's. Knowingly left out are the points where README says that BULL.ADD is stricter, and
// the `id` that BullMQ uses up before it refuses another parent (-7).
// Against v5 left out is what it stores otherwise: paused queues, stale windows, `reschedule`, `debounced` events, and
// with those the places where a low cap cuts the stream.
import { connect, differences, dump, fail, normalise, options } from './lib.mjs';
import { job, random, scene as drawScene } from './random-jobs.mjs';

const args = options({ jobs: { type: 'string', default: '2000' }, seed: { type: 'string' }, client: { type: 'string', default: 'bullmq' } });
const seed = Number(args.seed ?? process.env.BULL_SEED ?? Math.floor(Math.random() * 2 ** 31));
const { Queue, FlowProducer, Job } = await import(args.client);
const v6 = args.client === 'bullmq';
const r = random(seed);
console.log(`seed ${seed}`);

const theirs = await connect(args);
const ours = await connect(args);
await theirs.flushall();
await ours.select(1);
const sides = [theirs, ours];
const hasMadd = (await ours.call('COMMAND', 'INFO', 'BULL.MADD'))[0];
// Nodes of streams are cut by count alone: by bytes they would depend on the clock.
await theirs.config('SET', 'stream-node-max-bytes', '0', 'stream-node-max-entries', '10');

const refusals = {};
const code = (error) => {
  if (/^Missing key for parent job/.test(error.message)) return 'refused: BULLMISSINGPARENT';
  if (/cannot be replaced/.test(error.message)) return 'refused: BULLPARENT';
  return 'refused: ERR';
};
const ourCode = (error) => `refused: ${error.message.split(' ')[0]}`;
const theirAdd = (queue, { name, data, opts }) => queue.add(name, data, structuredClone(opts)).then(({ id }) => id, code);
const ourAdd = (queue, { name, data, opts }) =>
  ours.call('BULL.ADD', queue.qualifiedName, name, JSON.stringify(data), 'OPTS', JSON.stringify(opts)).catch(ourCode);

async function single(scene, [left, right]) {
  const replies = [[], []];
  const jobs = 1 + r.below(8);
  for (let n = 0; n < jobs; n += 1) {
    const one = job(r, scene);
    const [expected, got] = [await theirAdd(left, one), await ourAdd(right, one)];
    if (expected === 'refused: BULLPARENT') await ours.incr(`${right.qualifiedName}:id`);
    if (expected.startsWith('refused')) refusals[expected] = (refusals[expected] ?? 0) + 1;
    replies[0].push(expected);
    replies[1].push(got);
  }
  return { jobs, replies };
}

async function bulk(scene, [left, right]) {
  // A bulk of BullMQ is refused as a whole where the client refuses one, and -5 and -7 lose it the other ids.
  const jobs = Array.from({ length: 1 + r.below(20) }, () => job(r, { ...scene, parents: [] }, { refusable: false }));
  const added = (await left.addBulk(structuredClone(jobs))).map(({ id }) => id);
  if (hasMadd) {
    const words = jobs.flatMap(({ name, data, opts }) => [name, JSON.stringify(data), JSON.stringify(opts)]);
    const replies = await ours.call('BULL.MADD', right.qualifiedName, ...words);
    return { jobs: jobs.length, replies: [added, replies.map((reply) => (reply instanceof Error ? ourCode(reply) : reply))] };
  }
  const replies = [];
  for (const one of jobs) replies.push(await ourAdd(right, one));
  return { jobs: jobs.length, replies: [added, replies] };
}

/** What FlowProducer does with a node that has children, by the client's own script. */
async function parentByClient(queue, { name, data, opts }, parent) {
  const made = new Job(queue, name, data, { ...opts, parent }, opts.jobId);
  const key = parent && `${parent.queue}:${parent.id}`;
  const link = { addToWaitingChildren: true, parentKey: key, parentDependenciesKey: key && `${key}:dependencies` };
  if (v6) return made.backend.addJob(made.asJSON(), made.id, link);
  return made.addJob(await queue.client, link);
}

let flows = 0;
async function flow(scene, [left, right], producer) {
  const node = (depth) => {
    const { name, data, opts } = job(r, scene, { child: true, refusable: false });
    flows += 1;
    opts.jobId = `f-${flows}`;
    const children = depth > 0 ? Array.from({ length: 1 + r.below(4) }, () => node(r.chance(0.25) ? depth - 1 : 0)) : [];
    return { name, data, opts, queueName: scene.name, ...(children.length ? { children } : {}) };
  };
  const root = node(2);
  await producer.add(structuredClone(root));
  let jobs = 0;
  const replies = [];
  // FlowProducer walks a tree level by level.
  for (let level = [{ node: root }]; level.length; ) {
    const next = [];
    for (const { node: { name, data, opts, children }, parent } of level) {
      jobs += 1;
      if (children) await parentByClient(right, { name, data, opts }, parent);
      else replies.push(await ourAdd(right, { name, data, opts: { ...opts, parent } }));
      const link = { id: opts.jobId, queue: right.qualifiedName };
      next.push(...(children ?? []).map((child) => ({ node: child, parent: link })));
    }
    level = next;
  }
  scene.parents.push({ id: root.opts.jobId, queue: left.qualifiedName });
  return { jobs, replies: [replies.filter((reply) => reply.startsWith('refused')), []] };
}

/** Jobs move on as workers, removals and older versions leave them: the same on both sides. */
async function disturb(scene, base) {
  const [waiting, custom, count] = [await theirs.lindex(`${base}:wait`, -1), `id-${r.below(12)}`, r.below(4)];
  const owner = await theirs.get(`${base}:de:d${r.below(4)}`);
  for (const redis of sides) {
    if (count === 0 && waiting && !waiting.startsWith('0:')) {
      await redis.lrem(`${base}:wait`, 1, waiting);
      await redis.lpush(`${base}:active`, waiting);
    } else if (count === 1 && owner && (await redis.lrem(`${base}:wait`, 1, owner))) {
      await redis.lpush(`${base}:active`, owner);
    } else if (count === 2 && (await redis.lrem(`${base}:wait`, 1, custom))) {
      await redis.hset(`${base}:${custom}`, { returnvalue: '{"r":1}', finishedOn: 1_795_000_000_500 });
      await redis.zadd(`${base}:completed`, 1_795_000_000_500, custom);
    } else if (count === 3 && scene.stale && owner) {
      await redis.del(`${base}:${owner}`);
      for (const list of ['wait', 'active']) await redis.lrem(`${base}:${list}`, 0, owner);
      for (const zset of ['delayed', 'prioritized']) await redis.zrem(`${base}:${zset}`, owner);
    }
  }
}

async function prepare(scene, queues) {
  const base = queues[0].qualifiedName;
  for (const [at, redis] of sides.entries()) {
    const queue = queues[at];
    await queue.waitUntilReady();
    if (!scene.bare) await queue.getVersion();
    if (scene.cap !== undefined) await redis.hset(`${base}:meta`, 'opts.maxLenEvents', scene.cap);
    if (scene.paused) await queue.pause();
    if (scene.pausedList) await redis.rpush(`${base}:paused`, 'old-1', 'old-2');
    if (scene.oldMarkers) await redis.rpush(`${base}:wait`, '0:0', '0:1795000000000');
    if (scene.maxed) await redis.hset(`${base}:meta`, 'concurrency', 1);
    if (scene.maxed) await redis.lpush(`${base}:active`, 'busy');
    for (const id of ['p-1', 'p-2']) await parentByClient(queue, { name: 'parent', data: {}, opts: { timestamp: 1_795_000_000_000, jobId: id } });
    if (scene.limited) await redis.set(`${base}:limiter`, 9, 'PX', 6_000_000);
  }
  scene.parents.push({ id: 'p-1', queue: base }, { id: 'p-2', queue: base });
  return base;
}

function canonical(dumped) {
  const state = normalise(dumped);
  for (const [key, entry] of Object.entries(state)) {
    // A side is a little later than the other: times to live in whole minutes.
    if (entry.ttl !== 'none') entry.ttl = `${Math.round(Number.parseInt(entry.ttl, 10) / 60)} min`;
    if (!v6 && entry.type === 'stream') entry.value = entry.value.filter(([[, event]]) => event !== 'debounced');
  }
  return state;
}

const total = Number(args.jobs);
const kinds = { single: 0, bulk: 0, flow: 0 };
let done = 0;
for (let at = 0; done < total; at += 1) {
  const scene = drawScene(r, at, { v6 });
  const queues = sides.map((connection) => new Queue(scene.name, { connection, skipMetasUpdate: scene.bare }));
  const producer = new FlowProducer({ connection: theirs });
  for (const client of [...queues, producer]) client.on('error', () => {});
  const base = await prepare(scene, queues);
  for (let batch = 0; batch < 12 && done < total; batch += 1) {
    const [kind, add] = r.one([['single', single], ['single', single], ['bulk', bulk], ['flow', flow]]);
    let replies = [];
    let rows;
    try {
      const result = await add(scene, queues, producer);
      done += result.jobs;
      kinds[kind] += result.jobs;
      replies = result.replies.map((list) => JSON.stringify(list));
      const [left, right] = await Promise.all(sides.map((redis) => dump(redis, `${base.replace(/[[\]*?\\]/g, '\\$&')}:*`)));
      rows = differences(canonical(left), canonical(right), [args.client, 'ours']);
      if (replies[0] !== replies[1]) rows.unshift(`replies ${replies.join(' and ')}`);
    } catch (error) {
      rows = [error.stack];
    }
    if (rows.length) {
      console.log(`FAIL seed ${seed}, ${args.client}, after ${done} jobs, a ${kind} in ${JSON.stringify(scene)}`);
      rows.slice(0, 40).forEach((row) => console.log(`       ${row}`));
      fail(`repeat with BULL_SEED=${seed}`);
    }
    await disturb(scene, base);
  }
  await Promise.all([...queues, producer].map((client) => client.close()));
}
const shares = Object.entries(kinds).map(([kind, n]) => `${n} ${kind}`).join(', ');
console.log(`ok   ${done} jobs equal (${shares}), ${JSON.stringify(refusals)}, BULL.MADD ${hasMadd ? 'used' : 'not on this server'}`);
for (const redis of sides) await redis.quit();
