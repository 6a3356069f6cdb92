// The objects of a page for the sessions that it has subscribed to.

const RATE_MIN = 0.1;
const RATE_MAX = 100;

/** The options of a subscription; throws if one is invalid. */
export function checked({ rate, replay, resume }) {
  if (rate !== undefined && !(rate >= RATE_MIN && rate <= RATE_MAX)) throw new RangeError(`rate: expected ${RATE_MIN} to ${RATE_MAX}, got ${rate}`);
  if (replay !== undefined && !(Number.isInteger(replay) && replay >= 0)) throw new RangeError(`replay: expected a whole number from 0 on, got ${replay}`);
  return { rate, replay, resume };
}

export class Subscription {
  #reader;
  #channel;
  #ways;

  /** ways: send(data, options) -> promise, leave(). */
  constructor(url, reader, channel, ways) {
    this.url = url;
    this.#reader = reader;
    this.#channel = channel;
    this.#ways = ways;
    Object.freeze(this); // Vue makes no proxy of a frozen object; a proxy could not reach the private fields
  }

  get session() { return this.#channel.session; }
  get upstream() { return this.#channel.upstream; }
  /** EPOCH.OFFSET of the last message that the page got; before the first one, that of the WELCOME. */
  get position() { return this.#reader.at ?? this.#channel.position; }

  on(name, fn) { return this.#reader.events.on(name, fn); }
  off(name, fn) { this.#reader.events.off(name, fn); }
  send(data, options) { return this.#ways.send(data, options); }
  unsubscribe() { this.#ways.leave(); }
}

/** Many subscriptions as one object. Each event has the url and the session that it belongs to. */
export class SubscriptionGroup {
  #subscribe;
  #members = new Map(); // url -> Subscription
  #listeners = new Set(); // [name, fn]

  constructor(subscribe, urls) {
    this.#subscribe = subscribe;
    this.add(urls);
    Object.freeze(this);
  }

  get size() { return this.#members.size; }
  get(url) { return this.#members.get(url); }
  [Symbol.iterator]() { return this.#members.values(); }

  /** {url: EPOCH.OFFSET}, for `resume`. */
  get position() {
    return Object.fromEntries([...this.#members].flatMap(([url, { position }]) => (position ? [[url, position]] : [])));
  }

  /** Adds urls; those that the group has already stay as they are. */
  add(urls) {
    for (const url of urls) {
      if (this.#members.has(url)) continue;
      const member = this.#subscribe(url);
      this.#members.set(url, member);
      for (const [name, fn] of this.#listeners) member.on(name, fn);
    }
  }

  on(name, fn) {
    this.#listeners.add([name, fn]);
    for (const member of this.#members.values()) member.on(name, fn);
    return () => this.off(name, fn);
  }

  off(name, fn) {
    for (const entry of this.#listeners) if (entry[0] === name && entry[1] === fn) this.#listeners.delete(entry);
    for (const member of this.#members.values()) member.off(name, fn);
  }

  /** to: the url of the session that gets the message. */
  async send(data, { to, ...options } = {}) {
    const member = this.#members.get(to);
    if (!member) throw new TypeError(`to: expected a url of this group, got ${to}`);
    return member.send(data, options);
  }

  /** Unsubscribes these urls; without an argument all of them. */
  unsubscribe(urls = [...this.#members.keys()]) {
    for (const url of urls) {
      this.#members.get(url)?.unsubscribe();
      this.#members.delete(url);
    }
  }
}
