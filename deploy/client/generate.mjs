// Makes src/queues.generated.ts of what this repository says about its queues: deploy/placement (where they lie, how many jobs
// run at a time), deploy/profiles/tasks.json (limits and retention), and retries.json here (attempts, backoff, finished jobs
// kept in all). Fails where these contradict each other; writes nothing else.
import { readFileSync, writeFileSync } from 'node:fs';

const read = (path) => readFileSync(new URL(path, import.meta.url), 'utf8');
const fail = (text) => {
  console.error(`generate: ${text}`);
  process.exit(1);
};

/** `7d` and the like in seconds, as BullMQ's `age` wants it; a bare number is milliseconds, as the module reads it. */
function seconds(text) {
  const [, digits, unit = 'ms'] = /^(\d+)(ms|s|m|h|d)?$/.exec(text) ?? fail(`not a duration: ${text}`);
  return (Number(digits) * { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 }[unit]) / 1000;
}

/** `150mb` and the like in bytes; units are powers of 1024. */
function bytes(text) {
  const [, digits, unit = 'b'] = /^(\d+)(b|kb|mb|gb)?$/.exec(text) ?? fail(`not a size: ${text}`);
  return Number(digits) * { b: 1, kb: 2 ** 10, mb: 2 ** 20, gb: 2 ** 30 }[unit];
}

/** `*` is any text and `?` one character, as in the module. */
const covers = (pattern, name) => {
  const source = pattern.replace(/[.+^${}()|[\]\\]/g, '\\$&').replaceAll('*', '.*').replaceAll('?', '.');
  return new RegExp(`^${source}$`, 's').test(name);
};

const { profiles } = JSON.parse(read('../profiles/tasks.json'));
const retries = JSON.parse(read('retries.json'));

function define(line) {
  const [, qualifiedName, shard, weight, concurrency] = line.split(/\s+/);
  const profile = profiles.find(({ match }) => covers(match, qualifiedName)) ?? fail(`no profile covers ${qualifiedName}`);
  const jobs = retries.queues[qualifiedName] ?? fail(`retries.json has no ${qualifiedName}`);
  if (profile.concurrency !== Number(concurrency)) {
    fail(`${qualifiedName}: concurrency is ${concurrency} in placement and ${profile.concurrency} in the profile`);
  }
  // BullMQ's names have no colon: the last one ends the prefix.
  const colon = qualifiedName.lastIndexOf(':');
  const [prefix, name] = [qualifiedName.slice(0, colon), qualifiedName.slice(colon + 1)];
  const share = (kind) => Math.round((retries.finished[kind] * Number(weight)) / 100);
  return {
    qualifiedName,
    prefix,
    name,
    shard: Number(shard),
    priority: profile.priority,
    concurrency: profile.concurrency,
    maxJobs: profile['max-jobs'],
    maxBytes: bytes(profile['max-bytes']),
    maxJobBytes: bytes(profile['max-job-bytes']),
    maxEvents: profile['max-events'],
    jobOptions: {
      ...jobs,
      removeOnComplete: { age: seconds(profile['retain-completed']), count: share('completed') },
      removeOnFail: { age: seconds(profile['retain-failed']), count: share('failed') },
    },
  };
}

const lines = read('../placement').split('\n').filter((line) => line.startsWith('queue '));
const queues = Object.fromEntries(lines.map(define).map((queue) => [queue.name.replace(/[{}]/g, ''), queue]));
const missing = Object.keys(retries.queues).filter((name) => !lines.some((line) => line.split(/\s+/)[1] === name));
if (missing.length > 0) fail(`retries.json names queues that placement does not have: ${missing.join(', ')}`);

writeFileSync(
  new URL('src/queues.generated.ts', import.meta.url),
  `// Made by generate.mjs of deploy/placement, deploy/profiles/tasks.json and retries.json. Not to be edited.
import type { QueueDefinition } from './definitions.js';

/** The specification's six queues. */
export const queues = ${JSON.stringify(queues, null, 2)} as const satisfies Record<string, QueueDefinition>;
`,
);
