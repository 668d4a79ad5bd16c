// Random jobs and queues for random-differential.mjs, all drawn from one seed. Times are pinned, so that two sides can
// store the same. What README calls stricter (wrong types, negative numbers, ids that are keys of the queue) is never
// drawn; what both sides refuse is.
const T = 1_795_000_000_000;

/** mulberry32: small, seeded, good enough to draw from. */
export function random(seed) {
  let state = seed >>> 0;
  const next = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296;
  };
  const below = (n) => Math.floor(next() * n);
  const one = (items) => items[below(items.length)];
  return { next, below, one, chance: (share) => next() < share };
}

const TEXTS = ['a', 'order', 'é 一', 'a/b "c" \\ d', 'x'.repeat(70), '🐂\n\t', '\u007f\u0001', '{}', 'OPTS'];

function value(r, depth = 0) {
  switch (r.below(depth > 2 ? 5 : 8)) {
    case 0: return r.below(2 ** 31);
    case 1: return r.one([0.1, 1 / 3, -5, 1e300, 1e-7, 123456789012345, 9007199254740991, 0]);
    case 2: return r.one(TEXTS);
    case 3: return r.chance(0.5);
    case 4: return null;
    case 5: return Array.from({ length: r.below(5) }, () => value(r, depth + 1));
    default: return Object.fromEntries(Array.from({ length: r.below(5) }, () => [`${r.one(TEXTS)}${r.below(9)}`, value(r, depth + 1)]));
  }
}

const backoff = (r) => r.one([
  () => r.below(10_000),
  () => 0,
  () => ({ type: 'fixed', delay: r.below(5000) }),
  () => ({ type: 'exponential', delay: r.below(5000), jitter: r.one([0, 0.5, 1, r.next()]) }),
  () => ({ type: 'mine', extra: value(r) }),
])();

const removal = (r) => r.one([true, false, 0, r.below(1000), { age: r.below(9999) }, { count: r.below(99) },
  { age: 60, count: r.below(99), limit: 1 + r.below(50) }]);

const CHILD_FLAGS = ['failParentOnFailure', 'continueParentOnFailure', 'ignoreDependencyOnFailure', 'removeDependencyOnFailure'];

/** `reschedule` came with BullMQ 6. */
function deduplication(r, { v6 }) {
  const rule = { id: `d${r.below(4)}` };
  if (r.chance(0.5)) rule.ttl = r.one([0, 600_000, 3_600_000]);
  for (const flag of ['extend', 'replace', 'keepLastIfActive', ...(v6 ? ['reschedule'] : [])]) if (r.chance(0.3)) rule[flag] = r.chance(0.9);
  return rule;
}

/** The options of one job. `scene.parents` are references to parents that exist. */
export function jobOptions(r, scene, { child = false } = {}) {
  const opts = { timestamp: r.chance(0.02) ? 5 : T + r.below(50) };
  const may = (share, key, draw) => { if (r.chance(share)) opts[key] = draw(); };
  may(0.3, 'attempts', () => r.below(9));
  may(0.25, 'backoff', () => backoff(r));
  may(0.25, 'delay', () => r.one([0, 1, r.below(100), r.below(1e6), 0.5, 31_536_000_000]));
  may(0.25, 'priority', () => r.one([0, 1, 2, r.below(100), 2_097_151]));
  may(0.15, 'lifo', () => r.chance(0.8));
  may(0.2, 'removeOnComplete', () => removal(r));
  may(0.2, 'removeOnFail', () => removal(r));
  may(0.1, 'keepLogs', () => r.below(100));
  may(0.1, 'stackTraceLimit', () => r.below(20));
  may(0.05, 'sizeLimit', () => 100_000);
  may(0.1, 'telemetry', () => r.one([{ metadata: r.one(TEXTS) }, { omitContext: true }, { metadata: 'm', omitContext: r.chance(0.5) }]));
  for (let n = r.chance(0.2) ? 1 + r.below(4) : 0; n > 0; n -= 1) opts[`own ${r.one(TEXTS)} ${n}`] = value(r);
  may(0.25, 'jobId', () => r.one([() => `id-${r.below(12)}`, () => `a:b:${r.below(5)}`, () => `00${r.below(5)}`, () => `é 一 ${r.below(3)}`, () => ''])());
  may(0.1, r.one(CHILD_FLAGS), () => true);
  if (!child && scene.parents.length && r.chance(0.2)) {
    opts.parent = r.one(scene.parents);
    if (r.chance(0.5)) opts.jobId = `id-${r.below(12)}`;
  } else if (!child && r.chance(0.2)) {
    opts.deduplication = deduplication(r, scene);
  }
  return opts;
}

/** Options that BullMQ's client or script refuses, and so must we. */
const WRONG = [
  { parent: { id: 'gone', queue: 'bull:q' } }, { parent: { id: 'gone', queue: 'bull:gone' } },
  { jobId: '0' }, { jobId: '12' }, { jobId: 'a:b' }, { priority: 2_097_152 }, { priority: 1.5 }, { sizeLimit: 1 },
  { deduplication: { ttl: 5 } }, { failParentOnFailure: true, ignoreDependencyOnFailure: true },
  { backoff: { type: 'fixed', jitter: 2 } },
];

export function job(r, scene, { refusable = true, ...rest } = {}) {
  const opts = jobOptions(r, scene, rest);
  if (refusable && r.chance(0.06)) Object.assign(opts, r.one(WRONG));
  return { name: r.one(['job', ...TEXTS]), data: value(r) ?? { n: r.below(99) }, opts };
}

/** A queue with what stands in it before. */
export function scene(r, at, { v6 }) {
  return {
    name: r.one(['q', '{tag}', 'é', 'with space']) + at,
    v6,
    parents: [],
    paused: v6 && r.chance(0.2),
    // Lists of older clients: `paused` of v5 (v6 leaves it alone) and the markers of v4 in `wait`.
    pausedList: v6 && r.chance(0.15),
    oldMarkers: r.chance(0.15),
    maxed: r.chance(0.2),
    limited: r.chance(0.1),
    stale: v6 && r.chance(0.3),
    cap: v6 && r.chance(0.3) ? 5 + r.below(30) : undefined,
    bare: r.chance(0.1),
  };
}
