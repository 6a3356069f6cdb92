// The brokers that are measured. Each is started fresh for a run and has: targets (where browsers
// connect), backend (where it expects the backend, or where the backend publishes), watched (pids by
// name) and stop().
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import net from 'node:net'
import { dirname, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { setTimeout as sleep } from 'node:timers/promises'
import { discard, freePort, listening, Process, scratch, SERVER_CORE, workersOf } from './processes.mjs'

const HERE = dirname(fileURLToPath(import.meta.url))
const ROOT = resolve(HERE, '../..')
const NCHAN = ['/usr/lib/nginx/modules/ngx_nchan_module.so', '/usr/lib64/nginx/modules/ngx_nchan_module.so'].find(existsSync)
const READY_MS = 15_000
const FILES = 20000

export const paths = { build: resolve(ROOT, process.env.BUILD_DIR ?? 'build') }
paths.hub = () => join(paths.build, 'vinhub')
paths.other = null // another build's vinhub, to measure in the same turns
paths.floor = () => join(paths.build, 'bench/floor')
paths.load = () => join(paths.build, 'bench/load')

const local = (port) => `127.0.0.1:${port}`

function single(child, port, backendPort, extra = {}) {
  return {
    targets: [local(port)], backend: ['--listen', local(backendPort)], watched: { server: child.pid },
    stop: () => child.stop('SIGKILL'), ...extra,
  }
}

/** The hub of another build as one more contender, where --other names one. */
export const otherBuild = (settings = {}) => (paths.other ? { 'vinhub, other build': { start: () => hub({ ...settings, binary: paths.other }) } } : {})

export async function floor({ upstream = true, aTurn = false } = {}) {
  const [port, backendPort] = [await freePort(), await freePort()]
  const child = new Process(SERVER_CORE, paths.floor(), [...(aTurn ? ['--a-turn'] : []), local(port), ...(upstream ? [local(backendPort)] : [])])
  await listening(child, port)
  return single(child, port, backendPort)
}

async function node(script, many) {
  const [port, backendPort] = [await freePort(), await freePort()]
  const child = new Process(SERVER_CORE, process.execPath, [join(HERE, 'peers', script), port, `${local(backendPort)}/base`])
  await listening(child, port)
  return single(child, port, backendPort, { manyUpstreams: many })
}

export const relay = () => node('relay.mjs', true)
export const wsFanout = () => node('fanout.mjs', false)

export async function nchan() {
  if (!NCHAN) throw new Error('nginx has no nchan module (apt-get install libnginx-mod-nchan)')
  const port = await freePort()
  const folder = scratch()
  const words = { MODULE: NCHAN, FILES, CONNECTIONS: FILES - 500, FOLDER: folder, PORT: port }
  const conf = readFileSync(join(HERE, 'peers/nchan.conf.in'), 'utf8').replace(/@(\w+)@/g, (_, word) => words[word])
  writeFileSync(join(folder, 'nginx.conf'), conf)
  const child = new Process(SERVER_CORE, 'nginx', ['-p', folder, '-c', join(folder, 'nginx.conf')])
  const stop = async () => { await child.stop(); discard(folder) }
  let workers
  try {
    await listening(child, port)
    workers = await workersOf(child)
  } catch (error) { await stop(); throw error }
  return {
    targets: [local(port)], backend: ['--publish', local(port), '--publish-path', '/publish/*'],
    watched: Object.fromEntries(workers.map((pid, i) => [`server${i || ''}`, pid])), stop,
  }
}

/** A redis-server without persistence. */
export async function redis({ core = SERVER_CORE } = {}) {
  const port = await freePort()
  const folder = scratch()
  const child = new Process(core, 'redis-server', ['--port', port, '--bind', '127.0.0.1', '--dir', folder, '--save', '',
    '--appendonly', 'no', '--maxmemory-policy', 'noeviction', '--maxclients', '2000', '--tcp-backlog', '1024',
    '--client-output-buffer-limit', 'pubsub 0 0 0'])
  await listening(child, port)
  return { port, pid: child.pid, stop: async () => { await child.stop('SIGKILL'); discard(folder) } }
}

/** Has Redis load the hub's script that saves and publishes; returns its name there. */
async function loadScript(port) {
  const text = readFileSync(join(ROOT, 'hub/bus/lua/publish.lua'))
  const socket = net.connect(port, '127.0.0.1')
  socket.write(Buffer.concat([Buffer.from(`*3\r\n$6\r\nSCRIPT\r\n$4\r\nLOAD\r\n$${text.length}\r\n`), text, Buffer.from('\r\n')]))
  await once(socket, 'data')
  socket.destroy()
  return createHash('sha1').update(text).digest('hex')
}

/** Two floors and a bare PUBLISH between them, or the hub's script: what crossing nodes costs at least. */
export async function floorAcross({ script = false } = {}) {
  const [one, two, backendPort] = [await freePort(), await freePort(), await freePort()]
  const store = await redis()
  const how = script ? [await loadScript(store.port)] : []
  const children = [new Process(SERVER_CORE, paths.floor(), [local(one), local(backendPort), local(store.port), ...how]),
    new Process(SERVER_CORE, paths.floor(), [local(two), '-', local(store.port)])]
  const stop = async () => { await Promise.all(children.map((child) => child.stop('SIGKILL'))); await store.stop() }
  try {
    await listening(children[0], one)
    await listening(children[1], two)
  } catch (error) { await stop(); throw error }
  return {
    targets: [local(one), local(two)], backend: ['--listen', local(backendPort)],
    watched: { node1: children[0].pid, node2: children[1].pid, redis: store.pid }, stop,
  }
}

function hubSettings({ id, port, adminPort, backend, redisPort, lease, history, slowClient, deflate, heartbeat, reconnect, ping, linger }) {
  return [
    `node: {id: ${id}, lease: ${lease ?? '3s'}, drain: 200ms}`,
    `listen: {address: "${local(port)}"}`,
    `admin: {address: "${local(adminPort)}"}`,
    ...(redisPort ? [`redis: {url: "redis://${local(redisPort)}/0"}`] : []),
    'clients:',
    `  compression: ${deflate ?? false}`,
    ...(ping ? [`  ping: ${ping}`] : []),
    'services:',
    '  - name: remoteWs',
    `    upstream: "${backend}/base"`,
    ...(history ? [`    history: ${history}`] : []),
    ...(slowClient ? [`    slow_client: ${slowClient}`] : []),
    ...(reconnect ? [`    reconnect: ${reconnect}`] : []),
    ...(linger ? [`    linger: ${linger}`] : []),
    ...(heartbeat ? [`    heartbeat: ${heartbeat}`] : []),
    '',
  ].join('\n')
}

async function ready(child, adminPort) {
  const limit = performance.now() + READY_MS
  for (;;) {
    try {
      const answer = await fetch(`http://${local(adminPort)}/readyz`)
      if (answer.status === 200) return
    } catch { /* not listening yet */ }
    if (child.exit) throw new Error(`vinhub ended at once: ${child.err.trim().split('\n').pop()}`)
    if (performance.now() > limit) throw new Error('vinhub does not become ready')
    await sleep(20)
  }
}

let started = 0

/** One hub node; settings as above. `backend` is where its service leads to. */
export async function hubNode(settings, { wait = true } = {}) {
  const [port, adminPort] = [await freePort(), await freePort()]
  const id = `bench${++started}`
  const folder = scratch()
  writeFileSync(join(folder, 'vinhub.yaml'), hubSettings({ ...settings, id, port, adminPort }))
  const child = new Process(settings.core ?? SERVER_CORE, settings.binary ?? paths.hub(), ['-c', join(folder, 'vinhub.yaml'), '--log-level', 'warn'])
  const stop = async () => { await child.stop('SIGKILL'); discard(folder) }
  const node = { pid: child.pid, target: local(port), adminPort, child, stop, ready: () => ready(child, adminPort) }
  if (wait) {
    try { await node.ready() } catch (error) { await stop(); throw error }
  }
  return node
}

/** `nodes` hubs without Redis (each for itself), or a cluster on a Redis of its own. With several backends each has its own
 * address and process: for one address the kernel tries all 14,116 local ports of one parity before it takes one of the
 * other. */
export async function hub({ nodes = 1, cluster = false, backends = 1, ...settings } = {}) {
  const backendPort = await freePort()
  const backend = (i) => (backends > 1 ? `127.0.1.${1 + i % backends}:${backendPort}` : local(backendPort))
  const store = cluster ? await redis() : null
  const hubs = []
  const stop = async () => { await Promise.all(hubs.map((each) => each.stop())); await store?.stop() }
  try {
    for (let i = 0; i < nodes; i++) hubs.push(await hubNode({ ...settings, backend: backend(i), redisPort: store?.port }))
  } catch (error) { await stop(); throw error }
  return {
    targets: hubs.map((each) => each.target), backend: ['--listen', backend(0), ...(backends > 1 ? ['--backend-processes', backends] : [])],
    watched: { ...Object.fromEntries(hubs.map((each, i) => [nodes > 1 ? `node${i + 1}` : 'server', each.pid])), ...(store ? { redis: store.pid } : {}) },
    hubs, redisPort: store?.port, stop,
  }
}
