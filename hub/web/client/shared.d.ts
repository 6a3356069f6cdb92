import type { Options, Url, VinhubClient } from './vinhub.js';

/**
 * The client of one tab. All tabs share one connection; close() leaves it for good. position is that of the connection's own
 * session.
 */
export interface SharedClient extends Pick<VinhubClient,
  'state' | 'upstream' | 'node' | 'position' | 'pending' | 'readyState' | 'on' | 'off' | 'subscribe' | 'send' | 'reconnect' | 'close'> {
  /** Connects again after the state `failed`. */
  connect(): unknown;
  /** Missing if each tab has a connection of its own. */
  readonly shared?: true;
}

/** The options of the first tab are used. The option `WebSocket` and a function as url can't be shared. */
export function sharedClient(url: Url, options?: Omit<Options, 'WebSocket'>): Promise<SharedClient>;
