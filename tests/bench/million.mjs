// As many open clients as are asked for on one machine: one Redis, and as many nodes as their
// descriptors need. Then a push for every vehicle has to reach every client.
import { readFileSync, writeFileSync } from 'node:fs'
import { setPriority } from 'node:os'
import { setTimeout as sleep } from 'node:timers/promises'
import { count } from './format.mjs'
import { availableMemory, cpuOf, kernelMemory, memoryOf, sum } from './million_memory.mjs'
import { inOwnNetwork, trackedRoom } from './network.mjs'
import { gib, show } from './million_report.mjs'
import { childrenOf, freePort, Process } from './processes.mjs'
import { hubNode, paths, redis } from './servers.mjs'

const BOTH_CORES = '0,1'
const BOUND_MS = 30 * 60_000
const BYTES_A_CONNECTION = 13.5 * 1024 // measured with 10 nodes a vin: both ends, the kernel, Redis
const RESERVE = 1.5 * 2 ** 30
const STOP_BELOW = 1.5 * 2 ** 30
const FILES = 20_000 // that a process may open, at least
const CLIENTS_A_PROCESS = 18_000
const UPSTREAMS_A_BACKEND = 14_000
const STARTED_AT_ONCE = 6
/* More than a hundred processes share two cores while all connect, so a node may wait for seconds. Redis, which would have a
 * machine of its own, gets the highest priority if that is permitted; clients get the lowest. */
const LEASE_S = 30
const REDIS_NICE = -10
const CLIENT_NICE = 10
const BROWSER_HEARTBEAT_MS = 60_000
const RECONNECT = '{min: 500ms, max: 10s, timeout: 30s}'
const UPSTREAM_HEARTBEAT = '{text: ping, reply: pong, every: 30s, timeout: 90s}'

const fileMax = () => Number(readFileSync('/proc/sys/fs/file-max', 'utf8'))
const filesOfProcess = () => Number(/Max open files\s+\S+\s+(\d+)/.exec(readFileSync('/proc/self/limits', 'utf8'))?.[1] ?? Infinity)

/** Why the run is not possible here, as texts. */
async function obstacles({ clients, vins }, noNetwork) {
  const connections = clients + vins
  const need = connections * BYTES_A_CONNECTION + RESERVE
  const found = []
  if (availableMemory() < need) found.push(`memory: ${gib(need)} are needed, ${gib(availableMemory())} are available`)
  const room = await trackedRoom()
  if (room < connections * 1.05) {
    found.push(`connections are tracked by the firewall, which has room for ${count(room)} of ${count(connections * 1.05)}, and a network`
      + ` namespace, where they are not, can't be made (${noNetwork ?? 'it has rules, too'}): run it as root`)
  }
  if (fileMax() < connections * 2.1) found.push(`descriptors: fs.file-max is ${count(fileMax())}, ${count(connections * 2.1)} are needed`)
  if (filesOfProcess() < FILES) found.push(`descriptors: a process may open ${count(filesOfProcess())} files, ${count(FILES)} are needed`)
  return found
}

const commonDivisor = (a, b) => (b === 0 ? a : commonDivisor(b, a % b))

/** The clients of one vin come one round after the other, each to another node: who opens a vin, and owns its session, is as
 * mixed as it is among real browsers. That needs a number of nodes without a common divisor with that of vins. */
function nodesFor(clients, vins, perNode) {
  let nodes = Math.max(2, Math.ceil(clients / perNode))
  while (commonDivisor(vins, nodes) > 1) nodes++
  return nodes
}

