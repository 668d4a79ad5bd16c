// A process with a producer and a worker, until SIGTERM: "A id" for each job that is acknowledged, "R id" for each that ran.
import { writeSync } from 'node:fs';
import { Worker } from 'bullmq';
import { ClosedError, Producer, connect, queues, settingsFromEnv, shutdownOnSignals, workerOptions } from 'redis-bull-client';
import { pause } from './support.mjs';

const queue = queues.low;
const settings = settingsFromEnv();
// At once, whatever becomes of the process.
const say = (line) => writeSync(1, `${line}\n`);
const producer = new Producer(settings, { maxInFlight: 8 });
const connection = connect(settings, 'worker');
const work = async (job) => {
  await pause(job.data.ms);
  say(`R ${job.id}`);
};
const worker = new Worker(queue.name, work, workerOptions(queue, connection));
shutdownOnSignals({ workers: [worker], producer, connections: [connection] });

async function produce() {
  try {
    for (;;) {
      const { id } = await producer.add(queue, 'n', { ms: 5 + Math.round(Math.random() * 20) });
      say(`A ${id}`);
    }
  } catch (error) {
    if (!(error instanceof ClosedError)) throw error;
  }
}
for (let n = 0; n < 20; n += 1) void produce();
