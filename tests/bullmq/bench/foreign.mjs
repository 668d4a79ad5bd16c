// SET and GET of keys that are no queue's, in this server and in a bare one, while both serve the same BullMQ load.
import { spawn } from 'node:child_process';
import { Queue, Worker } from 'bullmq';
import { median, spread, table } from './lib/bench.mjs';

export const title = 'Foreign keys: SET and GET a second with the module and without, beside the same BullMQ load';

const REQUESTS = 200_000;
/** Rounds; one is noisy, since the load generators share the other core. */
const ROUNDS = 25;
/** Jobs that are added a second to each of the servers. */
const PACE = 200;

export async function run(bench) {
  await bench.redis.config('SET', 'bull.guard', 'enforce');
  const servers = { bare: bench.barePort, ours: bench.connection.port };
  const loads = Object.values(servers).map(load);
  const rates = { bare: { SET: [], GET: [] }, ours: { SET: [], GET: [] } };
  try {
    for (let round = -1; round < (bench.quick ? 5 : ROUNDS); round += 1) {
      const names = Object.keys(servers);
      if (round % 2 !== 0) names.reverse();
      for (const name of names) {
        const found = await benchmark(servers[name], REQUESTS);
        if (round >= 0) for (const kind of ['SET', 'GET']) rates[name][kind].push(found[kind]);
      }
    }
  } finally {
    await Promise.all(loads.map((one) => one.stop()));
    await bench.redis.config('SET', 'bull.guard', 'off');
  }
  const thousands = (numbers) => spread(numbers.map((number) => number / 1000), 0);
  const rows = ['SET', 'GET'].map((kind) => {
    const [theirs, ours] = [rates.bare[kind], rates.ours[kind]];
    const pairs = ours.map((rate, round) => rate / theirs[round]);
    return [kind, thousands(theirs), thousands(ours), `**${median(pairs).toFixed(3)}**`];
  });
  return `${table(['', 'bare server, thousands a second', 'with the module', 'ratio'], rows)}

redis-benchmark, 50 connections, 16 commands in flight each, 100 bytes; in turns, ratio: the median of the rounds' own; ${PACE} jobs a second are added to and worked
off in both servers all the time; \`bull.guard enforce\`.`;
}

/** Requests a second by command. */
function benchmark(port, requests) {
  return new Promise((resolve, reject) => {
    const args = ['-p', port, '-t', 'set,get', '-n', requests, '-c', 50, '-P', 16, '-d', 100, '-r', 100_000, '--csv'];
    const child = spawn('redis-benchmark', args.map(String), { stdio: ['ignore', 'pipe', 'inherit'] });
    let text = '';
    child.stdout.on('data', (bytes) => (text += bytes));
    child.on('error', reject);
    child.on('close', () => {
      const rate = (kind) => Number(text.match(new RegExp(`^"${kind}","([\\d.]+)"`, 'm'))?.[1]);
      const found = { SET: rate('SET'), GET: rate('GET') };
      if (found.SET > 0 && found.GET > 0) resolve(found);
      else reject(new Error(`redis-benchmark said: ${text}`));
    });
  });
}

/** Adds jobs at a steady pace and works them off. */
function load(port) {
  const connection = { host: '127.0.0.1', port, maxRetriesPerRequest: null };
  const queue = new Queue('{foreign}', { connection });
  const worker = new Worker('{foreign}', async () => {}, { connection, concurrency: 20, removeOnComplete: { count: 100 } });
  const timer = setInterval(() => {
    for (let i = 0; i < PACE / 10; i += 1) queue.add('job', { n: i }).catch(() => {});
  }, 100);
  const stop = async () => {
    clearInterval(timer);
    await worker.close();
    await queue.close();
  };
  return { stop };
}
