// Queue.obliterate of a real client: the queue is known to the module before and forgotten afterwards, also where it has
// jobs in several states, and comes back when it is used again.
//
//   node obliterate.mjs --port N [--client bullmq|bullmq5|bullmq4]
//
// Leaves nothing of its queue.
import assert from 'node:assert/strict';
import { connect, options, within } from './lib.mjs';

const args = options({ client: { type: 'string', default: 'bullmq' } });
const { Queue, Worker } = await import(args.client);
const connection = { host: args.host, port: args.port, maxRetriesPerRequest: null };
const redis = await connect(args);
const [prefix, name] = ['bull', '{obliterated}'];
const key = `${prefix}:${name}`;
const known = async () => (await redis.call('BULL.QUEUES')).includes(key);

for (let turn = 1; turn <= 2; turn += 1) {
  assert.equal(await known(), false, `turn ${turn}: not there yet`);
  const queue = new Queue(name, { connection, prefix });
  await queue.addBulk(Array.from({ length: 30 }, (_, n) => ({ name: 'job', data: { n }, opts: { delay: n % 3 === 2 ? 3_600_000 : 0 } })));
  const worker = new Worker(name, async (job) => {
    if (job.data.n % 2 === 1) throw new Error('on purpose');
  }, { connection, prefix });
  const drained = new Promise((done) => worker.once('drained', done));
  await within(20_000, 'the worker', drained);
  await worker.close();
  assert.equal(await known(), true, `turn ${turn}: there`);
  const stats = await redis.call('BULL.STATS', key);
  const of = (field) => Number(stats[stats.indexOf(field) + 1]);
  assert.equal(of('added-total'), 30, `turn ${turn}: counts begin with the queue`);
  assert.deepEqual([of('completed'), of('failed'), of('delayed')], [10, 10, 10], `turn ${turn}`);

  await queue.obliterate({ force: true });
  assert.deepEqual(await redis.keys(`${key}:*`), [], `turn ${turn}: nothing is left`);
  assert.equal(await known(), false, `turn ${turn}: forgotten`);
  await assert.rejects(redis.call('BULL.STATS', key), /^ReplyError: NOQUEUE/);
  await queue.close();
}
await redis.quit();
