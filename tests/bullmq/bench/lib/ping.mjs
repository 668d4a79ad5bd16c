// A PING a millisecond beside a load: target/release/bench-probe (tests/src/bin/bench-probe.rs), which scripts/bench builds.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { text } from 'node:stream/consumers';

const PROGRAM = new URL('../../../../target/release/bench-probe', import.meta.url).pathname;

/**
 * Starts probing the server of this process. `stop()` gives `{ count, p50, p99, max, ownP99, ownMax, others }`: milliseconds,
 * and how many cores programs used that are none of ours.
 */
export async function probe(port, server) {
  const args = [PROGRAM, '--port', port, '--process', server, '--ours', process.pid].map(String);
  const [program, ...rest] = [...(process.env.BULL_BENCH_PROBE ?? '').split(' ').filter(Boolean), ...args];
  const child = spawn(program, rest, { stdio: ['pipe', 'pipe', 'inherit'] });
  await once(child, 'spawn');
  const seen = text(child.stdout);
  return {
    async stop() {
      child.stdin.end();
      const line = await seen;
      if (line === '') throw new Error('the probe failed');
      return JSON.parse(line);
    },
  };
}
