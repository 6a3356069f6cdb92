// In the page: a client whose every event is kept, for the test to look at.
import { VinhubClient } from './client/vinhub.js';
import { EventStreamSocket } from './client/stream.js';
import { sharedClient } from './client/shared.js';
import mixin, { vinhubMixin } from './client/vue.js';

function keep(client) {
  const seen = { messages: [], metas: [], states: [], gaps: [], errors: [], closes: [], acks: [], refused: [] };
  client.on('message', (data, meta) => {
    seen.messages.push(typeof data === 'string' ? data : [...data]);
    seen.metas.push(meta);
  });
  client.on('status', (status) => seen.states.push({ ...status, at: performance.now() }));
  client.on('gap', (gap) => seen.gaps.push(gap));
  client.on('error', (error) => seen.errors.push(error));
  client.on('close', (end) => seen.closes.push(end));
  window.client = client;
  window.seen = seen;
}

/** Keeps what is written, each with the number of its connection. */
class Recorded extends WebSocket {
  constructor(...args) {
    super(...args);
    this.number = ++window.connections;
  }

  send(data) {
    window.written.push(`${this.number} ${data}`);
    super.send(data);
  }
}

/** options.tokens: what the token provider gives, one after another, the last one again and again. */
window.startClient = (url, { tokens, ...options } = {}) => {
  Object.assign(window, { asked: [], written: [], connections: 0 });
  if (tokens) {
    options.token = (context) => {
      window.asked.push(context);
      return Promise.resolve(tokens[Math.min(window.asked.length, tokens.length) - 1]);
    };
  }
  keep(new VinhubClient(url, { WebSocket: Recorded, ...options }));
  window.client.connect();
};

/** Sends and keeps how it ended; does not wait for that. */
window.send = (data, options) => {
  window.client.send(data, options).then(
    () => window.seen.acks.push(data), ({ code, sent }) => window.seen.refused.push({ code, sent }));
};

Object.assign(window, { EventStreamSocket, VinhubClient, keep, sharedClient, mixin, vinhubMixin, ready: true });
