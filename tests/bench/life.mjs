// Redis commands in the life of a session, counted step by step by INFO commandstats: two nodes, with a backend and
// browsers in this process.
import { once } from 'node:events'
import net from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { WebSocket, WebSocketServer } from 'ws'
import { hub } from './servers.mjs'

const SESSIONS = 100
const LEASE_MS = 500
const QUIET_MS = 1.5 * LEASE_MS // after so long with renewals alone the step is over; records are written within a lease
const STEP_MS = 10_000

/** Calls of each command so far, those that scripts make included. */
export function commandStats(port) {
  return new Promise((resolve, reject) => {
    const socket = net.connect(port, '127.0.0.1', () => socket.write('INFO commandstats\r\nQUIT\r\n'))
    let text = ''
    socket.setEncoding('utf8').on('data', (piece) => { text += piece })
    socket.on('error', reject).on('close', () => resolve(Object.fromEntries(
      [...text.matchAll(/^cmdstat_(\S+?):calls=(\d+)/gm)].map(([, name, calls]) => [name, Number(calls)]))))
  })
}

const OURS = ['info', 'quit'] // commands of the counting itself

/** The calls between two counts, by command. */
export const callsBetween = (before, after) => Object.entries(after).filter(([name]) => !OURS.includes(name))
  .map(([name, calls]) => [name, calls - (before[name] ?? 0)]).filter(([, calls]) => calls > 0)

const sum = (rates) => Object.values(rates).reduce((all, rate) => all + rate, 0)

/** Calls in a ms of idle nodes, once that no longer falls: new nodes make more calls. */
async function idleRate(port) {
  for (let last = Infinity; ;) {
    const [from, before] = [performance.now(), await commandStats(port)]
    await sleep(2 * LEASE_MS)
    const calls = callsBetween(before, await commandStats(port))
    const rates = Object.fromEntries(calls.map(([name, n]) => [name, n / (performance.now() - from)]))
    if (sum(rates) > 0.97 * last) return rates
    last = sum(rates)
  }
}

/** Runs a step until Redis gets no new commands for a while; returns the calls for each session, without those of idle nodes. */
async function countStep(port, idle, step) {
  const [from, before] = [performance.now(), await commandStats(port)]
  await step()
  const busy = (calls, ms) => calls.some(([name, n]) => n > 3 + 2 * ms * (idle[name] ?? 0))
  let last = await commandStats(port)
  for (;;) {
    const at = performance.now()
    await sleep(QUIET_MS)
    const now = await commandStats(port)
    const done = !busy(callsBetween(last, now), performance.now() - at)
    last = now
    if (done) break
    if (performance.now() - from > STEP_MS) throw new Error(`Redis is asked more than an idle node asks, ${STEP_MS} ms after a step`)
  }
  const ms = performance.now() - from
  return callsBetween(before, last).map(([name, calls]) => [name, Math.max(0, calls - ms * (idle[name] ?? 0)) / SESSIONS])
}

const openAll = (target) => Promise.all(Array.from({ length: SESSIONS }, async (_, n) => {
  const socket = new WebSocket(`ws://${target}/u/V${n}?remoteWs`)
  await once(socket, 'open')
  return socket
}))

const closeAll = (sockets) => Promise.all(sockets.map(async (socket) => {
  socket.close(1000)
  await once(socket, 'close')
}))

/** Rows [step, [[command, calls a session]]]; the first is of an idle node. */
export async function countLife() {
  const cluster = await hub({ nodes: 2, cluster: true, lease: `${LEASE_MS}ms`, linger: '0s' })
  const [host, port] = cluster.backend[1].split(':')
  const backend = new WebSocketServer({ host, port: Number(port) })
  backend.on('connection', (socket) => socket.on('message', (data) => { if (data.toString() === 'ping') socket.send('pong') }))
  const [one, two] = cluster.targets
  const redis = cluster.redisPort
  try {
    const idle = await idleRate(redis)
    const rows = [['an idle node with a lease of 500 ms, a second', Object.entries(idle).map(([name, rate]) => [name, rate * 1000 / 2])]]
    const step = async (name, run) => { let result; rows.push([name, await countStep(redis, idle, async () => { result = await run() })]); return result }
    const owners = await step('first client of a session', () => openAll(one))
    const members = await step('first client on another node', () => openAll(two))
    const more = await step('one more client there', () => openAll(two))
    await step('one client of several leaves', () => closeAll(more))
    await step('the last client there leaves', () => closeAll(members))
    await step('the last client of all leaves', () => closeAll(owners))
    return rows
  } finally {
    backend.close()
    await cluster.stop()
  }
}
