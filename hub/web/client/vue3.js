// For Vue 3: a composable. Watching ends when the component is unmounted, and while it is kept alive but not shown.
//
//   const { data, status, send } = useVinhub(() => `/admin/${props.vin}?remoteWs`, { client })

import { getCurrentInstance, onActivated, onDeactivated, onScopeDispose, shallowRef, unref, watch } from 'vue';
import { IDLE, notSent, watchUrl } from './watch.js';

const valueOf = (source) => (typeof source === 'function' ? source() : unref(source));

/**
 * url: a string, a list, a ref or a getter; while it is empty, nothing is watched. options: client (shared by components; without
 * it a new one is made), rate, replay, resume, those of VinhubClient, and onMessage, onGap, onPresence, onClosed, onError.
 */
export function useVinhub(url, { onMessage, onGap, onPresence, onClosed, onError, ...options } = {}) {
  const [data, meta, presence, status] = [shallowRef(null), shallowRef(null), shallowRef(null), shallowRef(IDLE)];
  let link = null;
  let place = options.resume;
  let away = false;

  const on = {
    message(text, where) { data.value = text; meta.value = where; onMessage?.(text, where); },
    status(value) { status.value = value; },
    presence(value) { presence.value = value; onPresence?.(value); },
    gap: onGap, closed: onClosed, error: onError,
  };

  function start() {
    const target = valueOf(url);
    if (!target?.length || away || typeof window === 'undefined') return;
    link = watchUrl(target, { ...options, resume: place }, on);
  }

  function stop() {
    if (!link) return;
    place = link.position;
    link.stop();
    link = null;
    status.value = IDLE;
  }

  watch(() => JSON.stringify(valueOf(url)), (now, before) => {
    stop();
    if (before !== undefined) { // another session: position and data of the last one must not be used
      place = undefined;
      data.value = meta.value = presence.value = null;
    }
    start();
  }, { immediate: true });
  if (getCurrentInstance()) {
    onDeactivated(() => { stop(); away = true; });
    onActivated(() => { if (away) { away = false; start(); } });
  }
  onScopeDispose(stop);

  return { data, meta, presence, status, send: (value, how) => (link ? link.send(value, how) : notSent()) };
}
