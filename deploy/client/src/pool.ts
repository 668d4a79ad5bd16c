/**
 * A few connections for adds, each used by many at a time, with bounds on what is in flight and on what waits for its turn.
 * It repeats what surely was not done, and what does no harm when done twice, within its patience; it never sends anything
 * else a second time. Workers need no pool: BullMQ gives each its own blocking connection.
 */
import { Cluster, Command } from 'ioredis';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Socket } from 'node:net';
import { connect } from './connections.js';
import type { Connection, Settings } from './connections.js';
import { BullError, BusyError, ClosedError, UnavailableError, UnknownOutcomeError, errorOfReply } from './errors.js';

export interface PoolOptions {
  /** 1 to 64, by default 2. In a cluster each is one socket for each primary. More than a few only cost the server. */
  readonly connections?: number;
  /** Commands that are in flight at a time, 1 to 100,000, by default 256. */
  readonly maxInFlight?: number;
  /** Commands that wait for their turn, 0 to 1,000,000, by default 10,000. One more is a BusyError at once. */
  readonly maxWaiting?: number;
  /**
   * Milliseconds that one command may take in all, 100 to 600,000, by default 15,000: an automatic failover takes 5 to 15 s.
   * Behind an HTTP request take what that request may take.
   */
  readonly patienceMs?: number;
}

export interface PoolState {
  readonly connections: number;
  readonly inFlight: number;
  readonly waiting: number;
  /** The most that ever was in flight. */
  readonly peak: number;
}

/** A command's name, the queue's qualified name, and the rest. */
export type QueueWords = readonly [string, string, ...string[]];

/** What happens to a command whose answer is lost. A question (`ask`) is repeated, and tells the last answer that it got. */
export type WhenLost = 'repeat' | 'report' | 'ask';

/** A command that ioredis does not know: it goes to its queue's node, and remembers where it was last written. */
class QueueCommand extends Command {
  readonly #slot: number;
  #socket: Socket | undefined;

  constructor(name: string, queue: string, words: readonly string[]) {
    super(name, [queue, ...words], { replyEncoding: 'utf8' });
    this.#slot = new Command('exists', [queue]).getSlot();
  }

  override getSlot(): number {
    return this.#slot;
  }

  override toWritable(socket: object): string | Buffer {
    this.#socket = socket as Socket;
    return super.toWritable(socket);
  }

  /** It was written to a server. */
  get written(): boolean {
    return this.#socket !== undefined;
  }

  /** Where it was last written, the connection is gone: it may have been run there. A redirect comes by a live one. */
  get lost(): boolean {
    return this.#socket?.destroyed ?? false;
  }
}

/** Sends one command of a queue over any connection, once; an answer that is an error is a BullError. */
export function sendOnce(connection: Connection, command: QueueWords, timeoutMs: number): Promise<unknown> {
  const [name, queue, ...words] = command;
  const sent = new QueueCommand(name, queue, words);
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      const text = `no answer within ${Math.round(timeoutMs)} ms`;
      reject(sent.written ? new UnknownOutcomeError('TIMEOUT', text) : new UnavailableError('TIMEOUT', text));
    }, timeoutMs);
    Promise.resolve(connection.sendCommand(sent))
      .then(resolve, (error: unknown) => reject(errorOf(error, sent)))
      .finally(() => clearTimeout(timer));
  });
}

function errorOf(cause: unknown, command: QueueCommand): BullError {
  const text = cause instanceof Error ? cause.message : String(cause);
  if (cause instanceof Error && cause.name === 'ReplyError') return errorOfReply(text, { cause });
  if (command.lost) {
    return new UnknownOutcomeError('LOST', 'the connection broke before an answer came', { cause });
  }
  return new UnavailableError('AWAY', `no server took the command: ${text}`, { cause });
}

function bounded(name: string, value: number, least: number, most: number): number {
  if (!Number.isInteger(value) || value < least || value > most) {
    throw new RangeError(`${name} is ${least} to ${most}, not ${value}`);
  }
  return value;
}

export class Pool {
  readonly #lines: { readonly connection: Connection; load: number }[];
  readonly #maxInFlight: number;
  readonly #maxWaiting: number;
  readonly #patienceMs: number;
  /** Who waits, in order of arrival; called with the turn. */
  readonly #waiting = new Set<() => void>();
  #inFlight = 0;
  #peak = 0;
  #closing: Promise<void> | undefined;
  #idle: (() => void) | undefined;

