// The real stack under load: scaled up and down, killed, paused, cut off, restarted, while resuming clients keep account.
// tests/docker/run brings it up with one node and takes it down; the cases build on each other in this order.
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import WebSocket from 'ws'
import { test } from '../lib/runner.mjs'
import { until } from '../lib/until.mjs'
import { Watcher } from './watcher.mjs'

const execute = promisify(execFile)
const { COMPOSE = 'docker-compose', COMPOSE_PROJECT_NAME: project, LB_PORT: port } = process.env
const VINS = 12
const CLIENTS_A_VIN = 3
const LEASE_MS = 3000
const BACK_MS = 20_000 // for all clients to be served again, a loaded machine included
const watchers = []

const docker = async (...args) => (await execute('docker', args)).stdout.trim()
const compose = async (...args) => {
  const [command, ...first] = COMPOSE.split(' ')
  return (await execute(command, [...first, ...args])).stdout.trim()
}
const hubs = async () => (await docker('ps', '-q', '--filter', `label=com.docker.compose.project=${project}`,
  '--filter', 'label=com.docker.compose.service=hub', '--filter', 'status=running')).split('\n').filter(Boolean)
const scale = (count) => compose('up', '-d', '--no-build', '--no-recreate', '--scale', `hub=${count}`)
const url = (vin) => `ws://127.0.0.1:${port}/admin/${vin}?remoteWs`
const watch = (count) => {
  for (let i = 0; i < count; i++) watchers.push(new Watcher(url(`VIN${String(watchers.length % VINS).padStart(4, '0')}`)))
}
const nodesInUse = () => new Set(watchers.map(({ node }) => node))
const redisNodes = async () => (await compose('exec', '-T', 'redis', 'redis-cli', '-a', 'change-me', '--no-auth-warning',
  'zrange', 'vinhub:nodes', '0', '-1')).split('\n').filter(Boolean)

/** What nginx has in its list of nodes. */
const balanced = () => compose('exec', '-T', 'nginx', 'cat', '/run/vinhub-lb/servers.conf')

/** Every watcher gets a message that came after this call. */
async function allServed(what, ms = BACK_MS) {
  const from = performance.now()
  await until(() => watchers.every(({ lastAt }) => lastAt > from), ms, () => {
    const idle = watchers.filter(({ lastAt }) => lastAt <= from)
    return `${what}: ${idle.length} of ${watchers.length} clients get nothing, e.g. ` +
      JSON.stringify(idle.slice(0, 3).map(({ url, node, lastError, closes }) => ({ url, node, lastError, closes: closes.slice(-2) })))
  })
}

/** Nothing twice, out of order, or missing without a GAP; with `gaps: 0` nothing missing at all. */
function checkAccounts({ gaps } = {}) {
  const faults = watchers.flatMap((watcher) => watcher.faults.map((fault) => `${watcher.url}: ${fault}`))
  if (faults.length > 0) throw new Error(`${faults.length} faults:\n${faults.slice(0, 10).join('\n')}`)
  const announced = watchers.flatMap((watcher) => watcher.gaps)
  if (gaps === 0 && announced.length > 0) throw new Error(`${announced.length} gaps: ${announced.slice(0, 10).join(', ')}`)
}

const marks = () => watchers.map(({ closes }) => closes.length)

/** Every close since these marks was the hub's "restarting, reconnect now": nobody was cut off. */
function checkLetGo(before) {
  const closes = watchers.flatMap((watcher, i) => watcher.closes.slice(before[i]))
  const others = closes.filter((close) => !close.startsWith('1012'))
  if (others.length > 0) throw new Error(`${others.length} of ${closes.length} closes were no 1012: ${others.slice(0, 5).join(', ')}`)
  if (closes.length === 0) throw new Error('nobody was let go')
}

/** A new client through the load balancer: milliseconds until it is open. */
async function dialAnew() {
  const began = performance.now()
  const socket = new WebSocket(url('VIN0000'), { handshakeTimeout: 25_000 })
  try {
    await new Promise((resolve, reject) => {
      socket.once('open', resolve)
      socket.once('error', reject)
    })
    return performance.now() - began
  } finally { socket.terminate() }
}

/** As many new clients as it takes to ask each node once: none waits for long. */
async function dialOften(times, worst) {
  for (let i = 0; i < times; i++) {
    const ms = await dialAnew()
    if (ms > worst) throw new Error(`a new client waited ${Math.round(ms)} ms`)
  }
}

