// A page that is hidden for minutes: Chromium runs its timers once a minute then, and so the library's.
import assert from 'node:assert/strict'
import { Backend } from '../lib/backend.mjs'
import { Browser } from '../lib/browser.mjs'
import { service, startCluster } from '../lib/hub.mjs'
import { RedisServer } from '../lib/redis.mjs'
import { test } from '../lib/runner.mjs'
import { deadline, until } from '../lib/until.mjs'
import { HideablePage } from './hidden.mjs'
import { seen, startClient } from './page.mjs'

const UPSTREAM = '/base/admin/VIN1'
const PATH = '/admin/VIN1?remoteWs'
const SOON_MS = 30_000
// Chromium waits five minutes before it throttles that far: here ten seconds.
const FLAGS = ['--enable-features=IntensiveWakeUpThrottling:grace_period_seconds/10']
const THROTTLED_MS = 60_000
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
  const throttled = page.evaluate((pause) => new Promise((resolve) => {
    let last = performance.now()
    const tick = () => {
      if (performance.now() - last > pause) { resolve(); return }
      last = performance.now()
      setTimeout(tick, 100)
    }
    tick()
  }), THROTTLED_MS / 2)
  const pushes = repeat(t, PUSH_EVERY_MS, (n) => backend.push(UPSTREAM, `#${n}`))
  const sends = repeat(t, SEND_EVERY_MS, (n) => page.evaluate((data) => window.send(data), `command ${n}`).catch(t.fail))

  // The pause at hand when the throttling begins may be a short one: the next is a whole minute.
  await deadline(throttled, 2 * THROTTLED_MS + SOON_MS, 'its timers to run once a minute')
  assert.deepEqual((await seen(page)).closes, [], 'the connection of a hidden page stays')
  await hubs[0].kill()
  await isOn(page, 'b', THROTTLED_MS + SOON_MS)
  const sent = sends.stop()
  const count = pushes.stop()
  await until(async () => (await seen(page)).messages.at(-1) === `#${count - 1}`, SOON_MS, 'the last push')
  await until(() => page.evaluate(() => window.client.pending === 0), SOON_MS, 'all to be acknowledged')
  const { messages, gaps, acks, refused } = await seen(page)
  assert.deepEqual({ messages, gaps, refused }, { messages: numbers(count), gaps: [], refused: [] })
  assert.deepEqual(acks, Array.from({ length: sent }, (_, n) => `command ${n}`))
  assert.deepEqual(backend.texts(), acks)
})
