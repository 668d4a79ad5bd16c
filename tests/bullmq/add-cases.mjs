// The cases of add-differential.mjs: what is added, to which queue, and what stands there before.
//
// `steps` are adds (`{ name, data, opts }`) and functions that change the server in between; both
// sides take the same steps. A function gets `{ redis, queue, base, ids }`, where `ids` are the
// replies so far. Times are given, so that both sides store the same; with `clock` they are not.
// `setup` runs before the steps, `metas: false` leaves the queue without what BullMQ's Queue
// object writes when it is made. `stricter` marks what BullMQ takes and we refuse whole; `apart` names
// keys that differ on purpose.
const T = 1_795_000_000_000;
const PARENT = { id: 'p1', queue: 'bull:q' };
const OTHER = { id: 'p2', queue: 'bull:other' };

const job = (opts = {}, data = { n: 1 }, name = 'job') => ({ name, data, opts: { timestamp: T, ...opts } });
const one = (name, opts, rest = {}) => ({ name, steps: [job(opts)], ...rest });

/** A parent in waiting-children, written by hand so that it is the same for both sides. */
async function parent(redis, { id, queue }, fields = {}) {
  const hash = { name: 'parent', data: '{}', opts: '{"attempts":0}', timestamp: T, delay: 0, priority: 0 };
  await redis.hset(`${queue}:${id}`, { ...hash, ...fields });
  await redis.zadd(`${queue}:waiting-children`, T, id);
}

const withParents = async ({ redis }) => {
  await parent(redis, PARENT);
  await parent(redis, OTHER);
};

const DATA = {
  'an empty object': {},
  'an empty array': [],
  'an empty string': '',
  null: null,
  true: true,
  false: false,
  zero: 0,
  'a float': -12.5e-7,
  'a large integer': 9007199254740991,
  'a string': 'text',
  'nested kinds': { a: [1, [2, [{ b: null }]], {}], c: { d: { e: [] } }, f: false },
  'a million in a string': '1'.repeat(1000),
  unicode: { text: 'héllo 一二三 🐂 \u2028\u2029 \ufeff', 一: 'key' },
  escapes: { text: 'tab\t newline\n return\r quote" backslash\\ bell\u0007 nul\u0000 del\u007f' },
  slashes: { url: 'https://example.com/a//b?c=/d', path: '\\\\share\\x', html: '</script>' },
  'a lone surrogate': { text: '\ud800' },
  'text like a command': { text: 'OPTS {} LIFO DELAY 5 %s%n $1 *1\r\n' },
  'keys like options': { delay: 5, priority: 3, jobId: 'x', __proto__x: 1, '': 2 },
};

const OPTIONS = {
  'attempts 1': { attempts: 1 },
  'attempts 0': { attempts: 0 },
  'attempts 3': { attempts: 3 },
  'backoff number': { attempts: 3, backoff: 1000 },
  'backoff zero': { attempts: 3, backoff: 0 },
  'backoff fixed': { attempts: 3, backoff: { type: 'fixed', delay: 500 } },
  'backoff exponential': { attempts: 3, backoff: { type: 'exponential', delay: 1000 } },
  'backoff with jitter': { attempts: 3, backoff: { type: 'exponential', delay: 1000, jitter: 0.5 } },
  'backoff of a custom type': { attempts: 3, backoff: { type: 'mine' } },
  'removeOnComplete true': { removeOnComplete: true },
  'removeOnComplete false': { removeOnComplete: false },
  'removeOnComplete count': { removeOnComplete: 10 },
  'removeOnComplete object': { removeOnComplete: { age: 3600, count: 10, limit: 5 } },
  'removeOnFail object': { removeOnFail: { age: 86400 } },
  'removeOnFail count': { removeOnFail: 0 },
  'keepLogs and stackTraceLimit': { keepLogs: 7, stackTraceLimit: 0 },
  'sizeLimit not reached': { sizeLimit: 1000 },
  'sizeLimit just reached': { sizeLimit: 7 },
  'telemetry metadata': { telemetry: { metadata: '{"traceparent":"00-a-b-01"}' } },
  'telemetry omitContext': { telemetry: { omitContext: true } },
  'telemetry with both': { telemetry: { metadata: 'm', omitContext: true } },
  'unknown keys': { color: 'red', nested: { a: [1, 'two', { three: 3 }], b: { c: true } } },
  'unknown keys with unicode': { 'clé/一': 'v"\\/\n一🐂' },
  'many at once': {
    attempts: 5, backoff: { type: 'exponential', delay: 250 }, removeOnComplete: { age: 60 }, removeOnFail: 100,
    keepLogs: 3, stackTraceLimit: 2, sizeLimit: 500, foo: 1, bar: 'x', baz: [1, 2, 3],
  },
  'flags of a child, without a parent': { failParentOnFailure: true },
};

