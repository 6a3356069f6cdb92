// The console in a real browser: what an operator sees, asks for, and is protected from.
import assert from 'node:assert/strict'
import { Backend } from '../lib/backend.mjs'
import { Browser } from '../lib/browser.mjs'
import { service, startCluster, startHub } from '../lib/hub.mjs'
import { RedisServer } from '../lib/redis.mjs'
import { test } from '../lib/runner.mjs'
import { until } from '../lib/until.mjs'
import { openConsole, shot, textOf } from './page.mjs'

const UPSTREAM = '/base/admin/VIN1'
const PAGE = '/admin/VIN1?remoteWs'
const SESSION = '/#/session/remoteWs%3AVIN1'
const SOON_MS = 10_000

async function startOne(t, options = {}) {
  const backend = await Backend.start(t)
  const hub = await startHub(t, { id: 'a', settings: { services: [service(backend)] }, ...options })
  return { backend, hub }
}

/** Waits until the text of the element is `text`. */
const shows = (page, selector, text) =>
  until(async () => (await textOf(page, selector)).trim() === text, SOON_MS, `${selector} to show ${text}`)

test('the overview counts the whole cluster, live, and drains a node only after a confirmation', { timeout: 90_000 }, async (t) => {
  const [redis, backend] = await Promise.all([RedisServer.start(t), Backend.start(t)])
  const hubs = await startCluster(t, { redis, nodes: 3, settings: { node: { lease: '1s' }, services: [service(backend)] } })
  const page = await openConsole(t, hubs[0])
  await shows(page, 'table.nodes caption', '3 of 3 nodes up')
  await Promise.all(hubs.flatMap((hub) => [1, 2].map((n) => Browser.open(t, hub.url(`/admin/VIN${n}?remoteWs`)))))
  await shows(page, '[data-tile=clients] strong', '6')
  await shows(page, '[data-tile=upstreams] strong', '2')
  await shows(page, '[data-node=c] td:nth-child(3)', '2')
  const flow = setInterval(() => backend.push(UPSTREAM, '{"type":"FAULT"}'), 20)
  t.defer(() => clearInterval(flow))
  await until(async () => Number(await textOf(page, '[data-tile=in] strong')) > 5, SOON_MS, 'a rate of pushes')
  assert.match(await page.locator('[data-tile=in] path.line').getAttribute('d'), /^M.+L/, 'the plot has a line')
  await shot(page, 'overview')

  await page.locator('[data-node=c] button').click()
  await page.locator('dialog button', { hasText: 'Cancel' }).click()
  assert.equal((await hubs[2].admin('/readyz')).status, 200, 'a cancelled drain does nothing')
  hubs[2].mayEnd = true
  await page.locator('[data-node=c] button').click()
  await page.locator('dialog button.danger').click()
  const exit = await hubs[2].child.exited
  assert.equal(exit.code, 0, 'the node drained and stopped')
  await shows(page, 'table.nodes caption', '2 of 2 nodes up')
})

test('sessions are searched, paged and opened with the keyboard alone', async (t) => {
  const { backend, hub } = await startOne(t)
  const vins = Array.from({ length: 60 }, (_, n) => `V${String(n).padStart(2, '0')}`)
  await Promise.all(vins.map((vin) => Browser.open(t, hub.url(`/admin/${vin}?remoteWs`))))
  await until(() => backend.upstreams.size === vins.length, SOON_MS, 'all upstreams')
  const page = await openConsole(t, hub)
  const rows = () => page.locator('table.sessions tbody tr').count()
  await page.keyboard.press('s')
  await until(async () => await rows() === 50, SOON_MS, 'the first page')
  await page.getByRole('button', { name: 'Next' }).click()
  await until(async () => await rows() === 10, SOON_MS, 'the second page')
  await page.getByRole('button', { name: 'Back' }).click()
  await until(async () => await rows() === 50, SOON_MS, 'the first page again')
  await shot(page, 'sessions')
  await page.keyboard.press('/')
  await page.keyboard.type('v4')
  await until(async () => await rows() === 10, SOON_MS, 'V40 to V49')
  await page.getByLabel('State').selectOption('lingering')
  await until(async () => await rows() === 0, SOON_MS, 'no session that lingers')
  await page.getByLabel('State').selectOption('connected')
  await until(async () => await rows() === 10, SOON_MS, 'those that are connected')
  await page.keyboard.press('Escape')
  await page.keyboard.press('j')
  await page.keyboard.press('j')
  await page.keyboard.press('Enter')
  await shows(page, 'h1', 'remoteWs:V41')
  await page.keyboard.press('Escape')
  await until(async () => await rows() === 10, SOON_MS, 'the search as it was')
})

