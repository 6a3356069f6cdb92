// Event streams instead of a WebSocket, for networks that block WebSockets. They can't send. The class has the members of a
// WebSocket that VinhubClient uses, and makes messages of vinhub.v1 from the events of the streams.
//
//   new VinhubClient(url, { fallback: EventStreamSocket })
//
// The connection's own session is one stream, and so is each subscription. At most STREAMS_MAX are open; the others wait.

import { PROTOCOL } from './wire.js';

const STREAMS_MAX = 5;      // with HTTP/1.1 a browser has six connections to a host
const SILENCE_MS = 60_000;  // the hub writes a comment each 25 s (clients.ping)
const ABNORMAL = 1006;
const CODES = { 401: 4001, 403: 4001, 503: 1013 };
const WORDS = { 400: 'malformed_url', 401: 'unauthorized', 403: 'unauthorized', 404: 'unknown_service' };

// The last comment of a stream that the hub ends: the close code that a WebSocket would get, and its reason.
const END = /^ ?(\d{4})(?: (.*))?$/;

/** Parses the text of a stream, which comes in any pieces. Calls emit({id, event, data, comment}); missing fields are undefined. */
class Parser {
  #rest = '';
  #block = {};
  #emit;

  constructor(emit) { this.#emit = emit; }

  take(text) {
    const lines = (this.#rest + text).split('\n');
    this.#rest = lines.pop();
    for (const line of lines) this.#line(line);
  }

  #line(line) {
    if (line === '') {
      if (Object.keys(this.#block).length > 0) this.#emit(this.#block);
      this.#block = {};
      return;
    }
    const [, name, value] = /^([^:]*):? ?(.*)$/.exec(line);
    if (name === 'data' && this.#block.data !== undefined) this.#block.data += `\n${value}`;
    else this.#block[name || 'comment'] = value;
  }
}

/** One stream; on: event(block), ended(status, code, reason). status: of a refusal, else null; code: as for a WebSocket. */
class Stream {
  #abort = new AbortController();
  #timer;
  #last = [];    // code and reason in the last comment, if it is that of an end

  constructor(url, token, on) {
    this.on = on;
    this.#run(url, token);
  }

  async #run(url, token) {
    const headers = { Accept: 'text/event-stream', ...(token && { Authorization: `Bearer ${token}` }) };
    try {
      this.#heard();
      const answer = await fetch(url, { headers, cache: 'no-store', credentials: 'include', signal: this.#abort.signal });
      if (!answer.ok) {
        this.#end(answer.status, CODES[answer.status] ?? ABNORMAL, (await answer.text()).trim());
        return;
      }
      await this.#read(answer.body.getReader());
      const [code = ABNORMAL, reason = 'the stream ended'] = this.#last;
      this.#end(null, Number(code), reason);
    } catch (error) {
      this.#end(null, ABNORMAL, String(error?.message ?? error));
    }
  }

  async #read(reader) {
    const decoder = new TextDecoder();
    const parser = new Parser((block) => {
      if (block.comment !== undefined) this.#last = END.exec(block.comment)?.slice(1) ?? [];
      this.on?.event(block);
    });
    for (;;) {
      const { done, value } = await reader.read();
      if (done || !this.on) return;
      this.#heard();
      parser.take(decoder.decode(value, { stream: true }));
    }
  }

  #heard() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#abort.abort(new Error(`nothing received for ${SILENCE_MS / 1000} s`)), SILENCE_MS);
  }

  #end(...end) {
    const { on } = this;
    this.close();
    on?.ended(...end);
  }

  close() {
    clearTimeout(this.#timer);
    this.on = null;
    this.#abort.abort();
  }
}

const positionIn = (url) => /[?&]resume=(\d+\.\d+)/.exec(url)?.[1];
const placeOf = (id) => { const [epoch, offset] = id.split('.').map(Number); return { epoch, offset }; };

/** The http(s) URL; without the client id in resume, since streams have none. */
function streamUrl(url) {
  return url.replace(/^ws/, 'http').replace(/([?&]resume=\d+\.\d+)\.[^&#]*/, '$1').replace(/[?&]resume=0\.0(?=&|$)/, '');
}

export class EventStreamSocket {
  static readingOnly = true;
  binaryType = '';
  protocol = PROTOCOL;
  readyState = 0;
  onopen = null;
  onmessage = null;
  onclose = null;
  #url;
  #token;
  #own = null;
  #streams = new Map(); // made-up name of a session -> stream of its subscription
  #waiting = [];        // {id, url} of subscriptions without a stream yet
  #names = 0;

  /** url and protocols as for a WebSocket. */
  constructor(url, [, , token] = []) {
    this.#url = url;
    this.#token = token;
    if (/[?&]subscribe=?(&|$)/.test(url)) queueMicrotask(() => this.#welcomeAll());
    else this.#own = this.#open(url, undefined, (status, code, reason) => this.#lost(code, reason));
  }

  /** A connection without a session of its own opens at once; whether the hub answers shows at the first subscription. */
  #welcomeAll() {
    this.#begin();
    this.#say('WELCOME', { node: null, session: '', client: null, epoch: 0, offset: 0, resumed: false, upstream: null });
  }

  #begin() {
    if (this.readyState !== 0) return;
    this.readyState = 1;
    this.onopen?.();
  }

  #say(type, payload, more = {}) {
    if (this.readyState === 1) this.onmessage?.({ data: JSON.stringify({ type, timestamp: Date.now(), ...more, payload }) });
  }

  /** asked: {id, url, session} of a subscription. */
  #open(url, asked, ended) {
    const resume = positionIn(url);
    let welcomed = false;
    const more = asked && { session: asked.session };
    return new Stream(streamUrl(url), this.#token, {
      event: ({ id, event, data }) => {
        if (id !== undefined && !welcomed) {
          welcomed = true;
          this.#begin();
          const welcome = { node: null, client: null, session: asked?.session ?? 'own', resumed: id === resume, upstream: null };
          this.#say('WELCOME', { ...welcome, ...placeOf(id) }, asked && { id: asked.id, url: asked.url });
        } else if (event === 'message' || event === 'binary') {
          this.#say('MESSAGE', data ?? '', { ...more, ...placeOf(id), encoding: event === 'binary' ? 'base64' : 'text' });
        } else if (event !== undefined && data !== undefined) {
          this.#say(event.toUpperCase(), JSON.parse(data), more);
        }
      },
      ended: (...end) => ended(...end, welcomed),
    });
  }

  // --- messages of the client ---

  send(text) {
    const { type, id, urls, sessions } = JSON.parse(text);
    if (type === 'PING') this.#say('PONG', {}); // each stream notices its own silence (SILENCE_MS)
    if (type === 'SUBSCRIBE') this.#waiting.push(...urls.map((url) => ({ id, url })));
    for (const session of (type === 'UNSUBSCRIBE' && sessions) || []) {
      this.#streams.get(session)?.close();
      this.#streams.delete(session);
    }
    this.#next();
  }

  #next() {
    const free = STREAMS_MAX - this.#streams.size - (this.#own ? 1 : 0);
    for (const asked of this.#waiting.splice(0, Math.max(0, free))) this.#subscribe(asked);
  }

  #subscribe({ id, url }) {
    const session = `stream ${++this.#names}`;
    const ended = (status, code, reason, welcomed) => {
      this.#streams.delete(session);
      if (welcomed) this.#say('CLOSED', { session, code, reason });
      else if (WORDS[status]) this.#say('ERROR', { id, url, code: WORDS[status], message: reason });
      else this.#lost(code, reason);
      this.#next();
    };
    this.#streams.set(session, this.#open(new URL(url, this.#url).href, { id, url, session }, ended));
  }

  // --- ends ---

  #lost(code, reason) {
    const { onclose } = this;
    this.close();
    onclose?.({ code, reason });
  }

  close() {
    this.readyState = 3;
    this.#own?.close();
    for (const stream of this.#streams.values()) stream.close();
    this.#streams.clear();
    this.#waiting.length = 0;
  }
}
