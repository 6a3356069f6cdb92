// Replaces the token of an open connection before it expires, so that the connection goes on and no message is missed.

import { Backoff } from './retry.js';
import { timesOf } from './wire.js';

// When to ask, as a part of the time that is left: early enough for several attempts, and by chance, so that pages that were
// opened at the same time don't ask at the same time.
const EARLIEST = 0.7;
const LATEST = 0.85;
const TIMER_MAX = 2 ** 31 - 1; // the longest delay of a timer, ms

/** ms until the token expires; null: it can't be read, or has expired. */
function timeLeft(token) {
  const { issued, ends } = timesOf(token);
  if (ends === null) return null;
  const left = ends - Date.now();
  const whole = issued === null ? left : ends - issued;
  // The hub has accepted the token, so its time is not over. If this clock says otherwise, it is wrong: the whole time counts.
  const believed = left > 0 && left <= whole ? left : whole;
  return believed > 0 ? believed : null;
}

export class Refresher {
  #options;
  #backoff;
  #timer;
  #dueAt = null;  // null: nothing is planned
  #turn = 0;      // number of the present question; an older one stops at its next step
  #asked = null;  // the REFRESH that waits for its answer: {id, token}
  #token = null;
  #refusals = 0;

  /**
   * options: ask({refused, reason, refusals}) returns a token or a promise of one, send(token) returns the id of the REFRESH,
   * failed(error), reconnect (min, max: ms between attempts).
   */
  constructor(options) {
    this.#options = options;
    this.#backoff = new Backoff(options.reconnect);
  }

  /** A connection was opened with this token. */
  start(token) {
    this.stop();
    this.#backoff.reset();
    this.#refusals = 0;
    this.#take(token);
  }

  /** The connection is gone. */
  stop() {
    this.#turn++;
    this.#asked = null;
    this.#dueAt = null;
    clearTimeout(this.#timer);
  }

  /** The page was shown again: timers may be late. */
  heed() {
    if (this.#dueAt !== null && performance.now() >= this.#dueAt) this.#ask();
  }

  /** The hub has answered the message with this id; error: {code, message}, or null for an ACK. */
  answered(id, error) {
    if (this.#asked?.id !== id) return;
    const { token } = this.#asked;
    this.#asked = null;
    if (error === null) {
      this.#backoff.reset();
      this.#refusals = 0;
      this.#take(token);
    } else if (error.code !== 'unknown_type') { // hubs before 0.2.0 do not know REFRESH
      this.#refusals++;
      this.#plan(this.#backoff.next());
    }
  }

  #take(token) {
    this.#token = token;
    const left = timeLeft(token);
    if (left !== null) this.#plan(left * (EARLIEST + Math.random() * (LATEST - EARLIEST)));
  }

  #plan(ms) {
    clearTimeout(this.#timer);
    this.#dueAt = performance.now() + ms;
    this.#timer = setTimeout(() => this.#tick(), Math.min(ms, TIMER_MAX));
  }

  #tick() {
    const left = this.#dueAt - performance.now();
    if (left > 1) this.#plan(left);
    else this.#ask();
  }

  async #ask() {
    const turn = ++this.#turn;
    clearTimeout(this.#timer);
    this.#dueAt = null;
    let token;
    try {
      token = await this.#options.ask({ refused: true, reason: 'the token ends soon', refusals: this.#refusals });
    } catch (error) {
      if (turn !== this.#turn) return;
      this.#options.failed(error);
      token = null;
    }
    if (turn !== this.#turn) return;
    if (!token || token === this.#token) this.#plan(this.#backoff.next()); // the same token expires no later
    else this.#asked = { token, id: this.#options.send(token) };
  }
}
