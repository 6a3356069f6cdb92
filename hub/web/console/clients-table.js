// A table of the clients that match a filter, page by page, and the actions that close them. Names come from outside: each is
// shown as text in a bdi element, so that it can't change the direction of the text around it.

import { get, post } from './api.js';
import { askReason, el, setText, toast } from './dom.js';
import * as format from './format.js';

const REFRESH_MS = 5000;
const COUNT_MAX = 1000; // how many clients are counted before they are closed: the size of the largest page
const NAMES_MAX = 5; // how many users a dialog names

/** The filters of GET /api/clients, in the order in which they are shown. */
export const FILTERS = ['user', 'vin', 'address', 'session', 'service', 'node'];

export const name = (text) => (text === '' ? el('span', { class: 'note' }, 'none') : el('bdi', { class: 'name', title: text }, text));

const clients = (n) => `${format.exact(n)} client${n === 1 ? '' : 's'}`;
const query = (filter, more) => new URLSearchParams([...Object.entries(filter), ...Object.entries(more)]);

/** A filter as a list of names and values. */
export const filterList = (filter) => el('dl', { class: 'asked' },
  ...Object.entries(filter).flatMap(([key, value]) => [el('dt', {}, key), el('dd', {}, name(value))]));

/**
 * Shows how many clients were closed; done: a text for what was done before. If nodes did not answer, this is shown as a notice,
 * which stays, unlike a toast.
 */
export function showClosed({ closed, missing = [] }, notice, done = '') {
  notice.hidden = missing.length === 0;
  setText(notice, `${done}${clients(closed)} closed. No answer from ${missing.join(', ')}: not known what was closed there. Try again.`);
  if (notice.hidden) toast(`${done}${clients(closed)} closed`);
}

/** Asks for a reason and closes the clients that match the filter. Returns true if it was done. */
export async function closeClients(filter, question, notice) {
  const reason = await askReason(question.title, question.children, 'Close');
  if (reason === null) return false;
  try {
    showClosed(await post('api/clients/close', { ...filter, reason }), notice);
    return true;
  } catch (error) {
    toast(`Not closed: ${error.message}`, 'error');
    return false;
  }
}

/** The clients that match, up to COUNT_MAX. more: there may be others, since the page is full or a node did not answer. */
export async function count(filter, signal) {
  const page = await get(`api/clients?${query(filter, { limit: COUNT_MAX })}`, signal);
  return { found: page.clients, more: page.next !== null || page.missing !== undefined };
}

export const countText = ({ found, more }) => `${more ? 'At least ' : ''}${clients(found.length)}`;

function usersOf(found) {
  const users = [...new Set(found.map(({ user }) => user))];
  const named = users.slice(0, NAMES_MAX).flatMap((user, i) => [i === 0 ? '' : ', ', name(user)]);
  return el('p', {}, `User${users.length === 1 ? '' : 's'}: `, ...named, users.length > NAMES_MAX ? ` and ${users.length - NAMES_MAX} more` : '');
}

/**
 * The narrowest filter that matches a client, and all clients that it matches; null if the client is gone. The API has no filter
 * by id, and none for clients without a user. A user name that is not UTF-8 is shown with "?" and matches nothing: then the filter
 * has no user.
 */
async function narrow({ id, user, session, node, address }, signal) {
  const place = { session, node, address };
  for (const filter of user ? [{ user, ...place }, place] : [place]) {
    const fits = await count(filter, signal);
    if (fits.more || fits.found.some((other) => other.id === id)) return { filter, fits };
  }
  return null;
}

const COLUMNS = [
  ['Node', '', (client) => client.node],
  ['Address', '', (client) => client.address],
  ['Protocol', 'wide', (client) => client.protocol],
  ['Since', 'number wide', (client, now) => format.ago(client.since, now)],
  ['Follows', 'number wide', (client) => format.exact(client.subscriptions)],
  ['Received', 'number wide', (client) => format.exact(client.received)],
  ['Sent', 'number wide', (client) => format.exact(client.sent)],
  ['Queued', 'number wide', (client) => format.bytes(client.queued)],
];

