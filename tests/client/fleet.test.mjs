// Many vehicles on one connection, against real hubs: what dies and what comes back.
import assert from 'node:assert/strict'
import WebSocket from 'ws'
import { VinhubClient } from '../../hub/web/client/vinhub.js'
import { Backend } from '../lib/backend.mjs'
import { service, startCluster, startHub } from '../lib/hub.mjs'
import { RedisServer } from '../lib/redis.mjs'
import { test } from '../lib/runner.mjs'
import { until } from '../lib/until.mjs'
import { openPage } from './page.mjs'

const SOON_MS = 30_000
const VEHICLES = 200
const FAST = { min: 50, max: 300 }

const vins = (count) => Array.from({ length: count }, (_, n) => `V${n}`)
const urlOf = (vin) => `/admin/${vin}?remoteWs`
const upstreamOf = (vin) => `/base/admin/${vin}`

/** Of npm's ws: a handshake that fails is an event of its own there, which nobody listens to. */
class Socket extends WebSocket {
  constructor(...args) { super(...args); this.on('error', () => {}) }
}

/** What each vehicle of a group has got: {texts, gaps} by url. */
function memory(group) {
  const found = new Map()
  const of = (url) => { if (!found.has(url)) found.set(url, { texts: [], gaps: [], states: [], closed: [] }); return found.get(url) }
  group.on('message', (text, { url }) => of(url).texts.push(text))
  group.on('gap', (gap) => of(gap.url).gaps.push(gap))
  group.on('status', (status) => of(status.url).states.push(status))
  group.on('closed', (end) => of(end.url).closed.push(end))
  return of
}

const client = (t, urls, options = {}) => {
  const it = new VinhubClient(urls, { WebSocket: Socket, reconnect: FAST, ...options })
  t.defer(() => it.close())
  return it.connect()
}

const allOpen = (of, urls) => until(() => urls.every((url) => {
  const last = of(url).states.at(-1)
  return last?.state === 'open' && last.upstream === 'connected'
}), SOON_MS, 'all to be open')

test('a node is killed and one stopped: each vehicle goes on elsewhere, nothing missing, nothing twice', { timeout: 180_000 }, async (t) => {
  const [redis, backend] = await Promise.all([RedisServer.start(t), Backend.start(t)])
  // A lease that a busy machine does not let run out: what is pushed while no upstream is open is lost.
  const hubs = await startCluster(t, { redis, nodes: 3, settings: { node: { lease: '5s' }, services: [service(backend)] } })
  const urls = vins(VEHICLES).map(urlOf)
  // The upstreams are at b; the page prefers a.
  const owner = client(t, hubs[1].url('/admin?subscribe'))
  await allOpen(memory(owner.subscribe(urls)), urls)
  const page = client(t, [hubs[0], hubs[2]].map((hub) => hub.url('/admin?subscribe')))
  const group = page.subscribe(urls)
  const of = memory(group)
  await allOpen(of, urls)
  assert.equal(page.node, 'a')
  let rounds = 0
  const push = () => { for (const vin of vins(VEHICLES)) backend.push(upstreamOf(vin), `#${rounds}`); rounds++ }
  const timer = setInterval(push, 50)
  t.defer(() => clearInterval(timer))
  await until(() => of(urls[VEHICLES - 1]).texts.length > 3, SOON_MS, 'pushes')
  await hubs[0].kill()
  await until(() => page.node === 'c' && page.state === 'open', SOON_MS, 'the page to be elsewhere')
  await allOpen(of, urls)
  await hubs[0].restart()
  await hubs[2].stop()
  await until(() => page.node === 'a' && page.state === 'open', SOON_MS, 'the page to be back')
  await allOpen(of, urls)
  clearInterval(timer)
  const expected = Array.from({ length: rounds }, (_, n) => `#${n}`)
  await until(() => urls.every((url) => of(url).texts.at(-1) === expected.at(-1)), SOON_MS, 'the last push of each')
  for (const url of urls) {
    const { texts, gaps } = of(url)
    assert.deepEqual(texts, expected.slice(Number(texts[0].slice(1))), url)
    assert.deepEqual(gaps, [])
  }
  const acked = await Promise.all(urls.map((url) => group.send(`to ${url}`, { to: url })))
  assert.equal(acked.length, VEHICLES)
  await until(() => new Set(backend.texts()).size === VEHICLES, SOON_MS, 'each command at the backend')
})

