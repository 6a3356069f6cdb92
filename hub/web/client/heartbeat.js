// The heartbeat of one connection: a ping after a time of silence, and the end of the connection where
// nothing at all answers it.
//
// Timers of a hidden page run as seldom as once a minute, those of a frozen page or a sleeping machine
// not at all; what came in meanwhile may be handed out only after them. A timer that is late says
// nothing about the connection, so it pings anew, once, before it judges.

const LATE_MS = 1000;

export class Heartbeat {
  #options;
  #timer;
  #dueAt;
  #heardAt;
  #waiting = false; // a ping is out, and nothing came since
  #spared = false;

  /** options: every, timeout (ms), ping(), lost(). lost() is called once at most, then it has stopped. */
  constructor(options) { this.#options = options; }

  start() {
    this.#heardAt = performance.now();
    this.#arm(this.#options.every);
  }

  stop() {
    this.#waiting = false;
    clearTimeout(this.#timer);
  }

  /** Something came: the connection lives. Called for each message, so a timer is set only for the answer to a ping. */
  heard() {
    this.#heardAt = performance.now();
    if (!this.#waiting) return;
    this.#waiting = false;
    this.#spared = false;
    this.#arm(this.#options.every);
  }

  /**
   * Pings at once, however short ago something came: a network is left from one moment to the next. The answer
   * has to come within `ms`.
   */
  probe(ms) {
    const left = this.#dueAt - performance.now();
    const asked = this.#waiting && left >= 0 && left <= ms;
    if (!asked) this.#ask(ms);
  }

  #arm(ms) {
    clearTimeout(this.#timer);
    this.#dueAt = performance.now() + ms;
    this.#timer = setTimeout(() => this.#tick(), ms);
  }

  #ask(ms) {
    this.#waiting = true;
    this.#arm(ms);
    this.#options.ping();
  }

  #tick() {
    const now = performance.now();
    const { every, timeout, lost } = this.#options;
    if (!this.#waiting) {
      const left = every - (now - this.#heardAt);
      if (left > 0) this.#arm(left);
      else this.#ask(timeout);
    } else if (now - this.#dueAt > LATE_MS && !this.#spared) {
      this.#spared = true;
      this.#ask(timeout);
    } else {
      lost();
    }
  }
}
