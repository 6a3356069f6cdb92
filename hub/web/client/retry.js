// When to come back: what each close code asks for, and the back-off.

// floor: the least to wait, ms. now: the first try is made at once. stay: the same URL again, since another
// node would say the same. token: the token was refused. end: nobody is wanted back.
const RULES = {
  1009: { stay: true },
  1012: { now: true },
  1013: { floor: 3000 },
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

/** The hub refused a message for its size; browsers and proxies say 1009. */
export const saysTooLarge = (code) => code === 4003 || code === 1009;

export class Backoff {
  #options;
  #tries = 0;

  /** options: min, max (ms). */
  constructor(options) { this.#options = options; }

  get tries() { return this.#tries; }

  reset() { this.#tries = 0; }

  /** ms to wait: doubles from min to max, half to one and a half of it, so that many pages don't come at once. */
  next() {
    const { min, max } = this.#options;
    const middle = Math.min(max, min * 2 ** this.#tries++);
    return middle * (0.5 + Math.random());
  }
}
