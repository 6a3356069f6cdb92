// One session: its record, its live messages, its clients, and the actions of an operator.

import { follow, get, post, sessionPath } from './api.js';
import { ClientTable } from './clients-table.js';
import { confirmAction, el, setText, toast } from './dom.js';
import * as format from './format.js';

const REFRESH_MS = 2000;
const KEPT = 200; // messages that the page keeps
const PAST = 50; // messages of the history that come first
const CLIENTS = 20; // clients on a page of the table
const SHOWN = 4000; // characters of a message that are shown

const FIELDS = [
  ['state', 'State'], ['since', 'Since'], ['owner', 'Owner'], ['members', 'Nodes with clients'], ['clients', 'Clients'], ['epoch', 'Epoch'],
  ['offset', 'Offset'], ['upstream', 'Upstream'], ['reason', 'Reason'],
];

const WIDE = new Set(['reason', 'upstream']);

function show(field, session, now) {
  const value = session[field];
  if (value === undefined || value === '') return '–';
  if (field === 'since') return `${format.clock(value)} (${format.ago(value, now)})`;
  return field === 'clients' || field === 'members' ? format.exact(value) : String(value);
}

const sizeOf = (message) => (message.encoding === 'base64' ? Math.floor((message.payload.length * 3) / 4) : new Blob([message.payload]).size);

function messageRow(message) {
  const cut = message.payload.length > SHOWN;
  return el('li', { 'data-offset': String(message.offset) },
    el('span', { class: 'at', title: `epoch ${message.epoch}` }, `${message.offset}`),
    el('time', {}, format.clock(message.time)),
    el('span', { class: 'size' }, `${message.encoding === 'base64' ? 'binary ' : ''}${format.bytes(sizeOf(message))}`),
    el('code', {}, cut ? `${message.payload.slice(0, SHOWN)} …` : message.payload));
}

export class Session {
  page = 'sessions';

  constructor(cluster, id) {
    this.cluster = cluster;
    this.id = id;
    this.waiting = []; // messages for the next frame
    this.stop = new AbortController();
    this.values = Object.fromEntries(FIELDS.map(([field]) => [field, el('dd', { 'data-field': field }, '–')]));
    this.badge = el('span', { class: 'badge' });
    this.owner = el('a');
    this.values.state.replaceChildren(this.badge);
    this.messages = el('ol', { class: 'messages', reversed: true, 'aria-label': 'Messages, newest first' });
    this.note = el('p', { class: 'note', role: 'status' }, 'No message yet.');
    this.hold = el('button', { type: 'button', 'aria-pressed': 'false', onclick: () => this.#toggle() }, 'Pause');
    this.clients = new ClientTable(cluster, { session: id }, CLIENTS);
    this.element = el('div', { class: 'session' },
      el('h1', {}, id),
      el('dl', { class: 'fields' }, ...FIELDS.map(([field, title]) => el('div', { class: `field ${WIDE.has(field) ? 'whole' : ''}` }, el('dt', {}, title), this.values[field]))),
      this.#publishForm(),
      el('section', {}, el('div', { class: 'bar' }, el('h2', {}, 'Messages'), this.note, this.hold,
        el('button', { type: 'button', onclick: () => this.messages.replaceChildren() }, 'Clear')), this.messages),
      el('section', {}, el('div', { class: 'bar' }, el('h2', {}, 'Clients'),
        el('a', { href: `#/clients?${new URLSearchParams({ session: id })}` }, 'Search them, or close all with a reason')), this.clients.element));
    this.#load();
    this.timer = setInterval(() => this.#load(), REFRESH_MS);
    follow(`api/events?session=${encodeURIComponent(id)}&history=${PAST}`, (name, data) => this.#event(name, data),
      (live, why) => setText(this.note, live ? 'Listening.' : `Not listening: ${why}`), this.stop.signal);
  }

  #publishForm() {
    const data = el('textarea', { name: 'data', rows: '3', 'aria-label': 'Message', placeholder: 'Message to every client of this session', spellcheck: 'false' });
    const kind = el('select', { 'aria-label': 'Kind' }, el('option', { value: 'data' }, 'text'), el('option', { value: 'data_base64' }, 'binary, as base64'));
    const submit = async (event) => {
      event.preventDefault();
      try {
        const at = await post('api/publish', { session: this.id, [kind.value]: data.value });
        toast(`Published as ${at.epoch}.${at.offset}`);
        data.value = '';
      } catch (error) {
        toast(`Not published: ${error.message}`, 'error');
      }
    };
    return el('form', { class: 'publish', onsubmit: submit }, data,
      el('div', { class: 'bar' }, kind, el('button', { type: 'submit', class: 'primary' }, 'Publish'),
        el('button', { type: 'button', class: 'danger', onclick: () => this.#close() }, 'Close clients')));
  }

  async #close() {
    const text = 'Every client of this session, on every node, is closed with 4006. Front-ends usually connect again.';
    if (!(await confirmAction('Close the clients?', text, 'Close clients'))) return;
    try {
      await post(`${sessionPath(this.id)}/close`, {});
      toast('Clients are being closed');
    } catch (error) {
      toast(`Not closed: ${error.message}`, 'error');
    }
  }

  #toggle() {
    this.paused = !this.paused;
    this.hold.setAttribute('aria-pressed', String(this.paused));
    setText(this.hold, this.paused ? 'Go on' : 'Pause');
  }

  /** False: the message is shown already, since a stream that is opened again begins with past messages. */
  #isNew({ epoch, offset }) {
    const last = this.last;
    if (last && (epoch < last.epoch || (epoch === last.epoch && offset <= last.offset))) return false;
    this.last = { epoch, offset };
    return true;
  }

  /** The messages of one frame are added together; of more than KEPT messages only the last ones are built. */
  #event(name, data) {
    if (name === 'dropped') setText(this.note, `${format.exact(data.count)} messages were left out: too many to show.`);
    if (name !== 'message' || this.paused || !this.#isNew(data)) return;
    this.waiting.push(data);
    if (this.waiting.length > KEPT) this.waiting.shift();
    this.frame ??= requestAnimationFrame(() => {
      this.frame = undefined;
      this.messages.prepend(...this.waiting.reverse().map(messageRow));
      this.waiting = [];
      while (this.messages.children.length > KEPT) this.messages.lastChild.remove();
    });
  }

  async #load() {
    try {
      const session = await get(sessionPath(this.id), this.stop.signal);
      for (const [field] of FIELDS) {
        if (field !== 'state' && field !== 'owner') setText(this.values[field], show(field, session, this.cluster.time || Date.now()));
      }
      this.#showState(session.owner ? session.state ?? '–' : 'released');
      this.#showOwner(session.owner ?? '');
    } catch (error) {
      if (!this.stop.signal.aborted) this.#showState(error.message);
    }
  }

  #showState(state) {
    setText(this.badge, state);
    this.badge.dataset.state = state;
  }

  #showOwner(owner) {
    if (owner === this.shownOwner) return;
    this.shownOwner = owner;
    setText(this.owner, owner);
    this.owner.href = `#/sessions?owner=${encodeURIComponent(owner)}`;
    this.values.owner.replaceChildren(owner ? this.owner : '–');
  }

  update() {}

  leave() {
    this.stop.abort();
    this.clients.leave();
    clearInterval(this.timer);
    cancelAnimationFrame(this.frame);
  }
}
