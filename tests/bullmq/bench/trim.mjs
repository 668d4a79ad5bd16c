// BULL.TRIM against Queue.clean of BullMQ: completed jobs of 1 KB, with a PING a millisecond beside each.
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { Queue } from 'bullmq';
import { table } from './lib/bench.mjs';
import { probe } from './lib/ping.mjs';

const version = createRequire(import.meta.url)('bullmq/package.json').version;

export const title = `Trimming completed jobs of 1 KB: Queue.clean of BullMQ ${version} and BULL.TRIM`;

const QUEUE = { prefix: 'bench', name: '{trim}' };
const BASE = `${QUEUE.prefix}:${QUEUE.name}`;
// The fields of a job that a worker has completed.
const FILL = `for i = ARGV[1], ARGV[2] do
  redis.call('HSET', KEYS[1] .. i, 'name', 'job', 'data', ARGV[3], 'opts', '{"attempts":3}', 'timestamp', '1750000000000',
    'delay', '0', 'priority', '0', 'processedOn', '1750000000001', 'ats', '1', 'finishedOn', '1750000000002',
    'returnvalue', 'null', 'atm', '1')
  redis.call('ZADD', KEYS[1] .. 'completed', 1750000000002 + i, i) end`;

export async function run(bench) {
  const jobs = bench.quick ? 200_000 : 1_000_000;
  const { redis, connection } = bench;
  const queue = new Queue(QUEUE.name, { connection, prefix: QUEUE.prefix });
  await queue.waitUntilReady();
  const data = JSON.stringify(bench.payload(1024));
  const fill = async () => {
    for (let at = 1; at <= jobs; at += 5_000) await redis.eval(FILL, 1, `${BASE}:`, at, Math.min(at + 4_999, jobs), data);
    assert.equal(await redis.zcard(`${BASE}:completed`), jobs);
    await redis.config('RESETSTAT');
  };
  const beside = async (port, work) => {
    const ping = probe(port);
    await ping.ready;
    const began = Date.now();
    await work();
    const seconds = (Date.now() - began) / 1000;
    return { seconds, ...(await ping.stop()) };
  };
  const field = async (name) => Number((await redis.info('bull')).match(new RegExp(`^${name}:(\\d+)`, 'm'))[1]);
  const calls = async (name) => {
    const row = (await redis.info('commandstats')).match(new RegExp(`cmdstat_${name}:calls=(\\d+),usec=(\\d+)`));
    return { calls: Number(row[1]), us: Number(row[2]) };
  };
  const rows = [];
  const ms = (value) => value.toFixed(1);
  const row = (what, seen, us, stops) => {
    rows.push([what, us ? `**${(us / jobs).toFixed(2)}**` : '', us ? Math.round(jobs / seen.seconds) : '', stops,
      ms(seen.p50), ms(seen.p99), ms(seen.max)]);
  };

  await fill();
  row('idle', await beside(connection.port, () => new Promise((done) => setTimeout(done, 3_000))), 0, '');

  const theirs = await beside(connection.port, async () => {
    const gone = await queue.clean(0, 0, 'completed');
    assert.equal(gone.length, jobs);
  });
  const clean = await calls('evalsha');
  row('Queue.clean', theirs, clean.us, `${(clean.us / clean.calls / 1000).toFixed(1)} ms a call`);

  await fill();
  const [before, slices] = [await field('bull_slices_us'), await field('bull_slices')];
  const ours = await beside(connection.port, async () => {
    const reply = await redis.call('BULL.TRIM', BASE, 'COMPLETED', '0');
    assert.equal(reply[reply.indexOf('completed') + 1], jobs);
  });
  const us = (await field('bull_slices_us')) - before;
  const many = (await field('bull_slices')) - slices;
  row('BULL.TRIM', ours, us, `${(us / many / 1000).toFixed(2)} ms a slice, the longest ${((await field('bull_longest_slice_us')) / 1000).toFixed(1)} ms`);
  await queue.close();
  const head = ['', 'server µs a job', 'jobs a second', 'others wait', 'PING p50, ms', 'p99', 'longest'];
  return `${table(head, rows)}

${jobs.toLocaleString('en')} jobs each, ${(us / clean.us).toFixed(2)} of BullMQ's cost. Server µs: time in EVALSHA, and in slices of BULL.TRIM. While a
slice is over, others are served; the PINGs of one thread, 1,000 a second, do not wait for each other's answer.`;
}