test('a push arrives through nginx', { timeout: 60_000 }, async () => {
  watch(VINS * CLIENTS_A_VIN)
  await allServed('at the start')
  checkAccounts({ gaps: 0 })
})

test('the page and the console are served', async () => {
  const page = await fetch(`http://127.0.0.1:${port}/`)
  if (page.status !== 200 || !(await page.text()).includes('vinhub')) throw new Error(`the page: ${page.status}`)
  const console_ = `http://127.0.0.1:${process.env.CONSOLE_PORT}`
  const anybody = await fetch(`${console_}/api/nodes`)
  if (anybody.status !== 401) throw new Error(`the admin API without a token: ${anybody.status}`)
  const operator = await fetch(`${console_}/api/nodes`, { headers: { authorization: 'Bearer change-me' } })
  const { nodes } = await operator.json()
  if (nodes.length !== 1) throw new Error(`the admin API knows ${nodes.length} nodes`)
})

test('a container runs unprivileged on a read-only file system and is healthy', async () => {
  const [id] = await hubs()
  const user = await docker('exec', id, 'id', '-u')
  if (user === '0') throw new Error('the hub runs as root')
  const written = await docker('exec', id, 'sh', '-c', 'touch /tmp/x /etc/x 2>/dev/null && echo yes || echo no')
  if (written !== 'no') throw new Error('the file system can be written')
  const capabilities = await docker('exec', id, 'sh', '-c', 'grep CapEff /proc/1/status')
  if (!/0{16}$/.test(capabilities)) throw new Error(capabilities)
  await until(async () => await docker('inspect', '-f', '{{.State.Health.Status}}', id) === 'healthy', 30_000, 'the hub to be healthy')
})

test('scaled from 1 to 5, new clients land on all five', { timeout: 120_000 }, async () => {
  await scale(5)
  await until(async () => (await redisNodes()).length === 5, 60_000, 'five nodes in Redis')
  await until(() => {
    if (nodesInUse().size < 5) watch(1)
    return nodesInUse().size === 5
  }, 30_000, () => `clients on 5 nodes, they are on ${[...nodesInUse()]}`)
  watch(VINS)
  await allServed('with five nodes')
  checkAccounts({ gaps: 0 })
})

test('scaled from 5 to 2 under load, no push is lost', { timeout: 120_000 }, async () => {
  const before = marks()
  await scale(2)
  await until(() => nodesInUse().size <= 2 && !nodesInUse().has(null), BACK_MS, 'all clients to be on two nodes')
  await allServed('with two nodes')
  checkLetGo(before)
  checkAccounts({ gaps: 0 })
})

test('a rolling restart of all nodes loses no push', { timeout: 120_000 }, async () => {
  const before = marks()
  for (const id of await hubs()) {
    await docker('restart', '-t', '30', id)
    await until(async () => await docker('inspect', '-f', '{{.State.Health.Status}}', id) === 'healthy', 30_000, `${id} to be healthy`)
    await allServed('after a restart')
  }
  checkLetGo(before)
  checkAccounts({ gaps: 0 })
})

test('docker/update replaces all nodes by new ones and loses no push', { timeout: 180_000 }, async () => {
  const before = marks()
  const old = await hubs()
  await execute('docker/update', ['--no-build'])
  const now = await hubs()
  if (now.length !== old.length) throw new Error(`${now.length} nodes in place of ${old.length}`)
  if (now.some((id) => old.includes(id))) throw new Error('an old container is still there')
  await allServed('after the update')
  checkLetGo(before)
  checkAccounts({ gaps: 0 })
})

test('a killed node: its clients and vehicles are with the others', { timeout: 90_000 }, async () => {
  await scale(3)
  await until(async () => (await redisNodes()).length >= 3, 30_000, 'three nodes in Redis')
  const [id] = await hubs()
  await docker('kill', '-s', 'KILL', id)
  await until(() => !nodesInUse().has(null), BACK_MS, 'all clients to be connected')
  await allServed('after a kill')
  await dialOften(6, 3000)
  checkAccounts()
})

