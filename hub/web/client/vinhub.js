// The browser's side of vinhub: one connection to one session, which is made again by itself, on any node.
//
//   idle -> connecting -> open -> waiting -> connecting …     starts with connect()
//   closed   close() was called; connect() starts again
//   failed   the client must not connect again by itself; connect() starts again
//
// With the subprotocol `vinhub.v1` it resumes after the last message and repeats messages that were not acknowledged. In raw
// mode it works like pages of the Node relay: payloads as they are, and text heartbeats.

import { Emitter } from './emitter.js';
import { Heartbeat } from './heartbeat.js';
import { Outbox, SendError } from './outbox.js';
import { Position } from './position.js';
import { Refresher } from './refresh.js';
import { Backoff, requestedWait, ruleOf, saysTooLarge } from './retry.js';
import { Subscriptions } from './subscriptions.js';
import { dataOf, decode, encodeRefresh, encodeSend, handshakeUrl, isToken, payloadOf, PING, PROTOCOL } from './wire.js';

export { SendError };

const DEFAULTS = {
  mode: 'v1',
  token: null,
  tokenIn: 'protocol',
  maxRefusals: 3,
  resume: null,
  heartbeat: { every: 5000, timeout: 10_000, probe: 3000, text: 'ping', reply: 'pong' },
  reconnect: { min: 1000, max: 15_000 },
  connectTimeout: 10_000,
  sendTimeout: 30_000,
  maxPending: 1000,
  fallback: null,
  fallbackFor: 60_000,
};
const STABLE_MS = 5000;          // after a connection that lasted this long the back-off starts over
const RAW_ACCEPTED_MS = 1000;    // a raw connection that lasts this long was accepted: a refused token closes it sooner
const ASKED_MS = 1000;           // added to the time of a probe: the end of a dead connection may be reported later
const SEND_TIMEOUT_MAX = 240_000; // the hub keeps ids of SENDs for five minutes; a later repeat would go upstream twice
const BLOCKED_AFTER = 2;         // after so many WebSockets in a row on which nothing came, the network may block them
const ABNORMAL = 1006;
const UNAUTHORIZED = 4001;
const OPEN = 1;
const READY_STATES = { connecting: 0, open: 1, waiting: 0, idle: 3, closed: 3, failed: 3 };

const valueOf = (source, ...values) => (typeof source === 'function' ? source(...values) : source);
const isOffline = () => globalThis.navigator?.onLine === false;
const isHidden = () => globalThis.document?.visibilityState === 'hidden';

function settings(options) {
  const merged = { ...DEFAULTS, ...options };
  for (const name of ['heartbeat', 'reconnect']) merged[name] = { ...DEFAULTS[name], ...options[name] };
  if (merged.mode !== 'v1' && merged.mode !== 'raw') throw new TypeError(`mode: expected v1 or raw, got ${merged.mode}`);
  if (merged.fallback && merged.mode === 'raw') throw new TypeError('fallback: expected mode v1, got raw');
  if (merged.tokenIn !== 'protocol' && merged.tokenIn !== 'query') {
    throw new TypeError(`tokenIn: expected protocol or query, got ${merged.tokenIn}`);
  }
  return merged;
}

const ttlOf = (ttl) => {
  if (ttl !== undefined && !(Number.isSafeInteger(ttl) && ttl > 0)) throw new RangeError(`ttl: expected whole milliseconds from 1 on, got ${ttl}`);
  return ttl;
};

export class VinhubClient {
  #url;
  #options;
  #events = new Emitter();
  #outbox;
  #backoff;
  #state = 'idle';
  #socket = null;
  #beat = null;
  #refresher;
  #token = null;      // the token of the present connection
  #turn = 0;          // number of the present attempt to connect; an older one stops at its next step
  #place = 0;         // index in a list of URLs
  #timer = null;      // of the next attempt, or of the present one
  #notBefore = 0;     // the earliest time for an attempt by the last close code, also if the page is shown again
  #askedAt = -Infinity; // when the connection was last probed, since the page was shown or its network changed
  #openedAt = 0;
  #heard = false;     // something came on this connection
  #blocked = 0;       // WebSockets in a row on which nothing came
  #fallen = false;    // the next attempt uses the fallback
  #refusals = 0;      // tokens refused in a row
  #refusal = null;    // why the last token was refused
  #position;
  #subscriptions;
  #client = null;
  #node = null;
  #upstream = null;
  #unwatch = null;

