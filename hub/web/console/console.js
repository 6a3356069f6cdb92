// The console: one page at the admin port, with four views, which the hash of the address selects, and one stream with the
// state of the cluster.

import { follow } from './api.js';
import { Clients } from './clients.js';
import { Cluster } from './cluster.js';
import { setText } from './dom.js';
import { Overview } from './overview.js';
import { Session } from './session.js';
import { Sessions } from './sessions.js';

const cluster = new Cluster();
const main = document.getElementById('main');
const link = document.getElementById('link');
const store = document.getElementById('store');
let view = null;

function viewOf(hash) {
  const [path, query = ''] = hash.replace(/^#/, '').split('?');
  if (path.startsWith('/session/')) return new Session(cluster, decodeURIComponent(path.slice('/session/'.length)));
  if (path === '/sessions') return new Sessions(cluster, new URLSearchParams(query));
  if (path === '/clients') return new Clients(cluster, new URLSearchParams(query));
  return new Overview(cluster);
}

function show() {
  view?.leave();
  view = viewOf(location.hash);
  main.replaceChildren(view.element);
  for (const anchor of document.querySelectorAll('nav a')) {
    if (anchor.dataset.page === view.page) anchor.setAttribute('aria-current', 'page');
    else anchor.removeAttribute('aria-current');
  }
}

function onState(live, why) {
  link.dataset.state = live ? 'live' : 'lost';
  setText(link, live ? 'live' : `no connection: ${why}`);
}

function onEvent(name, data) {
  if (name !== 'stats') return;
  cluster.update(data);
  store.hidden = false;
  store.dataset.state = cluster.storeAnswers ? 'live' : 'lost';
  setText(store, !cluster.shared ? 'no Redis' : cluster.storeAnswers ? 'Redis' : 'Redis does not answer');
  setText(document.getElementById('asked'), `Seen by ${cluster.asked}`);
  view.update();
}

/** Moves the focus to the next (step 1) or previous (-1) link in the table of the view. */
function moveInRows(step) {
  const links = [...main.querySelectorAll('tbody a')];
  const at = links.indexOf(document.activeElement);
  links.at(at === -1 ? (step > 0 ? 0 : -1) : Math.min(links.length - 1, Math.max(0, at + step)))?.focus();
}

const KEYS = {
  o: () => { location.hash = '#/'; },
  s: () => { location.hash = '#/sessions'; },
  c: () => { location.hash = '#/clients'; },
  '/': () => {
    if (!main.querySelector('[type=search]')) {
      location.hash = '#/sessions';
      show();
    }
    main.querySelector('[type=search]').focus();
  },
  j: () => moveInRows(1),
  k: () => moveInRows(-1),
};

document.addEventListener('keydown', (event) => {
  const typing = event.target.closest('input, textarea, select, dialog');
  if (event.key === 'Escape' && !event.target.closest('dialog')) {
    if (typing) event.target.blur();
    else if (location.hash.startsWith('#/session/')) history.back();
    return;
  }
  if (typing || event.ctrlKey || event.metaKey || event.altKey || !Object.hasOwn(KEYS, event.key)) return;
  event.preventDefault();
  KEYS[event.key]();
});

addEventListener('hashchange', show);
show();
follow('api/events', onEvent, onState, new AbortController().signal);
