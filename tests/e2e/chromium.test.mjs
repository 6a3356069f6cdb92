// A real browser with the front-end code that is in use today (frontend.html): nothing in it changes.
import assert from 'node:assert/strict'
import http from 'node:http'
import { readFileSync } from 'node:fs'
import { chromium } from 'playwright-core'
import { test } from '../lib/runner.mjs'
import { Backend } from '../lib/backend.mjs'
import { scratch, service, SLACK_MS, startHub } from '../lib/hub.mjs'
import { freePort } from '../lib/ports.mjs'
import { quiet, until } from '../lib/until.mjs'

const UPSTREAM = '/base/admin/VIN1'
const FLAGS = ['--no-sandbox', '--disable-gpu', '--disable-background-networking', '--disable-component-update', '--disable-sync']

async function servePage(t) {
  const html = readFileSync(new URL('frontend.html', import.meta.url))
  const server = http.createServer((req, res) => res.writeHead(200, { 'Content-Type': 'text/html' }).end(html))
  const port = await freePort()
  await new Promise((resolve) => { server.listen(port, '127.0.0.1', resolve) })
  t.defer(() => { server.closeAllConnections(); server.close() })
  return `http://127.0.0.1:${port}/`
}

async function openPage(t, hub) {
  const address = await servePage(t)
  const context = await chromium.launchPersistentContext(scratch(t), {
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', headless: true, args: FLAGS,
  })
  t.defer(() => context.close())
  const page = await context.newPage()
  await page.goto(`${address}?url=${encodeURIComponent(hub.url('/admin/VIN1?remoteWs'))}`)
  return page
}

/** What the page's component knows. */
function stateOf(page) {
  return page.evaluate(() => {
    const { messages, pongs, opened, closes, gaveUp, websocket } = window.vm
    return { messages, pongs, opened, closes, gaveUp, readyState: websocket.readyState }
  })
}

function setVisibility(page, state) {
  return page.evaluate((value) => {
    Object.defineProperty(document, 'visibilityState', { value, configurable: true })
    document.dispatchEvent(new Event('visibilitychange'))
  }, state)
}

test('today\'s front-end in Chromium: pushes, heartbeat, commands, reconnect, visibility and clean-up', { timeout: 90_000 }, async (t) => {
  const backend = await Backend.start(t)
  const hub = await startHub(t, { settings: { services: [service(backend)] } })
  const page = await openPage(t, hub)
  await backend.one(UPSTREAM)
  const push = (text) => backend.push(UPSTREAM, JSON.stringify({ text }))

  push('Türe offen 车门')
  await page.waitForSelector('li:has-text("Türe offen 车门")')
  await page.evaluate(() => window.vm.sendCommand({ functionID: '123', command: '10' }))
  await until(() => backend.texts().includes('{"functionID":"123","command":"10"}'), 3000, 'the command at the backend')

  await until(async () => (await stateOf(page)).pongs >= 2, 15_000, 'two answered heartbeats')
  assert.deepEqual(await stateOf(page), { messages: [{ text: 'Türe offen 车门' }], pongs: 2, opened: 1, closes: [], gaveUp: 0, readyState: 1 })
  assert.ok(!backend.texts().includes('ping'), 'the page\'s ping is not forwarded')

  await hub.stop()
  await until(async () => (await stateOf(page)).closes.length > 0, 3000, 'the page to see the end')
  assert.equal((await stateOf(page)).closes[0], 1012)
  await hub.restart()
  await until(async () => (await stateOf(page)).readyState === 1, 6000, 'the page to be back by itself')
  await backend.one(UPSTREAM)
  push('after the restart')
  await page.waitForSelector('li:has-text("after the restart")')

  await setVisibility(page, 'hidden')
  await hub.kill()
  await until(async () => (await stateOf(page)).readyState === 3, 3000, 'the page to see the end')
  assert.equal((await stateOf(page)).closes.at(-1), 1006)
  await hub.restart()
  await setVisibility(page, 'visible')
  await until(async () => (await stateOf(page)).readyState === 1, 3000, 'the page to be back when it is shown')
  await backend.one(UPSTREAM)
  await until(async () => await hub.metric('vinhub_clients') === 1, 2000, 'one client, not two')
  push('shown again')
  await page.waitForSelector('li:has-text("shown again")')

  const { opened } = await stateOf(page)
  await page.evaluate(() => window.vm.destroy())
  await until(async () => await hub.metric('vinhub_clients') === 0, 2000, 'the page\'s socket to be closed')
  await quiet(async () => (await stateOf(page)).opened !== opened, 1500, 'a destroyed page to come back')
  await until(() => backend.upstreams.size === 0, 5000 + 1000 + SLACK_MS, 'the upstream to close after linger')
})
