// Unmodified producers and a worker that complete more jobs than fit into the server's memory.
//
//   node bounds.mjs --port N [--jobs 16000]
//
// Prints a JSON line: jobs added and completed, adds that a policy refused (they are tried again), and whether the server
// answered OOM, which ends the run.
import { Queue, Worker } from 'bullmq';
import { options, within } from './lib.mjs';

const args = options({ jobs: { type: 'string', default: '16000' } });
const connection = { host: args.host, port: args.port, maxRetriesPerRequest: null };
const where = { prefix: 'bull:{bounds', name: 'work}' };
const total = Number(args.jobs);
const data = { text: 'x'.repeat(2000) };
const BATCH = 50;
const OUTSTANDING = 400;

const sleep = (ms) => new Promise((done) => setTimeout(done, ms));
const seen = { added: 0, completed: 0, refused: 0, oom: 0 };
const note = (error) => {
  if (/\bOOM\b/.test(error.message)) seen.oom += 1;
  else if (/BULLREJECT/.test(error.message)) seen.refused += 1;
  else throw error;
};

const worker = new Worker(where.name, async () => 'done', { connection, prefix: where.prefix, concurrency: 50 });
worker.on('completed', () => (seen.completed += 1));
worker.on('error', note);
const queue = new Queue(where.name, { connection, prefix: where.prefix });
queue.on('error', () => {});

async function produce() {
  while (seen.added < total && seen.oom === 0) {
    if (seen.added - seen.completed >= OUTSTANDING) {
      await sleep(2);
      continue;
    }
    // After refusals what is left to add need not be whole batches.
    const length = Math.min(BATCH, total - seen.added);
    const results = await Promise.allSettled(Array.from({ length }, () => queue.add('job', data)));
    const refused = results.filter(({ status }) => status === 'rejected');
    seen.added += length - refused.length;
    for (const { reason } of refused) note(reason);
    if (refused.length > 0) await sleep(50);
  }
  while (seen.completed < seen.added && seen.oom === 0) await sleep(5);
}

await within(100_000, `${total} jobs`, produce());
console.log(JSON.stringify(seen));
process.exit(0);
