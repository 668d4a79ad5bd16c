// The hands of the model test: does one operation a line with an unmodified client and answers with one line.
//
//   node model.mjs --port N [--client bullmq]
//
//   add <kind> <id|-> <priority|delay>   the job's id        take            an id, or - where nothing waits
//   finish <id> ok|fail                  done                 promote|retry|remove <id>   done
//   pause | resume                       done                 fresh           done: a queue of a new name, and its name
import { createInterface } from 'node:readline';
import { options } from './lib.mjs';

const args = options({ client: { type: 'string', default: 'bullmq' } });
const { Job, Queue, Worker } = await import(args.client);
const connection = { host: args.host, port: args.port, maxRetriesPerRequest: null };

let number = 0;
let queue;
let worker;
const active = new Map();

async function fresh() {
  await worker?.close(true);
  await queue?.close();
  number += 1;
  queue = new Queue(`model${number}`, { connection });
  worker = new Worker(queue.name, null, { connection, autorun: false, lockDuration: 600_000 });
  active.clear();
  await queue.waitUntilReady();
  return `bull:${queue.name}`;
}

async function job(id) {
  const found = await Job.fromId(queue, id);
  if (!found) throw new Error(`no job ${id}`);
  return found;
}

const OPERATIONS = {
  fresh,
  async add(kind, id, number) {
    const jobId = id === '-' ? undefined : id;
    const more = {
      standard: {},
      lifo: { lifo: true },
      delayed: { delay: Number(number) },
      prioritized: { priority: Number(number) },
    }[kind];
    return (await queue.add('job', { kind }, { jobId, ...more })).id;
  },
  async take() {
    const next = await worker.getNextJob('token', { block: false });
    if (!next) return '-';
    active.set(next.id, next);
    return next.id;
  },
  async finish(id, how) {
    const taken = active.get(id);
    active.delete(id);
    if (how === 'ok') await taken.moveToCompleted('done', 'token', false);
    else await taken.moveToFailed(new Error('no'), 'token', false);
    return 'done';
  },
  promote: async (id) => ((await (await job(id)).promote()), 'done'),
  retry: async (id) => ((await (await job(id)).retry()), 'done'),
  remove: async (id) => ((await (await job(id)).remove()), 'done'),
  pause: async () => ((await queue.pause()), 'done'),
  resume: async () => ((await queue.resume()), 'done'),
};

for await (const line of createInterface({ input: process.stdin })) {
  const [name, ...words] = line.split(' ');
  try {
    console.log(await OPERATIONS[name](...words));
  } catch (error) {
    console.log(`error ${error.message.replaceAll('\n', ' ')}`);
  }
}
process.exit(0);
