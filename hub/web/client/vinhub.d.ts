/** What is sent and received: text, or bytes. */
export type Payload = string | ArrayBuffer | ArrayBufferView;

/**
 * idle: not connected yet. connecting: an attempt is under way. open: usable. waiting: the next attempt is planned.
 * closed: by close(). failed: the client must not connect again by itself; connect() starts anew.
 */
export type State = 'idle' | 'connecting' | 'open' | 'waiting' | 'closed' | 'failed';

/** The state of the session's connection to its backend; null: not known (raw mode, or not connected). */
export type Upstream = 'connected' | 'connecting' | 'down' | null;

export interface Status {
  state: State;
  upstream: Upstream;
  /** The hub node of the present or the last connection. */
  node: string | null;
  /** Attempts since the last connection that lasted at least 5 s. */
  attempt: number;
  /** open: true if the stream goes on after the last message. */
  resumed?: boolean;
  /** open: true if the connection is the fallback, which can't send. */
  readsOnly?: boolean;
  /** waiting, closed, failed: how the connection ended. */
  code?: number;
  reason?: string;
  /** waiting: ms until the next attempt. */
  retryIn?: number;
}

/** The place of a message in the session's stream; empty in raw mode. */
export interface Meta {
  /** Grows with each change of the node that holds the upstream. */
  epoch?: number;
  offset?: number;
  /** Unix ms. */
  timestamp?: number;
}

/** Messages that are lost for good. to 0: all to the end of the epoch. epoch 0: it is not known which messages. */
export interface Gap {
  epoch: number;
  from: number;
  to: number;
}

export interface HubError {
  /** The id of the refused SEND, if the error is about one. */
  id?: number;
  /** The hub's code, or 'provider': the token or URL function threw. */
  code: string;
  message: string;
}

export interface CloseInfo {
  code: number;
  reason: string;
}

/** The users who watch a session, if its service has presence. user is '' if the URL has no user. */
export interface Presence {
  users: { user: string; clients: number }[];
  /** How many users are not in the list. */
  more: number;
}

export interface Events {
  message(data: string | Uint8Array, meta: Meta): void;
  status(status: Status): void;
  gap(gap: Gap): void;
  presence(presence: Presence): void;
  error(error: HubError): void;
  close(end: CloseInfo): void;
}

export interface TokenContext {
  /** The last token was refused, has expired or expires soon: a new one is needed, not a cached one. */
  refused: boolean;
  reason: string | null;
  /** How many tokens were refused in a row. */
  refusals: number;
}

export type Token = string | null | undefined;
export type Url = string | string[];

export interface Options {
  /** v1 (default): positions, resume, acknowledged sends. raw: payloads as they are, text heartbeats. */
  mode?: 'v1' | 'raw';
  /** A function is called before each attempt to connect and, in v1, before the token of an open connection expires. */
  token?: Token | ((context: TokenContext) => Token | Promise<Token>);
  /** protocol (default): as subprotocol pair `bearer, TOKEN`, which proxies don't log. query: as `?token=`. */
  tokenIn?: 'protocol' | 'query';
  /** After so many refused tokens in a row the client gives up. Default 3. */
  maxRefusals?: number;
  /** EPOCH.OFFSET to start after, e.g. the `position` of a page before its reload. */
  resume?: string | null;
  /** ms. every 5000, timeout 10000, probe 3000 (after the page was shown or the network changed); raw: text, reply. */
  heartbeat?: { every?: number; timeout?: number; probe?: number; text?: string; reply?: string };
  /** Back-off in ms, doubled from min (1000) to max (15000); each delay is 50 to 150 % of it, by chance. */
  reconnect?: { min?: number; max?: number };
  /** ms for token, handshake and WELCOME. Default 10000. */
  connectTimeout?: number;
  /** ms until an unacknowledged message is given up. Default 30000, at most 240000. */
  sendTimeout?: number;
  /** How many messages may wait. Default 1000. */
  maxPending?: number;
  /** Used after two WebSockets in a row on which nothing came: `EventStreamSocket` of `vinhub-client/stream`, which can't send. */
  fallback?: (new (url: string, protocols?: string | string[]) => WebSocket) | null;
  /** ms after which a WebSocket is tried again. Default 60000. */
  fallbackFor?: number;
  /** Used instead of the browser's WebSocket. */
  WebSocket?: new (url: string, protocols?: string | string[]) => WebSocket;
}

