// Contract sections 9 and 10, the owner's duties: it hands a session to a node that reaches the backend if it does not itself, a
// publish waits for its answer, and it closes its clients one by one.
import assert from 'node:assert/strict'
import { test } from '../lib/runner.mjs'
import { Backend } from '../lib/backend.mjs'
import { Browser } from '../lib/browser.mjs'
import { countedMs, mark } from '../lib/busy.mjs'
import { service, SLACK_MS, startCluster, startHub } from '../lib/hub.mjs'
import { RedisServer } from '../lib/redis.mjs'
import { TcpProxy } from '../lib/tcp-proxy.mjs'
import { quiet, until } from '../lib/until.mjs'

const UPSTREAM = '/base/admin/VIN1'
const PAGE = '/admin/VIN1?remoteWs'
const SESSION = 'remoteWs:VIN1'
const RECORD = `vinhub:session:{${SESSION}}`
const JSON_TYPE = { 'Content-Type': 'application/json' }
const MAX_MS = 500

const LEASE_MS = 10_000 // longer than a publish waits

const publish = (hub, data) => hub.admin('/api/publish', { method: 'POST', headers: JSON_TYPE, body: JSON.stringify({ session: SESSION, data }) })

/** Nodes a and b, each with a way of its own to one backend, and a page on each; a is the owner. */
async function startWithWays(t) {
  const [redis, backend] = await Promise.all([RedisServer.start(t), Backend.start(t)])
  const ways = await Promise.all([0, 1].map(() => TcpProxy.start(t, backend.port)))
  const hubs = await Promise.all(ways.map(({ port }, n) => startHub(t, { id: 'ab'[n], redis, settings: { services: [
    { name: 'remoteWs', upstream: `ws://127.0.0.1:${port}/base`, reconnect: { min: '50ms', max: `${MAX_MS}ms`, timeout: '2s' } }] } })))
  const pages = [await Browser.open(t, hubs[0].url(PAGE))]
  await backend.one(UPSTREAM)
  pages.push(await Browser.open(t, hubs[1].url(PAGE)))
  await until(async () => await redis.client.hget(RECORD, 'members') === '2', 5000, 'b to be a member')
  return { redis, backend, ways, hubs, pages, owner: () => redis.client.hget(RECORD, 'owner') }
}

async function served(backend, pages, text) {
  await until(() => { backend.push(UPSTREAM, text); return pages.every((page) => page.texts().includes(text)) }, 5000, `${text} at both pages`)
  assert.ok(pages.every(({ end }) => end === null))
}

test('an owner that cannot reach the backend for 3 times reconnect.max hands the session to a node that can', async (t) => {
  const { redis, backend, ways, pages, owner } = await startWithWays(t)
  await served(backend, pages, 'before')
  const epoch = BigInt(await redis.client.hget(RECORD, 'epoch'))
  const since = mark()
  await ways[0].stop()
  await until(async () => await owner() === 'b', 3 * MAX_MS + MAX_MS + 2000 + SLACK_MS, 'the hand-over')
  assert.ok(performance.now() - since.at > 3 * MAX_MS, `not after ${performance.now() - since.at} ms already`)
  await backend.one(UPSTREAM)
  await served(backend, pages, 'after')
  pages[0].send('from a')
  await until(() => backend.texts().includes('from a'), 5000, 'a message of the page at a')
  assert.ok(BigInt(await redis.client.hget(RECORD, 'epoch')) > epoch, 'the epoch grows')
  assert.equal(backend.peaks.get(UPSTREAM), 1)
})

test('an owner whose backend is away for less than that keeps the session', async (t) => {
  const { redis, backend, ways, pages, owner } = await startWithWays(t)
  const epoch = await redis.client.hget(RECORD, 'epoch')
  for (let n = 0; n < 3; n++) {
    const upgrades = backend.upgrades.length
    ways[0].cut() // accepted and reset: the backend's host is there
    await quiet(() => false, 2 * MAX_MS, '')
    ways[0].heal()
    await until(() => backend.upgrades.length > upgrades, 5000, 'the upstream again')
    await backend.one(UPSTREAM)
  }
  assert.deepEqual([await owner(), await redis.client.hget(RECORD, 'epoch')], ['a', epoch])
  await served(backend, pages, 'still')
})

