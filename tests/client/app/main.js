// An app of real Vue and React components, for the test to drive.
import { createElement, StrictMode } from 'react';
import { flushSync } from 'react-dom';
import { createRoot } from 'react-dom/client';
import { createApp, h, KeepAlive, reactive } from 'vue';
import { VinhubClient } from 'vinhub-client';
import { useVinhub as useVinhubHook } from 'vinhub-client/react';
import { sharedClient } from 'vinhub-client/shared';
import { vinhubMixin } from 'vinhub-client/vue';
import { useVinhub } from 'vinhub-client/vue3';

const log = () => ({ texts: [], gaps: [], states: [] });
const FAST = { min: 50, max: 200 };

const showText = (app, place) => Object.defineProperty(app, 'text', { get: () => document.querySelector(place).textContent });

Object.assign(window, { sharedClient, VinhubClient });

/** Two components, each kept alive while the other is shown: one with the mixin, one with the composable. */
window.mountVue = (url, options = {}) => {
  const app = { url, shown: 'composable', mixin: log(), composable: log() };
  const state = reactive({ shown: app.shown, url });
  const WithMixin = {
    name: 'WithMixin',
    mixins: [vinhubMixin({ mode: 'v1', reconnect: FAST })],
    created() { this.initWebsocket(url); },
    methods: {
      handleMessageArrived(text) { app.mixin.texts.push(text); },
      handleGap(gap) { app.mixin.gaps.push(gap); },
    },
    watch: { websocketStatus({ state: now }) { app.mixin.states.push(now); } },
    mounted() { app.mixin.vm = this; },
    render() { return h('p', this.websocketStatus.state); },
  };
  const WithComposable = {
    name: 'WithComposable',
    setup() {
      const watched = useVinhub(() => state.url, {
        reconnect: FAST, ...options,
        onMessage: (text) => app.composable.texts.push(text), onGap: (gap) => app.composable.gaps.push(gap),
      });
      app.composable.send = watched.send;
      return () => h('p', `${watched.status.value.state} ${watched.status.value.upstream} ${watched.data.value}`);
    },
  };
  const components = { mixin: WithMixin, composable: WithComposable };
  const root = createApp({ render: () => h(KeepAlive, () => (state.shown ? h(components[state.shown]) : null)) });
  root.mount('#vue');
  Object.assign(app, {
    show(name) { state.shown = name; }, move(to) { state.url = to; }, unmount() { root.unmount(); },
  });
  showText(app, '#vue');
  window.vue = app;
};

window.mountReact = (url, options = {}) => {
  const app = { ...log(), renders: 0 };
  const root = createRoot(document.querySelector('#react'));
  function Vehicle({ at, label }) {
    const { data, status, send } = useVinhubHook(at, {
      reconnect: FAST, ...options,
      onMessage: (text) => app.texts.push(`${label}${text}`), onGap: (gap) => app.gaps.push(gap),
    });
    app.send = send;
    app.renders++;
    return createElement('p', null, `${status.state} ${status.upstream} ${data}`);
  }
  // Rendered when it returns, so that what a test pushes next meets the newest functions.
  app.show = (at, label = '') => flushSync(() => root.render(createElement(StrictMode, null, at === null ? null : createElement(Vehicle, { at, label }))));
  app.unmount = () => root.unmount();
  showText(app, '#react');
  app.show(url);
  window.react = app;
};

window.ready = true;
