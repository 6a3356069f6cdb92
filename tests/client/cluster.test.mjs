// The library with two nodes and a Redis: a node dies, and one is stopped.
import assert from 'node:assert/strict'
import { Backend } from '../lib/backend.mjs'
import { Browser } from '../lib/browser.mjs'
import { service, startCluster } from '../lib/hub.mjs'
import { RedisServer } from '../lib/redis.mjs'
import { test } from '../lib/runner.mjs'
import { until } from '../lib/until.mjs'
import { openPage, seen, startClient } from './page.mjs'

const UPSTREAM = '/base/admin/VIN1'
const PATH = '/admin/VIN1?remoteWs'
const SOON_MS = 30_000
const PUSH_EVERY_MS = 10
const NEVER_MS = 600_000
/** No case waits for its end. With 1 s a node on a busy machine was fenced, and pushes to its upstream were lost. */
const LEASE = '5s'

/** Nodes a and b; b owns the session, since another browser opened it there. The page prefers a. */
async function start(t, reconnect) {
  const [redis, backend] = await Promise.all([RedisServer.start(t), Backend.start(t)])
  const hubs = await startCluster(t, { redis, nodes: 2, settings: { node: { lease: LEASE }, services: [service(backend)] } })
  const other = await Browser.open(t, hubs[1].url(PATH))
  await backend.one(UPSTREAM)
  const page = await openPage(t)
  await startClient(page, hubs.map((hub) => hub.url(PATH)), { reconnect })
  await until(async () => (await seen(page)).states.some(({ state, node, upstream }) => state === 'open' && node === 'a' && upstream === 'connected'),
    SOON_MS, 'the page to be on a')
  return { backend, hubs, page, other }
}

/** Numbered pushes all the while; stop() returns how many there were. */
function flow(t, backend) {
  let count = 0
  const timer = setInterval(() => backend.push(UPSTREAM, `#${count++}`), PUSH_EVERY_MS)
  t.defer(() => clearInterval(timer))
  return {
    stop() { clearInterval(timer); return count },
    past: (more) => { const wanted = count + more; return until(() => count >= wanted, SOON_MS, 'the flow') },
  }
}

const numbers = (count) => Array.from({ length: count }, (_, n) => `#${n}`)
const isOn = (page, node) =>
  until(() => page.evaluate((id) => window.client.state === 'open' && window.client.node === id, node), SOON_MS, `the page to be on ${node}`)

test('a killed node: the page goes on at the other, nothing missing, nothing twice, sends once', { timeout: 120_000 }, async (t) => {
  const { backend, hubs, page } = await start(t, { min: 100, max: 1000 })
  const pushes = flow(t, backend)
  await until(async () => (await seen(page)).messages.length > 20, SOON_MS, 'pushes')
  await page.evaluate(() => {
    let n = 0
    window.sending = setInterval(() => window.send(`command ${n++}`), 20)
  })
  await until(async () => (await seen(page)).acks.length > 5, SOON_MS, 'acknowledged sends')
  await hubs[0].kill()
  await pushes.past(20)
  await isOn(page, 'b')
  const given = await page.evaluate(() => { clearInterval(window.sending); return window.client.pending + window.seen.acks.length })
  const count = pushes.stop()
  await until(async () => (await seen(page)).messages.length >= count, SOON_MS, 'all pushes')
  await until(() => page.evaluate(() => window.client.pending === 0), SOON_MS, 'all to be acknowledged')

  const { messages, gaps, closes, acks, states } = await seen(page)
  assert.deepEqual(messages, numbers(count))
  assert.deepEqual(gaps, [])
  assert.deepEqual(closes.map(({ code }) => code), [1006])
  assert.equal(states.findLast(({ state }) => state === 'open').resumed, true)
  assert.equal(acks.length, given)
  assert.deepEqual(backend.texts(), acks, 'each send once, in order: the upstream was never lost')
})

test('a stopped node says 1012: the page is elsewhere at once, nothing missing', { timeout: 120_000 }, async (t) => {
  const { backend, hubs, page } = await start(t, { min: NEVER_MS, max: NEVER_MS })
  const pushes = flow(t, backend)
  await until(async () => (await seen(page)).messages.length > 20, SOON_MS, 'pushes')
  await hubs[0].stop()
  await isOn(page, 'b')
  await pushes.past(20)
  const count = pushes.stop()
  await until(async () => (await seen(page)).messages.length >= count, SOON_MS, 'all pushes')
  const { messages, gaps, closes } = await seen(page)
  assert.deepEqual(messages, numbers(count))
  assert.deepEqual(gaps, [])
  assert.deepEqual(closes.map(({ code }) => code), [1012])
})

test('what is kept no longer is reported as a gap', { timeout: 120_000 }, async (t) => {
  const { backend, hubs, page, other } = await start(t, { min: 300, max: 300 })
  await page.evaluate(() => window.client.close())
  const count = 300 // the history keeps 100
  for (let n = 0; n < count; n++) backend.push(UPSTREAM, `#${n}`)
  await until(() => other.received.length === count, SOON_MS, 'the other browser to have all')
  await page.evaluate(() => window.client.connect())
  await isOn(page, 'a')
  await until(async () => (await seen(page)).messages.includes(`#${count - 1}`), SOON_MS, 'the last push')
  const { messages, gaps } = await seen(page)
  assert.equal(gaps.length, 1)
  assert.equal(gaps[0].to - gaps[0].from + 1 + messages.length, count, 'what is named and what came is all')
  assert.equal(await hubs[0].metric('vinhub_resumes_total'), 1)
})
