// The view of clients: a list of the clients on all nodes, closing those that match a search, and revoking tokens.

import { post } from './api.js';
import { ClientTable, closeClients, count, countText, filterList, FILTERS, showClosed } from './clients-table.js';
import { confirmAction, el, toast } from './dom.js';

const PAGE = 50;
const HINTS = { user: 'user', vin: 'vin', address: 'IP address', session: 'service:key', service: 'service', node: 'node' };
const TRIMMED = new Set(['vin', 'address', 'service', 'node']); // a user's name may begin or end with a space

const KINDS = {
  sub: { title: 'all tokens of a user', words: 'Tokens of this user that were issued until now are refused from now on, by every node, and their clients are closed with 4001.' },
  jti: { title: 'one token, by its id (jti)', words: 'This token is refused from now on, by every node, and its clients are closed with 4001.' },
};

export class Clients {
  page = 'clients';

  constructor(cluster, query) {
    this.inputs = Object.fromEntries(FILTERS.map((key) => [key, el('input', { type: key === 'user' ? 'search' : 'text', name: key, size: '9',
      placeholder: HINTS[key], 'aria-label': key[0].toUpperCase() + key.slice(1), maxlength: '1024', autocomplete: 'off', spellcheck: 'false',
      value: query.get(key) ?? '' })]));
    this.closeAll = el('button', { type: 'button', class: 'danger', onclick: () => this.table.once((signal) => this.#closeAll(signal)) }, 'Close all that fit');
    this.table = new ClientTable(cluster, this.#typed(), PAGE);
    this.element = el('div', {},
      el('form', { class: 'filters', role: 'search', onsubmit: (event) => this.#search(event) }, ...Object.values(this.inputs),
        el('button', { type: 'submit', class: 'primary' }, 'Search'), this.closeAll),
      el('p', { class: 'note hint' }, 'Each filled field must match exactly. A vin, session or service also matches clients that subscribe to it in addition to their own session.'),
      this.table.element, this.#revokeForm());
    this.#showClosing();
  }

  #typed() {
    const typed = FILTERS.map((key) => [key, TRIMMED.has(key) ? this.inputs[key].value.trim() : this.inputs[key].value]);
    return Object.fromEntries(typed.filter(([, value]) => value));
  }

  #search(event) {
    event.preventDefault();
    const filter = this.#typed();
    const query = new URLSearchParams(filter);
    history.replaceState(null, '', `#/clients${query.size ? `?${query}` : ''}`);
    this.table.setFilter(filter);
    this.#showClosing();
  }

  #showClosing() {
    const none = Object.keys(this.table.filter).length === 0;
    this.closeAll.disabled = none;
    this.closeAll.title = none ? 'Search for something first: all clients of the cluster are not closed at once.' : '';
  }

  /** Closes the clients of the last search, which the dialog names; text that was typed after the search does not count. */
  async #closeAll(signal) {
    const { filter } = this.table;
    const fits = await count(filter, signal);
    if (fits.found.length === 0 && !fits.more) {
      toast('No client fits.');
      return;
    }
    const children = [filterList(filter),
      el('p', {}, `${countText(fits)} now. All that fit are closed with 4006, on every node. Front-ends usually connect again.`)];
    if (await closeClients(filter, { title: 'Close all that fit?', children }, this.table.result)) this.table.load();
  }

  #revokeForm() {
    const kind = el('select', { 'aria-label': 'What to revoke' }, ...Object.entries(KINDS).map(([value, { title }]) => el('option', { value }, title)));
    const value = el('input', { type: 'text', required: true, maxlength: '1024', autocomplete: 'off', spellcheck: 'false', 'aria-label': 'User or token id',
      placeholder: 'user (sub) or jti' });
    const submit = async (event) => {
      event.preventDefault();
      if (await this.#revoke(kind.value, value.value)) value.value = '';
    };
    return el('form', { class: 'revoke', onsubmit: submit }, el('h2', {}, 'Revoke tokens'),
      el('div', { class: 'bar' }, kind, value, el('button', { type: 'submit', class: 'danger' }, 'Revoke')));
  }

  async #revoke(kind, value) {
    const text = el('span', {}, filterList({ [kind]: value }), KINDS[kind].words, ' This cannot be taken back.');
    if (!(await confirmAction('Revoke?', text, 'Revoke'))) return false;
    try {
      showClosed(await post('api/revoke', { [kind]: value }), this.table.result, 'Revoked. ');
    } catch (error) {
      toast(`Not revoked: ${error.message}`, 'error');
      return false;
    }
    this.table.load();
    return true;
  }

  update() {}

  leave() {
    this.table.leave();
  }
}
