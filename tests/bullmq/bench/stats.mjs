// BULL.STATS of a queue with ten jobs and with a million, and what a node with 1,000 queues does by itself.
import { connect } from '../lib.mjs';
import { Bench, spread, table } from './lib/bench.mjs';

export const title = 'Seeing it: what BULL.STATS costs, and what 1,000 idle queues cost';

const CALLS = 2000;
const BATCH = 1000;
const QUEUES = 1000;

export async function run(bench) {
  const { redis } = bench;
  const jobs = bench.quick ? 100_000 : 1_000_000;
  const data = JSON.stringify(bench.payload(100));
  const batch = Array.from({ length: BATCH }, () => ['job', data, '-']).flat();
  const fill = async (queue, count) => {
    for (let at = 0; at < count; at += BATCH) {
      await redis.call('BULL.MADD', queue, ...batch.slice(0, Math.min(BATCH, count - at) * 3));
    }
    // One job runs, one has failed: nothing is read of a state that is empty.
    await redis.lmove(`${queue}:wait`, `${queue}:active`, 'RIGHT', 'LEFT');
  };
  const [small, large] = ['bull:{stats-small}', 'bull:{stats-large}'];
  await fill(small, 10);
  await fill(large, jobs);
  const command = 'bull.stats';
  const call = (queue) => ({
    command,
    run: async () => {
      const calls = redis.pipeline();
      for (let i = 0; i < CALLS; i += 1) calls.call('BULL.STATS', queue);
      await calls.exec();
      return CALLS;
    },
  });
  const results = await bench.alternate({ small: call(small), large: call(large) });
  const rows = [
    ['BULL.STATS, 10 jobs', `${spread(results.small.time)} µs`, `${spread(results.small.cpu)} µs`],
    [`BULL.STATS, ${jobs.toLocaleString('en')} jobs`, `${spread(results.large.time)} µs`, `${spread(results.large.cpu)} µs`],
  ];
  await redis.flushall('SYNC');
  await bench.noPolicies();
  const bareRedis = await connect({ port: bench.barePort });
  const bare = await share(new Bench({ redis: bareRedis }));
  bareRedis.disconnect();
  const idle = await share(bench);
  const adds = redis.pipeline();
  for (let i = 0; i < QUEUES; i += 1) adds.call('BULL.ADD', `bull:{q${i}}`, 'job', data);
  await adds.exec();
  const alone = await share(bench);
  await bench.policy('memory-budget');
  await bench.policy('backlog-guard');
  const policies = await share(bench);
  await bench.noPolicies();
  const percent = (shares) => `${spread(shares, 2)} % of a core`;
  rows.push(
    ['a server without the module', percent(bare), ''],
    ['no queue', percent(idle), ''],
    [`${QUEUES} queues`, percent(alone), ''],
    [`${QUEUES} queues, memory-budget and backlog-guard tick each second`, percent(policies), ''],
  );
  return `${table(['', 'server time', 'CPU of the main thread'], rows)}

Queues: CPU time of the server's main thread while no client sends anything, over five seconds a round, ten
seconds after the last change.`;
}

/** Part of a core that the main thread takes while nobody asks, percent; a number a round. */
async function share(bench) {
  const seconds = 5;
  const shares = [];
  await new Promise((done) => setTimeout(done, 10_000));
  for (let round = 0; round < 3; round += 1) {
    const before = await bench.cpu();
    await new Promise((done) => setTimeout(done, seconds * 1000));
    shares.push(((await bench.cpu()) - before) / (seconds * 1e4));
  }
  return shares;
}
