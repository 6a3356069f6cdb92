// The report of a run with very many connections.
import { count } from './format.mjs'
import { sum } from './million_memory.mjs'
import { table } from './report.mjs'

export const gib = (bytes) => `${(bytes / 2 ** 30).toFixed(1)} GiB`

const seconds = (ns) => `${(ns / 1e9).toFixed(ns < 1e10 ? 1 : 0)} s`
const milliseconds = (ns) => `${(ns / 1e6).toFixed(0)} ms`
const share = (ns, of) => `${(ns / of * 100).toFixed(0)} %`

function memoryRows(plan, memory) {
  const connections = plan.clients + plan.vins
  const each = (bytes) => `${gib(bytes)}, ${(bytes / connections / 1024).toFixed(2)} KiB`
  const known = memory.nodes + memory.redis + memory.load + memory.kernel
  return [
    ['memory, of it a connection', each(known)],
    ['- nodes', `${each(memory.nodes)}; ${(memory.nodes / plan.clients / 1024).toFixed(2)} KiB a client`],
    ['- kernel, both ends', each(memory.kernel)],
    ['- clients and backend', each(memory.load)],
    ['- Redis', each(memory.redis)],
    ['what the machine has less of', each(memory.all)],
  ]
}

const PHASES = ['connect', 'prime', 'settle', 'warm', 'measure', 'end']

function cpuRows(report, nodes, store, loadCpu) {
  const until = (phase) => PHASES.slice(0, PHASES.indexOf(phase) + 1).reduce((most, name) => Math.max(most, loadCpu[name] ?? 0), 0)
  const line = (field, load) => `${seconds(sum(nodes, (node) => node[field]))}, ${seconds(store[field])}, ${seconds(load)}`
  const idle = [sum(nodes, (node) => node.warm_cpu_ns), store.warm_cpu_ns, until('warm') - until('settle')]
  return [
    ['CPU to connect: nodes, Redis, clients and backend', line('connect_cpu_ns', until('connect'))],
    ['idle with heartbeats, of a core: the same', idle.map((ns) => share(ns, report.warm_ns)).join(', ')],
    ['CPU of the pushes and heartbeats: the same', line('cpu_ns', until('end') - until('warm'))],
  ]
}

/** Prints the table; returns the status to end with. */
export function show(plan, report, { memory, loadCpu }) {
  const nodes = report.watched.filter(({ name }) => name !== 'redis')
  const store = report.watched.find(({ name }) => name === 'redis')
  const latency = report.latency_others
  console.log(table({
    title: `${count(report.opened)} open clients on ${count(plan.vins)} vins, ${plan.nodes} nodes, one Redis`, columns: ['', ''],
    rows: [
      ['opened in', `${seconds(report.connect_ns)}, ${count(report.opened / report.connect_ns * 1e9)} a second`],
      ...(memory ? memoryRows(plan, memory) : []),
      ...cpuRows(report, nodes, store, loadCpu),
      ['a push for every vin', `${count(report.pushes)} pushes, ${count(report.delivered)} of ${count(plan.clients)} deliveries in ${seconds(report.window_ns)}`],
      ['from the backend to a client', `p50 ${milliseconds(latency.p50)}, p99 ${milliseconds(latency.p99)}, longest ${milliseconds(latency.max)}`],
      ['CPU a delivery (nodes), a push (Redis), with heartbeats', `${(sum(nodes, (node) => node.cpu_ns) / report.delivered / 1000).toFixed(1)} us, ${(store.cpu_ns / report.pushes / 1000).toFixed(0)} us`],
      ['gaps, doubles, two upstreams of one vin', `${report.gaps}, ${report.doubles}, ${report.backend_two_at_once}`],
      ['clients not opened, closed, behind', `${plan.clients - report.opened}, ${report.closed}, ${report.behind}`],
    ],
  }))
  const good = report.delivered === plan.clients && !report.missing
    && report.doubles + report.gaps + report.closed + report.failed + report.backend_two_at_once === 0
  console.log(good ? '\nevery client has every push' : `\nFAULT: ${report.missing ? `waited in vain for ${report.missing}` : 'see the table'}`)
  return good ? 0 : 1
}
