// The data of the `stats` events, as short series: totals of the cluster, and rates of each node.

const KEPT = 180; // samples, one a second
const RATE_MS = 4000; // rates are over this time, since a node writes its numbers only about twice a second

class Series {
  values = [];

  add(value) {
    this.values.push(value);
    if (this.values.length > KEPT) this.values.shift();
  }

  get last() {
    return this.values.at(-1) ?? 0;
  }
}

/** Readings of a counter of one node. If the counter falls, the node has restarted. */
class Counter {
  readings = [];

  add(time, value) {
    if (this.readings.length && value < this.readings.at(-1).value) this.readings = [];
    this.readings.push({ time, value });
    while (this.readings.length > 2 && time - this.readings[1].time >= RATE_MS) this.readings.shift();
  }

  get rate() {
    const [first, last] = [this.readings[0], this.readings.at(-1)];
    return first && last.time > first.time ? ((last.value - first.value) * 1000) / (last.time - first.time) : 0;
  }
}

export class Cluster {
  nodes = [];
  time = 0; // the clock of the node that serves this page
  asked = '';
  storeAnswers = true;
  shared = false;
  series = { clients: new Series(), upstreams: new Series(), in: new Series(), out: new Series(), lag: new Series() };
  #counters = new Map();

  #rates(node) {
    let counters = this.#counters.get(node.id);
    if (!counters) this.#counters.set(node.id, (counters = { in: new Counter(), out: new Counter() }));
    counters.in.add(this.time, node.msgs_in ?? 0);
    counters.out.add(this.time, node.msgs_out ?? 0);
    return { in_rate: counters.in.rate, out_rate: counters.out.rate };
  }

  update(stats) {
    this.time = stats.time;
    this.asked = stats.node;
    this.shared = stats.self.shared;
    this.storeAnswers = stats.nodes !== null;
    if (!this.storeAnswers) return;
    this.nodes = stats.nodes.map((node) => ({ ...node, state: node.state ?? 'gone', ...this.#rates(node) }))
      .sort((a, b) => (a.id < b.id ? -1 : 1));
    for (const id of this.#counters.keys()) {
      if (!this.nodes.some((node) => node.id === id)) this.#counters.delete(id);
    }
    const sum = (field) => this.nodes.reduce((all, node) => all + (node[field] ?? 0), 0);
    this.series.clients.add(sum('clients'));
    this.series.upstreams.add(sum('upstreams'));
    this.series.in.add(sum('in_rate'));
    this.series.out.add(sum('out_rate'));
    this.series.lag.add(Math.max(0, ...this.nodes.map((node) => node.loop_lag_ms ?? 0)));
  }
}
