// One connection for all tabs of a browser: the VinhubClient is in a SharedWorker, and each tab has a SharedClient with the
// same methods, which sends its calls to the worker. If there is no SharedWorker, each tab has a connection of its own.
//
//   tab -> worker   hello, start, subscribe, unsubscribe, send, token, shown, connect, reconnect, bye
//   worker -> tab   ready, event, done, token
//
// A tab that is closed can't send a message. So each tab holds a lock, which the worker gets when the tab is gone.

import { Emitter } from './emitter.js';
import { checked, Subscription, SubscriptionGroup } from './subscription.js';
import { SendError, VinhubClient } from './vinhub.js';
import { payloadOf, subscribeUrl } from './wire.js';

const READY_MS = 3000;
const CLOSED = { state: 'closed', upstream: null, code: 1000, reason: 'closed by the page' };
const READY_STATES = { connecting: 0, open: 1, waiting: 0, idle: 0, closed: 3, failed: 3 };

let count = 0;

/** Resolves to the port of a worker that is ready for this url; rejects if there is none. */
function openWorker(url, options, lock) {
  const worker = new SharedWorker(new URL('./shared-worker.js', import.meta.url), { type: 'module', name: 'vinhub' });
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error('the worker does not answer')), READY_MS);
    const end = (fn, value) => { clearTimeout(timer); fn(value); };
    worker.onerror = (event) => end(reject, new Error(event.message || 'the worker does not start'));
    worker.port.onmessage = () => end(resolve, worker.port);
    worker.port.postMessage(['hello', url, options, lock]);
  });
}

/** Takes the lock with this name; resolves to the function that releases it. */
const hold = (name) => new Promise((resolve, reject) => {
  navigator.locks.request(name, () => new Promise((release) => { resolve(release); })).catch(reject);
});

class SharedClient {
  #port;
  #release;
  #token;
  #events = new Emitter();
  #view = { state: 'idle', upstream: null, node: null, position: null };
  #readers = new Map(); // number -> {events, view}
  #calls = new Map();   // number -> {resolve, reject}
  #lastId = 0;
  #unwatch;

  constructor(port, release, token) {
    this.#port = port;
    this.#release = release;
    this.#token = token;
    port.onmessage = ({ data: [name, ...values] }) => this.#take(name, values);
    const shown = () => { if (document.visibilityState === 'visible') port.postMessage(['shown']); };
    document.addEventListener('visibilitychange', shown);
    this.#unwatch = () => document.removeEventListener('visibilitychange', shown);
    Object.freeze(this);
  }

  get shared() { return true; }
  get state() { return this.#view.state; }
  get upstream() { return this.#view.upstream; }
  get node() { return this.#view.node; }
  get position() { return this.#view.position; }
  get pending() { return this.#calls.size; }
  get readyState() { return READY_STATES[this.state]; }

  on(name, fn) { return this.#events.on(name, fn); }
  off(name, fn) { this.#events.off(name, fn); }

  subscribe(urls, options = {}) {
    if (!Array.isArray(urls)) return this.#subscribe(urls, checked(options));
    const { resume = {}, ...others } = options;
    return new SubscriptionGroup((url) => this.#subscribe(url, checked({ ...others, resume: resume?.[url] })), urls);
  }

  #subscribe(url, options) {
    const id = ++this.#lastId;
    const reader = { events: new Emitter(), at: null };
    const view = { session: null, upstream: null, position: options.resume ?? null };
    subscribeUrl(url);
    this.#readers.set(id, { events: reader.events, view });
    this.#post('subscribe', id, url, options);
    return new Subscription(url, reader, view, {
      send: (data, how) => this.#send(id, data, how),
      leave: () => { if (this.#readers.delete(id)) this.#post('unsubscribe', id); },
    });
  }

  async send(data, how) { return this.#send(0, data, how); }

  async #send(reader, data, how) {
    const payload = payloadOf(data);
    if (this.state === 'closed') throw new SendError('closed', 'the client is closed', false);
    const id = ++this.#lastId;
    return new Promise((resolve, reject) => {
      this.#calls.set(id, { resolve, reject });
      this.#post('send', id, reader, payload, how);
    });
  }

  /** Connects again after the state `failed`. */
  connect() {
    if (this.state === 'failed') this.#post('connect');
    return this;
  }

  reconnect() { this.#post('reconnect'); }

  /** Leaves the shared connection, which goes on for the other tabs. */
  close() {
    if (this.state === 'closed') return;
    this.#post('bye');
    this.#unwatch();
    this.#port.close();
    this.#release();
    this.#readers.clear();
    for (const { reject } of this.#calls.values()) reject(new SendError('closed', CLOSED.reason, true));
    this.#calls.clear();
    Object.assign(this.#view, CLOSED);
    this.#events.emit('status', CLOSED);
  }

  #post(...message) {
    if (this.state !== 'closed') this.#port.postMessage(message);
  }

  #take(name, values) {
    if (name === 'event') this.#onEvent(...values);
    else if (name === 'done') this.#onDone(...values);
    else if (name === 'token') this.#onToken(...values);
  }

  #onEvent(id, name, view, values) {
    const reader = id === 0 ? { events: this.#events, view: this.#view } : this.#readers.get(id);
    if (!reader) return;
    Object.assign(reader.view, view);
    reader.events.emit(name, ...values);
  }

  #onDone(id, error) {
    const call = this.#calls.get(id);
    this.#calls.delete(id);
    if (!error) call?.resolve();
    else call?.reject(error.sent === undefined ? new TypeError(error.message) : new SendError(error.code, error.message, error.sent));
  }

  async #onToken(id, context) {
    try {
      this.#post('token', id, { token: await this.#token(context) });
    } catch (error) {
      this.#post('token', id, { error: String(error?.message ?? error) });
    }
  }
}

/**
 * A client that shares its connection with the other tabs that use the same url (a string or a list). The options of the first
 * tab are used. It connects by itself. If there is no SharedWorker, it is a VinhubClient.
 */
export async function sharedClient(url, options = {}) {
  const { token, fallback, WebSocket, ...plain } = options; // functions can't be sent to a worker
  try {
    const lock = `vinhub ${Date.now()} ${Math.random()} ${++count}`;
    const release = await hold(lock);
    try {
      const asks = typeof token === 'function';
      const port = await openWorker(url, { ...plain, fallback: Boolean(fallback), token: asks ? null : token, asks }, lock);
      const client = new SharedClient(port, release, token);
      port.postMessage(['start']); // sent now, since the client has its listener: no event is lost
      return client;
    } catch (error) {
      release();
      throw error;
    }
  } catch {
    return new VinhubClient(url, options).connect();
  }
}
