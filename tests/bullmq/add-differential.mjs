// Adds the same jobs with BullMQ 6.7 and with this module, and compares what is left in Redis.
//
//   node add-differential.mjs --port N [--only text] [--skip text] [--form opts|words|madd] [--oracle]
//
// Each case runs once through BullMQ's own Queue and then in up to three forms: BULL.ADD with all
// options in OPTS, BULL.ADD with the words ID DELAY PRIORITY LIFO TIMESTAMP, and, where the server
// has it, one BULL.MADD.
// --oracle runs BullMQ against itself on a server without the module, which shows that the
// comparison is sound. The server is flushed for every run: never point this at one that matters.
import { Queue } from 'bullmq';
import { cases } from './add-cases.mjs';
import { connect, differences, dump, fail, normalise, options } from './lib.mjs';

const args = options({
  only: { type: 'string', default: '' },
  skip: { type: 'string' },
  form: { type: 'string' },
  oracle: { type: 'boolean', default: false },
});
const redis = await connect(args);
const [hasAdd, hasMadd] = await redis.call('COMMAND', 'INFO', 'BULL.ADD', 'BULL.MADD');
if (!hasAdd && !args.oracle) fail('this server knows no BULL.ADD: load the module, or use --oracle');

/** The error code of this module for an error of BullMQ's. */
function refusal(error) {
  if (/^Missing key for parent job/.test(error.message)) return 'BULLMISSINGPARENT';
  if (/cannot be replaced/.test(error.message)) return 'BULLPARENT';
  return 'ERR';
}

async function addWithBullMQ(queue, { name, data, opts }) {
  try {
    return (await queue.add(name, data, structuredClone(opts))).id;
  } catch (error) {
    return `refused: ${refusal(error)}`;
  }
}

async function call(...command) {
  try {
    return await redis.call(...command);
  } catch (error) {
    return `refused: ${error.message.split(' ')[0]}`;
  }
}

function optsWord(opts) {
  return opts && Object.keys(opts).length ? ['OPTS', JSON.stringify(opts)] : [];
}

const addWithOpts = ({ qualifiedName }, { name, data, opts }) =>
  call('BULL.ADD', qualifiedName, name, JSON.stringify(data), ...optsWord(opts));

/** Moves what has a word of its own out of OPTS. */
function addWithWords({ qualifiedName }, { name, data, opts = {} }) {
  const rest = { ...opts };
  const words = [];
  const take = (key, word, fits) => {
    if (!fits(rest[key])) return;
    words.push(word, ...(key === 'lifo' ? [] : [String(rest[key])]));
    delete rest[key];
  };
  take('timestamp', 'TIMESTAMP', (value) => Number.isInteger(value) && value > 0);
  take('lifo', 'Lifo', (value) => value === true);
  take('priority', 'PRIORITY', (value) => Number.isInteger(value) && value >= 0);
  take('delay', 'Delay', (value) => Number.isInteger(value) && value >= 0);
  take('jobId', 'ID', (value) => typeof value === 'string' && value !== '');
  return call('BULL.ADD', qualifiedName, name, JSON.stringify(data), ...words, ...optsWord(rest));
}

async function addMany({ qualifiedName }, jobs) {
  const triples = jobs.flatMap(({ name, data, opts }) => [name, JSON.stringify(data), opts ? JSON.stringify(opts) : '-']);
  const replies = await call('BULL.MADD', qualifiedName, ...triples);
  if (!Array.isArray(replies)) return jobs.map(() => replies);
  return replies.map((reply) => (reply instanceof Error ? `refused: ${reply.message.split(' ')[0]}` : reply));
}

/** One run of a case: setup, steps, and the state that they leave. */
async function run({ steps, setup, queue: [prefix, name] = ['bull', 'q'], metas = true, clock }, form) {
  await redis.flushall();
  const queue = new Queue(name, { connection: redis, prefix, skipMetasUpdate: !metas });
  queue.on('error', () => {});
  const base = queue.qualifiedName;
  const ids = [];
  const context = { redis, queue, base, ids };
  try {
    await queue.waitUntilReady();
    if (metas) await queue.getVersion();
    await setup?.(context);
    if (form === 'madd') {
      ids.push(...(await addMany(queue, steps)));
    } else {
      const add = { bullmq: addWithBullMQ, opts: addWithOpts, words: addWithWords }[form];
      for (const step of steps) {
        if (typeof step === 'function') await step(context);
        else ids.push(await add(queue, step));
      }
    }
    return { ids, state: normalise(await dump(redis), { base, clock }) };
  } finally {
    await queue.close();
  }
}

function forms({ steps }) {
  if (args.oracle) return ['bullmq'];
  const all = ['opts', 'words'];
  if (hasMadd && steps.every((step) => typeof step !== 'function')) all.push('madd');
  return all.filter((form) => !args.form || form === args.form);
}

let passed = 0;
let failed = 0;
const wanted = cases.filter(({ name }) => name.includes(args.only) && !(args.skip && name.includes(args.skip)));
if (wanted.length === 0) fail(`no case has "${args.only}" in its name`);
for (const one of wanted) {
  const problems = [];
  try {
    const strict = one.stricter && !args.oracle;
    const expected = await run(strict ? { ...one, steps: [] } : one, 'bullmq');
    if (strict) expected.ids = one.steps.map(() => 'refused: ERR');
    for (const form of forms(one)) {
      const got = await run(one, form);
      for (const key of one.apart ?? []) [expected, got].forEach(({ state }) => delete state[key]);
      const rows = differences(expected.state, got.state, ['BullMQ', form]);
      const [before, after] = [JSON.stringify(expected.ids), JSON.stringify(got.ids)];
      if (before !== after) rows.unshift(`replies BullMQ ${before}, ${form} ${after}`);
      if (rows.length) problems.push(`as ${form}:`, ...rows);
    }
  } catch (error) {
    problems.push(error.stack);
  }
  if (problems.length === 0) passed += 1;
  else failed += 1;
  console.log(`${problems.length === 0 ? 'ok  ' : 'FAIL'} ${one.name}`);
  for (const row of problems.slice(0, 40)) console.log(`       ${row}`);
  if (problems.length > 40) console.log(`       … and ${problems.length - 40} lines more`);
}
console.log(`${passed} passed, ${failed} failed`);
await redis.quit();
process.exitCode = failed === 0 ? 0 : 1;
