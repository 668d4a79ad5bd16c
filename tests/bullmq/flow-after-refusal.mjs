// An add that is refused, then a flow over the same connection: it is whole, though the client sends only the digest of the
// script that was refused. The server must refuse what goes to bull:shut, and know no script yet.
//
//   node flow-after-refusal.mjs --port N [--client bullmq|bullmq5|bullmq4]
import assert from 'node:assert/strict';
import { connect, options } from './lib.mjs';

const args = options({ client: { type: 'string', default: 'bullmq' } });
const { FlowProducer, Queue } = await import(args.client);
const connection = await connect(args);
await assert.rejects(new Queue('shut', { connection }).add('job', {}), /^(Reply)?Error: BULLREJECT/);
const tree = await new FlowProducer({ connection }).add({
  name: 'root',
  queueName: 'open',
  children: [1, 2].map((n) => ({ name: `child ${n}`, queueName: 'open', data: {} })),
});
const children = await connection.smembers(`bull:open:${tree.job.id}:dependencies`);
const expected = tree.children.map(({ job }) => `bull:open:${job.id}`);
assert.deepEqual(children.sort(), expected.sort(), 'the root waits for its children');
for (const key of expected) assert.equal(await connection.exists(key), 1, key);
process.exit(0);
