// The cluster at a glance: totals with plots, and the nodes.

import { post } from './api.js';
import { confirmAction, el, setText, toast } from './dom.js';
import * as format from './format.js';
import { Plot } from './plot.js';

const TILES = [
  { series: 'clients', title: 'Clients', format: format.count },
  { series: 'upstreams', title: 'Upstreams', format: format.count },
  { series: 'in', title: 'Pushes in / s', format: format.rate },
  { series: 'out', title: 'Deliveries / s', format: format.rate },
  { series: 'lag', title: 'Worst loop lag', format: (ms) => `${format.count(ms)} ms` },
];

const COLUMNS = [
  { title: 'Node', of: (node) => node.id, class: 'id', link: true },
  { title: 'State', of: (node) => node.state, badge: true },
  { title: 'Clients', of: (node) => format.exact(node.clients), number: true },
  { title: 'Sessions', of: (node) => format.exact(node.sessions), number: true, wide: true },
  { title: 'Upstreams', of: (node) => format.exact(node.upstreams), number: true, wide: true },
  { title: 'In / s', of: (node) => format.rate(node.in_rate), number: true },
  { title: 'Out / s', of: (node) => format.rate(node.out_rate), number: true },
  { title: 'Memory', of: (node) => format.bytes(node.rss), number: true, wide: true },
  { title: 'Lag', of: (node) => (node.loop_lag_ms === undefined ? '–' : `${node.loop_lag_ms} ms`), number: true, wide: true },
  { title: 'Up', of: (node, now) => format.ago(node.started, now), number: true, wide: true },
  { title: 'Renewed', of: (node, now) => format.ago(node.renewed, now), number: true, wide: true },
  { title: 'Listens', of: (node) => node.listen ?? '–', wide: true },
  { title: 'Version', of: (node) => node.version ?? '–', wide: true },
];

const cellClass = (column) => [column.number && 'number', column.wide && 'wide', column.class].filter(Boolean).join(' ');

async function drain(id) {
  const text = `${id} takes no more clients, hands its sessions over, closes its clients and stops. It does not come back by itself.`;
  if (!(await confirmAction(`Drain ${id}?`, text, 'Drain'))) return;
  try {
    await post('api/drain', { node: id });
    toast(`${id} is draining`);
  } catch (error) {
    toast(`${id} is not draining: ${error.message}`, 'error');
  }
}

class NodeRow {
  constructor(id) {
    this.cells = COLUMNS.map((column) => el('td', { class: cellClass(column) }));
    this.badge = el('span', { class: 'badge' });
    this.cells[COLUMNS.findIndex((column) => column.badge)].append(this.badge);
    this.cells[COLUMNS.findIndex((column) => column.link)].append(
      el('a', { href: `#/sessions?owner=${encodeURIComponent(id)}`, title: 'The sessions it owns' }, id));
    this.button = el('button', { class: 'quiet', 'aria-label': `Drain ${id}`, onclick: () => drain(id) }, 'Drain');
    this.element = el('tr', { 'data-node': id }, ...this.cells, el('td', { class: 'number' }, this.button));
  }

  update(node, now) {
    COLUMNS.forEach((column, i) => {
      if (!column.badge && !column.link) setText(this.cells[i], column.of(node, now));
    });
    setText(this.badge, node.state);
    this.badge.dataset.state = node.state;
    this.button.hidden = !['up', 'starting', 'fenced'].includes(node.state);
  }
}

export class Overview {
  page = 'overview';

  constructor(cluster) {
    this.cluster = cluster;
    this.rows = new Map();
    this.notice = el('p', { class: 'notice', role: 'alert', hidden: true });
    this.tiles = TILES.map((tile) => {
      const value = el('strong', {}, '–');
      const plot = new Plot(`${tile.title}, last three minutes`, tile.format);
      return { ...tile, value, plot, element: el('section', { class: 'tile', 'data-tile': tile.series }, el('h2', {}, tile.title), value, plot.element) };
    });
    this.body = el('tbody');
    this.caption = el('caption', {}, 'Nodes');
    this.element = el('div', {}, this.notice,
      el('div', { class: 'tiles' }, ...this.tiles.map((tile) => tile.element)),
      el('div', { class: 'scroll' }, el('table', { class: 'nodes' }, this.caption,
        el('thead', {}, el('tr', {}, ...COLUMNS.map((column) => el('th', { scope: 'col', class: cellClass(column) }, column.title)),
          el('th', { scope: 'col' }, el('span', { class: 'unseen' }, 'Actions')))),
        this.body)));
    this.update();
  }

  #notice() {
    const { cluster } = this;
    const fenced = cluster.nodes.filter((node) => node.state === 'fenced').length;
    const text = !cluster.storeAnswers ? 'Redis does not answer: the numbers below are old.'
      : fenced ? `${fenced} of ${cluster.nodes.length} nodes cannot reach Redis (fenced).` : '';
    this.notice.hidden = text === '';
    setText(this.notice, text);
  }

  update() {
    const { cluster } = this;
    this.#notice();
    for (const tile of this.tiles) {
      setText(tile.value, cluster.time ? tile.format(cluster.series[tile.series].last) : '–');
      tile.plot.draw(cluster.series[tile.series].values);
    }
    const up = cluster.nodes.filter((node) => node.state === 'up').length;
    setText(this.caption, cluster.time ? `${up} of ${cluster.nodes.length} nodes up` : 'Nodes');
    for (const node of cluster.nodes) {
      let row = this.rows.get(node.id);
      if (!row) this.rows.set(node.id, (row = new NodeRow(node.id)));
      row.update(node, cluster.time);
    }
    for (const id of [...this.rows.keys()]) {
      if (!cluster.nodes.some((node) => node.id === id)) this.rows.delete(id);
    }
    const wanted = cluster.nodes.map((node) => this.rows.get(node.id).element);
    if (wanted.length !== this.body.children.length || wanted.some((row, i) => this.body.children[i] !== row)) {
      this.body.replaceChildren(...wanted);
    }
  }

  leave() {}
}