const standard = [
  one('standard', {}),
  { name: 'standard, a queue that nobody made', steps: [job()], metas: false },
  { name: 'standard, time from the clock', steps: [{ name: 'job', data: {}, opts: {} }], clock: true },
  { name: 'standard, no options at all', steps: [{ name: 'job', data: {} }], clock: true },
  { name: 'standard, five in a row', steps: [1, 2, 3, 4, 5].map((n) => job({}, { n })) },
  { name: 'standard, an empty job name', steps: [job({}, 1, '')] },
  { name: 'standard, an odd job name', steps: [job({}, 1, 'naïve 一 "\\/ \n%s%n job')] },
  one('standard, an old timestamp', { timestamp: 5 }),
  one('standard, delay 0', { delay: 0 }),
  one('standard, priority 0', { priority: 0 }),
  one('standard, lifo false', { lifo: false }),
  one('lifo', { lifo: true }),
  { name: 'lifo among others', steps: [job(), job({ lifo: true }), job(), job({ lifo: true })] },
];

const delayed = [
  one('delayed', { delay: 5000 }),
  { name: 'delayed, time from the clock', steps: [{ name: 'job', data: {}, opts: { delay: 90_000 } }], clock: true },
  { name: 'delayed, same millisecond', steps: [job({ delay: 10 }), job({ delay: 10 }), job({ delay: 10 })] },
  { name: 'delayed, later then sooner', steps: [job({ delay: 900 }), job({ delay: 50 }), job({ delay: 400 })] },
  { name: 'delayed, then standard', steps: [job({ delay: 900 }), job(), job({ priority: 1 })] },
  one('delayed wins over priority and lifo', { delay: 700, priority: 3, lifo: true }),
  one('delayed by a year', { delay: 31_536_000_000 }),
];

const prioritized = [
  one('prioritized', { priority: 3 }),
  one('prioritized, the lowest', { priority: 2_097_151 }),
  one('prioritized wins over lifo', { priority: 2, lifo: true }),
  { name: 'prioritized, several', steps: [5, 1, 5, 2, 1].map((priority) => job({ priority })) },
];

const ids = [
  one('custom id', { jobId: 'order-1' }),
  one('custom id, three segments', { jobId: 'a:b:c' }),
  one('custom id, leading zeros', { jobId: '007' }),
  one('custom id, like a float', { jobId: '1e3' }),
  one('custom id, beyond 2^53', { jobId: '9007199254740993' }),
  one('custom id, unicode and spaces', { jobId: ' 一 é "x" ' }),
  one('custom id, empty', { jobId: '' }),
  one('custom id, long', { jobId: 'x'.repeat(300) }),
  one('custom id, delayed', { jobId: 'd1', delay: 100 }),
  one('custom id, prioritized', { jobId: 'd1', priority: 1 }),
  { name: 'custom id twice', steps: [job({ jobId: 'x' }), job({ jobId: 'x' }, { other: true }), job()] },
  { name: 'custom id twice, second delayed', steps: [job({ jobId: 'x' }), job({ jobId: 'x', delay: 100 })] },
  { name: 'custom id twice, second prioritized', steps: [job({ jobId: 'x' }), job({ jobId: 'x', priority: 4 })] },
  one('refused: id 0', { jobId: '0' }),
  one('refused: id 0:x', { jobId: '0:x' }),
  one('refused: integer id', { jobId: '12' }),
  one('refused: negative integer id', { jobId: '-5' }),
  one('refused: id of two segments', { jobId: 'a:b' }),
  one('refused: id of four segments', { jobId: 'a:b:c:d' }),
];

