// Access to the admin port: requests with the token, and server-sent events. These are read with fetch, since an EventSource
// can't send a token.

import { askToken } from './dom.js';

const TOKEN = 'vinhub-token';
let asking = null;

function headers(more = {}) {
  const token = sessionStorage.getItem(TOKEN);
  return token ? { ...more, Authorization: `Bearer ${token}` } : more;
}

/** Asks the operator for the token, once for all requests that need it. Returns false if the operator cancels. */
async function signIn() {
  asking ??= askToken(sessionStorage.getItem(TOKEN) !== null).then((token) => {
    asking = null;
    if (token !== null) sessionStorage.setItem(TOKEN, token);
    return token !== null;
  });
  return asking;
}

async function send(path, options) {
  for (;;) {
    const response = await fetch(path, { ...options, headers: headers(options.headers) });
    if (response.status !== 401 || !(await signIn())) return response;
  }
}

async function answer(response) {
  const body = await response.json().catch(() => ({}));
  if (response.ok) return body;
  const error = new Error(body.error ?? `HTTP ${response.status}`);
  error.status = response.status;
  throw error;
}

export const get = async (path, signal) => answer(await send(path, { signal }));

export const post = async (path, body) => answer(await send(path, {
  method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(body),
}));

export const sessionPath = (id) => `api/sessions/${encodeURIComponent(id)}`;

/** Reads events from the stream until it ends; onEvent(name, data). */
async function readEvents(body, onEvent) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const events = (rest + value).split('\n\n');
    rest = events.pop();
    for (const event of events) {
      const name = /^event: (.*)$/m.exec(event);
      const data = /^data: (.*)$/m.exec(event);
      if (name && data) onEvent(name[1], JSON.parse(data[1]));
    }
  }
}

const pause = (ms, signal) => new Promise((resolve) => {
  const timer = setTimeout(resolve, ms);
  signal.addEventListener('abort', () => { clearTimeout(timer); resolve(); }, { once: true });
});

/** Follows a stream until signal is aborted. If the stream ends, it is opened again after a back-off. onState(live, why). */
export async function follow(path, onEvent, onState, signal) {
  for (let wait = 500; !signal.aborted; wait = Math.min(wait * 2, 10000)) {
    let why = 'the node ended the stream';
    try {
      const response = await send(path, { signal });
      if (!response.ok) await answer(response);
      onState(true, '');
      wait = 500;
      await readEvents(response.body, onEvent);
    } catch (error) {
      why = error.message;
    }
    if (signal.aborted) return;
    onState(false, why);
    await pause(wait * (0.5 + Math.random()), signal);
  }
}
