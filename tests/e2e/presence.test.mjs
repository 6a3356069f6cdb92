// Presence (contract section 6): who watches a session, on all nodes.
import assert from 'node:assert/strict'
import { decode } from '@msgpack/msgpack'
import { test } from '../lib/runner.mjs'
import { Backend } from '../lib/backend.mjs'
import { Browser } from '../lib/browser.mjs'
import { service, SLACK_MS, startCluster, startHub } from '../lib/hub.mjs'
import { RedisServer } from '../lib/redis.mjs'
import { TcpProxy } from '../lib/tcp-proxy.mjs'
import { quiet, until } from '../lib/until.mjs'

const LEASE_MS = 1000
const SOON_MS = 3000 + SLACK_MS // a member tells the owner, the owner tells all: a second each at most

async function start(t, { nodes = 3, services = {} } = {}) {
  const [redis, backend] = await Promise.all([RedisServer.start(t), Backend.start(t)])
  const settings = { node: { lease: `${LEASE_MS}ms` }, services: [service(backend, { presence: true, linger: '300ms', ...services })] }
  return { redis, backend, settings, hubs: await startCluster(t, { redis, nodes, settings }) }
}

const JSON_FORM = ({ text }) => JSON.parse(text)
const FORMS = { 'vinhub.v1': JSON_FORM, 'vinhub.v1.msgpack': ({ data }) => decode(data) }

/** A protocol client; presence() is the last PRESENCE it got. */
async function watch(t, hub, path, protocol = 'vinhub.v1') {
  const browser = await Browser.open(t, hub.url(path), { protocols: [protocol] })
  browser.told = () => browser.received.map(FORMS[protocol]).filter(({ type }) => type === 'PRESENCE')
  browser.presence = () => browser.told().at(-1)?.payload
  return browser
}

const raw = (t, hub, path) => Browser.open(t, hub.url(path))
const shown = (browser) => browser.presence()?.users.map(({ user, clients }) => `${user}:${clients}`).join(' ')
const untilShown = (browsers, text, ms = SOON_MS) => until(() => browsers.every((browser) => shown(browser) === text), ms,
  () => `${text} (is ${browsers.map((browser) => shown(browser)).join(' | ')})`)

test('all that watch are named, on all nodes, by name, with the number of their clients', async (t) => {
  const { hubs: [a, b, c] } = await start(t)
  const first = await watch(t, a, '/bob/V1?remoteWs')
  await untilShown([first], 'bob:1', 1000 + SLACK_MS)
  const { type, payload, version, timestamp } = first.told()[0]
  assert.deepEqual({ type, payload, version }, { type: 'PRESENCE', version: '1.0', payload: { users: [{ user: 'bob', clients: 1 }], more: 0 } })
  assert.equal(typeof timestamp, 'number')
  assert.equal(JSON_FORM(first.received[0]).type, 'WELCOME', 'after WELCOME')
  const second = await watch(t, b, '/alice/V1?remoteWs', 'vinhub.v1.msgpack')
  const plain = await raw(t, c, '/bob/V1?remoteWs')
  await raw(t, c, '/ws?remoteWs&vin=V1')
  const other = await watch(t, b, '/carol/V2?remoteWs')
  await untilShown([first, second], ':1 alice:1 bob:2')
  await untilShown([other], 'carol:1')
  await plain.close()
  await untilShown([first, second], ':1 alice:1 bob:1')
  await first.close()
  await untilShown([second], ':1 alice:1')
  assert.ok(second.received.every((message) => FORMS['vinhub.v1.msgpack'](message).session === undefined), 'its own session is not named')
})

test('it is sent at most once a second, and not while nothing changes', async (t) => {
  const { hubs: [a, b] } = await start(t, { nodes: 2 })
  const one = await watch(t, a, '/one/V1?remoteWs')
  const two = await watch(t, b, '/two/V1?remoteWs')
  await untilShown([one, two], 'one:1 two:1')
  const before = one.told().length, began = performance.now()
  for (let n = 0; n < 40; n++) {
    const page = await raw(t, n % 2 ? a : b, `/many${n}/V1?remoteWs`)
    if (n % 4) await page.close()
  }
  await until(() => one.presence().users.length === 12, SOON_MS, 'all to be named')
  const seconds = (performance.now() - began) / 1000
  assert.ok(one.told().length - before <= seconds + 2, `${one.told().length - before} in ${seconds} s`)
  await until(() => shown(one) === shown(two), SOON_MS, 'both to know the same')
  const counts = () => one.told().length + two.told().length
  const settled = counts()
  await quiet(() => counts() !== settled, 2500, 'something to be told while nobody came or left')
})

