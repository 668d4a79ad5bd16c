// Runs the sections in bench/ against one server, which scripts/bench starts.
//
//   node bench.mjs --port N [--bare-port N] [--quick] [--write] [--list] [--out DIR] [section ...]
//
// A section is a file that exports `title` and `run(bench)`; `run` returns Markdown. What it may use is class Bench.
// `--write` puts the Markdown between `<!-- bench:NAME -->` and `<!-- /bench:NAME -->` of README.md.
import fs from 'node:fs';
import os from 'node:os';
import { parseArgs } from 'node:util';
import { connect, fail } from './lib.mjs';
import { Bench } from './bench/lib/bench.mjs';

const here = new URL('.', import.meta.url);
const readme = new URL('../../README.md', here);
const { values: args, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    port: { type: 'string' },
    'bare-port': { type: 'string' },
    out: { type: 'string' },
    quick: { type: 'boolean', default: false },
    write: { type: 'boolean', default: false },
    list: { type: 'boolean', default: false },
  },
});
const known = fs.readdirSync(new URL('bench/', here)).filter((name) => name.endsWith('.mjs')).map((name) => name.slice(0, -4)).sort();
if (args.list) {
  console.log(known.join('\n'));
  process.exit(0);
}
const sections = positionals.length > 0 ? positionals : known;
const unknown = sections.filter((name) => !known.includes(name));
if (unknown.length > 0) fail(`no section ${unknown.join(', ')}; there are ${known.join(', ')}`);

const redis = await connect({ port: Number(args.port) });
const bare = await connect({ port: Number(args['bare-port']) });
const info = await redis.info('server');
const field = (name) => info.match(new RegExp(`^${name}:(.*?)\\r?$`, 'm'))?.[1];
const engine = field('valkey_version') ? `Valkey ${field('valkey_version')}` : `Redis ${field('redis_version')}`;
const system = fs.existsSync('/etc/os-release')
  ? fs.readFileSync('/etc/os-release', 'utf8').match(/^PRETTY_NAME="?(.*?)"?$/m)?.[1].replace(/ GNU\/Linux| \(.*\)/g, '')
  : os.type();
const day = new Date().toISOString().slice(0, 10);
const machine = `${day}, ${engine}, ${os.cpus().length} vCPUs (${os.cpus()[0]?.model.trim()}), ${system}, AOF everysec`;

for (const name of sections) {
  const section = await import(new URL(`bench/${name}.mjs`, here));
  // Nothing of the section before.
  await Promise.all([redis, bare].map((server) => server.flushall('SYNC')));
  const began = Date.now();
  const bench = new Bench({ redis, port: Number(args.port), barePort: Number(args['bare-port']), quick: args.quick });
  const body = await section.run(bench);
  const rounds = args.quick ? ', quick form' : '';
  const text = `${section.title}\n\n${body.trim()}\n\n_${machine}${rounds}; \`scripts/bench ${name}\`_\n`;
  console.log(`\n${text}\n(${((Date.now() - began) / 1000).toFixed(0)} s)`);
  if (args.out) fs.writeFileSync(`${args.out}/${name}.md`, text);
  if (args.write) {
    const all = fs.readFileSync(readme, 'utf8');
    const [open, close] = [`<!-- bench:${name} -->`, `<!-- /bench:${name} -->`];
    const [from, to] = [all.indexOf(open), all.indexOf(close)];
    if (from < 0 || to < from) fail(`README.md has no ${open} … ${close}`);
    fs.writeFileSync(readme, `${all.slice(0, from + open.length)}\n${text}${all.slice(to)}`);
  }
}
await Promise.all([redis, bare].map((server) => server.quit()));