/** Why a message was not acknowledged. */
export class SendError extends Error {
  constructor(code: string, message: string, sent: boolean);
  /** 'timeout', 'closed', 'full', 'too_large', 'expired', or the code of the hub's ERROR. */
  readonly code: string;
  /** true: it was written to a connection, so it may have reached the backend. false: it certainly has not. */
  readonly sent: boolean;
}

export interface SendOptions {
  /** ms until the message is given up; default `sendTimeout`. */
  timeout?: number;
  /** ms, from 1 on: a message that has not gone upstream within this time is never sent, and is rejected with 'expired'. */
  ttl?: number;
}

export interface SubscribeOptions {
  /** Messages a second at most (0.1 to 100); each is the newest at that moment. */
  rate?: number;
  /** How many past messages come first. */
  replay?: number;
}

/** Each event of a subscription has these. session: null until the hub has answered with WELCOME. */
export interface Named {
  url: string;
  session: string | null;
}

export interface SubscriptionStatus extends Named {
  /** closed: refused, or ended for good; it is not requested again. The other states are those of the client. */
  state: State;
  upstream: Upstream;
  resumed?: boolean;
  /** A close code, or the code of the hub's ERROR, e.g. 'full'. */
  code?: number | string;
  reason?: string;
  retryIn?: number;
}

export interface SubscriptionEvents {
  message(data: string | Uint8Array, meta: Required<Meta> & Named): void;
  status(status: SubscriptionStatus): void;
  gap(gap: Gap & Named): void;
  presence(presence: Presence & Named): void;
  /** Refused (malformed_url, unknown_service, unauthorized, full, subscribed ...) or ended by the hub (a close code). */
  closed(end: Named & { code: number | string; reason: string }): void;
}

interface SubscriptionSource {
  on<Name extends keyof SubscriptionEvents>(name: Name, fn: SubscriptionEvents[Name]): () => void;
  off<Name extends keyof SubscriptionEvents>(name: Name, fn: SubscriptionEvents[Name]): void;
}

export interface Subscription extends SubscriptionSource {
  readonly url: string;
  readonly session: string | null;
  readonly upstream: Upstream;
  /** EPOCH.OFFSET of the last message that the page got. */
  readonly position: string | null;
  send(data: Payload, options?: SendOptions): Promise<void>;
  unsubscribe(): void;
}

export interface SubscriptionGroup extends SubscriptionSource, Iterable<Subscription> {
  readonly size: number;
  /** By url, for `resume`. */
  readonly position: Record<string, string>;
  get(url: string): Subscription | undefined;
  add(urls: string[]): void;
  /** to: the url of the session that gets the message. */
  send(data: Payload, options: SendOptions & { to: string }): Promise<void>;
  /** Unsubscribes these urls; without an argument all of them. */
  unsubscribe(urls?: string[]): void;
}

export class VinhubClient {
  /** url: of a session, e.g. `/admin/VIN1?remoteWs`, or `/admin?subscribe` for subscriptions only. Of a list, the next url is used when one fails. */
  constructor(url: Url | (() => Url | Promise<Url>), options?: Options);
  readonly state: State;
  readonly upstream: Upstream;
  readonly node: string | null;
  /** Messages not acknowledged yet. */
  readonly pending: number;
  /** EPOCH.OFFSET of the last message. */
  readonly position: string | null;
  /** As that of a WebSocket; 0 also between two connections. */
  readonly readyState: 0 | 1 | 3;
  /** Connects; also after close() or a failure. Returns the client. */
  connect(): this;
  /** Ends for good; messages that are not acknowledged are rejected. */
  close(): void;
  /** Makes a new connection now. */
  reconnect(): void;
  /** v1: resolves when the message has gone upstream, once, even if connections are lost meanwhile. raw: when it was written. */
  send(data: Payload, options?: SendOptions): Promise<void>;
  /** Further sessions on this connection (mode v1). resume: EPOCH.OFFSET to start after; of a list, by url. */
  subscribe(url: string, options?: SubscribeOptions & { resume?: string | null }): Subscription;
  subscribe(urls: string[], options?: SubscribeOptions & { resume?: Record<string, string> | null }): SubscriptionGroup;
  /** Returns a function that removes the listener. */
  on<Name extends keyof Events>(name: Name, fn: Events[Name]): () => void;
  off<Name extends keyof Events>(name: Name, fn: Events[Name]): void;
}
