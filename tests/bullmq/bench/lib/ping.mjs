// A PING a millisecond on a connection and a thread of its own. The plan of sends is fixed (an open loop): a PING is sent
// when it is due, whether or not the one before it was answered, and its wait counts from when it was sent, or from when
// it was due where the one before it was still unanswered then.
import net from 'node:net';
import { Worker, isMainThread, parentPort, workerData } from 'node:worker_threads';

const PERIOD_US = 1000;

/** Starts probing; `stop()` gives `{ count, p50, p99, max }`, milliseconds. */
export function probe(port) {
  const worker = new Worker(new URL(import.meta.url), { workerData: { port } });
  const ready = new Promise((resolve, reject) => {
    worker.once('message', resolve);
    worker.once('error', reject);
  });
  return {
    ready,
    async stop() {
      const seen = new Promise((resolve, reject) => {
        worker.once('message', resolve);
        worker.once('error', reject);
      });
      worker.postMessage('stop');
      const waits = (await seen).sort((a, b) => a - b);
      await worker.terminate();
      const at = (share) => waits[Math.floor((waits.length - 1) * share)];
      return { count: waits.length, p50: at(0.5), p99: at(0.99), max: at(1) };
    },
  };
}

function run() {
  const waits = [];
  const sent = [];
  let answered = 0;
  const now = () => Number(process.hrtime.bigint() / 1000n);
  const socket = net.connect(workerData.port, '127.0.0.1', () => {
    socket.setNoDelay(true);
    parentPort.postMessage('ready');
    let planned = now();
    const tick = () => {
      if (stopped) return;
      const time = now();
      if (time >= planned) {
        // Our own late wake-up is not the server's.
        sent.push(sent.length > answered ? planned : time);
        socket.write('PING\r\n');
        planned = time - planned > PERIOD_US ? time + PERIOD_US : planned + PERIOD_US;
      }
      setImmediate(tick);
    };
    tick();
  });
  let stopped = false;
  let rest = 0;
  socket.on('data', (bytes) => {
    const time = now();
    // "+PONG\r\n" has seven bytes.
    rest += bytes.length;
    for (; rest >= 7; rest -= 7) {
      waits.push((time - sent[answered]) / 1000);
      answered += 1;
    }
  });
  parentPort.on('message', () => {
    stopped = true;
    setTimeout(() => parentPort.postMessage(waits), 50);
  });
}

if (!isMainThread && workerData?.port) run();
