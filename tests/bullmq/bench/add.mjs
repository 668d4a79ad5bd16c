// BULL.ADD and BULL.MADD against Queue.add and Queue.addBulk of BullMQ, whose scripts run as EVALSHA.
//
// Each round has a fresh queue whose event stream is full already, so that both sides trim it as they would in service.
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { Queue } from 'bullmq';
import { ratio, spread, table } from './lib/bench.mjs';

const version = createRequire(import.meta.url)('bullmq/package.json').version;

export const title = `Adding jobs: BullMQ ${version} and this module, µs a job, median (lowest–highest)`;

const BULK = 100;
const EVENTS = 10_000;
const OPTIONS = { attempts: 3 };
const TEMPLATE = 'bench:{bench}:events';

export async function run(bench) {
  const { redis } = bench;
  const fill = redis.pipeline();
  for (let at = 0; at < EVENTS; at += 2) {
    fill.xadd(TEMPLATE, '*', 'event', 'added', 'jobId', String(at), 'name', 'job');
    fill.xadd(TEMPLATE, '*', 'event', 'waiting', 'jobId', String(at));
  }
  await fill.exec();

  const rows = [];
  for (const policies of ['none', 'both']) {
    await bench.noPolicies();
    if (policies === 'both') {
      await bench.policy('memory-budget');
      await bench.policy('backlog-guard', '{"max-jobs":1000000}');
    }
    for (const [label, bytes] of [['100 B', 100], ['1 KB', 1024], ['10 KB', 10240]]) {
      const results = await bench.alternate(variants(bench, bytes));
      for (const [kind, theirs, ours] of [['one by one', 'add', 'ADD'], [`${BULK} at once`, 'addBulk', 'MADD']]) {
        const [a, b] = [results[theirs], results[ours]];
        rows.push([
          label, kind, policies, spread(a.time), spread(b.time), `**${ratio(a.time, b.time)}**`,
          spread(a.cpu), spread(b.cpu), `**${ratio(a.cpu, b.cpu)}**`,
        ]);
      }
    }
  }
  await bench.noPolicies();
  const head = ['data', 'jobs', 'policies', 'BullMQ: command', 'ours', 'ratio', 'BullMQ: main-thread CPU', 'ours', 'ratio'];
  return `${table(head, rows)}

Command: time inside EVALSHA, or BULL.ADD and BULL.MADD (commandstats). CPU: of the server's main thread, with parsing and
AOF. "both": memory-budget and backlog-guard enforcing, on BULL.* alone (\`bull.guard off\`).`;
}

function variants(bench, bytes) {
  const { redis, connection } = bench;
  const jobs = bytes > 5000 ? 1000 : 2000;
  const object = bench.payload(bytes);
  const data = JSON.stringify(object);
  const opts = JSON.stringify(OPTIONS);
  const numbers = (count) => Array.from({ length: count }, (_, at) => at);

  const variant = (command, make) => ({
    command,
    async prepare(turn) {
      const name = `${bytes}-${turn}-${command}`;
      const queue = new Queue(name, { connection, prefix: '{bench}' });
      await queue.waitUntilReady();
      const key = `{bench}:${name}`;
      await redis.copy(TEMPLATE, `${key}:events`);
      return { queue, key };
    },
    async run({ queue, key }) {
      await make(queue, key);
      assert.equal(await redis.llen(`${key}:wait`), jobs, command);
      return jobs;
    },
    async after({ queue, key }) {
      await queue.close();
      await bench.unlink(`${key}:*`);
    },
  });

  const chunk = 200;
  return {
    add: variant('evalsha', async (queue) => {
      for (let at = 0; at < jobs; at += chunk) await Promise.all(numbers(chunk).map(() => queue.add('job', object, OPTIONS)));
    }),
    ADD: variant('bull.add', async (_, key) => {
      for (let at = 0; at < jobs; at += chunk) {
        await Promise.all(numbers(chunk).map(() => redis.call('BULL.ADD', key, 'job', data, 'OPTS', opts)));
      }
    }),
    addBulk: variant('evalsha', async (queue) => {
      for (let at = 0; at < jobs; at += BULK) await queue.addBulk(numbers(BULK).map(() => ({ name: 'job', data: object, opts: OPTIONS })));
    }),
    MADD: variant('bull.madd', async (_, key) => {
      for (let at = 0; at < jobs; at += BULK) {
        const replies = await redis.call('BULL.MADD', key, ...numbers(BULK).flatMap(() => ['job', data, opts]));
        const refused = replies.find((reply) => reply instanceof Error);
        if (refused) throw refused;
      }
    }),
  };
}
