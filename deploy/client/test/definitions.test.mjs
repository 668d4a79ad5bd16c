// The definitions against the specification's own numbers, settings from the environment, errors from answers. No server.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  BullError, ModuleMissingError, RejectedError, UnavailableError, errorOfReply, hashTag, queueOptions, queues, settingsFromEnv,
  workerOptions,
} from 'redis-bull-client';

const DAY = 24 * 3600;
// Chapters 5.2 and 6.1: attempts, backoff, days of completed and failed jobs, concurrency; 3.2: jobs at most.
const SPECIFIED = {
  critical: [5, 'exponential', 1000, 7, 30, 20, 10_000],
  high: [3, 'exponential', 2000, 7, 30, 15, 50_000],
  normal: [3, 'exponential', 5000, 3, 14, 10, 200_000],
  low: [2, 'fixed', 10_000, 1, 7, 5, 100_000],
  batch: [3, 'exponential', 30_000, 7, 30, 3, 10_000],
  scheduled: [3, 'exponential', 5000, 7, 30, 5, 50_000],
};

test('the six definitions are the specification', () => {
  assert.deepEqual(Object.keys(queues), Object.keys(SPECIFIED));
  for (const [name, [attempts, type, delay, completed, failed, concurrency, maxJobs]] of Object.entries(SPECIFIED)) {
    const queue = queues[name];
    const { removeOnComplete, removeOnFail, ...rest } = queue.jobOptions;
    assert.deepEqual(rest, { attempts, backoff: { type, delay } }, name);
    assert.equal(removeOnComplete.age, completed * DAY, name);
    assert.equal(removeOnFail.age, failed * DAY, name);
    assert.deepEqual([queue.concurrency, queue.maxJobs], [concurrency, maxJobs], name);
    assert.equal(queue.qualifiedName, `bull:{tasks:${name}}`);
    assert.equal(`${queue.prefix}:${queue.name}`, queue.qualifiedName);
    assert.equal(hashTag(queue.qualifiedName), `tasks:${name}`);
    assert.equal(queueOptions(queue).streams.events.maxLen, queue.maxEvents);
    assert.equal(workerOptions(queue).concurrency, concurrency);
  }
  const all = Object.values(queues);
  const sum = (of) => all.reduce((total, queue) => total + of(queue), 0);
  assert.equal(sum((queue) => queue.concurrency), 58);
  assert.equal(sum((queue) => queue.jobOptions.removeOnComplete.count), 1_000_000);
  assert.equal(sum((queue) => queue.jobOptions.removeOnFail.count), 100_000);
  assert.deepEqual(all.map(({ shard }) => shard), [1, 1, 2, 2, 3, 3]);
});

test('settings come from the environment, and what is wrong is named', () => {
  assert.deepEqual(settingsFromEnv({ BULL_NODES: 'a:1' }), { nodes: [{ host: 'a', port: 1 }], cluster: false });
  assert.deepEqual(settingsFromEnv({ BULL_NODES: ' a:1  [::1]:2 ', BULL_USER: 'api', BULL_PASSWORD: 'x' }), {
    nodes: [{ host: 'a', port: 1 }, { host: '::1', port: 2 }], cluster: true, user: 'api', password: 'x',
  });
  for (const [env, says] of [
    [{}, /BULL_NODES is not set/],
    [{ BULL_NODES: 'a' }, /not host:port: 'a'/],
    [{ BULL_NODES: 'a:70000' }, /not host:port/],
    [{ BULL_NODES: '::1:6379' }, /not host:port/],
    [{ BULL_NODES: 'a:1 b:2', BULL_CLUSTER: 'no' }, /more than one node/],
    [{ BULL_NODES: 'a:1', BULL_CLUSTER: 'maybe' }, /yes or no/],
    [{ BULL_NODES: 'a:1', BULL_USER: 'api' }, /BULL_PASSWORD is not/],
    [{ BULL_NODES: 'a:1', BULL_TLS_CA: '/nowhere' }, /BULL_TLS_CA: .* cannot be read/],
  ]) {
    assert.throws(() => settingsFromEnv(env), says);
  }
});

test('answers of the server become types', () => {
  const refused = errorOfReply('BULLREJECT backlog-guard waiting 10 of at most 10 jobs');
  assert.ok(refused instanceof RejectedError && refused instanceof BullError && refused instanceof Error);
  assert.deepEqual([refused.policy, refused.reason, refused.outcome], ['backlog-guard', 'waiting 10 of at most 10 jobs', 'not-added']);
  assert.ok(errorOfReply("ERR unknown command 'BULL.ADD', with args") instanceof ModuleMissingError);
  assert.ok(errorOfReply('LOADING Redis is loading') instanceof UnavailableError);
  assert.deepEqual([errorOfReply('NEWCODE x').code, errorOfReply('no code at all').code], ['NEWCODE', 'ERR']);
});