test('a hundred users are named in the order of their names, the others are counted', async (t) => {
  const { hubs: [a, b] } = await start(t, { nodes: 2 })
  const pages = await Promise.all(Array.from({ length: 130 }, (_, n) => raw(t, n % 2 ? a : b, `/user${String(n).padStart(3, '0')}/V1?remoteWs`)))
  const late = await watch(t, b, '/aaa/V1?remoteWs')
  await until(() => late.presence()?.more === 31, SOON_MS, () => `all to be counted: ${late.presence()?.more}`)
  const users = late.presence().users.map(({ user }) => user)
  assert.equal(users.length, 100)
  assert.deepEqual(users.slice(0, 3), ['aaa', 'user000', 'user001'])
  assert.equal(users[99], 'user098')
  assert.ok(pages.every(({ end }) => end === null))
})

test('a killed node\'s clients are gone within a lease and a second, the owner\'s too; a node that leaves takes its own along', async (t) => {
  const { hubs: [a, b, c] } = await start(t)
  const [onA, onB, onC] = [await watch(t, a, '/a/V1?remoteWs'), await watch(t, b, '/b/V1?remoteWs'), await watch(t, c, '/c/V1?remoteWs')]
  await untilShown([onA, onB, onC], 'a:1 b:1 c:1')
  await b.kill() // a member
  await untilShown([onA, onC], 'a:1 c:1', 2 * LEASE_MS + 1000 + SLACK_MS)
  await a.kill() // the owner
  await untilShown([onC], 'c:1', 2 * LEASE_MS + 2000 + SLACK_MS)
  assert.equal(onC.end, null)
})

test('a node that missed messages gets the right list afterwards', async (t) => {
  const [redis, backend] = await Promise.all([RedisServer.start(t), Backend.start(t)])
  const way = await TcpProxy.start(t, redis.port)
  const settings = (url) => ({ node: { lease: `${LEASE_MS}ms` }, services: [service(backend, { presence: true })], redis: { url, on_loss: 'serve' } })
  const a = await startHub(t, { id: 'a', settings: settings(redis.url) })
  const b = await startHub(t, { id: 'b', settings: settings(way.url) })
  const [onA, onB] = [await watch(t, a, '/a/V1?remoteWs'), await watch(t, b, '/b/V1?remoteWs')]
  await untilShown([onA, onB], 'a:1 b:1')
  way.cut()
  await until(() => b.metric('vinhub_bus_connected').then((value) => value === 0), 5000, 'the link to be lost')
  await raw(t, a, '/a2/V1?remoteWs')
  await raw(t, b, '/b2/V1?remoteWs')
  way.heal()
  await untilShown([onA, onB], 'a:1 a2:1 b:1 b2:1', 8000 + SLACK_MS)
})

test('further sessions on one connection are named; a service without presence says nothing', async (t) => {
  const [redis, backend] = await Promise.all([RedisServer.start(t), Backend.start(t)])
  const services = [service(backend, { presence: true }), { ...service(backend), name: 'quietWs' }]
  const hubs = await startCluster(t, { redis, nodes: 2, settings: { node: { lease: `${LEASE_MS}ms` }, services } })
  const page = await watch(t, hubs[0], '/u/V1?quietWs')
  page.send(JSON.stringify({ type: 'SUBSCRIBE', id: 1, urls: ['/u/V2?remoteWs'] }))
  const named = () => page.told().filter(({ session }) => session === 'remoteWs:V2')
  await until(() => named().at(-1)?.payload.users[0]?.user === 'u', SOON_MS, 'PRESENCE of the further session')
  const other = await watch(t, hubs[1], '/v/V2?remoteWs')
  await untilShown([other], 'u:1 v:1')
  page.send(JSON.stringify({ type: 'UNSUBSCRIBE', id: 2, sessions: ['remoteWs:V2'] }))
  await untilShown([other], 'v:1')
  assert.equal(page.told().filter(({ session }) => session === undefined).length, 0)
})
