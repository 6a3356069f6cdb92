// A page that is hidden, and one that is frozen, so that no timer runs.
import assert from 'node:assert/strict'
import { Backend } from '../lib/backend.mjs'
import { service, startHub } from '../lib/hub.mjs'
import { test } from '../lib/runner.mjs'
import { quiet, until } from '../lib/until.mjs'
import { HideablePage } from './hidden.mjs'
import { seen, startClient } from './page.mjs'

const UPSTREAM = '/base/admin/VIN1'
const PATH = '/admin/VIN1?remoteWs'
const SOON_MS = 30_000
const HEARTBEAT = { every: 500, timeout: 1500, probe: 3000 }
const AWAY_MS = 6000 // several heartbeats and their timeouts

const isOpen = (page) => until(() => page.evaluate(() => window.client.upstream === 'connected'), SOON_MS, 'the page to be connected')
const got = (page, count) => until(async () => (await seen(page)).messages.length >= count, SOON_MS, `${count} messages`)

async function start(t, options) {
  const backend = await Backend.start(t)
  const hub = await startHub(t, { id: 'a', settings: { services: [service(backend)] } })
  const page = await HideablePage.open(t)
  await startClient({ evaluate: (fn, argument) => page.evaluate(fn, argument) }, hub.url(PATH), { heartbeat: HEARTBEAT, ...options })
  await isOpen(page)
  await backend.one(UPSTREAM)
  return { backend, hub, page }
}

test('a hidden page keeps its connection, and after a freeze it has every push', { timeout: 120_000 }, async (t) => {
  const { backend, hub, page } = await start(t)
  await page.hide()
  const ticks = await page.evaluate(() => {
    window.ticks = 0
    const tick = () => { window.ticks++; setTimeout(tick, 10) }
    tick()
    return window.ticks
  })
  let count = 0
  const pushes = setInterval(() => backend.push(UPSTREAM, `#${count++}`), 100)
  t.defer(() => clearInterval(pushes))
  await quiet(async () => (await seen(page)).closes.length > 0, AWAY_MS, 'a hidden page loses its connection')
  assert.ok(await page.evaluate(() => window.ticks) - ticks < AWAY_MS / 100, 'its timers were throttled')

  // Chromium may close the connection of a page it thaws: what counts is that nothing is missing then.
  await page.freeze()
  const before = await page.evaluate(() => window.ticks)
  const sent = count
  await until(() => count >= sent + AWAY_MS / 100, SOON_MS, 'the time to pass')
  assert.ok(await page.evaluate(() => window.ticks) - before <= 1, 'its timers stood still')
  await page.thaw()
  await page.show()
  clearInterval(pushes)
  await got(page, count)
  const { messages, gaps } = await seen(page)
  assert.deepEqual(messages, Array.from({ length: count }, (_, n) => `#${n}`))
  assert.deepEqual(gaps, [])
})

test('a hub that dies while the page is frozen: back as soon as the page is, whatever the back-off', { timeout: 120_000 }, async (t) => {
  const { backend, hub, page } = await start(t, { reconnect: { min: 600_000, max: 600_000 } })
  await page.hide()
  await page.freeze()
  await hub.kill()
  await hub.restart()
  await page.thaw()
  await until(async () => (await seen(page)).closes.length > 0, SOON_MS, 'the page to see the end')
  await page.show()
  await isOpen(page)
  backend.push(UPSTREAM, 'here again')
  await until(async () => (await seen(page)).messages.includes('here again'), SOON_MS, 'pushes again')
})

test('a page that is left and come back to: connected at once, whatever the back-off, with every push', { timeout: 120_000 }, async (t) => {
  const { backend, page } = await start(t, { reconnect: { min: 600_000, max: 600_000 } })
  await page.leaveAndReturn(() => { for (let n = 0; n < 5; n++) backend.push(UPSTREAM, `#${n}`) })
  await got(page, 5)
  const { messages, gaps, closes } = await seen(page)
  assert.deepEqual(messages, ['#0', '#1', '#2', '#3', '#4'])
  assert.deepEqual(gaps, [])
  assert.equal(closes.length, 1)
})