  constructor(url, options = {}) {
    this.#url = url;
    this.#options = settings(options);
    this.#outbox = new Outbox(this.#options.maxPending);
    this.#backoff = new Backoff(this.#options.reconnect);
    this.#position = new Position(this.#options.resume);
    this.#subscriptions = new Subscriptions({
      write: (text) => this.#socket.send(text),
      nextId: () => this.#outbox.nextId(),
      send: (channel, data, how) => this.#send(channel, data, how),
      flush: () => this.#flush(),
      renew: (channel) => this.#outbox.renewChannel(channel),
      refuse: (channel, code, reason) => this.#outbox.refuseChannel(channel, code, reason),
    }, this.#options.reconnect);
    this.#refresher = new Refresher({
      reconnect: this.#options.reconnect,
      ask: (context) => this.#options.token(context),
      send: (token) => this.#sendToken(token),
      failed: (error) => this.#onProviderError(error),
    });
    Object.freeze(this); // Vue makes no proxy of a frozen object; a proxy could not reach the private fields
  }

  get state() { return this.#state; }
  get upstream() { return this.#upstream; }
  get node() { return this.#node; }
  get pending() { return this.#outbox.size; }
  /** EPOCH.OFFSET of the last message, for `resume` after a reload; null: no message yet. */
  get position() { return this.#position.at && String(this.#position); }
  /** As that of a WebSocket; also 0 while the client waits to connect again, since send() is possible then. */
  get readyState() { return READY_STATES[this.#state]; }

  on(name, fn) { return this.#events.on(name, fn); }
  off(name, fn) { this.#events.off(name, fn); }

  connect() {
    if (this.readyState !== 3) return this;
    this.#refusals = 0;
    this.#notBefore = 0;
    this.#backoff.reset();
    this.#unwatch ??= this.#watch();
    this.#dial();
    return this;
  }

  close() {
    if (this.#state === 'closed') return;
    this.#finish('closed', { code: 1000, reason: 'closed by the page' });
  }

  /** Ends the connection and makes a new one now. Does nothing while a connection is being made. */
  reconnect() {
    if (this.#state === 'open') {
      this.#drop();
      this.#dial();
    } else if (this.#state === 'waiting') {
      this.#dial();
    } else {
      this.connect();
    }
  }

  /**
   * v1: resolves when the message has gone upstream. raw: when it was written. Rejects with a SendError. While there is no
   * connection the message waits. ttl: ms after which the message must not go upstream any more.
   */
  async send(data, options) { return this.#send(null, data, options); }

  /**
   * Subscribes to further sessions on this connection, each named by the URL that its own connection would have. Returns a
   * Subscription for one url, a SubscriptionGroup for a list. options: rate (messages a second), replay (past messages), resume.
   */
  subscribe(urls, options) {
    if (this.#isRaw) throw new TypeError('subscribe: expected mode v1, got raw');
    return this.#subscriptions.add(urls, options);
  }

  /** channel: of a subscription; null: the connection's own session. */
  async #send(channel, data, { timeout = this.#options.sendTimeout, ttl } = {}) {
    const payload = payloadOf(data);
    if (this.#state === 'closed' || this.#state === 'failed') throw new SendError('closed', 'the client is closed: call connect() first', false);
    if (channel?.state === 'gone') throw new SendError('closed', 'the subscription is over', false);
    const frameOf = this.#isRaw ? () => payload
      : (id, left) => encodeSend(id, payload, { session: channel?.session, ttl: left });
    const acknowledged = this.#outbox.add(frameOf, Math.min(timeout, SEND_TIMEOUT_MAX), { ttl: ttlOf(ttl), channel });
    this.#flush();
    return acknowledged;
  }

  get #isRaw() { return this.#options.mode === 'raw'; }

  #set(state, details = {}) {
    this.#state = state;
    this.#events.emit('status', {
      state, upstream: this.#upstream, node: this.#node, attempt: this.#backoff.attempts,
      ...(this.#readsOnly && { readsOnly: true }), ...details,
    });
    if (state !== 'open') this.#subscriptions.setStatus({ state, upstream: null, ...details });
  }

  // --- connecting ---

  async #dial() {
    const turn = ++this.#turn;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#lose(ABNORMAL, 'no connection in time'), this.#options.connectTimeout);
    this.#set('connecting');
    let target, token;
    try {
      [target, token] = await Promise.all([valueOf(this.#url), this.#askToken()]);
    } catch (error) {
      if (turn !== this.#turn) return;
      this.#onProviderError(error);
      this.#lose(ABNORMAL, 'the function for the token or the URL has failed');
      return;
    }
    if (turn !== this.#turn) return;
    if (token && this.#options.tokenIn === 'protocol' && !isToken(token)) this.#lose(UNAUTHORIZED, 'the token has characters that a subprotocol can\'t have');
    else this.#open(Array.isArray(target) ? target[this.#place % target.length] : target, token);
  }

  async #askToken() {
    const { token } = this.#options;
    return valueOf(token, { refused: this.#refusal !== null, reason: this.#refusal, refusals: this.#refusals });
  }

  #onProviderError(error) {
    this.#events.emit('error', { code: 'provider', message: String(error?.message ?? error) });
  }

  #open(target, token) {
    this.#token = token;
    const protocols = this.#isRaw ? [] : [PROTOCOL];
    const parameters = {};
    if (token && this.#options.tokenIn === 'protocol') protocols.push('bearer', token);
    else if (token) parameters.token = token;
    if (!this.#isRaw && (this.#position.at || this.#client)) parameters.resume = this.#resumeToken();
    let socket;
    try {
      const Socket = this.#fallen ? this.#options.fallback : this.#options.WebSocket ?? globalThis.WebSocket;
      socket = new Socket(handshakeUrl(target, parameters), protocols);
    } catch (error) {
      // The URL can't be parsed, so the next attempt would fail, too.
      this.#fail(ABNORMAL, String(error?.message ?? error));
      return;
    }
    this.#attach(socket);
  }

  #resumeToken() { return this.#client ? `${this.#position}.${this.#client}` : String(this.#position); }

  #attach(socket) {
    this.#socket = socket;
    this.#heard = false;
    this.#openedAt = 0;
    this.#outbox.renew();
    socket.binaryType = 'arraybuffer';
    socket.onopen = () => this.#onOpen(socket);
    socket.onmessage = ({ data }) => this.#onData(data);
    socket.onclose = ({ code, reason }) => this.#lose(code, reason);
  }

  #onOpen(socket) {
    if (this.#isRaw) this.#begin({ resumed: false });
    else if (socket.protocol !== PROTOCOL) this.#lose(ABNORMAL, `the server does not speak ${PROTOCOL}`);
  }

  /** The connection can be used: in raw mode once it is open, in v1 after its WELCOME. */
  #begin(details) {
    clearTimeout(this.#timer);
    this.#openedAt = performance.now();
    const { every, timeout, text } = this.#options.heartbeat;
    this.#beat = new Heartbeat({
      every, timeout,
      ping: () => this.#socket.send(this.#isRaw ? text : PING),
      lost: () => this.#lose(ABNORMAL, 'no heartbeat'),
    });
    this.#beat.start();
    if (this.#readsOnly) this.#timer = setTimeout(() => this.#goBack(), this.#options.fallbackFor);
    else this.#blocked = 0;
    if (!this.#isRaw && !this.#readsOnly && typeof this.#options.token === 'function') this.#refresher.start(this.#token);
    this.#flush();
    this.#subscriptions.begin();
    this.#set('open', details);
  }

  /** The connection is the fallback: messages to send wait for a WebSocket. */
  get #readsOnly() { return this.#socket?.constructor.readingOnly === true; }

  /** Tries a WebSocket again; if it does not open, the fallback is used again at once. */
  #goBack() {
    this.#drop();
    this.#fallen = false;
    this.#dial();
  }

  /** An attempt has failed before anything came: chooses WebSocket or fallback for the next one. True: no wait is needed. */
  #onBlocked(readOnly) {
    const { fallback } = this.#options;
    if (!fallback || isOffline()) return false;
    if (!readOnly) this.#blocked++;
    const returned = this.#blocked > BLOCKED_AFTER && !readOnly; // a WebSocket was tried again after the fallback
    this.#fallen = !readOnly && this.#blocked >= BLOCKED_AFTER;
    return returned;
  }

  #flush() {
    if (this.#openedAt === 0 || this.#readsOnly || this.#socket.readyState !== OPEN) return; // a closing socket drops messages
    this.#outbox.flush((frame, id) => {
      this.#socket.send(frame);
      if (this.#isRaw) this.#outbox.acknowledge(id);
    });
  }

  #sendToken(token) {
    const id = this.#outbox.nextId();
    if (this.#socket.readyState === OPEN) this.#socket.send(encodeRefresh(id, token));
    return id;
  }

  // --- what comes ---

  #onData(data) {
    this.#heard = true;
    this.#beat?.heard();
    if (!this.#isRaw) this.#onMessage(decode(data));
    else if (data !== this.#options.heartbeat.reply) {
      this.#events.emit('message', typeof data === 'string' ? data : new Uint8Array(data), {});
    }
  }

  #onMessage(message) {
    if (!message || this.#subscriptions.take(message)) return;
    const { payload } = message;
    switch (message.type) {
      case 'MESSAGE': this.#onPublication(message); break;
      case 'WELCOME': this.#onWelcome(payload); break;
      case 'GAP': this.#onGap(payload); break;
      case 'ACK': this.#onAck(payload); break;
      case 'STATUS': this.#onStatus(payload); break;
      case 'ERROR': this.#onError(payload); break;
      case 'PRESENCE': this.#events.emit('presence', payload); break;
      default: break; // PONG, and types of later versions
    }
  }

  #onWelcome(welcome) {
    const { node, session, client, resumed, upstream } = welcome;
    const known = this.#client !== null && !!session; // a connection may have no session of its own
    this.#node = node;
    this.#upstream = upstream;
    this.#client = client ?? this.#client;
    this.#refusals = 0;
    this.#refusal = null;
    const gap = this.#position.welcome(welcome, known);
    this.#begin({ resumed });
    if (gap) this.#events.emit('gap', gap);
  }

  #onPublication(message) {
    const { epoch, offset, timestamp } = message;
    if (this.#position.take(message)) this.#events.emit('message', dataOf(message), { epoch, offset, timestamp });
  }

  #onGap({ epoch, from, to }) {
    this.#position.skip({ epoch, to });
    this.#events.emit('gap', { epoch, from, to });
  }

  #onStatus({ upstream, reason }) {
    this.#upstream = upstream;
    this.#set(this.#state, reason === undefined ? {} : { reason });
  }

  #onAck({ id }) {
    this.#outbox.acknowledge(id);
    this.#refresher.answered(id, null);
  }

  #onError({ id, code, message }) {
    this.#refresher.answered(id, { code, message });
    if (id !== undefined) this.#outbox.refuse(id, code, message);
    this.#events.emit('error', { id, code, message });
  }

  // --- ends ---

  /** Closes the socket and removes its listeners. */
  #drop() {
    clearTimeout(this.#timer);
    this.#turn++;
    this.#beat?.stop();
    this.#beat = null;
    this.#refresher.stop();
    this.#subscriptions.end();
    const socket = this.#socket;
    this.#socket = null;
    this.#openedAt = 0;
    this.#upstream = null;
    if (!socket) return;
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.close(1000);
  }

  /** The connection, or the attempt to make one, has ended. */
  #lose(code, reason) {
    const lived = this.#openedAt === 0 ? 0 : performance.now() - this.#openedAt;
    const accepted = this.#openedAt > 0 && (!this.#isRaw || this.#heard || lived > RAW_ACCEPTED_MS);
    const hurries = code === ABNORMAL && this.#socket !== null && this.#openedAt === 0 && this.#onBlocked(this.#readsOnly);
    const tooLarge = saysTooLarge(code) && this.#subscriptions.tooLarge();
    this.#drop();
    if (lived > STABLE_MS) this.#backoff.reset();
    if (accepted) this.#refusals = 0;
    if (saysTooLarge(code) && !tooLarge) this.#outbox.refuseLargest(reason);
    this.#retry(code, reason, accepted, hurries);
  }

  #retry(code, reason, accepted, hurries) {
    const rule = ruleOf(code);
    if (rule.token) {
      this.#refusal = reason;
      this.#refusals += accepted ? 0 : 1; // a token that expired in use does not count as refused
    } else if (accepted) {
      this.#refusal = null;
    }
    if (rule.end || this.#refusals >= this.#options.maxRefusals) {
      this.#fail(code, reason);
      return;
    }
    if (!rule.stay) this.#place++;
    const found = code === ABNORMAL && performance.now() - this.#askedAt < this.#options.heartbeat.probe + ASKED_MS;
    const first = this.#backoff.attempts === 0;
    const requested = requestedWait(code, reason);
    const atOnce = found || hurries || ((rule.now || (rule.token && accepted)) && first && requested === undefined);
    this.#askedAt = -Infinity; // counts for one attempt: if that fails, the usual wait follows
    const floor = requested ?? rule.floor ?? 0;
    const pause = floor + this.#backoff.next(); // added: pages with the same floor must not come at the same time
    const wait = atOnce ? 0 : isOffline() ? this.#options.reconnect.max : requested !== undefined && first ? requested : pause;
    this.#notBefore = performance.now() + floor;
    this.#timer = setTimeout(() => this.#dial(), wait);
    this.#set('waiting', { code, reason, retryIn: Math.round(wait) });
    this.#events.emit('close', { code, reason });
  }

  #fail(code, reason) {
    this.#finish('failed', { code, reason });
    this.#events.emit('close', { code, reason });
  }

  #finish(state, details) {
    this.#drop();
    this.#unwatch?.();
    this.#unwatch = null;
    this.#outbox.refuseAll('closed', details.reason);
    this.#set(state, details);
  }

  // --- events of the page and its network ---

  #watch() {
    const heed = () => this.#heed();
    const wake = () => { if (!isHidden()) heed(); };
    const places = [
      [globalThis.document, 'visibilitychange', wake], [globalThis.document, 'resume', heed],
      [globalThis, 'pageshow', wake], [globalThis, 'online', () => this.#onOnline()], [globalThis, 'offline', heed],
    ].filter(([target]) => typeof target?.addEventListener === 'function');
    for (const [target, name, fn] of places) target.addEventListener(name, fn);
    return () => { for (const [target, name, fn] of places) target.removeEventListener(name, fn); };
  }

  /** The page was shown or its network changed: checks an open connection, or makes the next attempt now. */
  #heed() {
    if (this.#state === 'waiting') {
      if (!isOffline() && performance.now() >= this.#notBefore) this.#dial();
      return;
    }
    this.#askedAt = performance.now();
    if (this.#state !== 'open') return;
    this.#beat.probe(this.#options.heartbeat.probe);
    this.#refresher.heed();
  }

  /** The network is back: an attempt that began before may hang until its timeout, so it begins again. */
  #onOnline() {
    if (this.#state !== 'connecting') {
      this.#heed();
      return;
    }
    this.#drop();
    this.#dial();
  }
}