async function startNodes(plan, store, backendPort, nodes) {
  for (let from = 0; from < plan.nodes; from += STARTED_AT_ONCE) {
    const some = []
    for (let i = from; i < Math.min(plan.nodes, from + STARTED_AT_ONCE); i++) {
      some.push(await hubNode({
        backend: `127.0.1.${1 + i % plan.backends}:${backendPort}`, redisPort: store.port, lease: `${LEASE_S}s`, core: BOTH_CORES,
        heartbeat: UPSTREAM_HEARTBEAT, reconnect: RECONNECT, ping: '{every: 15m, timeout: 60s}',
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
    'client-processes': plan.processes, clients: plan.clients, vins: plan.vins, group: 1, 'heartbeat-ms': BROWSER_HEARTBEAT_MS,
    connecting: 16, 'client-nice': CLIENT_NICE, 'prime-ms': Math.ceil(plan.vins / plan.rate * 1000), rate: plan.rate, rounds: 1, 'warm-ms': plan.holdMs,
    'connect-s': 1200, 'settle-s': 600, watch: watched,
  }
  return ['--own-addresses', '--quiet-start', '--prime', '--progress', ...Object.entries(words).flatMap(([name, value]) => [`--${name}`, String(value)])]
}

/** Where the memory is while all are open and idle. */
function memoryMap(load, nodes, store, kernelBefore, availableBefore) {
  const ends = [load.pid, ...childrenOf(load.pid)]
  return {
    nodes: sum(nodes, (node) => memoryOf(node.pid)), redis: memoryOf(store.pid), load: sum(ends, memoryOf),
    kernel: kernelMemory() - kernelBefore, all: availableBefore - availableMemory(),
  }
}

/** Waits for the load tool; ends it where memory runs out or time is up. Returns what was seen meanwhile: the memory map of
 * the idle phase, the processor time of the load when each phase began, the most memory used. */
async function watchOver(load, began, map) {
  const seen = { memory: null, loadCpu: {}, least: availableMemory() }
  let phase = 'connect'
  load.child.stderr.on('data', (text) => {
    process.stderr.write(`  ${text}`)
    phase = /^(\w+): \d/.exec(text.trim().split('\n').pop())?.[1] ?? phase
  })
  for (let idle = 0; !load.exit;) {
    await Promise.race([load.exited, sleep(1000)])
    seen.least = Math.min(seen.least, availableMemory())
    const cpu = sum(childrenOf(load.pid), cpuOf)
    seen.loadCpu[phase] = Math.max(seen.loadCpu[phase] ?? 0, cpu) // it falls when the first processes have ended
    idle = phase === 'warm' ? idle + 1 : 0
    if (idle === 3) seen.memory = map()
    if (seen.least < STOP_BELOW) { load.child.kill('SIGKILL'); throw new Error(`memory runs out: ${gib(seen.least)} left`) }
    if (performance.now() - began > BOUND_MS) { load.child.kill('SIGKILL'); throw new Error('not done within 30 minutes') }
  }
  return seen
}

/** What nodes have logged as warnings or worse so far, how often by kind. */
function complaints(nodes) {
  const kinds = {}
  for (const line of nodes.flatMap(({ child }) => child.err.split('\n')).filter(Boolean)) {
    const kind = `${/ (?:warn|error) +(\S+)/i.exec(line)?.[1] ?? line}${/ reason=("[^"]*"|\S+)/.exec(line)?.[0] ?? ''}`
    kinds[kind] = (kinds[kind] ?? 0) + 1
  }
  return kinds
}

function tellComplaints(kinds) {
  for (const [kind, times] of Object.entries(kinds)) console.log(`logged by nodes: ${kind}, ${times} times`)
}

async function run(plan, file) {
  const began = performance.now()
  const [before, kernelBefore] = [availableMemory(), kernelMemory()]
  const nodes = []
  let store, load, logged = {}
  try {
    store = await redis({ core: BOTH_CORES })
    try { setPriority(store.pid, REDIS_NICE) } catch { console.error('Redis has no priority over the rest: not permitted') }
    const backendPort = await freePort()
    await startNodes(plan, store, backendPort, nodes)
    console.error(`${plan.nodes} nodes run, ${gib(before)} available; ${plan.processes} client processes and ${plan.backends} of the backend start`)
    await sleep(Math.max(0, LEASE_S * 1000 + 500 - (performance.now() - began))) // a Redis younger than a lease grants no session
    load = new Process(BOTH_CORES, paths.load(), loadArgs(plan, store, backendPort, nodes))
    load.child.stdout.once('data', () => { logged = complaints(nodes) }) // without complaints caused by the end of a million connections at once
    const seen = await watchOver(load, began, () => memoryMap(load, nodes, store, kernelBefore, before))
    let report
    try { report = JSON.parse(load.out) } catch { throw new Error(`load ended with ${load.exit.code ?? load.exit.signal}: ${load.err.trim().split('\n').pop()}`) }
    const seconds = Math.round((performance.now() - began) / 1000)
    writeFileSync(file, `${JSON.stringify({ date: new Date().toISOString(), plan, seconds, most: before - seen.least, ...seen, report }, null, 1)}\n`)
    const status = show(plan, report, seen)
    tellComplaints(logged)
    console.log(`${seconds} s; ${file}`)
    return status
  } catch (error) {
    console.error(`bench million: ${error.message}`)
    tellComplaints(complaints(nodes))
    return 1
  } finally {
    await load?.stop('SIGKILL')
    await Promise.all(nodes.map((node) => node.stop()))
    await store?.stop()
  }
}

export async function million({ clients, perVin, perNode, holdMs, rate, file }) {
  const noNetwork = await inOwnNetwork()
  const vins = Math.ceil(clients / perVin)
  const plan = { clients, perVin, vins, holdMs, rate, nodes: nodesFor(clients, vins, perNode), backends: Math.ceil(vins / UPSTREAMS_A_BACKEND),
    processes: Math.ceil(clients / CLIENTS_A_PROCESS) }
  const found = await obstacles(plan, noNetwork)
  if (found.length > 0) {
    console.error(`bench million: this machine can't:\n${found.map((line) => `  ${line}\n`).join('')}  --clients chooses fewer`)
    return 2
  }
  return run(plan, file)
}
