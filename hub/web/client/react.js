// For React: a hook. Watching ends with the effects of the component, and so also while an Activity hides it.
//
//   const { data, status, send } = useVinhub(`/admin/${vin}?remoteWs`, { client })

import { useCallback, useEffect, useRef, useState } from 'react';
import { IDLE, notSent, watchUrl } from './watch.js';

const NOTHING = Object.freeze({ data: null, meta: null, presence: null, status: IDLE });

/**
 * url: a string or a list; while it is empty, nothing is watched. options: client (shared by components; without it a new one is
 * made), rate, replay, resume, those of VinhubClient, and onMessage, onGap, onPresence, onClosed, onError. client and rate may
 * change between renders; of the functions those of the last render are called.
 */
export function useVinhub(url, options = {}) {
  const [view, setView] = useState(NOTHING);
  const latest = useRef(options);
  const link = useRef(null);
  const place = useRef(null); // {key, position}: the position at which this url was left
  const { client, rate } = options;
  const key = JSON.stringify(url ?? '');

  useEffect(() => { latest.current = options; });

  useEffect(() => {
    const target = JSON.parse(key);
    const again = place.current?.key === key;
    if (!again) setView(NOTHING);
    if (target.length === 0) return undefined;
    const show = (change) => setView((before) => ({ ...before, ...change }));
    const { onMessage, onGap, onPresence, onClosed, onError, ...others } = latest.current;
    const resume = again ? place.current.position : others.resume;
    const watched = watchUrl(target, { ...others, client, rate, resume }, {
      message(data, meta) { show({ data, meta }); latest.current.onMessage?.(data, meta); },
      status: (status) => show({ status }),
      presence(presence) { show({ presence }); latest.current.onPresence?.(presence); },
      gap: (gap) => latest.current.onGap?.(gap),
      closed: (end) => latest.current.onClosed?.(end),
      error: (error) => latest.current.onError?.(error),
    });
    link.current = watched;
    return () => {
      place.current = { key, position: watched.position };
      watched.stop();
      link.current = null;
      show({ status: IDLE });
    };
  }, [key, client, rate]);

  const send = useCallback((data, how) => (link.current ? link.current.send(data, how) : notSent()), []);
  return { ...view, send };
}
