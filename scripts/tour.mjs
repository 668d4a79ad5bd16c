// The main job in view: jobs by BULL.ADD, an unmodified BullMQ worker, statistics, a trim, a policy and its replacement.
//   node scripts/tour.mjs --port N --policy FILE
import { createRequire } from 'node:module';
import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';

const require = createRequire(new URL('../tests/bullmq/package.json', import.meta.url));
const { Worker, QueueEvents } = require('bullmq');
const IORedis = require('ioredis');

const { values } = parseArgs({ options: { port: { type: 'string' }, policy: { type: 'string' } } });
const connection = { host: '127.0.0.1', port: Number(values.port), maxRetriesPerRequest: null };
const redis = new IORedis(connection);

// BullMQ refuses ':' in a queue's name, so its clients split the specification's names at the colon.
const prefix = 'bull:{tasks';
const names = ['critical', 'high', 'normal', 'low', 'batch', 'scheduled'];
const qualified = name => `${prefix}:${name}}`;

const title = text => console.log(`\n== ${text}`);
// A map inside a map by its fields that are set; a schema by its length.
const pairs = reply => Array.from({ length: reply.length / 2 }, (_, i) => [reply[2 * i], reply[2 * i + 1]]);
const show = reply => {
  if (Array.isArray(reply)) return pairs(reply).filter(([, value]) => value !== null).map(([name, value]) => `${name}=${value}`).join(',') || '-';
  const text = String(reply ?? '-');
  return text.length > 200 ? `<${text.length} characters>` : text;
};
async function call(...command) {
  const shown = command.map(part => (Buffer.isBuffer(part) ? `<${part.length} bytes>` : /[\s{"]/.test(part) ? `'${part}'` : part));
  console.log(`> ${shown.join(' ')}`);
  try {
    const reply = await redis.call(...command);
    if (Array.isArray(reply)) {
      console.log(`  ${pairs(reply).map(([name, value]) => `${name}: ${show(value)}`).join('  ')}`);
    } else {
      console.log(`  ${show(reply)}`);
    }
    return reply;
  } catch (error) {
    console.log(`  (error) ${error.message}`);
    return error;
  }
}

for (const name of names) {
  const keys = await redis.keys(`${qualified(name)}:*`);
  if (keys.length) await redis.del(keys);
}
for (const name of (await redis.call('BULL.POLICY', 'LIST')).map(row => row[1])) await redis.call('BULL.POLICY', 'REMOVE', name);

title('Jobs enter the six queues with BULL.ADD');
await call('BULL.ADD', qualified('critical'), 'charge', '{"order":1}', 'ID', 'charge-1');
await call('BULL.ADD', qualified('high'), 'mail', '{"to":"a@example.com"}', 'PRIORITY', '2');
await call('BULL.ADD', qualified('normal'), 'resize', '{"image":7}');
await call('BULL.ADD', qualified('low'), 'report', '{}', 'LIFO');
await call('BULL.ADD', qualified('batch'), 'import', '{"file":"x.csv"}', 'OPTS', '{"attempts":3,"backoff":1000}');
await call('BULL.ADD', qualified('scheduled'), 'remind', '{}', 'DELAY', '300');

title('An unmodified BullMQ worker processes them');
const finished = await Promise.all(
  names.map(async name => {
    const events = new QueueEvents(`${name}}`, { connection, prefix, lastEventId: '0' });
    const worker = new Worker(`${name}}`, async job => `done ${job.name}`, { connection, prefix });
    const line = await new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`no job of ${name} was finished in 20 s`)), 20000);
      events.on('completed', ({ jobId, returnvalue }) => {
        clearTimeout(timer);
        resolve(`  ${qualified(name)} job ${jobId}: ${returnvalue}`);
      });
    });
    await worker.close();
    await events.close();
    return line;
  }),
);
console.log(finished.join('\n'));

title('Numbers of a queue, and of the node');
await call('BULL.STATS', qualified('critical'));
await call('BULL.SLOT', qualified('critical'));
console.log('> BULL.QUEUES');
console.log(`  ${(await redis.call('BULL.QUEUES', 'MATCH', 'bull:{tasks*')).join('  ')}`);

title('Finished jobs are trimmed whole');
await call('BULL.TRIM', qualified('critical'), 'COMPLETED', '0');

title('A policy refuses jobs: at most 3 may wait in tasks:low');
const wasm = readFileSync(values.policy);
await call('BULL.POLICY', 'LOAD', 'backlog-guard', 'QUEUES', '*low}', 'CONFIG', '{"max-jobs":3}', wasm);
for (let i = 1; i <= 3; i++) await redis.call('BULL.ADD', qualified('low'), 'report', '{}');
const refused = await call('BULL.ADD', qualified('low'), 'report', '{}');

title('It is replaced while traffic runs: at most 5 may wait now');
let [admitted, rejected, lost, running] = [0, 0, 0, true];
const producer = new IORedis(connection);
const traffic = (async () => {
  while (running) {
    try {
      await producer.call('BULL.ADD', qualified('normal'), 'traffic', '{}');
      admitted++;
    } catch (error) {
      error.message.startsWith('BULLREJECT') ? rejected++ : lost++;
    }
  }
})();
await call('BULL.POLICY', 'LOAD', 'backlog-guard', 'CONFIG', '{"max-jobs":5}', wasm);
const entered = await call('BULL.ADD', qualified('low'), 'report', '{}');
running = false;
await traffic;
console.log(`  beside it ${admitted} jobs entered another queue, ${rejected} were refused, ${lost} commands were lost`);
await redis.del(await redis.keys(`${qualified('normal')}:*`));
await call('BULL.POLICY', 'INFO', 'backlog-guard');

await producer.quit();
await redis.quit();
const right = refused instanceof Error && refused.message.startsWith('BULLREJECT backlog-guard') && !(entered instanceof Error) && lost === 0;
if (!right) {
  console.error('\nThe tour did not go as it should: see the lines above.');
  process.exit(1);
}
