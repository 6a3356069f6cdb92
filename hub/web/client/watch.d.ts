import type { Gap, HubError, Meta, Named, Options, Presence, State, SubscribeOptions, Subscription, SubscriptionGroup, Upstream } from './vinhub.js';

/** A client whose connection is shared: a VinhubClient, or a client from `vinhub-client/shared`. */
export interface Subscriber {
  subscribe(url: string, options?: SubscribeOptions & { resume?: string | null }): Subscription;
  subscribe(urls: string[], options?: SubscribeOptions & { resume?: Record<string, string> | null }): SubscriptionGroup;
}

export interface WatchOptions extends Omit<Options, 'resume'>, SubscribeOptions {
  /** The client whose connection is used. Without it a new client is made with the other options. */
  client?: Subscriber | null;
  resume?: string | Record<string, string> | null;
  onMessage?(data: string | Uint8Array, meta: Meta & Partial<Named>): void;
  onGap?(gap: Gap & Partial<Named>): void;
  onPresence?(presence: Presence & Partial<Named>): void;
  /** The subscription was refused, or ended by the hub. */
  onClosed?(end: Named & { code: number | string; reason: string }): void;
  onError?(error: HubError): void;
}

export type WatchData = string | Uint8Array | null;
export type WatchMeta = (Meta & Partial<Named>) | null;
export type WatchPresence = Presence | null;

export interface WatchStatus extends Partial<Named> {
  state: State;
  upstream: Upstream;
  resumed?: boolean;
  code?: number | string;
  reason?: string;
  retryIn?: number;
}
