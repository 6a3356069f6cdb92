// Snippets for browsers: HTML pages and those of the module's own README run in Chromium, with a hub behind them; all JavaScript is parsed.
import assert from 'node:assert/strict'
import http from 'node:http'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { chromium } from 'playwright-core'
import { Backend } from '../lib/backend.mjs'
import { scratch, service, startHub } from '../lib/hub.mjs'
import { freePort } from '../lib/ports.mjs'
import { test } from '../lib/runner.mjs'
import { until } from '../lib/until.mjs'
import { at, blocksIn } from './blocks.mjs'
import { read, runCommand } from './stage.mjs'

const CLIENT = 'hub/web/client'
const UPSTREAM = '/base/admin/LSVAA4182E2'
const PUSH = '{"speed":42.5}'
const FLAGS = ['--no-sandbox', '--disable-gpu', '--disable-background-networking', '--disable-component-update', '--disable-sync']
const scripts = blocksIn('js')

for (const block of scripts) {
  test(`the JavaScript at ${at(block)} is a module`, async (t) => {
    const file = join(scratch(t), 'snippet.mjs')
    writeFileSync(file, block.text)
    const { code, err } = await runCommand(t, `node --check ${file}`)
    assert.equal(code, 0, err)
  })
}

/** Serves the page at / and the module below /client/. What asks for an upgrade goes to the hub, as behind a load balancer. */
async function serve(t, hub, html) {
  const server = http.createServer((req, res) => {
    try {
      const body = req.url === '/' ? html : read(CLIENT + req.url.slice('/client'.length))
      res.writeHead(200, { 'Content-Type': req.url.endsWith('.js') ? 'text/javascript' : 'text/html' }).end(body)
    } catch { res.writeHead(404).end() }
  })
  server.on('upgrade', (req, socket, head) => {
    const through = http.request({ port: hub.port, path: req.url, headers: req.headers })
    through.on('upgrade', (answer, other, first) => {
      const lines = answer.rawHeaders.flatMap((value, i) => (i % 2 === 0 ? [`${value}: ${answer.rawHeaders[i + 1]}`] : []))
      socket.write(`HTTP/1.1 101 Switching Protocols\r\n${lines.join('\r\n')}\r\n\r\n`)
      socket.write(first)
      for (const [from, to] of [[socket, other], [other, socket]]) from.on('error', () => to.destroy()).pipe(to)
      other.write(head)
    }).end()
  })
  const port = await freePort()
  await new Promise((resolve) => { server.listen(port, '127.0.0.1', resolve) })
  t.defer(() => { server.closeAllConnections(); server.close() })
  return `127.0.0.1:${port}`
}

/** Opens the page; whatever it complains of fails the case. */
async function open(t, address) {
  const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', headless: true, args: FLAGS })
  t.defer(() => browser.close())
  const page = await browser.newPage()
  page.on('pageerror', (error) => t.fail(error))
  await page.goto(`http://${address}/`)
  return page
}

async function start(t) {
  const backend = await Backend.start(t)
  const hub = await startHub(t, { settings: { services: [service(backend)] } })
  return { backend, hub }
}

for (const block of blocksIn('html')) {
  test(`the page at ${at(block)} shows a push and sends its command`, async (t) => {
    const { backend, hub } = await start(t)
    const page = await open(t, await serve(t, hub, `<link rel="icon" href="data:,">${block.text}`))
    await backend.one(UPSTREAM)
    backend.push(UPSTREAM, PUSH)
    await until(async () => (await page.locator('output').innerText()) === '42.5', 10_000, 'the speed on the page')
    await until(() => backend.texts().includes('{"command":"10"}'), 10_000, 'the command at the backend')
  })
}

