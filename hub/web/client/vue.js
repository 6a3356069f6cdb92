// For pages with a WebSocket in a component, Vue 2 or 3: a mixin with the method names that such pages use.
//
//   import websocket from 'vinhub-client/vue'        instead of the page's own mixin
//   export default { mixins: [websocket], created() { this.initWebsocket(url) }, methods: { handleMessageArrived(text) {} } }
//
// A method that the component defines is called instead of the mixin's, in any of the spellings below.

import { VinhubClient } from './vinhub.js';

const CLOSED = 3; // as WebSocket has it

const SPELLINGS = {
  open: ['websocketonopen', 'websocketOnOpen', 'websocketOnopen'],
  message: ['websocketonmessage', 'websocketOnMessage', 'websocketOnmessage'],
  close: ['websocketonclose', 'websocketOnClose', 'websocketOnclose', 'websocketclose'],
  error: ['websocketonerror', 'websocketOnError', 'websocketOnerror'],
};

// Kept outside of the components, so that Vue makes none of it reactive.
const links = new WeakMap(); // component -> {client, target, key}
const gone = new WeakSet();  // components that were destroyed
const away = new WeakMap();  // component that is kept alive and not shown -> whether to connect when it is shown again

function call(vm, type, event) {
  const name = SPELLINGS[type].find((spelling) => typeof vm[spelling] === 'function');
  if (name && !gone.has(vm)) vm[name]({ type, ...event });
}

/** The object that a component has as `websocket`. Handlers that a page still sets on it are not called, and do no harm. */
function socketOf(vm, client) {
  return {
    CONNECTING: 0, OPEN: 1, CLOSING: 2, CLOSED: 3, // `websocket.readyState === websocket.OPEN`
    get readyState() { return client.readyState; },
    send(data) {
      const sent = client.send(data);
      sent.catch((error) => {
        if (gone.has(vm)) return;
        if (typeof vm.handleSendFailed === 'function') vm.handleSendFailed(error, data);
        else console.warn(`vinhub: a message was not sent: ${error.message}`);
      });
      return sent;
    },
    close() { client.close(); },
  };
}

function listen(vm, client) {
  let opened = false;
  client.on('status', (status) => {
    if (gone.has(vm)) return;
    vm.websocketStatus = status;
    const opens = status.state === 'open' && !opened;
    if (status.state === 'connecting') opened = false;
    if (!opens) return;
    opened = true;
    call(vm, 'open', { resumed: status.resumed === true });
  });
  client.on('message', (data, meta) => call(vm, 'message', { data, ...meta }));
  client.on('gap', (gap) => { if (!gone.has(vm)) vm.handleGap?.(gap); });
  client.on('close', (end) => {
    if (!opened) call(vm, 'error', {});
    call(vm, 'close', end);
  });
}

const valueFor = (vm, source) => (typeof source === 'function' ? source.call(vm) : source);
const isTarget = (value) => typeof value === 'string' || Array.isArray(value);

function leave(vm) {
  gone.add(vm);
  links.get(vm)?.client.close();
}

/** The component is kept alive but not shown: it closes its connection, and resumes when it is shown again. */
function rest(vm) {
  const client = links.get(vm)?.client;
  away.set(vm, client !== undefined && client.readyState !== CLOSED);
  client?.close();
}

function comeBack(vm) {
  const connects = away.get(vm);
  away.delete(vm);
  if (connects) links.get(vm)?.client.connect();
}

/**
 * Makes a mixin. options: those of VinhubClient, and url: a string, a list, or a function that is called with the component as
 * `this`. Raw mode is the default, so that a page also works with the Node relay.
 */
export function vinhubMixin({ url, ...options } = {}) {
  return {
    data() {
      return { websocketStatus: { state: 'idle', upstream: null } };
    },

    methods: {
      /** Connects, once: further calls, from timers of the page for example, change nothing. Another URL replaces the first. */
      initWebsocket(address) {
        if (gone.has(this)) return;
        const link = links.get(this);
        const configured = () => valueFor(this, url) ?? valueFor(this, this.websocketUrl) ?? link?.target;
        const target = isTarget(address) ? address : configured();
        if (!isTarget(target)) throw new TypeError('initWebsocket: expected a URL, got none');
        const key = JSON.stringify(target);
        if (away.has(this)) away.set(this, true);
        if (link?.key === key) {
          if (!away.has(this)) link.client.connect();
          return;
        }
        link?.client.close();
        const client = new VinhubClient(target, { mode: 'raw', ...options, ...valueFor(this, this.websocketOptions) });
        links.set(this, { client, target, key });
        listen(this, client);
        this.websocket = socketOf(this, client);
        this.lockReconnect = true; // keeps a reconnect function of the page from running: the client does that
        if (!away.has(this)) client.connect();
      },

      websocketOnmessage(event) { this.handleMessageArrived(event.data, event); },

      handleMessageArrived() {},

      /** Does nothing: pages call it after each message, but the client has its own heartbeat. */
      start() {},

      /** Replaces an open connection by a new one. In other states the next attempt is planned already, or there is none. */
      reconnect() {
        const client = links.get(this)?.client;
        if (client?.state === 'open') client.reconnect();
      },

      /** The promise of VinhubClient.send. */
      websocketSend(data) { return this.websocket.send(data); },
    },

    deactivated() { rest(this); },
    activated() { comeBack(this); },
    destroyed() { leave(this); },     // Vue 2
    beforeUnmount() { leave(this); }, // Vue 3
    unmounted() { leave(this); },
  };
}

export default vinhubMixin();
