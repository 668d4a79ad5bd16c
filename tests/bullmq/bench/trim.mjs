// BULL.TRIM and BULL.EMERGENCY against Queue.clean of BullMQ: completed jobs of 1 KB, with a PING a millisecond beside each.
// Fails where a bound of ours is not kept.
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { Queue } from 'bullmq';
import { fail } from '../lib.mjs';
import { table } from './lib/bench.mjs';
import { probe } from './lib/ping.mjs';

const version = createRequire(import.meta.url)('bullmq/package.json').version;

export const title = `Trimming completed jobs of 1 KB: Queue.clean of BullMQ ${version}, BULL.TRIM and BULL.EMERGENCY`;

const QUEUE = { prefix: 'bench', name: '{trim}' };
const BASE = `${QUEUE.prefix}:${QUEUE.name}`;
// The fields of a job that a worker has completed.
const FILL = `for i = ARGV[1], ARGV[2] do
  redis.call('HSET', KEYS[1] .. i, 'name', 'job', 'data', ARGV[3], 'opts', '{"attempts":3}', 'timestamp', '1750000000000',
    'delay', '0', 'priority', '0', 'processedOn', '1750000000001', 'ats', '1', 'finishedOn', '1750000000002',
    'returnvalue', 'null', 'atm', '1')
  redis.call('ZADD', KEYS[1] .. 'completed', 1750000000002 + i, i) end`;

/** What is promised of a trim: its part of BullMQ's cost, the longest wait it causes, and what it adds to p99; milliseconds. */
const MOST = { cost: 0.5, wait: 5, p99: 2 };

export async function run(bench) {
  const jobs = bench.quick ? 200_000 : 1_000_000;
  const { redis, connection } = bench;
  const queue = new Queue(QUEUE.name, { connection, prefix: QUEUE.prefix });
  await queue.waitUntilReady();
  const data = JSON.stringify(bench.payload(1024));
  const server = (await redis.info('server')).match(/process_id:(\d+)/)[1];
  const fill = async (jobs) => {
    for (let at = 1; at <= jobs; at += 5_000) await redis.eval(FILL, 1, `${BASE}:`, at, Math.min(at + 4_999, jobs), data);
    assert.equal(await redis.zcard(`${BASE}:completed`), jobs);
    // What filling left to the disk is not the next one's.
    await new Promise((done) => setTimeout(done, 2_000));
    await redis.config('RESETSTAT');
  };
  const beside = async (work) => {
    const ping = await probe(connection.port, server);
    const began = Date.now();
    await work();
    const seconds = (Date.now() - began) / 1000;
    return { seconds, ...(await ping.stop()) };
  };
  const number = async (section, name) => Number((await redis.info(section)).match(new RegExp(`^${name}:(\\d+)`, 'm'))[1]);
  const rows = [];
  const ms = (value) => value.toFixed(2);
  const row = (what, seen, us, stops, jobs) => {
    rows.push([what, us ? `**${(us / jobs).toFixed(2)}**` : '', us ? Math.round(jobs / seen.seconds) : '', stops,
      ...[seen.p50, seen.p99, seen.max, seen.ownP99, seen.ownMax].map(ms), seen.others.toFixed(2)]);
  };
  /** Ours: measured by the slices it took. */
  const sliced = async (what, jobs, work) => {
    const read = async () => ({ us: await number('bull', 'bull_slices_us'), slices: await number('bull', 'bull_slices') });
    const before = await read();
    const seen = await beside(work);
    const after = await read();
    const [us, slices] = [after.us - before.us, after.slices - before.slices];
    row(what, seen, us, `${(us / slices / 1000).toFixed(2)} ms a slice`, jobs);
    return { ...seen, us };
  };

  await fill(jobs);
  const idle = await beside(() => new Promise((done) => setTimeout(done, 5_000)));
  row('idle', idle, 0, '', jobs);

  const theirs = await beside(async () => {
    const gone = await queue.clean(0, 0, 'completed');
    assert.equal(gone.length, jobs);
  });
  const clean = await bench.command('evalsha');
  row('Queue.clean', theirs, clean.us, `${(clean.us / clean.calls / 1000).toFixed(1)} ms a call`, jobs);

  await fill(jobs);
  const trim = await sliced('BULL.TRIM', jobs, async () => {
    const reply = await redis.call('BULL.TRIM', BASE, 'COMPLETED', '0');
    assert.equal(reply[reply.indexOf('completed') + 1], jobs);
  });

  const few = 200_000;
  await fill(few);
  const used = await number('memory', 'used_memory');
  // So low that nearly all jobs have to go.
  const before = (await redis.config('GET', 'maxmemory'))[1];
  await redis.config('SET', 'maxmemory', String(used));
  const emergency = await sliced('BULL.EMERGENCY', few, async () => {
    const reply = await redis.call('BULL.EMERGENCY', 'TARGET', '10');
    const gone = reply[reply.indexOf('completed') + 1];
    assert.ok(gone > few * 0.9, `${gone} jobs went`);
  });
  await redis.config('SET', 'maxmemory', before);
  const purge = await bench.command('memory\\|purge');
  await queue.close();

  const head = ['', 'server µs a job', 'jobs a second', 'others wait', 'PING p50, ms', 'p99', 'longest', 'p99, own',
    'longest, own', 'other programs, cores'];
  const text = `${table(head, rows)}

${jobs.toLocaleString('en')} jobs each, ${few.toLocaleString('en')} by the emergency. BULL.TRIM has ${(trim.us / clean.us).toFixed(2)} of BullMQ's cost. Server µs: time in EVALSHA, and in slices. While a
slice is over, others are served. PINGs of a thread of its own, 1,000 a second, do not wait for each other; "own" is without the time
in which other programs had the core. Of the emergency's pauses ${purge.calls} were MEMORY PURGE, ${(purge.us / Math.max(purge.calls, 1) / 1000).toFixed(2)} ms each on average.`;
  const faults = [];
  const bound = (what, value, most) => value <= most || faults.push(`${what}: ${value.toFixed(2)}, over ${most.toFixed(2)}`);
  bound("BULL.TRIM's part of Queue.clean's cost", trim.us / clean.us, MOST.cost);
  for (const [what, seen] of Object.entries({ 'BULL.TRIM': trim, 'BULL.EMERGENCY': emergency })) {
    bound(`the longest own wait beside ${what}, ms`, seen.ownMax, MOST.wait);
    bound(`own p99 beside ${what}, ms`, seen.ownP99, idle.ownP99 + MOST.p99);
  }
  if (faults.length > 0) {
    const busy = Math.max(idle.others, trim.others, emergency.others) >= 0.2;
    const said = faults.join('; ') + (busy ? '; other programs used the machine: free a core and try again' : '');
    // The quick form shows that the bench works, also on a machine that does other things.
    if (bench.quick) return `${text}\n\nBeyond the bounds, which the full form must keep: ${said}`;
    console.log(text);
    fail(said);
  }
  return text;
}
