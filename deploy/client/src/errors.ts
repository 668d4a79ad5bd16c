/**
 * Why an add did not succeed, as types. The one question that every error answers is `outcome`: is the job surely not in the
 * queue, or can nobody tell? Nothing here decides what to do about it.
 */

/** `not-added`: nothing was written. `unknown`: the command was sent, and its answer is lost. */
export type Outcome = 'not-added' | 'unknown';

/** An add that did not succeed. `code` is the first word of the server's answer, or one of this package's own. */
export class BullError extends Error {
  readonly outcome: Outcome = 'not-added';

  constructor(
    readonly code: string,
    message: string,
    options?: ErrorOptions,
  ) {
    super(message, options);
    this.name = new.target.name;
  }
}

/** BULLREJECT: a policy refused the job, or failed and is set to refuse then. */
export class RejectedError extends BullError {
  constructor(
    readonly policy: string,
    readonly reason: string,
    options?: ErrorOptions,
  ) {
    super('BULLREJECT', `the policy ${policy} refused the job: ${reason}`, options);
  }
}

/** OOM: the server is over maxmemory. */
export class OutOfMemoryError extends BullError {}

/** BULLMISSINGPARENT: the parent is not there. */
export class MissingParentError extends BullError {}

/** BULLPARENT: a job with that id has another parent. */
export class OtherParentError extends BullError {}

/** ERR: the job or its options are not valid. */
export class InvalidJobError extends BullError {}

/** WRONGTYPE: a key of the queue is something else. CROSSSLOT: the queue or its parent has no hash tag, or another. */
export class QueueError extends BullError {}

/** NOAUTH, WRONGPASS, NOPERM: the user is not known, or may not. */
export class NotAllowedError extends BullError {}

/** MISCONF, NOREPLICAS: the server takes no writes until somebody mends it. */
export class ReadOnlyServerError extends BullError {}

/** The server knows no BULL.ADD. There is no fallback to BullMQ's scripts: policies would be passed by. */
export class ModuleMissingError extends BullError {}

/** No server took the command within the patience: it is away, loads, or its slot has no primary. */
export class UnavailableError extends BullError {}

/** The pool's line is full, or the patience ran out in it. */
export class BusyError extends BullError {}

/** The producer is closing. */
export class ClosedError extends BullError {}

/** The command was sent, and the connection broke or the patience ended before an answer came. */
export class UnknownOutcomeError extends BullError {
  override readonly outcome: Outcome = 'unknown';
}

type Kind = new (code: string, message: string, options?: ErrorOptions) => BullError;

const KINDS: Readonly<Record<string, Kind>> = {
  OOM: OutOfMemoryError,
  BULLMISSINGPARENT: MissingParentError,
  BULLPARENT: OtherParentError,
  ERR: InvalidJobError,
  WRONGTYPE: QueueError,
  CROSSSLOT: QueueError,
  NOAUTH: NotAllowedError,
  WRONGPASS: NotAllowedError,
  NOPERM: NotAllowedError,
  MISCONF: ReadOnlyServerError,
  NOREPLICAS: ReadOnlyServerError,
  LOADING: UnavailableError,
  MASTERDOWN: UnavailableError,
  READONLY: UnavailableError,
  CLUSTERDOWN: UnavailableError,
  TRYAGAIN: UnavailableError,
  BUSY: UnavailableError,
};

/** The error of an answer of the server, such as `BULLREJECT payload-cap 2000 bytes of at most 1000`. */
export function errorOfReply(text: string, options?: ErrorOptions): BullError {
  if (/^ERR unknown command/i.test(text)) {
    return new ModuleMissingError('ERR', 'this server knows no BULL.ADD: load the module redis-bull', options);
  }
  const [, code = 'ERR', rest = ''] = /^([A-Z]+)(?: (.*))?$/s.exec(text) ?? [undefined, 'ERR', text];
  if (code === 'BULLREJECT') {
    const [policy = '', ...reason] = rest.split(' ');
    return new RejectedError(policy, reason.join(' '), options);
  }
  return new (KINDS[code] ?? BullError)(code, rest, options);
}
