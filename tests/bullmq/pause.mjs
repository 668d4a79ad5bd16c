// Pause and resume by a policy against pause and resume by BullMQ's own Queue. Each kind of queue is there twice, filled the
// same way: `bull:<kind>-client`, which this script pauses, and `bull:<kind>-policy`, which a policy pauses meanwhile.
//
//   node pause.mjs --port N --step seed|pause|resume
import { Queue } from 'bullmq';
import { Queue as OlderQueue } from 'bullmq5';
import { connect, differences, dump, fail, normalise, options } from './lib.mjs';

const args = options({ step: { type: 'string' } });
const connection = await connect(args);
const timestamp = 1_795_000_000_000;
const job = (opts = {}) => ['job', { n: 1 }, { timestamp, ...opts }];

/** What lies in a queue of each kind. Those that a client of BullMQ 5 has paused are only resumed here. */
const kinds = {
  empty: async () => {},
  waiting: async (queue) => {
    for (let n = 0; n < 3; n += 1) await queue.add(...job());
  },
  prioritized: async (queue) => queue.add(...job({ priority: 2 })),
  delayed: async (queue) => queue.add(...job({ delay: 1e12 })),
  all: async (queue) => {
    for (const opts of [{}, { priority: 2 }, { delay: 1e12 }]) await queue.add(...job(opts));
  },
  older: async (queue, name) => {
    for (let n = 0; n < 3; n += 1) await queue.add(...job());
    await new OlderQueue(name, { connection }).pause();
  },
  mixed: async (queue, name) => {
    for (let n = 0; n < 2500; n += 1) await queue.add(...job());
    await new OlderQueue(name, { connection }).pause();
    for (let n = 0; n < 3; n += 1) await queue.add(...job());
  },
};
const paused = ['older', 'mixed'];

async function compare(kind) {
  const [client, policy] = await Promise.all(
    ['client', 'policy'].map(async (by) => {
      const base = `bull:${kind}-${by}`;
      const dumped = normalise(await dump(connection, `${base}:*`), { base });
      return Object.fromEntries(Object.entries(dumped).map(([key, entry]) => [key.replace(`-${by}:`, ':'), entry]));
    }),
  );
  const found = differences(client, policy, ['Queue', 'policy']);
  if (found.length > 0) fail(`${args.step} ${kind}:\n${found.join('\n')}`);
  if (Object.keys(client).length === 0) fail(`${kind}: nothing was compared`);
  console.log(`ok   ${args.step} ${kind}`);
}

for (const [kind, fill] of Object.entries(kinds)) {
  const queue = (by) => new Queue(`${kind}-${by}`, { connection });
  // A client that is opened writes its version: both are, each time.
  for (const by of ['client', 'policy']) await queue(by).waitUntilReady();
  if (args.step === 'seed') {
    for (const by of ['client', 'policy']) {
      await fill(queue(by), `${kind}-${by}`);
    }
  } else if (args.step === 'resume') {
    await queue('client').resume();
    await compare(kind);
  } else if (!paused.includes(kind)) {
    await queue('client').pause();
    await compare(kind);
  }
}
process.exit(0);