/** The snippet in a page where what it calls is there, and the addresses are those of this test. */
const harness = (text, address) => `<!doctype html><link rel="icon" href="data:,">
<script type="importmap">{"imports": {"vinhub-client": "/client/vinhub.js", "vinhub-client/vue": "/client/vue.js"}}</script>
<script>
  window.seen = []
  window.vins = ['LSVAA4182E2', 'LSVAA4182E3']
  for (const name of ['show', 'lamp', 'loadStateAnew', 'move', 'cross']) window[name] = (...all) => window.seen.push([name, ...all])
  window.fetchToken = async () => 'a-token'
</script>
<script type="module">${text.replaceAll('wss://hub.example', `ws://${address}`).replaceAll('export default', 'window.component =')}; window.done = true</script>`

test('the first snippet of the module does what its comments say', async (t) => {
  const [snippet] = scripts.filter(({ file }) => file === `${CLIENT}/README.md`)
  const { backend, hub } = await start(t)
  const page = await open(t, await serve(t, hub, harness(snippet.text, `127.0.0.1:${hub.port}`)))
  await page.waitForFunction(() => window.done === true, null, { timeout: 10_000 })
  assert.deepEqual(backend.texts(), ['{"functionID":"123","command":"10"}'], 'send resolved when the upstream took it')
  backend.push(UPSTREAM, PUSH)
  await page.waitForFunction(() => window.seen.some(([name]) => name === 'show'), null, { timeout: 10_000 })
  const seen = await page.evaluate(() => window.seen)
  assert.deepEqual(seen.find(([name]) => name === 'show'), ['show', PUSH])
  assert.ok(seen.some(([name, state]) => name === 'lamp' && state === 'open'))
})

test('the snippet of many vehicles has them on one connection, one of them in full', async (t) => {
  const snippet = scripts.find(({ file, text }) => file === `${CLIENT}/README.md` && text.includes('client.subscribe(vins'))
  const { backend, hub } = await start(t)
  const page = await open(t, await serve(t, hub, harness(snippet.text, `127.0.0.1:${hub.port}`)))
  await page.waitForFunction(() => window.done === true, null, { timeout: 10_000 })
  await until(() => backend.texts().includes('{"command":"10"}'), 10_000, 'the command at the backend')
  backend.push(UPSTREAM, PUSH)
  await page.waitForFunction(() => window.seen.some(([name]) => name === 'move'), null, { timeout: 10_000 })
  assert.deepEqual(await page.evaluate(() => window.seen), [['move', '/admin/LSVAA4182E2?remoteWs', JSON.parse(PUSH)]])
  assert.equal(await hub.metric('vinhub_clients'), 1)
})

test('the Vue snippet is a component whose methods work on the mixin', async (t) => {
  const snippet = scripts.find(({ file, text }) => file === `${CLIENT}/README.md` && text.includes('mixins: [websocket]'))
  const { backend, hub } = await start(t)
  const page = await open(t, await serve(t, hub, harness(snippet.text, `127.0.0.1:${hub.port}`)))
  await page.waitForFunction(() => window.done === true, null, { timeout: 10_000 })
  await page.evaluate(() => {
    const { mixins, created, methods } = window.component
    const self = { vin: 'LSVAA4182E2', ...Object.assign({}, ...mixins.map((mixin) => mixin.data?.() ?? {})) }
    for (const part of [...mixins, { methods }]) {
      for (const [name, method] of Object.entries(part.methods ?? {})) self[name] = method.bind(self)
    }
    for (const mixin of mixins) mixin.beforeCreate?.call(self)
    for (const mixin of mixins) mixin.created?.call(self)
    created.call(self)
    window.self_ = self
  })
  await backend.one(UPSTREAM)
  backend.push(UPSTREAM, PUSH)
  await page.waitForFunction(() => window.self_.push?.speed === 42.5, null, { timeout: 10_000 })
  await page.evaluate(() => window.self_.sendCommand({ command: '10' }))
  await until(() => backend.texts().includes('{"command":"10"}'), 10_000, 'the command at the backend')
})