test('a session\'s page follows its messages, publishes to it and closes its clients', async (t) => {
  const { backend, hub } = await startOne(t)
  const browser = await Browser.open(t, hub.url(PAGE))
  await backend.one(UPSTREAM)
  backend.push(UPSTREAM, '{"fault":"P0420 <b>not markup</b>"}')
  await browser.got(1)
  const page = await openConsole(t, hub, { path: SESSION })
  await shows(page, '[data-field=state]', 'connected')
  await shows(page, '.session .note', 'Listening.')
  await until(async () => await page.locator('.messages li').count() === 1, SOON_MS, 'what is kept of before')
  backend.push(UPSTREAM, Buffer.from([0, 255, 1]))
  await until(async () => await page.locator('.messages li').count() === 2, SOON_MS, 'two messages')
  assert.deepEqual(await page.locator('.messages code').allInnerTexts(), ['AP8B', '{"fault":"P0420 <b>not markup</b>"}'])
  await browser.got(2)

  await page.locator('textarea').fill('from the console')
  await page.getByRole('button', { name: 'Publish' }).click()
  await browser.got(3)
  assert.equal(browser.received[2].text, 'from the console')
  await until(async () => (await page.locator('.messages code').first().innerText()) === 'from the console', SOON_MS, 'it in the tail')
  await shot(page, 'session')

  await page.getByRole('button', { name: 'Pause' }).click()
  backend.push(UPSTREAM, 'while paused')
  await browser.got(4)
  assert.equal(await page.locator('.messages li').count(), 3)

  await page.getByRole('button', { name: 'Close clients' }).click()
  await page.locator('dialog button.danger').click()
  assert.equal((await browser.ended()).code, 4006)
})

test('a token is asked for once, refused when wrong, and kept for the tab', async (t) => {
  const expected = /401/
  const { hub } = await startOne(t, { env: { VINHUB_ADMIN_TOKEN: 'open-sesame' } })
  hub.admin = ((ask) => (path, options = {}) => ask.call(hub, path, { headers: { Authorization: 'Bearer open-sesame' }, ...options }))(hub.admin)
  const page = await openConsole(t, hub, { expected })
  const answer = async (token) => {
    await page.locator('dialog input').fill(token)
    await page.keyboard.press('Enter')
  }
  await answer('wrong')
  await shows(page, 'dialog p', 'This token was refused. Enter the value of admin.token.')
  await answer('open-sesame')
  await shows(page, '#link', 'live')
  await page.reload()
  await shows(page, 'table.nodes caption', '1 of 1 nodes up')
  assert.equal(await page.locator('dialog').count(), 0)
})

test('the page finds a node again that was away', async (t) => {
  const { hub } = await startOne(t)
  const page = await openConsole(t, hub, { expected: /ERR_|Failed to load/ })
  await shows(page, '#link', 'live')
  await hub.kill()
  await until(async () => (await textOf(page, '#link')).startsWith('no connection'), SOON_MS, 'the page to notice')
  await hub.restart()
  await shows(page, '#link', 'live')
  await shows(page, 'table.nodes caption', '1 of 1 nodes up')
})

test('dark and light, wide and narrow: nothing is cut off', async (t) => {
  const { backend, hub } = await startOne(t)
  await Browser.open(t, hub.url(PAGE))
  await backend.one(UPSTREAM)
  for (const colorScheme of ['light', 'dark']) {
    const page = await openConsole(t, hub, { colorScheme, viewport: { width: 390, height: 800 } })
    for (const [name, path] of [['overview', '/#/'], ['sessions', '/#/sessions'], ['clients', '/#/clients'], ['session', SESSION]]) {
      await page.goto(`http://127.0.0.1:${hub.adminPort}${path}`)
      await until(async () => /VIN1|\ba\b/.test(await textOf(page, 'main')), SOON_MS, `${name} to be filled`)
      const width = await page.evaluate(() => document.documentElement.scrollWidth)
      assert.ok(width <= 390, `${name} in ${colorScheme} is ${width} wide`)
      await shot(page, `phone-${name}-${colorScheme}`)
    }
    const [ground, ink] = await page.evaluate(() => {
      const { backgroundColor, color } = getComputedStyle(document.body)
      return [backgroundColor, color].map((text) => Number(text.match(/\d+/)[0]))
    })
    assert.equal(ground > ink, colorScheme === 'light', 'the colours follow the system')
  }
})

test('another site can neither read the page nor frame it', async (t) => {
  const { hub } = await startOne(t)
  const { status, headers } = await hub.admin('/')
  assert.equal(status, 200)
  assert.match(headers['content-security-policy'], /default-src 'none'/)
  assert.match(headers['content-security-policy'], /frame-ancestors 'none'/)
  assert.equal((await hub.admin('/', { headers: { Host: 'evil.example' } })).status, 403)
  for (const path of ['/console/../conf', '/console/nope.js', '/console/', '/client/package.json']) {
    assert.equal((await hub.admin(path)).status, 404, path)
  }
})
