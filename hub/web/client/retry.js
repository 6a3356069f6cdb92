// When to connect again: the rule for each close code, and the back-off.

// The rule of a close code:
//   floor   the shortest wait, ms
//   now     the first attempt is made at once
//   told    the reason may name the time after which to connect again
//   stay    use the same URL again, since another node would answer the same
//   token   the token was refused
//   end     do not connect again
const RULES = {
  1009: { stay: true },
  1012: { now: true, told: true },
  1013: { floor: 3000, told: true },
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

const TOLD_MAX = 300_000; // of what a proxy in between might write
const TOLD = /(?:^|\s)retry=(\d{1,9})$/;

/** After how many ms to come back, as the end of the reason says (retry=MS); undefined where it does not. */
export function toldIn(code, reason) {
  const found = ruleOf(code).told && TOLD.exec(reason);
  return found ? Math.min(Number(found[1]), TOLD_MAX) : undefined;
}

/** The hub refused a message for its size; browsers and proxies say 1009. */
export const saysTooLarge = (code) => code === 4003 || code === 1009;

export class Backoff {
  #options;
  #tries = 0;

  /** options: min, max (ms). */
  constructor(options) { this.#options = options; }

  get tries() { return this.#tries; }

  reset() { this.#tries = 0; }

  /** ms to wait: doubled from min to max, and 50 to 150 % of that by chance, so that many pages don't come at once. */
  next() {
    const { min, max } = this.#options;
    const middle = Math.min(max, min * 2 ** this.#tries++);
    return middle * (0.5 + Math.random());
  }
}
