// When to connect again: the rule for each close code, and the back-off.

// The rule of a close code:
//   floor   the shortest wait, ms
//   now     the first attempt is made at once
//   wait    the reason may name the time after which to connect again
//   stay    use the same URL again, since another node would answer the same
//   token   the token was refused
//   end     do not connect again
const RULES = {
  1009: { stay: true },
  1012: { now: true, wait: true },
  1013: { floor: 3000, wait: true },
  4001: { stay: true, token: true },
  4002: { stay: true, floor: 2000 },
  4003: { stay: true },
  4004: { stay: true },
  4005: { stay: true },
  4006: { end: true },
  4007: { end: true },
};
const NO_RULE = {};

export const ruleOf = (code) => RULES[code] ?? NO_RULE;

const REQUESTED_MAX = 300_000; // an upper limit, since a proxy in between might write the reason
const REQUESTED_WAIT = /(?:^|\s)retry=(\d{1,9})$/;

/** The wait in ms that the end of the reason requests (retry=MS); undefined: it requests none. */
export function requestedWait(code, reason) {
  const found = ruleOf(code).wait && REQUESTED_WAIT.exec(reason);
  return found ? Math.min(Number(found[1]), REQUESTED_MAX) : undefined;
}

/** The connection was closed because a message was too large; browsers and proxies close with 1009. */
export const saysTooLarge = (code) => code === 4003 || code === 1009;

export class Backoff {
  #options;
  #attempts = 0;

  /** options: min, max (ms). */
  constructor(options) { this.#options = options; }

  get attempts() { return this.#attempts; }

  reset() { this.#attempts = 0; }

  /** ms to wait: doubled from min to max, and 50 to 150 % of that by chance, so that many pages don't come at once. */
  next() {
    const { min, max } = this.#options;
    const middle = Math.min(max, min * 2 ** this.#attempts++);
    return middle * (0.5 + Math.random());
  }
}
