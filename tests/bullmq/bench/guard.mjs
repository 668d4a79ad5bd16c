// What the guard costs clients that know nothing of it: their adds, and commands that are none, on a bare server, on one
// with the module and the guard off, and on one whose guard enforces two policies. All three in turns.
//
// Adds are measured twice: as the clients make them, and as the server bears them. There the sender does as little as it
// can: what a client sends is recorded once, and those very bytes are sent again, in pipelines.
import assert from 'node:assert/strict';
import net from 'node:net';
import { once } from 'node:events';
import Redis from 'ioredis';
import { middle, spread, table } from './lib/bench.mjs';

export const title = 'Unmodified clients: throughput, 1,000 a second, median (lowest–highest)';

const JOBS = 2000;
const DEPTH = 100;
// Turns are short and many: a neighbour's burst spoils a few rounds, and the median of the others repeats.
const ROUNDS = { plain: 101, recorded: 61, client: 41, quick: 5 };
const PREFIX = '{bench}';
const DATA = { to: 'a@example.com', order: 12, items: [1, 2, 3], text: 'x'.repeat(900) };
const OPTIONS = { attempts: 3 };
const CLIENTS = ['bullmq', 'bullmq5', 'bullmq4'];

/** Bytes that a client sends between two moments, as they are. */
class Tap {
  #chunks = [];
  #sockets = new Set();
  #server;

  static async on(port) {
    const tap = new Tap();
    tap.#server = net.createServer((client) => {
      const server = net.connect(port, '127.0.0.1');
      for (const socket of [client, server]) {
        tap.#sockets.add(socket);
        socket.on('error', () => {});
      }
      client.on('data', (chunk) => tap.#chunks.push(chunk));
      client.pipe(server).pipe(client);
    });
    tap.#server.listen(0, '127.0.0.1');
    await once(tap.#server, 'listening');
    tap.port = tap.#server.address().port;
    return tap;
  }