export class ClientTable {
  constructor(cluster, filter, pageSize) {
    this.cluster = cluster;
    this.pageSize = pageSize;
    this.stop = new AbortController();
    this.rows = new Map(); // of the page that is shown, by the client's id
    this.body = el('tbody');
    this.note = el('p', { class: 'note', role: 'status' });
    this.missing = el('p', { class: 'notice', role: 'status', 'data-notice': 'missing', hidden: true });
    this.result = el('p', { class: 'notice', role: 'alert', 'data-notice': 'result', hidden: true });
    this.back = el('button', { type: 'button', onclick: () => this.#turn(-1) }, '← Back');
    this.more = el('button', { type: 'button', onclick: () => this.#turn(1) }, 'Next →');
    const heads = [['User', ''], ['Session', ''], ...COLUMNS, ['', '']];
    this.element = el('div', {}, this.result, this.missing,
      el('div', { class: 'scroll' }, el('table', { class: 'clients' }, el('caption', { class: 'unseen' }, 'Clients'),
        el('thead', {}, el('tr', {}, ...heads.map(([head, kind]) => el(head ? 'th' : 'td', { scope: head ? 'col' : null, class: kind }, head)))),
        this.body)),
      el('div', { class: 'paging' }, this.note, this.back, this.more));
    this.setFilter(filter);
  }

  /** Clears the table, so that it never shows clients that the new filter does not match. */
  setFilter(filter) {
    this.filter = filter;
    this.before = []; // cursors of the pages before this one
    this.after = '';
    this.result.hidden = true;
    this.#show({ clients: [], next: null });
    setText(this.note, 'Loading …');
    this.load();
  }

  #turn(direction) {
    if (direction > 0) this.before.push(this.after);
    this.after = direction > 0 ? this.next : this.before.pop() ?? '';
    this.load();
  }

  /** Reads the page, and again after a delay that grows with the time of the request. Rows do not change while a dialog is open. */
  async load() {
    this.loading?.abort();
    clearTimeout(this.timer);
    const { signal } = (this.loading = new AbortController());
    const began = performance.now();
    try {
      const more = { limit: this.pageSize, ...(this.after ? { after: this.after } : {}) };
      const page = await get(`api/clients?${query(this.filter, more)}`, signal);
      if (!document.querySelector('dialog')) this.#show(page);
    } catch (error) {
      if (!signal.aborted) setText(this.note, `Not loaded: ${error.message}`);
    }
    if (!signal.aborted) this.timer = setTimeout(() => this.load(), Math.max(REFRESH_MS, 5 * (performance.now() - began)));
  }

  #show({ clients: shown, next, missing = [] }) {
    const ids = shown.map(({ id }) => id);
    if (ids.join() !== [...this.rows.keys()].join()) this.#replace(shown);
    const now = this.cluster.time || Date.now();
    for (const client of shown) COLUMNS.forEach(([, , text], i) => setText(this.rows.get(client.id).cells[i], text(client, now)));
    this.next = next;
    this.more.disabled = next === null;
    this.back.disabled = this.before.length === 0;
    setText(this.note, `${clients(shown.length)} on page ${this.before.length + 1}`);
    this.missing.hidden = missing.length === 0;
    setText(this.missing, `No answer from ${missing.join(', ')}: clients there are not in the list.`);
  }

  /** Replaces the rows. The focus stays on its client, or moves to the client in its place. */
  #replace(shown) {
    const active = this.body.contains(document.activeElement) ? document.activeElement : null;
    const row = active?.closest('tr');
    const at = row ? [...this.body.rows].indexOf(row) : -1;
    this.rows = new Map(shown.map((client) => [client.id, this.rows.get(client.id) ?? this.#row(client)]));
    this.body.replaceChildren(...[...this.rows.values()].map(({ element }) => element));
    if (row?.isConnected) active.focus();
    else if (row) this.body.rows[Math.min(at, this.body.rows.length - 1)]?.querySelector('a').focus();
  }

  #row(client) {
    const cells = COLUMNS.map(([, kind]) => el('td', { class: kind }));
    const session = el('a', { href: `#/session/${encodeURIComponent(client.session)}` }, client.session);
    const close = el('button', { type: 'button', class: 'danger quiet', 'aria-label': `Close client ${client.user || 'without a user'} of ${client.session}`,
      onclick: () => this.once((signal) => this.#close(client, signal)) }, 'Close');
    const element = el('tr', { 'data-client': client.id },
      el('td', {}, name(client.user)), el('td', { class: 'id' }, session), ...cells, el('td', {}, close));
    return { element, cells };
  }

  /** Runs question() unless one is running. It is aborted when the view is left. */
  async once(question) {
    if (this.asking) return;
    this.asking = true;
    try {
      await question(this.stop.signal);
    } catch (error) {
      if (!this.stop.signal.aborted) toast(`Not closed: ${error.message}`, 'error');
    }
    this.asking = false;
  }

  async #close(client, signal) {
    const target = await narrow(client, signal);
    if (!target) {
      toast('This client is gone.');
      this.load();
      return;
    }
    const { filter, fits } = target;
    const several = fits.more || fits.found.length > 1;
    const children = [filterList(filter), filter.user ? null : usersOf(fits.found),
      el('p', {}, several ? `${countText(fits)} cannot be told apart by this. All of them are closed with 4006.` : 'It is closed with 4006.',
        ' Front-ends usually connect again, unless their token is revoked.')];
    if (await closeClients(filter, { title: several ? 'Close these clients?' : 'Close this client?', children }, this.result)) this.load();
  }

  leave() {
    clearTimeout(this.timer);
    this.loading?.abort();
    this.stop.abort();
  }
}
