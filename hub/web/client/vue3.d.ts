import type { ShallowRef } from 'vue';
import type { Payload, SendOptions } from './vinhub.js';
import type { WatchData, WatchMeta, WatchOptions, WatchPresence, WatchStatus } from './watch.js';

export type { WatchOptions };
/** A url or a list of urls; null or '': nothing is watched. */
export type WatchUrl = string | string[] | null | undefined;

export interface Watched {
  /** The last message and its place in the stream. */
  readonly data: ShallowRef<WatchData>;
  readonly meta: ShallowRef<WatchMeta>;
  readonly presence: ShallowRef<WatchPresence>;
  readonly status: ShallowRef<WatchStatus>;
  send(data: Payload, options?: SendOptions & { to?: string }): Promise<void>;
}

export function useVinhub(url: WatchUrl | { readonly value: WatchUrl } | (() => WatchUrl), options?: WatchOptions): Watched;
