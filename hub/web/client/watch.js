// One watched url of a component, for the composable and the hook: a subscription of a shared client, or a client of its
// own.

import { SendError, VinhubClient } from './vinhub.js';

const EVENTS = ['message', 'status', 'gap', 'presence', 'closed', 'error'];

/**
 * options: client, or the options of VinhubClient; rate, replay, resume. on: functions by the name of their event; each may be
 * missing. Returns {send, position, stop}. After stop() no function is called; the next watch may resume after position.
 */
export function watchUrl(url, { client, ...options }, on) {
  const own = client ? null : new VinhubClient(url, options);
  const source = own ?? client.subscribe(url, options);
  let stopped = false;
  for (const name of EVENTS) {
    source.on(name, (...values) => { if (!stopped) on[name]?.(...values); });
  }
  own?.connect();
  return {
    send: (data, how) => source.send(data, how),
    get position() { return source.position; },
    stop() {
      stopped = true;
      if (own) own.close();
      else source.unsubscribe();
    },
  };
}

export const notSent = () => Promise.reject(new SendError('closed', 'nothing is watched', false));
export const IDLE = Object.freeze({ state: 'idle', upstream: null });
