// A PING a millisecond on a connection and a thread of its own. The plan of sends is fixed (an open loop): a PING is sent
// when it is due, whether or not those before it were answered. Our own late wake-up is not the server's: a wait counts
// from when its PING was sent.
//
// By the kernel's counts (schedstat) a wait is told apart from one that other programs caused: "own" is without the time
// in which the server's main thread or this one was ready to run and had no core, as far as the server's other threads did
// not run then. Where the kernel does not count, all is own. As tests/src/probe.rs.
import fs from 'node:fs';
import net from 'node:net';
import { Worker, isMainThread, parentPort, workerData } from 'node:worker_threads';

const PERIOD_US = 1000;
// The kernel brings the count of a running thread up to date once a tick, 4 ms at most: so many PINGs around a wait are
// searched for what the server's other threads took.
const TICK = 5;

/**
 * Starts probing the server of this process. `stop()` gives `{ count, p50, p99, max, ownP99, ownMax, others }`: milliseconds,
 * and how many cores programs used that are neither this one nor the server.
 */
export async function probe(port, server) {
  const worker = new Worker(new URL(import.meta.url), { workerData: { port, server } });
  const message = () =>
    new Promise((resolve, reject) => {
      worker.once('message', resolve);
      worker.once('error', reject);
    });
  await message();
  const cores = others([server, process.pid]);
  return {
    async stop() {
      const seen = message();
      const used = cores();
      worker.postMessage('stop');
      const { waits, own } = await seen;
      await worker.terminate();
      for (const list of [waits, own]) list.sort();
      const at = (list, share) => list[Math.floor((list.length - 1) * share)];
      return {
        count: waits.length,
        p50: at(waits, 0.5),
        p99: at(waits, 0.99),
        max: at(waits, 1),
        ownP99: at(own, 0.99),
        ownMax: at(own, 1),
        others: used,
      };
    },
  };
}

const read = (path) => {
  try {
    return fs.readFileSync(path, 'latin1');
  } catch {
    return '';
  }
};

/** How many cores programs but these use from now on. */
function others(processes) {
  // user nice system - - irq softirq steal, in hundredths of a second.
  const all = () => [1, 2, 3, 6, 7, 8].reduce((sum, at) => sum + Number(read('/proc/stat').split('\n')[0].split(/ +/)[at] ?? 0), 0);
  // The name stands in brackets and may hold spaces.
  const of = (pid) => read(`/proc/${pid}/stat`).split(')').pop().split(' ').slice(12, 14).reduce((sum, n) => sum + Number(n), 0);
  const theirs = () => all() - processes.reduce((sum, pid) => sum + of(pid), 0);
  const [since, before] = [Date.now(), theirs()];
  return () => Math.max(0, (theirs() - before) / 100 / ((Date.now() - since) / 1000));
}

/** Reads how long the server's main thread and this one had no core, and how long the server's others ran: milliseconds. */
function counter(server) {
  const open = (path) => {
    try {
      return [fs.openSync(path)];
    } catch {
      return [];
    }
  };
  const tasks = `/proc/${server}/task`;
  const main = open(`${tasks}/${server}/schedstat`);
  const mine = open('/proc/thread-self/schedstat');
  const names = fs.existsSync(tasks) ? fs.readdirSync(tasks).filter((task) => task !== String(server)) : [];
  const rest = names.flatMap((task) => open(`${tasks}/${task}/schedstat`));
  const bytes = Buffer.alloc(128);
  const number = (file, at) => {
    try {
      return Number(bytes.toString('latin1', 0, fs.readSync(file, bytes, 0, 128, 0)).split(' ')[at]) / 1e6;
    } catch {
      return 0; // The thread is gone.
    }
  };
  const sum = (files, at) => files.reduce((all, file) => all + number(file, at), 0);
  return () => ({ without: sum([...main, ...mine], 1), background: sum(rest, 0) });
}

function run() {
  const counts = counter(workerData.server);
  const now = () => Number(process.hrtime.bigint() / 1000n);
  const [sent, got] = [[], []];
  let stopped = false;
  const socket = net.connect(workerData.port, '127.0.0.1', () => {
    socket.setNoDelay(true);
    parentPort.postMessage('ready');
    let planned = now();
    const tick = () => {
      if (stopped) return;
      const time = now();
      if (time >= planned) {
        const before = counts();
        sent.push({ time: now(), ...before });
        socket.write('PING\r\n');
        planned = time - planned > PERIOD_US ? time + PERIOD_US : planned + PERIOD_US;
      }
      setImmediate(tick);
    };
    tick();
  });
  let rest = 0;
  socket.on('data', (bytes) => {
    const time = now();
    const after = counts();
    // "+PONG\r\n" has seven bytes.
    for (rest += bytes.length; rest >= 7; rest -= 7) got.push({ time, ...after });
  });
  parentPort.on('message', () => {
    stopped = true;
    setTimeout(() => {
      const waits = new Float64Array(got.length);
      const own = new Float64Array(got.length);
      for (const at of got.keys()) {
        waits[at] = (got[at].time - sent[at].time) / 1000;
        const until = got[Math.min(at + TICK, got.length - 1)];
        const background = until.background - sent[Math.max(at - TICK, 0)].background;
        const foreign = Math.max(0, got[at].without - sent[at].without - Math.max(0, background));
        own[at] = Math.max(0, waits[at] - foreign);
      }
      parentPort.postMessage({ waits, own });
    }, 50);
  });
}

if (!isMainThread && workerData?.port) run();
