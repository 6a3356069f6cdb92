// The SharedWorker of shared.js: one client for each url, for all tabs.

import { EventStreamSocket } from './stream.js';
import { VinhubClient } from './vinhub.js';

const ANSWER_MS = 3000; // a frozen tab does not answer: after this time the next tab is asked for a token
const CLIENT_EVENTS = ['message', 'status', 'gap', 'presence', 'error', 'close'];
const READER_EVENTS = ['message', 'status', 'gap', 'presence', 'closed'];

const rooms = new Map(); // url -> room

const viewOf = ({ state, upstream, node, position }) => ({ state, upstream, node, position });

class Room {
  tabs = new Set();
  #key;

  constructor(key, url, { fallback, asks, ...options }) {
    this.#key = key;
    if (fallback) options.fallback = EventStreamSocket;
    if (asks) options.token = (context) => this.#askToken(context);
    this.client = new VinhubClient(url, options);
    for (const name of CLIENT_EVENTS) {
      this.client.on(name, (...values) => {
        if (name === 'status') [this.status] = values;
        for (const tab of this.tabs) tab.emit(0, name, viewOf(this.client), values);
      });
    }
  }

  enter(tab) {
    this.tabs.add(tab);
    if (this.client.state === 'idle' || this.client.state === 'failed') this.client.connect();
    else if (this.status) tab.emit(0, 'status', viewOf(this.client), [this.status]);
  }

  leave(tab) {
    this.tabs.delete(tab);
    if (this.tabs.size > 0) return;
    this.client.close();
    rooms.delete(this.#key);
  }

  /** The tab that came last is asked first. */
  async #askToken(context) {
    for (const tab of [...this.tabs].reverse()) {
      const answer = await tab.askToken(context);
      if (answer?.error) throw new Error(answer.error);
      if (answer) return answer.token;
    }
    throw new Error('no tab has answered with a token');
  }
}

class Tab {
  #port;
  #wants = null; // the arguments for a new Room
  #room = null;
  #subscriptions = new Map();
  #asked = new Map(); // number -> resolve
  #lastId = 0;

  constructor(port) {
    this.#port = port;
    port.onmessage = ({ data: [name, ...values] }) => this[name](...values);
  }

  emit(...event) { this.#port.postMessage(['event', ...event]); }

  hello(url, options, lock) {
    this.#wants = [JSON.stringify(url), url, options];
    navigator.locks.request(lock, () => this.bye());
    this.#port.postMessage(['ready']);
  }

  /** The tab listens to events from now on. */
  start() {
    if (!this.#wants) return;
    const [key] = this.#wants;
    if (!rooms.has(key)) rooms.set(key, new Room(...this.#wants));
    this.#room = rooms.get(key);
    this.#room.enter(this);
  }

  bye() {
    const room = this.#room;
    this.#room = this.#wants = null;
    if (!room) return;
    for (const subscription of this.#subscriptions.values()) subscription.unsubscribe();
    for (const resolve of this.#asked.values()) resolve(null);
    room.leave(this);
  }

  subscribe(id, url, options) {
    const subscription = this.#room.client.subscribe(url, options);
    this.#subscriptions.set(id, subscription);
    for (const name of READER_EVENTS) {
      subscription.on(name, (...values) => {
        const { session, upstream, position } = subscription;
        this.emit(id, name, { session, upstream, position }, values);
      });
    }
  }

  unsubscribe(id) {
    this.#subscriptions.get(id)?.unsubscribe();
    this.#subscriptions.delete(id);
  }

  async send(id, reader, data, how) {
    const source = reader === 0 ? this.#room.client : this.#subscriptions.get(reader);
    try {
      await source.send(data, how);
      this.#port.postMessage(['done', id]);
    } catch ({ code, message, sent }) {
      this.#port.postMessage(['done', id, { code, message, sent }]);
    }
  }

  askToken(context) {
    const id = ++this.#lastId;
    this.#port.postMessage(['token', id, context]);
    return new Promise((resolve) => {
      this.#asked.set(id, resolve);
      setTimeout(() => this.token(id, null), ANSWER_MS);
    });
  }

  token(id, answer) {
    this.#asked.get(id)?.(answer);
    this.#asked.delete(id);
  }

  connect() { this.#room.client.connect(); }
  reconnect() { this.#room.client.reconnect(); }

  /** A client checks its connection when its page is shown. A worker has no page, so its tabs report it. */
  shown() { globalThis.dispatchEvent(new Event('pageshow')); }
}

globalThis.onconnect = ({ ports: [port] }) => new Tab(port);
