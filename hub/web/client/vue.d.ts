import type { CloseInfo, Gap, Meta, Options, Payload, SendError, Status, Url } from './vinhub.js';

export interface MixinOptions extends Options {
  /** Used if initWebsocket() is called without a url; a function gets the component as `this`. */
  url?: Url | ((this: any) => Url);
}

export interface MessageEventLike extends Meta {
  type: 'message';
  data: string | Uint8Array;
}

/** The object that a component has as `websocket`. */
export interface SocketLike {
  readonly readyState: 0 | 1 | 3;
  readonly CONNECTING: 0;
  readonly OPEN: 1;
  readonly CLOSING: 2;
  readonly CLOSED: 3;
  send(data: Payload): Promise<void>;
  close(): void;
}

/** The members that the mixin adds to a component. */
export interface WebsocketComponent {
  websocket: SocketLike;
  websocketStatus: Pick<Status, 'state' | 'upstream'> & Partial<Status>;
  lockReconnect: boolean;
  initWebsocket(url?: Url): void;
  websocketOnmessage(event: MessageEventLike): void;
  handleMessageArrived(data: string | Uint8Array, event: MessageEventLike): void;
  start(): void;
  reconnect(): void;
  websocketSend(data: Payload): Promise<void>;
}

/** Members that a component may define. Hooks are found in lower case and in camel case. */
export interface WebsocketHooks {
  websocketUrl?: Url | (() => Url);
  websocketOptions?: Options | (() => Options);
  websocketOnopen?(event: { type: 'open'; resumed: boolean }): void;
  websocketOnclose?(event: { type: 'close' } & CloseInfo): void;
  websocketOnerror?(event: { type: 'error' }): void;
  handleGap?(gap: Gap): void;
  handleSendFailed?(error: SendError, data: Payload): void;
}

export interface WebsocketMixin {
  data(): Pick<WebsocketComponent, 'websocketStatus'>;
  methods: Pick<WebsocketComponent,
    'initWebsocket' | 'websocketOnmessage' | 'handleMessageArrived' | 'start' | 'reconnect' | 'websocketSend'>;
  /** keep-alive: the component has no connection while it is not shown. */
  deactivated(): void;
  activated(): void;
  destroyed(): void;
  beforeUnmount(): void;
  unmounted(): void;
}

export function vinhubMixin(options?: MixinOptions): WebsocketMixin;

declare const mixin: WebsocketMixin;
export default mixin;
