// Contract section 9, "process paused (SIGSTOP) longer than the lease": on waking the first thing that
// happens is that its upstreams are reset, whatever they were doing and whichever socket woke it.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import net from 'node:net'
import { test } from '../lib/runner.mjs'
import { Backend } from '../lib/backend.mjs'
import { Browser } from '../lib/browser.mjs'
import { service, SLACK_MS, startHub } from '../lib/hub.mjs'
import { freePort } from '../lib/ports.mjs'
import { Child } from '../lib/process.mjs'
import { deadline, quiet, until } from '../lib/until.mjs'

const UPSTREAM = '/base/admin/VIN1'
const PAGE = '/admin/VIN1?remoteWs'
const RECONNECT = { min: '50ms', max: '200ms', timeout: '5s' }
const PAUSE_MS = 1500 // three leases, and long enough for TCP to send a SYN again
const READY_MS = 10_000
const ROUNDS = 8

function start(t, upstream) {
  return startHub(t, { settings: { node: { lease: '500ms' }, services: [{ name: 'remoteWs', upstream, reconnect: RECONNECT }] } })
}

/** Holds the hub for PAUSE_MS after work(); the browser must not notice. */
function pause(hub, page, work) {
  return hub.whilePaused(async () => {
    await work()
    await quiet(() => page.end, PAUSE_MS, 'a browser to be closed by a pause')
  })
}

async function assertBack(backend, hub, page) {
  await hub.ready(READY_MS)
  await until(() => { backend.push(UPSTREAM, 'fresh'); return page.texts().includes('fresh') }, 3000 + SLACK_MS, 'a push over a new upstream')
  assert.deepEqual([...new Set(page.texts())], ['fresh'], 'nothing of the stale upstream reaches the browser')
  assert.equal(page.end, null)
}

test('an open upstream that has pushed meanwhile is reset and opened anew', async (t) => {
  const backend = await Backend.start(t)
  const hub = await start(t, backend.url('/base'))
  const page = await Browser.open(t, hub.url(PAGE))
  const stale = await backend.one(UPSTREAM)
  await pause(hub, page, () => { for (let n = 0; n < 100; n++) backend.push(UPSTREAM, `stale ${n}`) })
  await until(() => stale.end, 2000 + SLACK_MS, 'the stale upstream to be reset')
  await until(() => backend.upgrades.length >= 2, 3000 + SLACK_MS, 'a new upstream')
  await assertBack(backend, hub, page)
})

test('a handshake that was under way is given up and done again', async (t) => {
  const backend = await Backend.start(t)
  backend.handshake = 'half'
  const hub = await start(t, backend.url('/base'))
  const page = await Browser.open(t, hub.url(PAGE))
  await until(() => backend.upgrades.length === 1, 3000, 'the handshake')
  await pause(hub, page, () => { backend.handshake = 'accept' })
  await assertBack(backend, hub, page)
})

/** A server that listens and does not accept: its queue is full, so that a SYN waits. */
async function startFullServer(t, port) {
  const script = `require('net').createServer(() => {}).listen({ port: ${port}, host: '127.0.0.1', backlog: 1 }, () => {
    console.log('listening'); process.kill(process.pid, 'SIGSTOP') })`
  const child = new Child(process.execPath, ['-e', script])
  t.defer(() => child.stop('SIGKILL'))
  await until(() => child.out.includes('listening'), 5000, 'the server to listen')
  for (let n = 0; n < 2; n++) { // a backlog of 1 holds two
    const socket = net.connect(port, '127.0.0.1').on('error', () => {})
    t.defer(() => socket.destroy())
    await deadline(once(socket, 'connect'), 2000, 'a place in the queue')
  }
  return child
}

test('a TCP connection that came about meanwhile is given up', async (t) => {
  const port = await freePort()
  const server = await startFullServer(t, port)
  const hub = await start(t, `ws://127.0.0.1:${port}/base`)
  const page = await Browser.open(t, hub.url(PAGE))
  await until(async () => (await hub.json('/api/sessions/remoteWs:VIN1')).state === 'connecting', 3000, 'the try')
  await pause(hub, page, () => server.signal('SIGCONT'))
  await hub.ready(READY_MS)
  page.send('ping')
  await page.got(1)
  assert.deepEqual(page.texts(), ['pong'])
})

test('a node that loses its lease again and again while it connects stays alive', async (t) => {
  const backend = await Backend.start(t)
  backend.handshake = 'reset'
  const reconnect = { min: '5ms', max: '20ms', timeout: '1s' }
  const hub = await startHub(t, { settings: { node: { lease: '500ms' }, services: [service(backend, { reconnect })] } })
  const pages = Array.from({ length: 100 }, (_, n) => Browser.dial(t, hub.url(`/admin/V${n}?remoteWs`)))
  await Promise.allSettled(pages.map(({ opened }) => opened))
  // A hundred tries at a time: whenever it is stopped, sockets are ready whose callbacks have not run yet.
  for (let n = 1; n <= ROUNDS; n++) {
    const before = backend.upgrades.length
    await until(() => backend.upgrades.length > before + 100, 10_000, `round ${n}: the tries to go on`)
    await hub.whilePaused(() => quiet(() => hub.child.exit, 600, 'a stopped hub to end'))
    await until(async () => await hub.metric('vinhub_fences_total') >= n, READY_MS, `round ${n}: the lease to run out`)
    await hub.ready(READY_MS)
  }
  assert.equal((await hub.admin('/healthz')).status, 200)
})
