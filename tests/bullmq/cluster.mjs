// How the scripts of this folder reach a cluster of `scripts/cluster`: its env file, connections by user, with TLS where the
// cluster has it.
import { readFileSync } from 'node:fs';
import { Cluster } from 'ioredis';

/** The variables of an env file, whose values are in single quotes or name another variable. */
export function readEnv(path) {
  const env = {};
  for (const line of readFileSync(path, 'utf8').split('\n')) {
    const [, name, quoted, plain] = /^(?:export )?(\w+)=(?:'(.*)'|(.*))$/.exec(line) ?? [];
    if (name) env[name] = quoted ?? (plain.startsWith('$') ? env[plain.slice(1)] : plain);
  }
  return env;
}

/** `host`, `port` of each node. */
export function nodes(env) {
  return env.BULL_NODES.trim().split(/ +/).map((node) => {
    const [host, port] = node.split(':');
    return { host, port: Number(port) };
  });
}

/** The password of a user, such as `api-bullmq`. */
export const password = (env, user) => env[`BULL_PASSWORD_${user.toUpperCase().replaceAll('-', '_')}`];

/** The TLS options of a user, or undefined. */
export function tls(env, user) {
  if (!env.BULL_TLS) return undefined;
  const file = (name) => readFileSync(`${env.BULL_TLS}/${name}`);
  // Replicas and probes are the nodes themselves.
  const name = user === 'probe' || user === 'replica' ? 'node' : `client-${user}`;
  return { ca: file('ca.crt'), cert: file(`${name}.crt`), key: file(`${name}.key`) };
}

/** What every connection of a user has. */
export function redisOptions(env, user) {
  const auth = env.BULL_ACL === 'yes' ? { username: user, password: password(env, user) } : {};
  return { ...auth, tls: tls(env, user), maxRetriesPerRequest: null };
}

/** A cluster client as BullMQ needs it: reads from primaries, retries for ever, names of certificates kept. */
export function connect(env, user, more = {}) {
  const cluster = new Cluster(nodes(env), {
    // A certificate names hosts: the address must reach the check as the name that the server told.
    dnsLookup: (address, done) => done(null, address),
    scaleReads: 'master',
    // Where the check fails, in a failover, connect() of ioredis 5.11 never settles, and a Worker that awaits it stands still.
    enableReadyCheck: false,
    clusterRetryStrategy: (times) => Math.min(times * 100, 1000),
    retryDelayOnFailover: 100,
    retryDelayOnClusterDown: 100,
    retryDelayOnTryAgain: 50,
    maxRedirections: 64,
    ...more,
    redisOptions: { ...redisOptions(env, user), ...more.redisOptions },
  });
  cluster.on('error', () => {});
  return cluster;
}
