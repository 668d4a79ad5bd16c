// What the tests of this package share: settings by the variables that the Rust tests set, a plain connection, waiting, an
// HTTP GET, and a proxy that loses answers.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import net from 'node:net';
import { Redis } from 'ioredis';
import { settingsFromEnv } from 'redis-bull-client';

export const settings = settingsFromEnv();
export const pause = (ms) => new Promise((done) => setTimeout(done, ms));

/** A connection of the test's own, which gives up at once. */
export function plain({ host, port } = settings.nodes[0]) {
  const redis = new Redis({ host, port, maxRetriesPerRequest: 1 });
  redis.on('error', () => {});
  return redis;
}

/** Polls until it holds. */
export async function until(what, holds, ms = 20_000) {
  const deadline = Date.now() + ms;
  while (!(await holds())) {
    assert.ok(Date.now() < deadline, `${what}: not within ${ms} ms`);
    await pause(20);
  }
}

/** Asks the Rust test for something that only it can do with its server: `kill`, `start`. */
export function control(word) {
  return new Promise((done, lost) => {
    const socket = net.connect(Number(process.env.BULL_TEST_CONTROL), '127.0.0.1', () => socket.write(`${word}\n`));
    let said = '';
    socket.on('data', (data) => (said += data));
    socket.on('end', () => (said === 'done\n' ? done() : lost(new Error(`${word}: ${said}`))));
    socket.on('error', lost);
  });
}

/** Status and body of a path. */
export async function get(port, path) {
  const response = await fetch(`http://127.0.0.1:${port}${path}`);
  const text = await response.text();
  return { status: response.status, body: response.headers.get('content-type').includes('json') ? JSON.parse(text) : text };
}

/** A program's output; throws where it fails. */
export function run(program, words, options = {}) {
  return new Promise((done, lost) => {
    execFile(program, words, options, (error, out, err) => (error ? lost(new Error(`${program} ${words}: ${error.message}\n${out}${err}`)) : done(out)));
  });
}

/** A proxy to the server. While `losing` is more than 0, a request reaches the server, and its connection goes before the answer. */
export async function losingProxy() {
  const state = { losing: 0, lost: 0, settings: undefined, close: undefined };
  const [{ host, port }] = settings.nodes;
  const server = net.createServer((client) => {
    const upstream = net.connect(port, host);
    let lose = false;
    client.on('data', (data) => {
      if (state.losing > 0 && data.includes('BULL.')) {
        state.losing -= 1;
        lose = true;
      }
      upstream.write(data);
    });
    upstream.on('data', (data) => {
      if (!lose) return client.write(data);
      state.lost += 1;
      client.destroy();
    });
    for (const [one, other] of [[client, upstream], [upstream, client]]) {
      one.on('error', () => {});
      one.on('close', () => other.destroy());
    }
  });
  await new Promise((done) => server.listen(0, '127.0.0.1', done));
  state.settings = { nodes: [{ host: '127.0.0.1', port: server.address().port }], cluster: false };
  state.close = () => server.close();
  return state;
}
