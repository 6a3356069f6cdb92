// The token of an open connection, replaced before it ends: the page keeps its place, and nothing is missed.

import { Backoff } from './retry.js';
import { timesOf } from './wire.js';

// Of the time that is left: far enough from the end for some tries, and by chance, so that pages which came
// together don't ask together.
const EARLIEST = 0.7;
const LATEST = 0.85;
const TIMER_MAX = 2 ** 31 - 1; // ms that a timer takes

/** ms until the token ends; null where it can't be read or is over. */
function timeLeft(token) {
  const { issued, ends } = timesOf(token);
  if (ends === null) return null;
  const left = ends - Date.now();
  const whole = issued === null ? left : ends - issued;
  // A clock that is wrong by more than that says nothing of when a token ends, which the hub has taken.
  const believed = left > 0 && left <= whole ? left : whole;
  return believed > 0 ? believed : null;
}

export class Refresher {
  #options;
  #backoff;
  #timer;
  #dueAt = null;  // null: nothing is planned
  #turn = 0;      // of asks; one that was overtaken stops at its next step
  #asked = null;  // the REFRESH that waits for its answer: {id, token}
  #token = null;
  #refusals = 0;

  /**
   * options: ask({refused, reason, refusals}) -> token or a promise of one, send(token) -> id, failed(error),
   * reconnect (min, max: ms between tries).
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

  /** The hub answered a message of this id; error: {code, message}, or null for an ACK. */
  answered(id, error) {
    if (this.#asked?.id !== id) return;
    const { token } = this.#asked;
    this.#asked = null;
    if (error === null) {
      this.#backoff.reset();
      this.#refusals = 0;
      this.#take(token);
    } else if (error.code !== 'unknown_type') { // a hub of before 0.2.0
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
    if (!token || token === this.#token) this.#plan(this.#backoff.next()); // a cached one ends no later
    else this.#asked = { token, id: this.#options.send(token) };
  }
}
