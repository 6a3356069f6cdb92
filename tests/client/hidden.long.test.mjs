// A page that is hidden for minutes: Chromium runs its timers once a minute then, and so the library's.
import assert from 'node:assert/strict'
import { setTimeout as delay } from 'node:timers/promises'
import { Backend } from '../lib/backend.mjs'
import { Browser } from '../lib/browser.mjs'
import { service, startCluster } from '../lib/hub.mjs'
import { RedisServer } from '../lib/redis.mjs'
import { test } from '../lib/runner.mjs'
import { until } from '../lib/until.mjs'
import { HideablePage } from './hidden.mjs'
import { seen, startClient } from './page.mjs'

const UPSTREAM = '/base/admin/VIN1'
const PATH = '/admin/VIN1?remoteWs'
const SOON_MS = 30_000
// Chromium waits five minutes before it throttles that far: here ten seconds.
const FLAGS = ['--enable-features=IntensiveWakeUpThrottling:grace_period_seconds/10']
const THROTTLED_MS = 60_000
const HIDDEN_MS = 75_000 // throttled after 10 s, at a minute's mark of its own: one pause of 32 s at least
const PUSH_EVERY_MS = 1000
const SEND_EVERY_MS = 5000

const numbers = (count) => Array.from({ length: count }, (_, n) => `#${n}`)
const isOn = (page, node, ms) =>
  until(() => page.evaluate((id) => window.client.upstream === 'connected' && window.client.node === id, node), ms, `the page to be on ${node}`)

/** Numbered calls all the while; stop() returns how many there were. */
function repeat(t, everyMs, call) {
  let count = 0
  const timer = setInterval(() => call(count++), everyMs)
  t.defer(() => clearInterval(timer))
  return { stop() { clearInterval(timer); return count } }
}

test('hidden for minutes, its node killed meanwhile: no push is missing, each send went once', { timeout: 300_000 }, async (t) => {
  const [redis, backend] = await Promise.all([RedisServer.start(t), Backend.start(t)])
  const hubs = await startCluster(t, { redis, nodes: 2, settings: { services: [service(backend)] } })
  await Browser.open(t, hubs[1].url(PATH)) // b owns the session
  await backend.one(UPSTREAM)
  const page = await HideablePage.open(t, { flags: FLAGS })
  await startClient(page, hubs.map((hub) => hub.url(PATH)), { sendTimeout: 2 * THROTTLED_MS })
  await isOn(page, 'a', SOON_MS)
  await page.hide()
  await page.evaluate(() => {
    let last = performance.now()
    let longest = 0
    window.longestPause = () => Math.max(longest, performance.now() - last) // the one that lasts counts, too
    const tick = () => {
      longest = window.longestPause()
      last = performance.now()
      setTimeout(tick, 100)
    }
    tick()
  })
  const pushes = repeat(t, PUSH_EVERY_MS, (n) => backend.push(UPSTREAM, `#${n}`))
  const sends = repeat(t, SEND_EVERY_MS, (n) => page.evaluate((data) => window.send(data), `command ${n}`).catch(t.fail))

  await delay(HIDDEN_MS)
  assert.deepEqual((await seen(page)).closes, [], 'the connection of a hidden page stays')
  await hubs[0].kill()
  await isOn(page, 'b', THROTTLED_MS + SOON_MS)
  assert.ok(await page.evaluate(() => window.longestPause()) > THROTTLED_MS / 2, 'its timers ran once a minute')
  const sent = sends.stop()
  const count = pushes.stop()
  await until(async () => (await seen(page)).messages.at(-1) === `#${count - 1}`, SOON_MS, 'the last push')
  await until(() => page.evaluate(() => window.client.pending === 0), SOON_MS, 'all to be acknowledged')
  const { messages, gaps, acks, refused } = await seen(page)
  assert.deepEqual({ messages, gaps, refused }, { messages: numbers(count), gaps: [], refused: [] })
  assert.deepEqual(acks, Array.from({ length: sent }, (_, n) => `command ${n}`))
  assert.deepEqual(backend.texts(), acks)
})
