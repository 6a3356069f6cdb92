// The heartbeat of one connection: a ping after a time of silence. If nothing comes after the ping, the connection is lost.
//
// In a hidden page timers may run only once a minute; in a frozen page or on a sleeping machine they do not run. Messages that
// came meanwhile may be delivered only after a late timer. So a late timer proves nothing about the connection: it sends one
// more ping before the connection counts as lost.

const LATE_MS = 1000;

export class Heartbeat {
  #options;
  #timer;
  #dueAt;
  #heardAt;
  #waiting = false; // a ping was sent, and nothing has come since
  #spared = false;  // a late timer has sent one more ping

  /** options: every, timeout (ms), ping(), lost(). lost() is called once at most; no timer runs after it. */
  constructor(options) { this.#options = options; }

  start() {
    this.#heardAt = performance.now();
    this.#arm(this.#options.every);
  }

  stop() {
    this.#waiting = false;
    clearTimeout(this.#timer);
  }

  /** Something came, so the connection is alive. This is called for each message: a timer is set only after a ping. */
  heard() {
    this.#heardAt = performance.now();
    if (!this.#waiting) return;
    this.#waiting = false;
    this.#spared = false;
    this.#arm(this.#options.every);
  }

  /**
   * Pings now, even if something came just before: the device may have left its network since. The answer must come
   * within `ms`.
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
