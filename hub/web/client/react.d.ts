import type { Payload, SendOptions } from './vinhub.js';
import type { WatchData, WatchMeta, WatchOptions, WatchPresence, WatchStatus } from './watch.js';

export type { WatchOptions };

export interface Watched {
  /** The last message and its place in the stream. */
  data: WatchData;
  meta: WatchMeta;
  presence: WatchPresence;
  status: WatchStatus;
  /** The same function at each render. */
  send(data: Payload, options?: SendOptions & { to?: string }): Promise<void>;
}

/** url: null or '': nothing is watched. */
export function useVinhub(url: string | string[] | null | undefined, options?: WatchOptions): Watched;
