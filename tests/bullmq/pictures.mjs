// A minute of mixed load, and what Prometheus saw of it as an SVG chart. scripts/pictures starts the servers.
//
//   node pictures.mjs --port N --prometheus N --seconds 60 --out FILE
import fs from 'node:fs';
import { Queue, Worker } from 'bullmq';
import { options, connect } from './lib.mjs';

const args = options({ prometheus: { type: 'string' }, seconds: { type: 'string', default: '60' }, out: { type: 'string' } });
const seconds = Number(args.seconds);
const connection = { host: args.host, port: args.port, maxRetriesPerRequest: null };
const redis = await connect(args);
const sleep = (ms) => new Promise((done) => setTimeout(done, ms));
const prefix = 'bull:{tasks';

// Name, jobs a second, workers, how long a job runs, part that fails.
const QUEUES = [
  ['critical}', 40, 20, 60, 0],
  ['high}', 60, 20, 120, 0.01],
  ['normal}', 80, 20, 200, 0.03],
  ['low}', 50, 4, 150, 0],
  ['batch}', 10, 2, 900, 0.1],
  ['scheduled}', 5, 2, 50, 0],
];
const open = [];
let stop = false;
const producers = QUEUES.map(async ([name, pace, concurrency, ms, fails]) => {
  const queue = new Queue(name, { connection, prefix });
  const run = async () => {
    await sleep(ms * (0.5 + Math.random()));
    if (Math.random() < fails) throw new Error('on purpose');
  };
  const worker = new Worker(name, run, { connection, prefix, concurrency, removeOnComplete: { count: 200 } });
  worker.on('error', () => {});
  open.push(worker, queue);
  const delay = name === 'scheduled}' ? 20_000 : undefined;
  while (!stop) {
    const began = Date.now();
    for (let i = 0; i < pace / 5; i += 1) {
      // A refusal is what the picture shows.
      queue.add('job', { text: 'x'.repeat(800) }, { delay }).catch(() => {});
    }
    await sleep(200 - (Date.now() - began));
  }
});
const from = Date.now() / 1000;
await sleep(seconds * 1000);
const to = Date.now() / 1000;

const PANELS = [
  ['Jobs completed, a second', 'sum by (queue) (rate(bullmq_jobs_completed_total[10s]))'],
  ['Jobs waiting', 'sum by (queue) (bullmq_queue_waiting + bullmq_queue_prioritized)'],
  ['Run time p95, s', 'histogram_quantile(0.95, sum by (le,queue) (rate(bullmq_job_duration_seconds_bucket[10s])))'],
  ['Jobs rejected by backlog-guard, a second', 'sum by (queue) (rate(bull_policy_queue_verdicts_total{verdict="reject"}[10s])) > 0'],
];
const COLOURS = ['#7bd88f', '#5ad4e6', '#ffd866', '#ff6b6b', '#c792ea', '#f78c6c', '#8a919e'];
const [W, H, LEFT, TOP] = [440, 170, 44, 30];
const names = new Set();
const parts = [];
for (const [at, [title, query]] of PANELS.entries()) {
  const address = `http://127.0.0.1:${args.prometheus}/api/v1/query_range?query=${encodeURIComponent(query)}&start=${from + 10}&end=${to}&step=1`;
  const found = (await (await fetch(address)).json()).data.result;
  const [x0, y0] = [20 + (at % 2) * (W + 40) + LEFT, 20 + Math.floor(at / 2) * (H + 60) + TOP];
  const highest = Math.max(1e-9, ...found.flatMap((row) => row.values.map(([, value]) => Number(value)).filter(Number.isFinite)));
  parts.push(`<text x="${x0}" y="${y0 - 10}" font-weight="bold" fill="#e6e8ec">${title}</text>`);
  for (const part of [0, 0.5, 1]) {
    const y = y0 + H * (1 - part);
    const label = highest * part >= 10 ? (highest * part).toFixed(0) : (highest * part).toFixed(1);
    parts.push(`<line x1="${x0}" x2="${x0 + W - LEFT}" y1="${y}" y2="${y}" stroke="#3b4252"/>`);
    parts.push(`<text x="${x0 - 6}" y="${y + 4}" text-anchor="end" fill="#8a919e">${label}</text>`);
  }
  for (const row of found) {
    if (row.metric.queue === '_other') continue;
    names.add(row.metric.queue);
    const colour = COLOURS[[...names].indexOf(row.metric.queue) % COLOURS.length];
    const points = row.values
      .filter(([, value]) => Number.isFinite(Number(value)))
      .map(([time, value]) => `${(x0 + ((time - from - 10) / (to - from - 10)) * (W - LEFT)).toFixed(1)},${(y0 + H * (1 - value / highest)).toFixed(1)}`);
    parts.push(`<polyline points="${points.join(' ')}" fill="none" stroke="${colour}" stroke-width="1.5"/>`);
  }
}
const height = 20 + 2 * (H + 60) + 30;
[...names].forEach((name, at) => {
  parts.push(`<rect x="${64 + at * 145}" y="${height - 30}" width="10" height="10" fill="${COLOURS[at % COLOURS.length]}"/>`);
  parts.push(`<text x="${80 + at * 145}" y="${height - 20}" fill="#e6e8ec">${name}</text>`);
});
const width = 2 * (W + 40) + 20;
fs.writeFileSync(
  args.out,
  `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" font-family="DejaVu Sans, Verdana, sans-serif" font-size="12">
<rect width="100%" height="100%" rx="6" fill="#16181d"/>
${parts.join('\n')}
</svg>
`,
);
console.log('ready');
// The load goes on until the picture of scripts/top is taken.
await new Promise((done) => process.stdin.once('end', done).resume());
stop = true;
await Promise.all(producers);
await Promise.all(open.map((one) => one.close(true)));
await redis.quit();
process.exit(0);