test('where no node reaches the backend the session goes round once, not for ever', async (t) => {
  const { backend, ways, pages, owner } = await startWithWays(t)
  await Promise.all(ways.map((way) => way.stop()))
  const owners = ['a']
  await until(async () => {
    const now = await owner()
    if (now && now !== owners.at(-1)) owners.push(now)
    return owners.length === 2
  }, 3 * MAX_MS + MAX_MS + 2000 + SLACK_MS, 'the first hand-over')
  await quiet(async () => {
    const now = await owner()
    if (now && now !== owners.at(-1)) owners.push(now)
    return owners.length > 3
  }, 4 * (3 * MAX_MS + MAX_MS), `further hand-overs: ${owners}`)
  assert.equal(backend.upstreams.size, 0)
  assert.ok(pages.every(({ end }) => end === null))
})

test('a node that drains with one client does not wait for the end of `drain`', async (t) => {
  const backend = await Backend.start(t)
  const hub = await startHub(t, { settings: { node: { drain: '4s' }, services: [service(backend)] } })
  const page = await Browser.open(t, hub.url(PAGE))
  await backend.one(UPSTREAM)
  const asked = mark()
  page.socket.once('close', () => { page.endedAt = performance.now() })
  await hub.stop()
  assert.equal((await page.ended()).code, 1012)
  assert.ok(page.endedAt - asked.at > 1900 && countedMs(asked) < 3900, `closed after ${page.endedAt - asked.at} ms`)
})

test('a publish whose owner does not answer gets 504 after 5 s: not known, and it may still arrive', async (t) => {
  const [redis, backend] = await Promise.all([RedisServer.start(t), Backend.start(t)])
  const hubs = await startCluster(t, { redis, nodes: 2, settings: { node: { lease: `${LEASE_MS}ms` }, services: [service(backend)] } })
  const page = await Browser.open(t, hubs[0].url(PAGE))
  await backend.one(UPSTREAM, LEASE_MS + 5000) // Redis must be this old before it grants
  await until(async () => await redis.client.hget(RECORD, 'owner') === 'a', 5000, 'the record')
  assert.equal((await publish(hubs[1], 'first')).status, 200)
  await hubs[0].whilePaused(async () => {
    const asked = mark()
    const { status, body } = await publish(hubs[1], 'second')
    assert.equal(status, 504, body)
    assert.equal(typeof JSON.parse(body).error, 'string')
    assert.ok(performance.now() - asked.at > 5000 - 30, `not after ${performance.now() - asked.at} ms`)
    assert.ok(countedMs(asked) < 5000 + 1000 + SLACK_MS, `after ${countedMs(asked)} ms`)
  })
  await until(async () => (await publish(hubs[1], 'third')).status === 200, 15_000, 'a publish to be answered again')
  await until(() => page.texts().includes('third'), 5000, 'the publication that was answered')
  assert.deepEqual([...new Set(page.texts())].filter((text) => text !== 'second'), ['first', 'third'])
})

test('a node that drains closes its clients one after the other over `drain`', async (t) => {
  const [COUNT, DRAIN_MS, LOOK_MS] = [40, 4000, 50] // LOOK_MS: how often the test looks
  const backend = await Backend.start(t)
  const hub = await startHub(t, { settings: { node: { drain: `${DRAIN_MS}ms` }, services: [service(backend)] } })
  const ends = []
  for (let n = 0; n < COUNT; n++) {
    const page = await Browser.open(t, hub.url(`/admin/VIN${n % 4}?remoteWs`))
    page.socket.once('close', (code) => ends.push({ code, ...mark() }))
  }
  const asked = mark()
  await hub.stop(DRAIN_MS + 5000 + SLACK_MS)
  await until(() => ends.length === COUNT, 5000, () => `${COUNT} closes (have ${ends.length})`)
  assert.deepEqual([...new Set(ends.map(({ code }) => code))], [1012])
  ends.forEach((end, n) => {
    const due = (n + 0.5) * DRAIN_MS / COUNT
    assert.ok(end.at - asked.at > due - LOOK_MS, `close ${n + 1} came after ${end.at - asked.at} ms, ${due} was its time`)
    assert.ok(countedMs(asked, end) < due + LOOK_MS + SLACK_MS, `close ${n + 1} came only after ${countedMs(asked, end)} ms, ${due} was its time`)
  })
})