const refused = [
  one('refused: priority over the limit', { priority: 2_097_152 }),
  one('refused: priority with a fraction', { priority: 1.5 }),
  one('refused: sizeLimit', { sizeLimit: 6 }),
  { name: 'refused: sizeLimit counts bytes', steps: [job({ sizeLimit: 6 }, '一二')] },
  one('refused: two flags of a child', { failParentOnFailure: true, ignoreDependencyOnFailure: true }),
  one('refused: deduplication without an id', { deduplication: { ttl: 5 } }),
  one('refused: debounce', { debounce: { id: 'x' } }),
  one('refused: jitter over 1', { attempts: 2, backoff: { type: 'fixed', delay: 1, jitter: 1.5 } }),
  one('refused: deduplication and parent', { deduplication: { id: 'x' }, parent: PARENT }, { setup: withParents }),
];

const KINDS = [['standard', {}], ['delayed', { delay: 100 }], ['prioritized', { priority: 2 }], ['lifo', { lifo: true }]];

const states = KINDS.flatMap(([kind, opts]) => [
  { name: `paused queue, ${kind}`, setup: ({ queue }) => queue.pause(), steps: [job(opts), job(opts)] },
  {
    name: `resumed queue, ${kind}`,
    setup: async ({ queue }) => {
      await queue.pause();
      await queue.resume();
    },
    steps: [job(opts)],
  },
  {
    name: `maxed queue, ${kind}`,
    setup: async ({ redis, queue, base }) => {
      await queue.setGlobalConcurrency(1);
      await redis.lpush(`${base}:active`, 'busy');
    },
    steps: [job(opts)],
  },
  { name: `queue with room, ${kind}`, setup: ({ queue }) => queue.setGlobalConcurrency(2), steps: [job(opts)] },
  { name: `rate limited queue, ${kind}`, setup: ({ redis, base }) => redis.set(`${base}:limiter`, '9', 'PX', 60_000), steps: [job(opts)] },
]);

const children = [
  ...KINDS.map(([kind, opts]) => ({
    name: `child, ${kind}`,
    setup: withParents,
    steps: [job({ ...opts, parent: PARENT }), job({ ...opts, parent: OTHER })],
  })),
  ...['failParentOnFailure', 'continueParentOnFailure', 'ignoreDependencyOnFailure', 'removeDependencyOnFailure'].map(
    (flag) => ({ name: `child, ${flag}`, setup: withParents, steps: [job({ parent: OTHER, [flag]: true })] }),
  ),
  { name: 'child with a custom id', setup: withParents, steps: [job({ parent: OTHER, jobId: 'c1' })] },
  one('child of nobody', { parent: { id: 'gone', queue: 'bull:q' } }),
  one('child of nobody, delayed', { parent: { id: 'gone', queue: 'bull:q' }, delay: 5 }),
  { name: 'child of a parent with odd characters', steps: [job({ parent: { id: 'p/1 "一"', queue: 'bull:other' } })], setup: ({ redis }) => parent(redis, { id: 'p/1 "一"', queue: 'bull:other' }) },
  { name: 'known job becomes a child', setup: withParents, steps: [job({ jobId: 'x' }), job({ jobId: 'x', parent: PARENT })] },
  { name: 'child twice, same parent', setup: withParents, steps: [job({ jobId: 'x', parent: PARENT }), job({ jobId: 'x', parent: PARENT })] },
  // BullMQ has counted the job by the time it finds the other parent; we refuse before any write.
  { name: 'child twice, another parent', apart: ['bull:q:id'], setup: withParents, steps: [job({ jobId: 'x', parent: PARENT }), job({ jobId: 'x', parent: OTHER })] },
  {
    name: 'child twice, first parent gone',
    setup: withParents,
    steps: [job({ jobId: 'x', parent: PARENT }), ({ redis }) => redis.del('bull:q:p1'), job({ jobId: 'x', parent: OTHER })],
  },
  ...[['standard', {}], ['prioritized', { priority: 7 }], ['paused', { paused: true }]].map(([kind, { paused, ...fields }]) => ({
    name: `completed job becomes a child, ${kind} parent`,
    setup: async ({ redis, queue, base }) => {
      await parent(redis, PARENT, fields);
      if (paused) await queue.pause();
      await redis.hset(`${base}:x`, { name: 'done', data: '{}', opts: '{}', timestamp: T, returnvalue: '{"r":1}', finishedOn: T });
      await redis.zadd(`${base}:completed`, T, 'x');
    },
    steps: [job({ jobId: 'x', parent: PARENT })],
  })),
];

