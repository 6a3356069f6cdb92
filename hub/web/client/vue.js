// For pages that carry their WebSocket in a component, Vue 2 or 3: a mixin with the method names they use.
//
//   import websocket from 'vinhub-client/vue'        instead of the page's own mixin
//   export default { mixins: [websocket], created() { this.initWebsocket(url) }, methods: { handleMessageArrived(text) {} } }
//
// What a component defines itself is called instead of what is here, in any of the spellings below.

import { VinhubClient } from './vinhub.js';

const CLOSED = 3; // as WebSocket has it

const SPELLINGS = {
  open: ['websocketonopen', 'websocketOnOpen', 'websocketOnopen'],
  message: ['websocketonmessage', 'websocketOnMessage', 'websocketOnmessage'],
  close: ['websocketonclose', 'websocketOnClose', 'websocketOnclose', 'websocketclose'],
  error: ['websocketonerror', 'websocketOnError', 'websocketOnerror'],
};

// Beside the components, not in them: whatever their data says, nothing here becomes reactive.
const links = new WeakMap(); // component -> {client, target, key}
const gone = new WeakSet();
const away = new WeakMap(); // component that is kept alive and not shown -> whether it is to connect when it is

function call(vm, type, event) {
  const name = SPELLINGS[type].find((spelling) => typeof vm[spelling] === 'function');
  if (name && !gone.has(vm)) vm[name]({ type, ...event });
}

/** What a component keeps as `websocket`. Handlers that a page still sets on it are not called, and do no harm. */
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

/** Kept alive, but not shown: it takes no pushes, and goes on where it was when it is shown again. */
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
 * A mixin. options: those of VinhubClient, and url: a string, a list, or a function called with the component
 * as `this`. Raw mode is the default, so a page works the same with a hub that is not there yet.
 */
export function vinhubMixin({ url, ...options } = {}) {
  return {
    data() {
      return { websocketStatus: { state: 'idle', upstream: null } };
    },

    methods: {
      /** Connects, once: what a page calls again from timers of its own changes nothing. Another URL replaces the first. */
      initWebsocket(address) {
        if (gone.has(this)) return;
        const link = links.get(this);
        const configured = () => valueFor(this, url) ?? valueFor(this, this.websocketUrl) ?? link?.target;
        const target = isTarget(address) ? address : configured();
        if (!isTarget(target)) throw new TypeError('initWebsocket: there is no URL');
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
        this.lockReconnect = true; // a reconnect of the page's own keeps out: this one's is under way
        if (!away.has(this)) client.connect();
      },

      websocketOnmessage(event) { this.handleMessageArrived(event.data, event); },

      handleMessageArrived() {},

      /** The heartbeat runs by itself; pages call this after each message. */
      start() {},

      /** A new connection in place of one that is open. Elsewhere the next try is planned already, or not wanted. */
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