  take() {
    return Buffer.concat(this.#chunks.splice(0));
  }

  close() {
    for (const socket of this.#sockets) socket.destroy();
    this.#server.close();
  }
}

/** Where each command begins, in the form of the protocol that clients use. */
function commands(bytes) {
  const out = [];
  let at = 0;
  const number = () => {
    const end = bytes.indexOf('\r\n', at);
    const value = Number(bytes.toString('latin1', at + 1, end));
    at = end + 2;
    return value;
  };
  while (at < bytes.length) {
    const from = at;
    for (let words = number(); words > 0; words -= 1) {
      const length = number();
      at += length + 2;
    }
    out.push(bytes.subarray(from, at));
  }
  return out;
}

/** Groups of commands with the number of replies each. */
function pipelines(all) {
  const out = [];
  for (let at = 0; at < all.length; at += DEPTH) out.push(Buffer.concat(all.slice(at, at + DEPTH)));
  return out;
}

/** A raw connection that counts replies, which here are one line, or a length and a line. */
class Line {
  #socket;
  #missing = 0;
  #done;

  static async to(port) {
    const line = new Line();
    line.#socket = net.connect(port, '127.0.0.1');
    line.#socket.setNoDelay(true);
    line.#socket.on('data', (chunk) => line.#hear(chunk));
    await once(line.#socket, 'connect');
    return line;
  }

  #hear(chunk) {
    for (const byte of chunk) {
      if (byte === 0x2d) throw new Error(`an error among the replies: ${chunk}`);
      // $ and +, which stand in no reply of these.
      if (byte === 0x24 || byte === 0x2b) this.#missing -= 1;
    }
    if (this.#missing === 0) this.#done?.();
  }

  async send(bytes, count) {
    this.#missing += count;
    const done = new Promise((resolve) => (this.#done = resolve));
    this.#socket.write(bytes);
    await done;
  }

  close() {
    this.#socket.destroy();
  }
}

/** What a client sends to add its jobs, by EVALSHA; the server knows the scripts afterwards. */
async function recorded(client, port) {
  const { Queue } = await import(client);
  const tap = await Tap.on(port);
  const connection = new Redis({ port: tap.port, host: '127.0.0.1', maxRetriesPerRequest: null });
  const queue = new Queue(client, { connection, prefix: PREFIX });
  await queue.add('job', DATA);
  await queue.waitUntilReady();
  tap.take();
  for (let at = 0; at < JOBS; at += DEPTH) {
    await Promise.all(Array.from({ length: DEPTH }, () => queue.add('job', DATA, OPTIONS)));
  }
  const sent = commands(tap.take());
  await queue.close();
  connection.disconnect();
  tap.close();
  const adds = sent.filter((command) => /^\*\d+\r\n\$7\r\nevalsha\r\n/i.test(command.toString('latin1', 0, 32)));
  assert.equal(adds.length, JOBS, `${client} sends an EVALSHA a job`);
  return pipelines(adds);
}

export async function run(bench) {
  const ports = { bare: bench.barePort, off: bench.connection.port, enforce: bench.connection.port };
  const control = { bare: new Redis({ port: ports.bare }), off: bench.redis, enforce: bench.redis };
  await bench.noPolicies();
  await bench.policy('memory-budget');
  await bench.policy('backlog-guard', '{"max-jobs":10000000}');

  const encode = (...words) => Buffer.from(`*${words.length}\r\n${words.map((word) => `$${word.length}\r\n${word}\r\n`).join('')}`);
  const numbers = Array.from({ length: 10 * JOBS }, (_, at) => at % 1000);
  const work = {
    SET: { all: pipelines(numbers.map((at) => encode('SET', `key:${at}`, 'a value of some length'))), rounds: ROUNDS.plain },
    GET: { all: pipelines(numbers.map((at) => encode('GET', `key:${at}`))), rounds: ROUNDS.plain },
  };
  for (const client of CLIENTS) {
    await bench.redis.config('SET', 'bull.guard', 'off');
    for (const side of ['bare', 'off']) work[client] = { all: await recorded(client, ports[side]), rounds: ROUNDS.recorded };
  }

  for (const client of CLIENTS) {
    const { Queue } = await import(client);
    const queues = Object.fromEntries(
      Object.entries(ports).map(([side, port]) => [side, new Queue(client, { connection: { host: '127.0.0.1', port }, prefix: PREFIX })]),
    );
    work[`queue.add, ${client}`] = { client, queues, rounds: ROUNDS.client };
  }

  const rows = [];
  const lines = { bare: await Line.to(ports.bare), off: await Line.to(ports.off), enforce: await Line.to(ports.enforce) };
  for (const [name, { all, rounds, queues, client = name }] of Object.entries(work)) {
    const found = { bare: [], off: [], enforce: [] };
    const adds = CLIENTS.includes(client);
    // The first rounds fill the event streams and do not count.
    for (let round = -3; round < (bench.quick ? ROUNDS.quick : rounds); round += 1) {
      const sides = Object.keys(found);
      // Each side comes first, in the middle and last, and behind each of the others.
      for (let turn = 0; turn < (round + 3) % 3; turn += 1) sides.push(sides.shift());
      if (round % 2 !== 0) sides.reverse();
      for (const side of sides) {
        const redis = control[side];
        if (adds) {
          // A queue as it is in service, whose event stream is full, so that each add trims it.
          await redis.del(`${PREFIX}:${client}:wait`);
          const keys = await redis.keys(`${PREFIX}:${client}:[0-9]*`);
          for (let at = 0; at < keys.length; at += 1000) await redis.unlink(keys.slice(at, at + 1000));
        }
        if (side !== 'bare') await redis.config('SET', 'bull.guard', side);
        let count = 0;
        const began = process.hrtime.bigint();
        if (queues) {
          for (; count < JOBS; count += DEPTH) await Promise.all(Array.from({ length: DEPTH }, () => queues[side].add('job', DATA, OPTIONS)));
        } else {
          for (const bytes of all) await lines[side].send(bytes, DEPTH);
          count = all.length * DEPTH;
        }
        const seconds = Number(process.hrtime.bigint() - began) / 1e9;
        if (adds) assert.equal(await redis.llen(`${PREFIX}:${client}:wait`), count, `${name}, ${side}: every job is in`);
        if (round >= 0) found[side].push(count / seconds / 1000);
      }
    }
    await Promise.all(Object.values(queues ?? {}).map((queue) => queue.close()));
    // Of each round, whose turns follow one another.
    const share = (side) => middle(found[side].map((rate, round) => rate / found.bare[round]));
    const what = adds && `${client} ${bench.version(client)}`;
    rows.push([
      queues ? `Queue.add, ${what}` : adds ? `recorded adds, ${what}` : name,
      spread(found.bare), spread(found.off), share('off').join(' '), spread(found.enforce), `**${share('enforce')[0]}** ${share('enforce')[1]}`,
    ]);
  }
  const guard = await bench.redis.info('everything');
  const guarded = Number(guard.match(/bull_guard_admitted:(\d+)/)[1]);
  assert.ok(guarded > JOBS * CLIENTS.length, 'the guard was asked');
  assert.match(guard, /bull_guard_refused:0\r/);
  Object.values(lines).forEach((line) => line.close());
  control.bare.disconnect();
  await bench.redis.config('SET', 'bull.guard', 'off');
  await bench.noPolicies();
  return `${table(['', 'bare server', 'guard off', 'of bare', 'guard and two policies', 'of bare'], rows)}

Jobs of 1 KB, ${DEPTH} on the way at a time over one connection. GET, SET and recorded adds are sent as bytes, so that the server
alone is what limits; with Queue.add the client has its part. "Of bare": median of the rounds' own ratios, and the middle half
of them; ${bench.quick ? `${ROUNDS.quick} rounds` : `${ROUNDS.plain} rounds of GET and SET, ${ROUNDS.recorded} of recorded adds, ${ROUNDS.client} of Queue.add`}, in each of which the three
follow one another for some 20 to 50 ms. The bare server has no module. Policies: memory-budget and backlog-guard, enforcing.`;
}