test('a slow and a fast reader of one vehicle, at 20 pushes a second', { timeout: 120_000 }, async (t) => {
  const backend = await Backend.start(t)
  const hub = await startHub(t, { id: 'a', settings: { services: [service(backend)] } })
  const it = client(t, hub.url('/admin?subscribe'))
  const board = it.subscribe([urlOf('V1')], { rate: 1 })
  const of = memory(board)
  await allOpen(of, [urlOf('V1')])
  await backend.one(upstreamOf('V1'))
  let pushed = 0
  const timer = setInterval(() => backend.push(upstreamOf('V1'), `#${pushed++}`), 50)
  t.defer(() => clearInterval(timer))
  await until(() => of(urlOf('V1')).texts.length >= 2, SOON_MS, 'two at its rate')
  const picked = it.subscribe(urlOf('V1'), { replay: 1 })
  const seen = []
  picked.on('message', (text) => seen.push(Number(text.slice(1))))
  await until(() => seen.length >= 40, SOON_MS, 'all there are')
  clearInterval(timer)
  const last = pushed - 1
  await until(() => of(urlOf('V1')).texts.at(-1) === `#${last}` && seen.at(-1) === last, SOON_MS, 'the last')
  assert.deepEqual(seen, Array.from({ length: last - seen[0] + 1 }, (_, n) => seen[0] + n), 'every one')
  const slow = of(urlOf('V1'))
  assert.ok(slow.texts.length <= 2 + pushed / 20 + 1, `${slow.texts.length} of ${pushed}`)
  assert.deepEqual(slow.gaps, [])
  assert.equal(await hub.metric('vinhub_upstreams'), 1)
})

test('in Chromium: refusals, a limit, an operator, and what unsubscribe() frees', { timeout: 120_000 }, async (t) => {
  const backend = await Backend.start(t)
  const hub = await startHub(t, { id: 'a', settings: { services: [service(backend, { linger: '0s' })], clients: { max_subscriptions: 3 } } })
  const page = await openPage(t)
  await page.evaluate((at) => {
    window.startClient(at)
    window.told = []
    const tell = (word) => ({ url, code }) => window.told.push(`${word} ${url} ${code}`)
    window.fleet = window.client.subscribe(['/admin/V1?remoteWs', '/admin/V2?other', '/admin/..?remoteWs', '/admin/V2?remoteWs', '/admin/V3?remoteWs', '/admin/V4?remoteWs'])
    window.fleet.on('closed', tell('closed'))
  }, hub.url('/admin?subscribe'))
  const told = () => page.evaluate(() => window.told)
  await until(async () => (await told()).length >= 3, SOON_MS, 'three to be refused')
  assert.deepEqual((await told()).sort(), [
    'closed /admin/..?remoteWs malformed_url', 'closed /admin/V2?other unknown_service', 'closed /admin/V4?remoteWs full'])
  await backend.one(upstreamOf('V3'))
  const { status } = await hub.admin('/api/sessions/remoteWs%3AV3/close', { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: '{}' })
  assert.ok(status < 300)
  await until(async () => (await told()).includes('closed /admin/V3?remoteWs 4006'), SOON_MS, 'the end of one')
  await page.evaluate(() => { window.more = window.client.subscribe('/admin/V4?remoteWs') })
  await until(() => page.evaluate(() => window.more.upstream === 'connected'), SOON_MS, 'another in its place')
  await page.evaluate(() => window.more.send('in time', { ttl: 5000 }))
  await until(() => backend.texts().includes('in time'), SOON_MS, 'the command at the backend')

  await page.evaluate(() => { window.more.unsubscribe(); window.fleet.unsubscribe() })
  await until(async () => await hub.metric('vinhub_sessions') === 0, SOON_MS, 'no session to be left')
  assert.equal(await page.evaluate(() => window.client.state), 'open')
})
