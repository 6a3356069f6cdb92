/** What is sent and received: text, or bytes. */
export type Payload = string | ArrayBuffer | ArrayBufferView;

/**
 * idle: not connected yet. connecting: a try is under way. open: usable. waiting: the next try is planned.
 * closed: by close(). failed: the hub does not want this client back; connect() tries again.
 */
export type State = 'idle' | 'connecting' | 'open' | 'waiting' | 'closed' | 'failed';

/** Of the session's connection to its backend; null where it is not known (raw mode, not connected). */
export type Upstream = 'connected' | 'connecting' | 'down' | null;

export interface Status {
  state: State;
  upstream: Upstream;
  /** The hub node of the connection there is, or was. */
  node: string | null;
  /** Tries since the last connection that lasted. */
  attempt: number;
  /** open: whether the stream goes on where it was. */
  resumed?: boolean;
  /** open: true where the connection is the fallback, which sends nothing. */
  readsOnly?: boolean;
  /** waiting, closed, failed: how the connection ended. */
  code?: number;
  reason?: string;
  /** waiting: ms until the next try. */
  retryIn?: number;
}

/** The place of a message in the session's stream; in raw mode there is none. */
export interface Meta {
  /** Grows with each change of the node that holds the upstream. */
  epoch?: number;
  offset?: number;
  /** Unix ms. */
  timestamp?: number;
}

/** Messages that can't be had any more. to 0: to the end of that epoch. epoch 0: it is not known which. */
export interface Gap {
  epoch: number;
  from: number;
  to: number;
}

export interface HubError {
  /** Of the SEND that was refused, if one was. */
  id?: number;
  /** The hub's code, or 'provider': the token or URL function threw. */
  code: string;
  message: string;
}

export interface CloseInfo {
  code: number;
  reason: string;
}

/** Who watches a session, where its service tells that: by name, '' where the URL has none. */
export interface Presence {
  users: { user: string; clients: number }[];
  /** Users beyond those named. */
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
  /** The last token was refused, ran out or ends soon: a cached one won't do. */
  refused: boolean;
  reason: string | null;
  /** How many were refused in a row. */
  refusals: number;
}

export type Token = string | null | undefined;
export type Url = string | string[];

export interface Options {
  /** v1 (default): positions, resume, acknowledged sends. raw: payloads as they are, text heartbeats. */
  mode?: 'v1' | 'raw';
  /** A function is asked before each try and, in v1, before the token of an open connection ends. */
  token?: Token | ((context: TokenContext) => Token | Promise<Token>);
  /** protocol (default): as subprotocol pair `bearer, TOKEN`, which proxies don't log. query: as `?token=`. */
  tokenIn?: 'protocol' | 'query';
  /** Tokens refused in a row before it gives up. Default 3. */
  maxRefusals?: number;
  /** EPOCH.OFFSET to start after, e.g. the `position` of a page before its reload. */
  resume?: string | null;
  /** ms. every 5000, timeout 10000, probe 3000 (after the page was shown or the network changed); raw: text, reply. */
  heartbeat?: { every?: number; timeout?: number; probe?: number; text?: string; reply?: string };
  /** ms, half to one and a half of it. min 1000, max 15000. */
  reconnect?: { min?: number; max?: number };
  /** ms for token, handshake and WELCOME. Default 10000. */
  connectTimeout?: number;
  /** ms until an unacknowledged message is given up. Default 30000, at most 240000. */
  sendTimeout?: number;
  /** Messages that may wait. Default 1000. */
  maxPending?: number;
  /** Takes over where WebSockets don't pass, after two that failed: `EventStreamSocket` of `vinhub-client/stream`, which only reads. */
  fallback?: (new (url: string, protocols?: string | string[]) => WebSocket) | null;
  /** ms after which a WebSocket is tried again. Default 60000. */
  fallbackFor?: number;
  /** Instead of the browser's. */
  WebSocket?: new (url: string, protocols?: string | string[]) => WebSocket;
}

/** Why a message was not acknowledged. */
export class SendError extends Error {
  constructor(code: string, message: string, sent: boolean);
  /** 'timeout', 'closed', 'full', 'too_large', 'expired', or the code of the hub's ERROR. */
  readonly code: string;
  /** It was written to a connection, so it may have reached the backend all the same. */
  readonly sent: boolean;
}

export interface SendOptions {
  /** ms until it is given up; default `sendTimeout`. */
  timeout?: number;
  /** ms, from 1 on: what has not gone upstream within it never does, and is rejected with 'expired'. */
  ttl?: number;
}

export interface SubscribeOptions {
  /** Messages a second at most, each the newest there is: 0.1 to 100. */
  rate?: number;
  /** Past messages that come first. */
  replay?: number;
}

/** What each event of a subscription names. session: null until the hub has welcomed it. */
export interface Named {
  url: string;
  session: string | null;
}

export interface SubscriptionStatus extends Named {
  /** closed: refused, or ended for good; it is not asked for again. The others as those of the client. */
  state: State;
  upstream: Upstream;
  resumed?: boolean;
  /** A close code, or the hub's word for a refusal, e.g. 'full'. */
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
  /** EPOCH.OFFSET of the last message that was handed out. */
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
  /** to: the url that it is for. */
  send(data: Payload, options: SendOptions & { to: string }): Promise<void>;
  /** All, or those urls. */
  unsubscribe(urls?: string[]): void;
}

export class VinhubClient {
  /** url: of a session, e.g. `/admin/VIN1?remoteWs`, or `/admin?subscribe` for subscriptions only; of several the next is taken when one fails. */
  constructor(url: Url | (() => Url | Promise<Url>), options?: Options);
  readonly state: State;
  readonly upstream: Upstream;
  readonly node: string | null;
  /** Messages not acknowledged yet. */
  readonly pending: number;
  /** EPOCH.OFFSET of the last message. */
  readonly position: string | null;
  /** As a WebSocket's; 0 also between two connections. */
  readonly readyState: 0 | 1 | 3;
  /** Starts, also again after close() or a failure. Returns itself. */
  connect(): this;
  /** Ends for good; what is not acknowledged is rejected. */
  close(): void;
  /** A new connection now. */
  reconnect(): void;
  /** v1: resolves when the upstream took it, once, whatever happens to connections meanwhile. raw: when it was written. */
  send(data: Payload, options?: SendOptions): Promise<void>;
  /** Further sessions on this connection (mode v1). resume: EPOCH.OFFSET to start after; of a list, by url. */
  subscribe(url: string, options?: SubscribeOptions & { resume?: string | null }): Subscription;
  subscribe(urls: string[], options?: SubscribeOptions & { resume?: Record<string, string> | null }): SubscriptionGroup;
  /** Returns the function that ends it. */
  on<Name extends keyof Events>(name: Name, fn: Events[Name]): () => void;
  off<Name extends keyof Events>(name: Name, fn: Events[Name]): void;
}
