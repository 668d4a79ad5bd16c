// Stands still: a clock that moves only when told, and random numbers from a seed, so that a client does the same twice.
// To be imported before the client, whose own code is not touched.
import { createRequire, syncBuiltinESMExports } from 'node:module';

let now = 1_700_000_000_000;
let state = 1;

/** xorshift32. */
export function random(below) {
  state ^= state << 13;
  state ^= state >>> 17;
  state ^= state << 5;
  return (state >>> 0) % below;
}

export function seed(value) {
  state = (Math.imul(value, 2654435761) ^ 0x9e3779b9) >>> 0 || 1;
}

export function wait(ms) {
  now += ms;
}

class Clock extends Date {
  constructor(...parts) {
    if (parts.length === 0) super(now);
    else super(...parts);
  }

  static now() {
    return now;
  }
}
globalThis.Date = Clock;
Math.random = () => random(1 << 30) / (1 << 30);

// CommonJS and ES modules of the clients share this object.
const crypto = createRequire(import.meta.url)('node:crypto');
const hex = (digits) => Array.from({ length: digits }, () => random(16).toString(16)).join('');
crypto.randomUUID = () => [hex(8), hex(4), `4${hex(3)}`, `8${hex(3)}`, hex(12)].join('-');
const fill = (bytes) => {
  for (let i = 0; i < bytes.length; i += 1) bytes[i] = random(256);
  return bytes;
};
crypto.randomFillSync = fill;
crypto.webcrypto.getRandomValues = fill;
syncBuiltinESMExports();
