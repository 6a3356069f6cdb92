import type { Options, Url, VinhubClient } from './vinhub.js';

/**
 * A client of one tab on the connection that all tabs share. close() leaves it for good; position is that of the connection's
 * own session.
 */
export interface SharedClient extends Pick<VinhubClient,
  'state' | 'upstream' | 'node' | 'position' | 'pending' | 'readyState' | 'on' | 'off' | 'subscribe' | 'send' | 'reconnect' | 'close'> {
  /** After the hub did not want the connection back. */
  connect(): unknown;
  /** Missing where each tab has a connection of its own. */
  readonly shared?: true;
}

/** The options of the tab that came first count. `WebSocket` and a function as url can't be shared. */
export function sharedClient(url: Url, options?: Omit<Options, 'WebSocket'>): Promise<SharedClient>;