const active = async ({ redis, base, ids: [first] }) => {
  await redis.lrem(`${base}:wait`, 1, first);
  await redis.lpush(`${base}:active`, first);
};
const dedup = (deduplication, opts = {}, data) => job({ ...opts, deduplication: { id: 'd', ...deduplication } }, data);
const TTL = 600_000;
const MODES = {
  simple: {},
  throttle: { ttl: TTL },
  extend: { ttl: TTL, extend: true },
  replace: { replace: true },
  'replace with ttl': { ttl: TTL, replace: true },
  'replace, extend, ttl': { ttl: TTL, replace: true, extend: true },
  keepLastIfActive: { keepLastIfActive: true },
  'keepLastIfActive with ttl': { ttl: TTL, keepLastIfActive: true },
  'keepLastIfActive with replace': { replace: true, keepLastIfActive: true },
  reschedule: { reschedule: true },
  'reschedule with ttl': { reschedule: true, ttl: TTL },
};

const deduplication = Object.entries(MODES).flatMap(([mode, de]) => [
  ...KINDS.slice(0, 3).map(([kind, opts]) => ({
    name: `deduplication ${mode}, ${kind} three times`,
    steps: [dedup(de, opts, 1), dedup(de, opts, 2), dedup(de, opts, 3), job()],
  })),
  { name: `deduplication ${mode}, first is active`, steps: [dedup(de), active, dedup(de, {}, 2), dedup(de, { attempts: 3 }, 3)] },
  { name: `deduplication ${mode}, delayed then standard`, steps: [dedup(de, { delay: 100 }), dedup(de, {}, 2)] },
  { name: `deduplication ${mode}, new delay`, steps: [dedup(de, { delay: 100 }), dedup(de, { delay: 900 }, 2)] },
  {
    name: `deduplication ${mode}, stale key`,
    setup: ({ redis, base }) => redis.set(`${base}:de:d`, 'gone'),
    steps: [dedup(de), dedup(de, {}, 2)],
  },
  { name: `deduplication ${mode}, custom ids`, steps: [dedup(de, { jobId: 'a' }), dedup(de, { jobId: 'b' }, 2)] },
]);

const queues = [
  { name: 'spec-named queue', queue: ['bull:{tasks', 'critical}'] },
  { name: 'tagged queue', queue: ['bull', '{tasks-critical}'] },
  { name: 'tagged prefix', queue: ['{bull}', 'emails'] },
  { name: 'unicode queue', queue: ['préfixe', 'file 一'] },
].flatMap(({ name, queue }) => KINDS.map(([kind, opts]) => ({ name: `${name}, ${kind}`, queue, steps: [job(opts), job(opts)] })));

const edges = [
  one('edge: delay as a string', { delay: '500' }, { stricter: true }),
  one('edge: negative delay', { delay: -5 }, { stricter: true }),
  one('edge: negative priority', { priority: -1 }, { stricter: true }),
  one('edge: fractional delay', { delay: 0.5 }),
  one('edge: fifteen digits in an unknown key', { big: 123456789012345 }),
  one('edge: a float in an unknown key', { third: 1 / 3, tiny: 1e-7, huge: 1e300 }),
  one('edge: null and empty in unknown keys', { a: null, b: [], c: {}, d: [null, 1], e: '' }),
  one('edge: backoff of null', { attempts: 2, backoff: null }),
];

export const cases = [
  ...standard,
  ...delayed,
  ...prioritized,
  ...ids,
  ...Object.entries(DATA).map(([name, data]) => ({ name: `data: ${name}`, steps: [job({}, data)] })),
  ...Object.entries(OPTIONS).map(([name, opts]) => one(`options: ${name}`, opts)),
  ...refused,
  ...states,
  ...children,
  ...deduplication,
  ...queues,
  ...edges,
];
