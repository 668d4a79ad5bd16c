// What sections of scripts/bench share: variants in turns, the server's own numbers, medians and tables.
import fs from 'node:fs';
import { createRequire } from 'node:module';

const policies = new URL('../../../../target/policies/', import.meta.url);

export class Bench {
  /** `redis`: a connection of the bench's own; `connection`: options for BullMQ; `barePort`: a server without the module. */
  constructor({ redis, port, barePort, quick }) {
    this.redis = redis;
    this.barePort = barePort;
    this.quick = quick;
    this.connection = { host: '127.0.0.1', port, maxRetriesPerRequest: null };
    this.rounds = quick ? 3 : 9;
  }

  /** Calls of a command and µs inside it since the last CONFIG RESETSTAT. */
  async command(name) {
    const info = await this.redis.info('commandstats');
    const row = info.match(new RegExp(`cmdstat_${name.replace('.', '\\.')}:calls=(\\d+),usec=(\\d+)`, 'i'));
    return row ? { calls: Number(row[1]), us: Number(row[2]) } : { calls: 0, us: 0 };
  }

  /** CPU time of the server's main thread so far, µs. */
  async cpu() {
    const info = await this.redis.info('cpu');
    const of = (kind) => Number(info.match(new RegExp(`used_cpu_${kind}_main_thread:([\\d.]+)`))[1]);
    return (of('user') + of('sys')) * 1e6;
  }

  /** The version of a package of tests/bullmq. */
  version(name) {
    return createRequire(import.meta.url)(`${name}/package.json`).version;
  }

  /** A JSON object of exactly `bytes` bytes with a few fields and a text. */
  payload(bytes) {
    const job = { to: 'a@example.com', order: 12, items: [1, 2, 3], text: '' };
    job.text = 'x'.repeat(bytes - JSON.stringify(job).length);
    return job;
  }

  /** Loads a policy of target/policies, enforcing. */
  async policy(name, config = '{}') {
    const wasm = fs.readFileSync(new URL(`${name.replaceAll('-', '_')}.wasm`, policies));
    await this.redis.call('BULL.POLICY', 'LOAD', name, 'CONFIG', config, 'MODE', 'enforce', wasm);
  }

  async noPolicies() {
    for (const row of await this.redis.call('BULL.POLICY', 'LIST')) {
      await this.redis.call('BULL.POLICY', 'REMOVE', row[row.indexOf('name') + 1]);
    }
  }

  /**
   * Runs the variants in turns, first one way round, then the other, after a round that does not count.
   * Each is `{ command, prepare(turn), run(prepared), after(prepared) }`; `run` returns how many jobs it made or handled.
   * The result has `time` (µs of `command` a job) and `cpu` (µs of the main thread a job) by variant, a number a round.
   */
  async alternate(variants) {
    const rows = Object.fromEntries(Object.keys(variants).map((name) => [name, { time: [], cpu: [] }]));
    for (let round = -1; round < this.rounds; round += 1) {
      const names = Object.keys(variants);
      if (round % 2 !== 0) names.reverse();
      for (const name of names) {
        const { command, prepare, run, after } = variants[name];
        const prepared = await prepare?.(`${round + 1}`);
        await this.redis.config('RESETSTAT');
        const before = await this.cpu();
        const jobs = await run(prepared);
        const cpu = (await this.cpu()) - before;
        const { us } = await this.command(command);
        await after?.(prepared);
        if (round < 0) continue;
        rows[name].time.push(us / jobs);
        rows[name].cpu.push(cpu / jobs);
      }
    }
    return rows;
  }

  async unlink(pattern) {
    const keys = await this.redis.keys(pattern);
    for (let at = 0; at < keys.length; at += 500) await this.redis.unlink(...keys.slice(at, at + 500));
  }
}

export function median(numbers) {
  const sorted = [...numbers].sort((a, b) => a - b);
  const half = sorted.length >> 1;
  return sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
}

/** `['0.925', '(0.914–0.939)']`: the median, and between what the middle half lies. */
export function middle(numbers, digits = 3) {
  const sorted = [...numbers].sort((a, b) => a - b);
  const at = (part) => sorted[Math.round(part * (sorted.length - 1))].toFixed(digits);
  return [median(numbers).toFixed(digits), `(${at(0.25)}–${at(0.75)})`];
}

/** `10.4 (10.1–11.0)`: the median and the range. */
export function spread(numbers, digits = 1) {
  const [low, high] = [Math.min(...numbers), Math.max(...numbers)].map((number) => number.toFixed(digits));
  return `${median(numbers).toFixed(digits)} (${low}–${high})`;
}

/** How many times the median of `ours` goes into that of `theirs`: `2.13`. */
export function ratio(theirs, ours) {
  return (median(theirs) / median(ours)).toFixed(2);
}

export function table(head, rows) {
  const line = (cells) => `| ${cells.join(' | ')} |`;
  return [line(head), line(head.map(() => '---')), ...rows.map(line)].join('\n');
}
