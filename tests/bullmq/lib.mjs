// What the scripts of this folder share: the command line, connections, a canonical dump of a
// database, and the comparison of two dumps.
//
// A dump is `{ key: { type, ttl, value } }`. Hashes are sorted by field, sets by member, lists and
// streams keep their order, and stream ids are left out. `normalise` then does two things only:
// `opts` and `parent` of hashes become JSON with sorted keys (BullMQ's own order is that of a Lua
// table), and, where a case asks for it, the moments that depend on the clock are made relative to
// their job's `timestamp`. All else is compared byte for byte.
import { parseArgs } from 'node:util';
import Redis from 'ioredis';

/** Reads `--port N`, `--host`, and the string or boolean options in `extra`. */
export function options(extra = {}) {
  const { values } = parseArgs({
    options: { port: { type: 'string' }, host: { type: 'string', default: '127.0.0.1' }, ...extra },
  });
  const port = Number(values.port);
  if (!Number.isInteger(port) || port < 1 || port > 65535) {
    fail(`--port N is missing or not a port: ${values.port}`);
  }
  return { ...values, port };
}

/** One line on stderr, and a failed exit. */
export function fail(message) {
  console.error(`FAIL ${message}`);
  process.exit(1);
}

/** A connection that workers may use too, which gives up at once when there is no server. */
export async function connect({ host = '127.0.0.1', port }) {
  const redis = new Redis({
    host,
    port,
    maxRetriesPerRequest: null,
    lazyConnect: true,
    retryStrategy: () => null,
  });
  redis.on('error', () => {});
  try {
    await redis.connect();
  } catch (error) {
    fail(`no server at ${host}:${port}: ${error.message}`);
  }
  return redis;
}

/** Waits for `promise`, and fails with the name of what was awaited after `ms`. */
export async function within(ms, what, promise) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: nothing after ${ms} ms`)), ms);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Bytes as text where they are UTF-8, as `hex:…` where they are not. */
function text(bytes) {
  const decoded = bytes.toString('utf8');
  return Buffer.from(decoded, 'utf8').equals(bytes) ? decoded : `hex:${bytes.toString('hex')}`;
}

function pairs(flat) {
  const out = [];
  for (let i = 0; i < flat.length; i += 2) out.push([text(flat[i]), text(flat[i + 1])]);
  return out;
}

const byFirst = ([a], [b]) => (a < b ? -1 : a > b ? 1 : 0);

async function content(redis, type, key) {
  switch (type) {
    case 'string':
      return text(await redis.getBuffer(key));
    case 'list':
      return (await redis.lrangeBuffer(key, 0, -1)).map(text);
    case 'set':
      return (await redis.smembersBuffer(key)).map(text).sort();
    case 'hash':
      return Object.fromEntries(pairs(await redis.callBuffer('HGETALL', key)).sort(byFirst));
    case 'zset':
      return pairs(await redis.callBuffer('ZRANGE', key, '0', '-1', 'WITHSCORES'));
    case 'stream': {
      const entries = await redis.callBuffer('XRANGE', key, '-', '+');
      return entries.map(([, fields]) => pairs(fields));
    }
    default:
      return `a key of type ${type}`;
  }
}

/** Canonical dump of all keys that match `pattern`. Times to live are rounded up to seconds. */
export async function dump(redis, pattern = '*') {
  const keys = new Map();
  let cursor = '0';
  do {
    const [next, batch] = await redis.callBuffer('SCAN', cursor, 'MATCH', pattern, 'COUNT', '1000');
    for (const key of batch) keys.set(key.toString('latin1'), key);
    cursor = next.toString();
  } while (cursor !== '0');
  const rows = [];
  for (const key of keys.values()) {
    const type = await redis.type(key);
    const pttl = await redis.pttl(key);
    const ttl = pttl < 0 ? 'none' : `${Math.ceil(pttl / 1000)} s`;
    rows.push([text(key), { type, ttl, value: await content(redis, type, key) }]);
  }
  return Object.fromEntries(rows.sort(byFirst));
}

function sortedKeys(value) {
  if (Array.isArray(value)) return value.map(sortedKeys);
  if (value === null || typeof value !== 'object') return value;
  const entries = Object.entries(value).map(([key, inner]) => [key, sortedKeys(inner)]);
  return Object.fromEntries(entries.sort(byFirst));
}

function parsed(json) {
  try {
    return JSON.stringify(sortedKeys(JSON.parse(json)));
  } catch {
    return `not JSON: ${json}`;
  }
}

/** A moment relative to its job's timestamp, or as it is where the job has none. */
function relative(moment, timestamp) {
  return timestamp === undefined ? String(moment) : `timestamp+${moment - timestamp}`;
}

/**
 * `base` is the queue's qualified name. With `clock`, the case took its timestamps from the clock:
 * each job's `timestamp` must be within a minute of now, and what follows from it becomes relative.
 */
export function normalise(dumped, { base, clock = false } = {}) {
  const out = structuredClone(dumped);
  const stamps = new Map();
  for (const [key, entry] of Object.entries(out)) {
    if (entry.type !== 'hash') continue;
    for (const field of ['opts', 'parent']) {
      if (field in entry.value) entry.value[field] = parsed(entry.value[field]);
    }
    const stamp = Number(entry.value.timestamp);
    if (!clock || !Number.isFinite(stamp)) continue;
    stamps.set(key, stamp);
    entry.value.timestamp = Math.abs(stamp - Date.now()) < 60_000 ? '<now>' : `${stamp} is not now`;
  }
  if (!clock) return out;
  const of = (id) => stamps.get(`${base}:${id}`);
  const delayed = out[`${base}:delayed`];
  if (delayed) {
    const [head, score] = delayed.value[0];
    const marker = out[`${base}:marker`]?.value.find(([member]) => member === '1');
    if (marker) marker[1] = relative(Number(marker[1]) - (score % 4096) / 4096, of(head));
    delayed.value = delayed.value.map(([id, s]) => [id, relative(Math.floor(s / 4096), of(id))]);
  }
  for (const event of out[`${base}:events`]?.value ?? []) {
    const field = Object.fromEntries(event);
    const at = event.find(([name]) => name === 'delay');
    if (field.event === 'delayed' && at) at[1] = relative(Number(at[1]), of(field.jobId));
  }
  return out;
}

const short = (value) => (value.length > 300 ? `${value.slice(0, 300)}… (${value.length})` : value);

/** An entry as one line a part: a hash by field, the others by position. */
function lines(entry) {
  if (entry === undefined) return ['(no such key)'];
  const { type, ttl, value } = entry;
  const out = [`a ${type}, time to live: ${ttl}`];
  if (typeof value === 'string') return [...out, JSON.stringify(value)];
  if (type === 'list') return [...out, JSON.stringify(value)];
  for (const [at, part] of Object.entries(value)) out.push(`${at} ${JSON.stringify(part)}`);
  return out;
}

/** The keys and lines in which two dumps differ, or an empty list. */
export function differences(left, right, names = ['BullMQ', 'BULL.ADD']) {
  const out = [];
  for (const key of [...new Set([...Object.keys(left), ...Object.keys(right)])].sort()) {
    const [a, b] = [lines(left[key]), lines(right[key])];
    if (a.join('\n') === b.join('\n')) continue;
    out.push(`key ${key}`);
    out.push(...a.filter((line) => !b.includes(line)).map((line) => `  ${names[0]}: ${short(line)}`));
    out.push(...b.filter((line) => !a.includes(line)).map((line) => `  ${names[1]}: ${short(line)}`));
  }
  return out;
}
