/**
 * Connections by role, to a cluster or a single server, with TLS and a user of the ACL. Every role reads from primaries:
 * BullMQ's reads of what it has just written are wrong or late on a replica. It keeps no connection: who opens one closes it.
 */
import { readFileSync } from 'node:fs';
import { Cluster, Redis } from 'ioredis';
import type { ClusterOptions, RedisOptions } from 'ioredis';

export type Connection = Redis | Cluster;

/**
 * `worker`: Worker, QueueEvents. Waits for the server as long as it takes, since a blocking command has no deadline.
 * `producer`: adds. Nothing waits inside it and nothing is sent twice; `Pool` does both, within bounds.
 * `monitor`: health checks and people. A command fails with its connection, and after 1.5 s.
 */
export type Role = 'worker' | 'producer' | 'monitor';

export interface Node {
  readonly host: string;
  readonly port: number;
}

export interface Settings {
  /** Any nodes of the cluster, or the one server. */
  readonly nodes: readonly Node[];
  readonly cluster: boolean;
  readonly user?: string;
  readonly password?: string;
  /** PEM texts. `servername` is the name that the certificate must have, by default the host. */
  readonly tls?: { readonly ca: string; readonly cert?: string; readonly key?: string; readonly servername?: string };
}

function nodeOf(text: string): Node {
  const [, host, digits] = /^(?:\[([^\]]+)\]|[^:]+):(\d{1,5})$/.exec(text) ?? [];
  const port = Number(digits);
  if (!(port >= 1 && port <= 65535)) throw new Error(`BULL_NODES: not host:port: '${text}'`);
  return { host: host ?? text.slice(0, text.lastIndexOf(':')), port };
}

/**
 * Settings from the variables that the runbooks use: `BULL_NODES` ("host:port host:port …"), `BULL_CLUSTER` (yes or no, by
 * default yes with more than one node), `BULL_USER`, `BULL_PASSWORD`, and the files `BULL_TLS_CA`, `BULL_TLS_CERT` and
 * `BULL_TLS_KEY` with `BULL_TLS_SERVERNAME`.
 *
 * @throws Error that names the variable and never its value where that is a secret.
 */
export function settingsFromEnv(env: Readonly<Record<string, string | undefined>> = process.env): Settings {
  const value = (name: string) => env[name] || undefined;
  const file = (name: string) => {
    const path = value(name);
    if (path === undefined) return undefined;
    try {
      return readFileSync(path, 'utf8');
    } catch (cause) {
      throw new Error(`${name}: ${path} cannot be read`, { cause });
    }
  };
  const nodes = (value('BULL_NODES') ?? '').split(/\s+/).filter(Boolean).map(nodeOf);
  if (nodes.length === 0) throw new Error('BULL_NODES is not set: name the server, or nodes of the cluster, as host:port');
  const cluster = value('BULL_CLUSTER') ?? (nodes.length > 1 ? 'yes' : 'no');
  if (cluster !== 'yes' && cluster !== 'no') throw new Error(`BULL_CLUSTER is yes or no, not '${cluster}'`);
  if (cluster === 'no' && nodes.length > 1) throw new Error('BULL_CLUSTER is no, and BULL_NODES has more than one node');
  const [ca, cert, key] = [file('BULL_TLS_CA'), file('BULL_TLS_CERT'), file('BULL_TLS_KEY')];
  if ((cert === undefined) !== (key === undefined)) throw new Error('BULL_TLS_CERT and BULL_TLS_KEY go together');
  if (cert !== undefined && ca === undefined) throw new Error('BULL_TLS_CERT is set, and BULL_TLS_CA is not');
  const [user, password, servername] = [value('BULL_USER'), value('BULL_PASSWORD'), value('BULL_TLS_SERVERNAME')];
  if (user !== undefined && password === undefined) throw new Error('BULL_USER is set, and BULL_PASSWORD is not');
  return {
    nodes,
    cluster: cluster === 'yes',
    ...(user && { user }),
    ...(password && { password }),
    ...(ca && { tls: { ca, ...(cert && { cert }), ...(key && { key }), ...(servername && { servername }) } }),
  };
}

/** For ever: a client that gives up after some tries stays dead when the server is back. */
const retry = (times: number) => Math.min(times * 100, 1000);

function redisOptions(settings: Settings, role: Role, name: string): RedisOptions {
  const shared: RedisOptions = {
    connectionName: name,
    connectTimeout: 5000,
    keepAlive: 30_000,
    ...(settings.user && { username: settings.user }),
    ...(settings.password && { password: settings.password }),
    ...(settings.tls && { tls: { ...settings.tls } }),
  };
  switch (role) {
    case 'worker':
      // No commandTimeout: it would cut BZPOPMIN and XREAD BLOCK.
      return { ...shared, maxRetriesPerRequest: null, enableOfflineQueue: true };
    case 'producer':
      // The ready check sends INFO, which a producer's user may not; a server that loads says so to the add itself.
      return {
        ...shared,
        maxRetriesPerRequest: 0,
        enableOfflineQueue: false,
        autoResendUnfulfilledCommands: false,
        enableReadyCheck: false,
      };
    case 'monitor':
      return { ...shared, maxRetriesPerRequest: 0, enableOfflineQueue: true, commandTimeout: 1500 };
  }
}

/**
 * A new connection, which has a listener for errors: what is lost shows in commands, and in the events that the caller
 * listens to.
 */
export function connect(settings: Settings, role: Role, name = `bull-${role}`): Connection {
  const options = redisOptions(settings, role, name);
  const connection = settings.cluster ? clusterOf(settings, role, options) : single(settings, options);
  connection.on('error', () => {});
  return connection;
}

function single(settings: Settings, options: RedisOptions): Redis {
  const [node] = settings.nodes;
  if (node === undefined) throw new Error('no server: Settings.nodes is empty');
  return new Redis({
    ...options,
    ...node,
    retryStrategy: retry,
    // A primary that became a replica behind the same name: the next connection finds the new one.
    reconnectOnError: (error) => error.message.startsWith('READONLY'),
  });
}

function clusterOf(settings: Settings, role: Role, { enableOfflineQueue = true, ...redisOptions }: RedisOptions): Cluster {
  const options: ClusterOptions = {
    // A certificate names hosts: what the node announces must reach the check unresolved.
    dnsLookup: (address, done) => done(null, address),
    scaleReads: 'master',
    clusterRetryStrategy: retry,
    enableOfflineQueue,
    // BullMQ reconnects a blocking connection whose command is late. Where the cluster then fails this check, as in a failover,
    // connect() of ioredis 5.11 never settles, and the Worker awaits it for ever. CLUSTERDOWN is repeated below.
    enableReadyCheck: role !== 'worker',
    // An automatic failover takes 5 to 15 s; a worker's command outlives it.
    maxRedirections: role === 'worker' ? 600 : 16,
    retryDelayOnFailover: role === 'worker' ? 100 : 0,
    retryDelayOnClusterDown: role === 'worker' ? 100 : 0,
    retryDelayOnTryAgain: 50,
    // Nodes are resolved anew in time even where no command meets the change.
    slotsRefreshInterval: 10_000,
    redisOptions,
  };
  return new Cluster(settings.nodes.map(({ host, port }) => ({ host, port })), options);
}