  constructor(settings: Settings, options: PoolOptions = {}) {
    const count = bounded('connections', options.connections ?? 2, 1, 64);
    this.#maxInFlight = bounded('maxInFlight', options.maxInFlight ?? 256, 1, 100_000);
    this.#maxWaiting = bounded('maxWaiting', options.maxWaiting ?? 10_000, 0, 1_000_000);
    this.#patienceMs = bounded('patienceMs', options.patienceMs ?? 15_000, 100, 600_000);
    this.#lines = Array.from({ length: count }, () => ({ connection: connect(settings, 'producer'), load: 0 }));
  }

  get state(): PoolState {
    const { length: connections } = this.#lines;
    return { connections, inFlight: this.#inFlight, waiting: this.#waiting.size, peak: this.#peak };
  }

  /** The same out of turn, with a patience of its own: for questions, which do no harm twice and must not wait behind adds. */
  ask(command: QueueWords, patienceMs: number): Promise<unknown> {
    return this.#persist(command, 'ask', performance.now() + patienceMs);
  }

  /** The connection with the least to do. */
  get connection(): Connection {
    return this.#least().connection;
  }

  /** Sends a command of a queue when its turn comes; its answer, or a BullError. */
  async send(command: QueueWords, whenLost: WhenLost): Promise<unknown> {
    if (this.#closing) throw new ClosedError('CLOSED', 'the producer is closing');
    const deadline = performance.now() + this.#patienceMs;
    await this.#enter();
    try {
      return await this.#persist(command, whenLost, deadline);
    } finally {
      this.#leave();
    }
  }

  /** Takes no more commands, waits for those that it took, and ends the connections. */
  close(): Promise<void> {
    this.#closing ??= this.#drain();
    return this.#closing;
  }

  async #persist(command: QueueWords, whenLost: WhenLost, deadline: number): Promise<unknown> {
    let answer: UnavailableError | undefined;
    for (let pause = 25; ; pause = Math.min(pause * 2, 250)) {
      const line = this.#least();
      line.load += 1;
      try {
        return await sendOnce(line.connection, command, Math.max(1, deadline - performance.now()));
      } catch (error) {
        const lost = error instanceof UnknownOutcomeError;
        const again = error instanceof UnavailableError || (lost && whenLost !== 'report');
        // LOADING says more than that the rest of the patience was too short for it to be said again.
        if (!again || performance.now() + pause >= deadline) throw lost && whenLost === 'ask' ? (answer ?? error) : error;
        if (error instanceof UnavailableError) answer = error;
        // Which node has the slot may just have changed.
        if (line.connection instanceof Cluster) line.connection.refreshSlotsCache(() => {});
      } finally {
        line.load -= 1;
      }
      await sleep(pause);
    }
  }

  #least(): { readonly connection: Connection; load: number } {
    return this.#lines.reduce((least, line) => (line.load < least.load ? line : least));
  }

  #enter(): Promise<void> {
    if (this.#inFlight < this.#maxInFlight) {
      this.#begin();
      return Promise.resolve();
    }
    if (this.#waiting.size >= this.#maxWaiting) {
      return Promise.reject(new BusyError('BUSY', `${this.#waiting.size} adds wait already`));
    }
    return new Promise((turn, refuse) => {
      const next = () => {
        clearTimeout(timer);
        this.#begin();
        turn();
      };
      const timer = setTimeout(() => {
        this.#waiting.delete(next);
        refuse(new BusyError('BUSY', `no turn within ${this.#patienceMs} ms`));
        this.#rest();
      }, this.#patienceMs);
      this.#waiting.add(next);
    });
  }

  #begin(): void {
    this.#inFlight += 1;
    this.#peak = Math.max(this.#peak, this.#inFlight);
  }

  #leave(): void {
    this.#inFlight -= 1;
    const [next] = this.#waiting;
    if (next) {
      this.#waiting.delete(next);
      next();
    }
    this.#rest();
  }

  #rest(): void {
    if (this.#inFlight === 0 && this.#waiting.size === 0) this.#idle?.();
  }

  async #drain(): Promise<void> {
    await new Promise<void>((idle) => {
      this.#idle = idle;
      this.#rest();
    });
    for (const { connection } of this.#lines) connection.disconnect();
  }
}
