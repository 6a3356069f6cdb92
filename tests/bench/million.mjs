// As many open clients as are asked for on one machine: one Redis, and as many nodes as their
// descriptors need. Then a push for every vehicle has to reach every client.
import { writeFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { count } from './format.mjs'
import { availableMemory, fileMax, trackedRoom } from './limits.mjs'
import { freePort, Process } from './processes.mjs'
import { hubNode, paths, redis } from './servers.mjs'
import { table } from './report.mjs'

const BOTH_CORES = '0,1'
const BOUND_MS = 30 * 60_000
const BYTES_A_CONNECTION = 12 * 1024 // measured with 10 clients a vin on 10 nodes: both ends and the kernel
const RESERVE = 1.5 * 2 ** 30
const STOP_BELOW = 0.75 * 2 ** 30
const CLIENTS_A_PROCESS = 18_000
const UPSTREAMS_A_BACKEND = 14_000
const PUSHES_A_SECOND = 5_000
const STARTED_AT_ONCE = 6

const gib = (bytes) => `${(bytes / 2 ** 30).toFixed(1)} GiB`

/** What stands against it, in words. */
function obstacles({ clients, vins }) {
  const connections = clients + vins
  const need = connections * BYTES_A_CONNECTION + RESERVE
  const found = []
  if (availableMemory() < need) found.push(`memory: ${gib(need)} are needed, ${gib(availableMemory())} are available`)
  if (trackedRoom() < connections * 1.05) {
    found.push(`connection tracking has room for ${count(trackedRoom())}, ${count(connections * 1.05)} are needed`
      + ` (sysctl -w net.netfilter.nf_conntrack_max=${Math.ceil(connections * 1.2)}, and back afterwards)`)
  }
  if (fileMax() < connections * 2.1) found.push(`descriptors: fs.file-max is ${count(fileMax())}, ${count(connections * 2.1)} are needed`)
  return found
}

async function startNodes(plan, store, backendPort, nodes) {
  for (let from = 0; from < plan.nodes; from += STARTED_AT_ONCE) {
    const some = []
    for (let i = from; i < Math.min(plan.nodes, from + STARTED_AT_ONCE); i++) {
      some.push(await hubNode({
        backend: `127.0.1.${1 + i % plan.backends}:${backendPort}`, redisPort: store.port, lease: '10s', core: BOTH_CORES,
        heartbeat: '{text: ping, reply: pong, every: 30s, timeout: 90s}', ping: '{every: 90s, timeout: 60s}',
      }, { wait: false }))
      nodes.push(some.at(-1))
    }
    await Promise.all(some.map((node) => node.ready()))
  }
}

function loadArgs(plan, store, backendPort, nodes) {
  const watched = [...nodes.map((node, i) => `node${i + 1}=${node.pid}`), `redis=${store.pid}`].join(',')
  const words = {
    connect: nodes.map((node) => node.target).join(','), listen: `127.0.1.1:${backendPort}`, 'backend-processes': plan.backends,
    'client-processes': plan.processes, clients: plan.clients, vins: plan.vins, group: plan.perVin, 'heartbeat-ms': 60_000, connecting: 16,
    'prime-ms': Math.ceil(plan.vins / PUSHES_A_SECOND * 1000), rate: PUSHES_A_SECOND, rounds: 1, 'warm-ms': plan.holdMs,
    'connect-s': 1200, 'settle-s': 300, watch: watched,
  }
  return ['--own-addresses', '--prime', '--progress', ...Object.entries(words).flatMap(([name, value]) => [`--${name}`, String(value)])]
}

/** Waits for the load tool; ends it where memory runs out or time is up. Returns the least memory that was available. */
async function watchOver(load, began) {
  let least = availableMemory()
  load.child.stderr.on('data', (text) => process.stderr.write(`  ${text}`))
  while (!load.exit) {
    await Promise.race([load.exited, sleep(1000)])
    least = Math.min(least, availableMemory())
    if (least < STOP_BELOW) { load.child.kill('SIGKILL'); throw new Error(`memory runs out: ${gib(least)} left`) }
    if (performance.now() - began > BOUND_MS) { load.child.kill('SIGKILL'); throw new Error('not done within 30 minutes') }
  }
  return least
}

function show(plan, report, used) {
  const nodes = report.watched.filter(({ name }) => name !== 'redis')
  const store = report.watched.find(({ name }) => name === 'redis')
  const sum = (list, pick) => list.reduce((total, each) => total + pick(each), 0)
  const hubRss = sum(nodes, (each) => each.rss[2])
  const share = (ns, of) => `${(ns / of * 100).toFixed(0)} % of a core`
  const deliveredAll = report.delivered === plan.clients
  console.log(table({
    title: `${count(report.opened)} open clients on ${count(plan.vins)} vins, ${plan.nodes} nodes, one Redis`, columns: ['', ''],
    rows: [
      ['opened in', `${(report.connect_ns / 1e9).toFixed(0)} s, ${count(report.opened / report.connect_ns * 1e9)} a second`],
      ['memory used by all of it, kernel and load included', `${gib(used)}, ${(used / (plan.clients + plan.vins) / 1024).toFixed(2)} KiB a connection`],
      ['resident memory of the nodes', `${gib(hubRss)}, ${(hubRss / plan.clients / 1024).toFixed(2)} KiB a client`],
      ['resident memory of Redis', gib(store.rss[2])],
      ['CPU while idle with heartbeats: nodes, Redis', `${share(sum(nodes, (each) => each.warm_cpu_ns), report.warm_ns)}, ${share(store.warm_cpu_ns, report.warm_ns)}`],
      ['a push for every vin', `${count(report.pushes)} pushes, ${count(report.delivered)} of ${count(plan.clients)} deliveries in ${(report.window_ns / 1e9).toFixed(1)} s`],
      ['CPU of it: nodes, Redis', `${(sum(nodes, (each) => each.cpu_ns) / report.delivered / 1000).toFixed(1)} us a delivery, ${(store.cpu_ns / report.pushes / 1000).toFixed(0)} us a push`],
      ['gaps, doubles, two upstreams of one vin', `${report.gaps}, ${report.doubles}, ${report.backend_two_at_once}`],
      ['clients not opened, closed, behind', `${plan.clients - report.opened}, ${report.closed}, ${report.behind}`],
    ],
  }))
  const good = deliveredAll && !report.missing && report.doubles + report.gaps + report.closed + report.failed + report.backend_two_at_once === 0
  console.log(good ? '\nevery client has every push' : `\nFAULT: ${report.missing ? `waited in vain for ${report.missing}` : 'see the table'}`)
  return good ? 0 : 1
}

export async function million({ clients, perVin, perNode, holdMs, file }) {
  const began = performance.now()
  const vins = Math.ceil(clients / perVin)
  const plan = { clients, perVin, vins, holdMs, nodes: Math.max(2, Math.ceil(clients / perNode)), backends: Math.ceil(vins / UPSTREAMS_A_BACKEND),
    processes: Math.ceil(clients / CLIENTS_A_PROCESS) }
  const found = obstacles(plan)
  if (found.length > 0) {
    console.error(`bench million: this machine can't:\n${found.map((line) => `  ${line}\n`).join('')}  --clients chooses fewer`)
    return 2
  }
  const before = availableMemory()
  const nodes = []
  let store
  try {
    store = await redis({ core: BOTH_CORES })
    const backendPort = await freePort()
    await startNodes(plan, store, backendPort, nodes)
    console.error(`${plan.nodes} nodes run, ${gib(before)} available; ${plan.processes} client processes and ${plan.backends} of the backend start`)
    const load = new Process(BOTH_CORES, paths.load(), loadArgs(plan, store, backendPort, nodes))
    const least = await watchOver(load, began)
    let report
    try { report = JSON.parse(load.out) } catch { throw new Error(`load ended with ${load.exit.code ?? load.exit.signal}: ${load.err.trim().split('\n').pop()}`) }
    writeFileSync(file, `${JSON.stringify({ date: new Date().toISOString(), plan, used: before - least, report }, null, 1)}\n`)
    const status = show(plan, report, before - least)
    console.log(`${Math.round((performance.now() - began) / 1000)} s; ${file}`)
    return status
  } catch (error) {
    console.error(`bench million: ${error.message}`)
    return 1
  } finally {
    await Promise.all(nodes.map((node) => node.stop()))
    await store?.stop()
  }
}
