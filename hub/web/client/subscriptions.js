// The further sessions of a connection. Each session is one channel, even if several subscriptions of the page read it. It is
// requested at the highest rate of its readers, and each reader gets it at its own rate.
//
//   due -> asked -> open        by SUBSCRIBE and WELCOME
//   open -> due                 the connection was lost, or another rate is needed: it resumes later
//   open -> waiting -> due      closed by the hub, and requested again after a back-off
//   gone                        unsubscribed, refused, or closed for good
//
// Channels that become due in the same turn of the page are requested together, in few messages.

import { Channel } from './channel.js';
import { Backoff, requestedWait } from './retry.js';
import { checked, Subscription, SubscriptionGroup } from './subscription.js';
import { dataOf, encodeSubscribe, encodeUnsubscribe, subscribeUrl } from './wire.js';

// Bytes of one SUBSCRIBE: far below the default limit of a hub (1 MiB). If a hub refuses it as too large, it is halved.
const REQUEST_MAX = 32 * 1024;
const REQUEST_MIN = 1024;
// Codes of CLOSED after which a session is not requested again.
const FINAL = new Set([1000, 1001, 4001, 4006, 4007]);

export class Subscriptions {
  #link;
  #channels = new Map();  // url -> channel
  #sessions = new Map();  // session -> channel that is open
  #asked = new Map();     // id of a SUBSCRIBE -> {size, channels: url in that SUBSCRIBE -> channel}
  #due = new Set();
  #leaving = new Set();   // sessions to unsubscribe from
  #planned = false;       // a request is sent at the end of this turn
  #online = false;        // the connection can be used
  #state = {};            // status of the connection, for new subscriptions
  #max = REQUEST_MAX;
  #backoff;

  /**
   * link: write(text), nextId(), send(channel, data, options) -> promise, flush(), renew(channel), refuse(channel, code, message).
   * reconnect: min, max: ms between attempts to open a session again.
   */
  constructor(link, reconnect) {
    this.#link = link;
    this.#backoff = new Backoff(reconnect);
  }

  /** One url: a Subscription. A list: a SubscriptionGroup. */
  add(urls, options = {}) {
    if (!Array.isArray(urls)) return this.#add(urls, checked(options));
    const { resume = {}, ...others } = options;
    const one = (url) => this.#add(url, checked({ ...others, resume: resume?.[url] }));
    return new SubscriptionGroup(one, urls);
  }

  #add(url, options) {
    const key = subscribeUrl(url);
    let channel = this.#channels.get(key);
    if (!channel) {
      channel = new Channel(key, options.resume);
      this.#channels.set(key, channel);
    }
    const reader = channel.join(options);
    this.#tune(channel);
    channel.emitLater(reader, this.#state);
    return new Subscription(url, reader, channel, {
      send: (data, how) => this.#link.send(channel, data, how),
      leave: () => this.#leave(channel, reader),
    });
  }

