// The table of sessions. The node searches and pages, so that a hundred thousand sessions are no load for this page.

import { get } from './api.js';
import { el, setText } from './dom.js';
import * as format from './format.js';

const PAGE = 50;
const REFRESH_MS = 3000;
const TYPING_MS = 250;
const BEFORE_ALL = '!'; // a cursor before all ids, since no id begins with it
const STATES = ['claiming', 'connecting', 'connected', 'waiting', 'lingering', 'moving'];

const link = (id) => `#/session/${encodeURIComponent(id)}`;

function row(session, now) {
  return el('tr', { 'data-session': session.id },
    el('td', { class: 'id' }, el('a', { href: link(session.id) }, session.id)),
    el('td', {}, el('span', { class: 'badge', 'data-state': session.state ?? 'released', title: session.reason ?? '' },
      session.owner ? session.state ?? '–' : 'released')),
    el('td', {}, session.owner || '–'),
    el('td', { class: 'number' }, format.exact(session.clients)),
    el('td', { class: 'number wide' }, format.exact(session.members)),
    el('td', { class: 'number wide' }, format.exact(session.offset)),
    el('td', { class: 'number wide' }, format.ago(session.since, now)));
}

export class Sessions {
  page = 'sessions';

  constructor(cluster, query) {
    this.cluster = cluster;
    this.before = []; // cursors of the pages before this one
    this.after = '';
    this.next = null;
    this.fresh = true; // nothing of this search is shown yet
    this.search = el('input', { type: 'search', placeholder: 'vin or part of an id', 'aria-label': 'Search', value: query.get('q') ?? '' });
    this.service = el('input', { placeholder: 'service', 'aria-label': 'Service', size: '10', value: query.get('service') ?? '' });
    this.owner = el('select', { 'aria-label': 'Owner' });
    this.state = el('select', { 'aria-label': 'State' }, el('option', { value: '' }, 'any state'),
      ...STATES.map((state) => el('option', { value: state }, state)));
    this.state.value = query.get('state') ?? '';
    this.wantedOwner = query.get('owner') ?? '';
    this.body = el('tbody');
    this.note = el('p', { class: 'note', role: 'status' });
    this.back = el('button', { onclick: () => this.#turn(-1) }, '← Back');
    this.more = el('button', { onclick: () => this.#turn(1) }, 'Next →');
    const heads = ['Session', 'State', 'Owner', 'Clients', 'Nodes', 'Offset', 'Since'];
    this.element = el('div', {},
      el('form', { class: 'filters', role: 'search', onsubmit: (event) => event.preventDefault(), oninput: () => this.#typed() },
        this.search, this.service, this.owner, this.state),
      el('div', { class: 'scroll' }, el('table', { class: 'sessions' }, el('caption', { class: 'unseen' }, 'Sessions'),
        el('thead', {}, el('tr', {}, ...heads.map((head, i) => el('th', { scope: 'col',
          class: `${i >= 3 ? 'number' : ''} ${i >= 4 ? 'wide' : ''}` }, head)))), this.body)),
      el('div', { class: 'paging' }, this.note, this.back, this.more));
    this.update();
    this.#load();
  }

  /** Fills the list of owners with the nodes. */
  update() {
    const ids = this.cluster.nodes.map((node) => node.id);
    if (ids.join() === this.shownOwners) return;
    this.shownOwners = ids.join();
    const value = this.owner.value || this.wantedOwner;
    this.owner.replaceChildren(el('option', { value: '' }, 'any owner'), ...ids.map((id) => el('option', { value: id }, id)));
    this.owner.value = ids.includes(value) ? value : '';
  }

  #typed() {
    clearTimeout(this.typing);
    this.typing = setTimeout(() => {
      this.before = [];
      this.after = '';
      this.fresh = true;
      const query = this.#filters();
      history.replaceState(null, '', `#/sessions${query.size ? `?${query}` : ''}`);
      this.#load();
    }, TYPING_MS);
  }

  #filters() {
    const all = { q: this.search.value.trim(), service: this.service.value.trim(), owner: this.owner.value, state: this.state.value };
    return new URLSearchParams(Object.entries(all).filter(([, value]) => value));
  }

  #turn(direction) {
    this.fresh = true;
    if (direction > 0) {
      this.before.push(this.after);
      this.after = this.next;
    } else {
      this.after = this.before.pop() ?? '';
    }
    this.#load();
  }

  /** Reads the page, and again after a delay that grows with the time of the request. */
  async #load() {
    this.loading?.abort();
    clearTimeout(this.timer);
    const { signal } = (this.loading = new AbortController());
    const began = performance.now();
    try {
      if (this.search.value.trim()) await this.#find(signal);
      else this.#show(await get(`api/sessions?${this.#query()}`, signal));
    } catch (error) {
      if (!signal.aborted) setText(this.note, `Not loaded: ${error.message}`);
    }
    if (!signal.aborted) this.timer = setTimeout(() => this.#load(), Math.max(REFRESH_MS, 5 * (performance.now() - began)));
  }

  #query(more = {}) {
    const query = this.#filters();
    query.set('limit', PAGE);
    if (this.after) query.set('after', this.after);
    for (const [name, value] of Object.entries(more)) query.set(name, value);
    return query;
  }

  /**
   * Sessions whose key begins with the search text are found at once and come first. Sessions with the text at another place are
   * found by reading all sessions in bounded steps; the cursor is that of this reading.
   */
  async #find(signal) {
    const found = new Map();
    const add = (sessions) => sessions.forEach((session) => found.set(session.id, session));
    if (!this.after) {
      const query = this.#query({ prefix: this.search.value.trim() });
      query.delete('q');
      add((await get(`api/sessions?${query}`, signal)).sessions);
    }
    let after = this.after || BEFORE_ALL;
    while (after !== null && found.size < PAGE) {
      if (this.fresh) this.#show({ sessions: [...found.values()], next: after }, true); // not in a refresh, where the table would flicker
      const page = await get(`api/sessions?${this.#query({ after })}`, signal);
      add(page.sessions);
      after = page.next;
    }
    this.#show({ sessions: [...found.values()], next: after });
    this.fresh = false;
  }

  #show({ sessions, next }, searching = false) {
    const focused = document.activeElement?.closest('tr')?.dataset.session;
    this.body.replaceChildren(...sessions.map((session) => row(session, this.cluster.time || Date.now())));
    if (focused) this.body.querySelector(`[data-session="${CSS.escape(focused)}"] a`)?.focus();
    this.next = next;
    this.more.disabled = next === null || searching;
    this.back.disabled = this.before.length === 0;
    const found = `${sessions.length} session${sessions.length === 1 ? '' : 's'} on page ${this.before.length + 1}`;
    setText(this.note, searching ? `${found}, searching on …` : found);
  }

  leave() {
    clearTimeout(this.timer);
    clearTimeout(this.typing);
    this.loading?.abort();
  }
}
