// BULL.TRIM and BULL.EMERGENCY against Queue.clean of BullMQ: completed jobs of 1 KB, with a PING a millisecond beside each.
// Fails where a bound of ours is not kept. What freeing so much memory so fast does by itself is seen on the bare server, where
// a client unlinks the same keys at the pace of BULL.TRIM.
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { Queue } from 'bullmq';
import { Redis } from 'ioredis';
import { fail } from '../lib.mjs';
import { median, spread, table } from './lib/bench.mjs';
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

/**
 * What is promised of a trim: its part of BullMQ's cost, the longest wait it causes, or else what it adds to the longest beside a
 * client's UNLINKs, and what it adds to p99; milliseconds.
 */
const MOST = { cost: 0.5, wait: 5, more: 1, p99: 2 };
/** Jobs that a client unlinks at a time: about as many as a slice. */
const UNLINKED = 128;

export async function run(bench) {
  const jobs = bench.quick ? 200_000 : 1_000_000;
  const { redis, connection } = bench;
  const queue = new Queue(QUEUE.name, { connection, prefix: QUEUE.prefix });
  await queue.waitUntilReady();
  const data = JSON.stringify(bench.payload(1024));
  const server = (await redis.info('server')).match(/process_id:(\d+)/)[1];
  const fill = async (jobs, server = redis) => {
    for (let at = 1; at <= jobs; at += 5_000) await server.eval(FILL, 1, `${BASE}:`, at, Math.min(at + 4_999, jobs), data);
    assert.equal(await server.zcard(`${BASE}:completed`), jobs);
    // What filling left to the disk is not the next one's.
    await new Promise((done) => setTimeout(done, 2_000));
    await redis.config('RESETSTAT');
  };
  const beside = async (work, port = connection.port, process = server) => {
    const ping = await probe(port, process);
    const before = await bench.cpu();
    const began = Date.now();
    await work();
    const seconds = (Date.now() - began) / 1000;
    const main = (await bench.cpu()) - before;
    return { seconds, main, ...(await ping.stop()) };
  };
  const number = async (section, name) => Number((await redis.info(section)).match(new RegExp(`^${name}:(\\d+)`, 'm'))[1]);
  const rows = [];
  const ms = (value) => value.toFixed(2);
  const worst = (runs, name) => Math.max(...runs.map((run) => run[name]));
  /** A row of one run or several of the same: of costs the medians with ranges, of waits the worst. */
  const row = (what, runs, stops = () => '') => {
    const cost = runs[0].us !== undefined;
    const shown = (of, digits) => (runs.length > 1 ? spread(runs.map(of), digits) : of(runs[0]).toFixed(digits));
    rows.push([what, ...(cost ? [`**${shown((run) => run.us, 2)}**`, shown((run) => run.main, 2), shown((run) => run.rate, 0)] : ['', '', '']),
      cost ? shown(stops, 1) : '', ...['p50', 'p99', 'max', 'ownP99', 'ownMax', 'others'].map((name) => ms(worst(runs, name)))]);
  };
  const each = (seen, jobs, us) => ({ ...seen, us: us / jobs, main: seen.main / jobs, rate: jobs / seen.seconds });
  /** Ours: measured by the slices it took. */
  const sliced = async (jobs, work) => {
    const read = async () => ({ us: await number('bull', 'bull_slices_us'), slices: await number('bull', 'bull_slices') });
    const before = await read();
    const seen = await beside(work);
    const after = await read();
    const [us, slices] = [after.us - before.us, after.slices - before.slices];
    return { ...each(seen, jobs, us), stop: us / slices / 1000 };
  };
  const sides = {
    clean: async () => {
      const seen = await beside(async () => {
        const gone = await queue.clean(0, 0, 'completed');
        assert.equal(gone.length, jobs);
      });
      const { us, calls } = await bench.command('evalsha');
      return { ...each(seen, jobs, us), stop: us / calls / 1000 };
    },
    trim: () =>
      sliced(jobs, async () => {
        const reply = await redis.call('BULL.TRIM', BASE, 'COMPLETED', '0');
        assert.equal(reply[reply.indexOf('completed') + 1], jobs);
      }),
  };

  await fill(jobs);
  const idle = await beside(() => new Promise((done) => setTimeout(done, 5_000)));
  row('idle', [idle]);
  const runs = { clean: [], trim: [] };
  // One way round, then the other: the later one finds memory that the earlier one has left.
  for (const side of bench.quick ? ['clean', 'trim'] : ['clean', 'trim', 'trim', 'clean']) {
    if ((await redis.zcard(`${BASE}:completed`)) === 0) await fill(jobs);
    runs[side].push(await sides[side]());
  }
  row('Queue.clean', runs.clean, (run) => run.stop);
  row('BULL.TRIM', runs.trim, (run) => run.stop);
  const part = median(runs.trim.map((run) => run.us)) / median(runs.clean.map((run) => run.us));

  const bare = new Redis({ port: bench.barePort });
  await fill(jobs, bare);
  const bareProcess = (await bare.info('server')).match(/process_id:(\d+)/)[1];
  const unlinks = await beside(async () => {
    const began = performance.now();
    for (let at = 1; at <= jobs; at += UNLINKED) {
      const keys = Array.from({ length: Math.min(UNLINKED, jobs + 1 - at) }, (_, job) => `${BASE}:${at + job}`);
      await Promise.all([bare.unlink(keys), bare.zremrangebyrank(`${BASE}:completed`, 0, keys.length - 1)]);
      const due = began + (1000 * (at + UNLINKED)) / runs.trim[0].rate;
      if (performance.now() < due) await new Promise((done) => setTimeout(done, due - performance.now()));
    }
    assert.equal(await bare.dbsize(), 0);
  }, bench.barePort, bareProcess);
  bare.disconnect();
  row('UNLINK by a client, bare server', [unlinks]);

  const few = 200_000;
  await fill(few);
  const used = await number('memory', 'used_memory');
  // So low that nearly all jobs have to go.
  const before = (await redis.config('GET', 'maxmemory'))[1];
  await redis.config('SET', 'maxmemory', String(used));
  const emergency = await sliced(few, async () => {
    const reply = await redis.call('BULL.EMERGENCY', 'TARGET', '10');
    const gone = reply[reply.indexOf('completed') + 1];
    assert.ok(gone > few * 0.9, `${gone} jobs went`);
  });
  await redis.config('SET', 'maxmemory', before);
  row('BULL.EMERGENCY', [emergency], (run) => run.stop);
  const purge = await bench.command('memory\\|purge');
  await queue.close();

  const head = ['', 'server µs a job', 'main thread µs a job', 'jobs a second', 'others wait, ms', 'PING p50, ms', 'p99', 'longest', 'p99, own',
    'longest, own', 'other programs, cores'];
  const text = `${table(head, rows)}

${jobs.toLocaleString('en')} jobs each, ${few.toLocaleString('en')} by the emergency. BULL.TRIM has ${part.toFixed(2)} of BullMQ's cost. Server µs: time in EVALSHA, and in slices; others
are served between two of them. PINGs, 1,000 a second, do not wait for each other, and the kernel tells when an answer arrived; "own" is
without the time in which other programs had the core. The client's UNLINKs take the same keys at the pace of BULL.TRIM, and look at none. Of the emergency's pauses ${purge.calls} were MEMORY PURGE, ${(purge.us / Math.max(purge.calls, 1) / 1000).toFixed(2)} ms each on average.`;
  const faults = [];
  const bound = (what, value, most) => value <= most || faults.push(`${what}: ${value.toFixed(2)}, over ${most.toFixed(2)}`);
  bound("BULL.TRIM's part of Queue.clean's cost", part, MOST.cost);
  const longest = Math.max(MOST.wait, unlinks.ownMax + MOST.more);
  bound('the longest own wait beside BULL.TRIM, ms', worst(runs.trim, 'ownMax'), longest);
  bound('own p99 beside BULL.TRIM, ms', worst(runs.trim, 'ownP99'), idle.ownP99 + MOST.p99);
  // It gives pages back as well.
  bound('the longest own wait beside BULL.EMERGENCY, ms', emergency.ownMax, longest + MOST.more);
  bound('own p99 beside BULL.EMERGENCY, ms', emergency.ownP99, idle.ownP99 + MOST.p99 + MOST.more);
  if (faults.length > 0) {
    const busy = Math.max(idle.others, worst([...runs.clean, ...runs.trim], 'others'), emergency.others) >= 0.2;
    const said = faults.join('; ') + (busy ? '; other programs used the machine: free a core and try again' : '');
    // The quick form shows that the bench works, also on a machine that does other things.
    if (bench.quick) return `${text}\n\nBeyond the bounds, which the full form must keep: ${said}`;
    console.log(text);
    fail(said);
  }
  return text;
}
