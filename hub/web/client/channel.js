// One further session of a connection, and its readers in the page.

import { Emitter } from './emitter.js';
import { Position } from './position.js';

/** A reader: a subscription of the page, with its own events, rate and position. */
class Reader {
  events = new Emitter();
  rate;           // undefined: all messages
  at = null;      // position of the last message that it got
  #next = null;   // the newest message, which waits because of the rate
  #timer = null;
  #readyAt = 0;   // when the rate allows the next message

  constructor(rate) { this.rate = rate; }

  /** limited: the channel has a higher rate than this reader. */
  hand(data, meta, limited) {
    if (!limited) {
      this.#emit(data, meta);
      return;
    }
    this.#next = [data, meta];
    if (this.#timer === null) this.#arm();
  }

  #arm() {
    const wait = this.#readyAt - performance.now();
    if (wait > 0) this.#timer = setTimeout(() => this.#pass(), wait);
    else this.#pass();
  }

  #pass() {
    const next = this.#next;
    this.stop();
    this.#readyAt = performance.now() + 1000 / this.rate;
    this.#emit(...next);
  }

  #emit(data, meta) {
    this.#drop(); // an older message must not come after this one
    this.at = `${meta.epoch}.${meta.offset}`;
    this.events.emit('message', data, meta);
  }

  #drop() {
    clearTimeout(this.#timer);
    this.#timer = null;
    this.#next = null;
  }

  stop() { this.#drop(); }
}

export class Channel {
  state = 'due';
  session = null;
  upstream = null;
  readers = new Set();
  #position;
  #known = false;      // the session has been open before
  #askedRate;          // the rate of the last SUBSCRIBE
  #replay;
  #last = null;        // the newest message, for readers that come later
  #timer = null;

  constructor(url, resume) {
    this.url = url;
    this.#position = new Position(resume);
  }

  get ready() { return this.state === 'open'; }
  get position() { return this.#position.at && String(this.#position); }

  join({ rate, replay }) {
    const reader = new Reader(rate);
    this.readers.add(reader);
    if (!this.#known) this.#replay = Math.max(this.#replay ?? 0, replay ?? 0) || undefined;
    reader.wantsLast = replay > 0 && this.#known;
    return reader;
  }

  /** Returns false if the reader has left before. */
  leave(reader) {
    reader.stop();
    return this.readers.delete(reader);
  }

  /** The highest rate of the readers; undefined: all messages. */
  #rate() {
    const rates = [...this.readers].map(({ rate }) => rate);
    return rates.includes(undefined) ? undefined : Math.max(...rates);
  }

  asksOtherRate() { return this.readers.size > 0 && this.#rate() !== this.#askedRate; }

  /** The URL for the next SUBSCRIBE, with resume, replay and rate. */
  request() {
    this.#askedRate = this.#rate();
    const items = [];
    if (this.#position.at) items.push(`resume=${this.#position}`);
    else if (this.#replay) items.push(`replay=${this.#replay}`);
    if (this.#askedRate !== undefined) items.push(`rate=${this.#askedRate}`);
    return items.length > 0 ? `${this.url}${this.url.includes('?') ? '&' : '?'}${items.join('&')}` : this.url;
  }

  /** The session is not open at the hub (any more). */
  detach() {
    clearTimeout(this.#timer);
    this.state = 'due';
    this.session = null;
    this.upstream = null;
  }

  end() {
    clearTimeout(this.#timer);
    this.state = 'gone';
    for (const reader of this.readers) reader.stop();
  }

  retryAfter(ms, fn) {
    this.state = 'waiting';
    this.#timer = setTimeout(() => { this.state = 'due'; fn(); }, ms);
  }

  // --- events for the readers ---

  #named(value) { return { ...value, url: this.url, session: this.session }; }

  emit(name, value) {
    for (const reader of [...this.readers]) reader.events.emit(name, this.#named(value));
  }

  /** Sends the present state to a new reader, once it can have listeners. */
  emitLater(reader, connection) {
    queueMicrotask(() => {
      if (!this.readers.has(reader)) return;
      const open = this.state === 'open';
      if (open || connection.state) reader.events.emit('status', this.#named(open ? this.#status() : connection));
      if (reader.wantsLast && reader.at === null && this.#last) reader.hand(...this.#last, false);
    });
  }

  #status() { return { state: 'open', upstream: this.upstream }; }

  onWelcome(welcome) {
    const gap = this.#position.welcome(welcome, this.#known);
    this.#known = true;
    this.#replay = undefined;
    this.state = 'open';
    this.session = welcome.session;
    this.upstream = welcome.upstream;
    this.emit('status', { ...this.#status(), resumed: welcome.resumed });
    if (gap) this.emit('gap', gap);
  }

  onPublication(data, { epoch, offset, timestamp }) {
    if (!this.#position.take({ epoch, offset })) return;
    const meta = this.#named({ epoch, offset, timestamp });
    this.#last = [data, meta];
    for (const reader of [...this.readers]) reader.hand(data, meta, reader.rate !== undefined && reader.rate !== this.#askedRate);
  }

  onStatus({ upstream, reason }) {
    this.upstream = upstream;
    this.emit('status', reason === undefined ? this.#status() : { ...this.#status(), reason });
  }

  onGap({ epoch, from, to }) {
    this.#position.skip({ epoch, to });
    this.emit('gap', { epoch, from, to });
  }
}