test('a paused node: new clients get another one, on waking nothing comes twice', { timeout: 120_000 }, async () => {
  await scale(3)
  await until(async () => (await hubs()).length === 3, 30_000, 'three containers')
  const [id] = await hubs()
  const node = await docker('exec', id, 'hostname')
  await docker('pause', id)
  // Before nginx knows: a handshake that the paused node accepted in silence is finally sent to another one.
  const early = await Promise.all(Array.from({ length: 12 }, dialAnew))
  console.log(`# new clients next to a node paused a moment ago waited ${early.map(Math.round)} ms`)
  const elsewhere = () => watchers.filter((watcher) => watcher.node && !watcher.node.startsWith(node))
  const from = performance.now() + LEASE_MS + 1000
  await until(() => elsewhere().every(({ lastAt }) => lastAt > from), BACK_MS, 'clients of other nodes to be served')
  await dialOften(6, 3000)
  await docker('unpause', id)
  await allServed('after the pause')
  checkAccounts()
})

test('a node cut off from Redis: new clients get another one, afterwards all goes on', { timeout: 120_000 }, async () => {
  const [id] = await hubs()
  const network = `${project}_bus`
  await docker('network', 'disconnect', network, id)
  await until(async () => !await docker('exec', id, 'health', 'http', '9600', '/readyz').then(() => true, () => false),
    LEASE_MS + 3000, 'the node to be unready')
  const address = await docker('inspect', '-f', `{{(index .NetworkSettings.Networks "${project}_front").IPAddress}}`, id)
  await until(async () => !(await balanced()).includes(`${address}:`), 5000, 'nginx to follow')
  await dialOften(6, 3000)
  await docker('network', 'connect', '--alias', 'hub', network, id)
  await allServed('after the cut', 30_000)
  checkAccounts()
})

test('Redis restarted empty: clients stay and are served', { timeout: 90_000 }, async () => {
  const before = marks()
  await compose('restart', '-t', '0', 'redis')
  await allServed('after the restart of Redis', 30_000)
  const closed = watchers.filter(({ closes }, i) => closes.length > before[i])
  if (closed.length > 0) throw new Error(`${closed.length} clients were closed, e.g. ${closed[0].closes.at(-1)}`)
})

test('Valkey in the place of Redis: clients stay and are served', { timeout: 240_000 }, async () => {
  const before = marks()
  process.env.STORE = 'valkey'
  await compose('build', 'redis')
  await compose('up', '-d', '--no-deps', '--no-build', '-t', '0', 'redis')
  const said = await compose('exec', '-T', 'redis', 'valkey-cli', '-a', 'change-me', '--no-auth-warning', 'info', 'server')
  if (!/^server_name:valkey/m.test(said)) throw new Error(`this is no Valkey: ${said.slice(0, 200)}`)
  await allServed('on Valkey', 30_000)
  const closed = watchers.filter(({ closes }, i) => closes.length > before[i])
  if (closed.length > 0) throw new Error(`${closed.length} clients were closed, e.g. ${closed[0].closes.at(-1)}`)
  await docker('kill', '-s', 'KILL', (await hubs())[0])
  await until(() => !nodesInUse().has(null), BACK_MS, 'all clients to be connected')
  await allServed('after a kill, on Valkey')
  checkAccounts()
})

test('the logs are JSON lines without secrets', async () => {
  const [id] = await hubs()
  const { stdout, stderr } = await execute('docker', ['logs', id], { maxBuffer: 1 << 26 })
  const lines = (stdout + stderr).split('\n').filter(Boolean)
  if (lines.length === 0) throw new Error('no line')
  for (const line of lines) {
    const { event, level, timestamp } = JSON.parse(line)
    if (!event || !level || !timestamp) throw new Error(line)
    if (line.includes('change-me')) throw new Error(`a secret: ${line}`)
  }
})

test('stopped, every node ends cleanly', { timeout: 90_000 }, async () => {
  const ids = await hubs()
  const sum = (of) => watchers.reduce((total, watcher) => total + of(watcher), 0)
  console.log(`# ${watchers.length} clients, ${sum(({ messages }) => messages)} messages, ` +
    `${sum(({ closes }) => closes.length)} reconnects, ${sum(({ gaps }) => gaps.length)} announced gaps`)
  for (const watcher of watchers) watcher.stop()
  await compose('stop', '-t', '30', 'hub')
  for (const id of ids) {
    const code = await docker('inspect', '-f', '{{.State.ExitCode}}', id)
    if (code !== '0') throw new Error(`a node ended with ${code}`)
  }
})