  /** Requests a channel that is new, or again one whose readers need another rate. */
  #tune(channel) {
    if (channel.state === 'open' && channel.asksOtherRate()) this.#release(channel);
    if (channel.state !== 'due') return;
    this.#due.add(channel);
    this.#plan();
  }

  /** Unsubscribes a channel that is open; it resumes when it is requested again. */
  #release(channel) {
    this.#leaving.add(channel.session);
    this.#detach(channel);
    this.#plan();
  }

  #detach(channel) {
    this.#sessions.delete(channel.session);
    this.#link.renew(channel);
    channel.detach();
  }

  #leave(channel, reader) {
    if (!channel.leave(reader)) return;
    if (channel.readers.size > 0) this.#tune(channel);
    else if (channel.state !== 'asked') this.#remove(channel); // else the session's name is known only after its WELCOME
  }

  #remove(channel) {
    if (channel.state === 'open') this.#release(channel);
    this.#forget(channel, 'closed', 'unsubscribed');
  }

  #forget(channel, code, reason) {
    channel.end();
    this.#due.delete(channel);
    if (this.#channels.get(channel.url) === channel) this.#channels.delete(channel.url);
    if (this.#sessions.get(channel.session) === channel) this.#sessions.delete(channel.session);
    this.#link.refuse(channel, code, reason);
  }

  // --- requests ---

  #plan() {
    if (this.#planned || !this.#online) return;
    this.#planned = true;
    queueMicrotask(() => {
      this.#planned = false;
      if (this.#online) this.#ask();
    });
  }

  #ask() {
    if (this.#leaving.size > 0) this.#link.write(encodeUnsubscribe(this.#link.nextId(), [...this.#leaving]));
    this.#leaving.clear();
    let channels = new Map();
    let size = 0;
    for (const channel of this.#due) {
      const url = channel.request();
      const bytes = url.length * 3; // the most that it may have in UTF-8
      if (size > 0 && size + bytes > this.#max) {
        this.#subscribe(channels, size);
        channels = new Map();
        size = 0;
      }
      channels.set(url, channel);
      size += bytes;
    }
    if (size > 0) this.#subscribe(channels, size);
    this.#due.clear();
  }

  #subscribe(channels, size) {
    const id = this.#link.nextId();
    for (const channel of channels.values()) channel.state = 'asked';
    this.#asked.set(id, { size, channels });
    this.#link.write(encodeSubscribe(id, [...channels.keys()]));
  }

  // --- the connection ---

  /** The connection can be used. */
  begin() {
    this.#online = true;
    this.#state = { state: 'connecting' };
    this.#backoff.reset();
    for (const channel of this.#channels.values()) this.#tune(channel);
  }

  /** The connection is lost or not usable yet; details: those of the client's status. */
  setStatus(details) {
    this.#state = details;
    for (const channel of [...this.#channels.values()]) channel.emit('status', details);
  }

  /** The connection has ended. */
  end() {
    this.#online = false;
    this.#asked.clear();
    this.#leaving.clear();
    this.#sessions.clear();
    for (const channel of [...this.#channels.values()]) {
      this.#link.renew(channel);
      channel.detach();
      if (channel.readers.size === 0) this.#forget(channel, 'closed', 'unsubscribed');
    }
  }

  /** A message was too large for the hub. Returns true if it may have been a SUBSCRIBE; the next ones are smaller. */
  tooLarge() {
    const largest = Math.max(0, ...[...this.#asked.values()].map(({ size }) => size));
    if (largest <= REQUEST_MIN) return false;
    this.#max = Math.max(REQUEST_MIN, Math.floor(Math.min(largest, this.#max) / 2));
    return true;
  }

  // --- what comes ---

  /** Takes a message of the hub if it concerns a further session; false: it does not. */
  take(message) {
    const { type, payload } = message;
    if (type === 'WELCOME') return this.#onWelcome(message, payload);
    if (type === 'ERROR') return this.#onError(payload);
    if (type === 'CLOSED') this.#onClosed(payload);
    else if (message.session === undefined) return false;
    else this.#onSession(this.#sessions.get(message.session), message);
    return true;
  }

  #onSession(channel, { type, payload, ...message }) {
    if (!channel) return; // it was unsubscribed meanwhile
    if (type === 'MESSAGE') channel.onPublication(dataOf({ ...message, payload }), message);
    else if (type === 'STATUS') channel.onStatus(payload);
    else if (type === 'GAP') channel.onGap(payload);
    else if (type === 'PRESENCE') channel.emit('presence', payload);
  }

  /** The channel of an answer: the one with its url, or else the next one of the request. */
  #answered(id, url) {
    const request = this.#asked.get(id);
    if (!request) return null;
    const key = request.channels.has(url) ? url : request.channels.keys().next().value;
    const channel = request.channels.get(key);
    request.channels.delete(key);
    if (request.channels.size === 0) this.#asked.delete(id);
    return channel;
  }

  #onWelcome({ id, url }, payload) {
    if (url === undefined) return false;
    const channel = this.#answered(id, url);
    if (!channel) return true;
    channel.onWelcome(payload);
    this.#sessions.set(channel.session, channel);
    if (channel.readers.size === 0) this.#remove(channel);
    else this.#tune(channel); // the readers may need another rate by now
    this.#link.flush();
    return true;
  }

  #onError({ id, url, code, message }) {
    if (!this.#asked.has(id)) return false;
    const refuse = (channel) => this.#close(channel, code, message);
    if (url !== undefined) refuse(this.#answered(id, url));
    else while (this.#asked.has(id)) refuse(this.#answered(id)); // the whole request
    return true;
  }

  #onClosed({ id, session, code, reason }) {
    const channel = this.#sessions.get(session);
    if (id !== undefined || !channel) return; // the answer to an UNSUBSCRIBE
    if (FINAL.has(code)) {
      this.#close(channel, code, reason);
      return;
    }
    this.#detach(channel);
    const pause = this.#backoff.next();
    const wait = requestedWait(code, reason) ?? pause;
    channel.retryAfter(wait, () => this.#tune(channel));
    channel.emit('status', { state: 'waiting', code, reason, retryIn: Math.round(wait) });
  }

  #close(channel, code, reason) {
    this.#forget(channel, 'closed', reason);
    channel.emit('status', { state: 'closed', code, reason });
    channel.emit('closed', { code, reason });
    channel.readers.clear();
  }
}
