// Where WebSockets don't pass: the library reads event streams of a real hub, through a proxy that lets none through.
import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import http from 'node:http'
import net from 'node:net'
import { join } from 'node:path'
import { Backend } from '../lib/backend.mjs'
import { scratch, service, startHub } from '../lib/hub.mjs'
import { freePort } from '../lib/ports.mjs'
import { test } from '../lib/runner.mjs'
import { inSeconds, token } from '../lib/tokens.mjs'
import { quiet, until } from '../lib/until.mjs'
import { openPage } from './page.mjs'

const SOON_MS = 20_000
const SECRET = 'a secret of more than thirty-two bytes, for tests'
const UPSTREAM = '/base/admin/VIN1'
const PATH = '/admin/VIN1?remoteWs'

/** A proxy in front of the hub. `mode` of a handshake: 'refuse' (403), 'hang', 'pass'. */
class Proxy {
  static async start(t, hub) {
    const port = await freePort()
    const proxy = Object.assign(new Proxy(), { port, mode: 'refuse', handshakes: 0, requests: [], sockets: new Set() })
    const server = http.createServer((req, res) => {
      proxy.requests.push({ url: req.url, method: req.method, headers: req.headers })
      const onward = http.request({ port: hub.port, path: req.url, method: req.method, headers: req.headers }, (answer) => {
        res.writeHead(answer.statusCode, answer.headers)
        answer.pipe(res)
      })
      onward.on('error', () => res.destroy())
      res.on('close', () => onward.destroy())
      req.pipe(onward)
    })
    server.on('upgrade', (req, socket, head) => {
      proxy.handshakes++
      socket.on('error', () => {})
      if (proxy.mode === 'refuse') socket.end('HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n')
      if (proxy.mode !== 'pass') return
      const onward = net.connect(hub.port, '127.0.0.1')
      const lines = req.rawHeaders.flatMap((name, at, all) => (at % 2 === 0 ? [`${name}: ${all[at + 1]}`] : []))
      onward.write(`GET ${req.url} HTTP/1.1\r\n${lines.join('\r\n')}\r\n\r\n`)
      onward.write(head)
      onward.on('error', () => socket.destroy())
      socket.pipe(onward).pipe(socket)
    })
    server.on('connection', (socket) => { proxy.sockets.add(socket); socket.once('close', () => proxy.sockets.delete(socket)) })
    await new Promise((resolve) => { server.listen(port, '127.0.0.1', resolve) })
    t.defer(() => { proxy.cut(); server.close() })
    return proxy
  }

  url(path) { return `ws://127.0.0.1:${this.port}${path}` }
  cut() { for (const socket of this.sockets) socket.destroy() }
}

async function start(t, settings = {}) {
  const backend = await Backend.start(t)
  const hub = await startHub(t, { id: 'a', settings: { services: [service(backend)], ...settings } })
  return { backend, hub, proxy: await Proxy.start(t, hub), page: await openPage(t) }
}

const seen = (page) => page.evaluate(() => window.seen)
const opened = (page, readsOnly) => until(async () => {
  const last = (await seen(page)).states.at(-1)
  return last?.state === 'open' && (last.readsOnly ?? false) === readsOnly
}, SOON_MS, `the client to be open, ${readsOnly ? 'reading only' : 'on a WebSocket'}`)
const got = (page, text) => until(async () => (await seen(page)).messages.includes(text), SOON_MS, `the message ${text}`)
const begin = (page, url, options = {}) => page.evaluate(([at, how]) => window.startClient(at, {
  reconnect: { min: 20, max: 60 }, fallback: window.EventStreamSocket, WebSocket, ...how,
}), [url, options])

test('after two WebSockets that fail it reads a stream, and goes on there where that breaks', { timeout: 120_000 }, async (t) => {
  const { backend, hub, proxy, page } = await start(t)
  await begin(page, proxy.url(PATH))
  await opened(page, true)
  assert.equal(proxy.handshakes, 2)
  await backend.one(UPSTREAM)
  await until(() => page.evaluate(() => window.client.upstream === 'connected'), SOON_MS, 'the upstream to be told')
  backend.push(UPSTREAM, 'Türe offen\nzweite Zeile')
  backend.push(UPSTREAM, Buffer.from([0, 255, 10]), { binary: true })
  backend.push(UPSTREAM, '')
  await got(page, '')
  assert.deepEqual((await seen(page)).messages, ['Türe offen\nzweite Zeile', [0, 255, 10], ''])
  assert.deepEqual((await seen(page)).metas.map(({ offset }) => offset), [1, 2, 3])

  proxy.cut()
  for (let n = 0; n < 5; n++) backend.push(UPSTREAM, `missed ${n}`)
  await got(page, 'missed 4')
  const { messages, gaps } = await seen(page)
  assert.deepEqual(messages.slice(3), Array.from({ length: 5 }, (_, n) => `missed ${n}`), 'resumed: nothing missing, nothing twice')
  assert.deepEqual(gaps, [])
  assert.equal(proxy.handshakes, 2)
  await page.evaluate(() => window.client.close())
  await until(async () => await hub.metric('vinhub_clients') === 0, SOON_MS, 'the stream to end with the client')
})

test('it goes back to a WebSocket once one passes, and what was to be sent goes then', { timeout: 120_000 }, async (t) => {
  const { backend, proxy, page } = await start(t)
  await begin(page, proxy.url(PATH), { fallbackFor: 400 })
  await opened(page, true)
  await backend.one(UPSTREAM)
  await page.evaluate(() => window.send('a command'))
  let pushed = 0
  const timer = setInterval(() => backend.push(UPSTREAM, `#${pushed++}`), 20)
  t.defer(() => clearInterval(timer))
  await until(() => proxy.handshakes >= 4, SOON_MS, 'tries of WebSockets between')
  assert.deepEqual(backend.texts(), [], 'a stream takes nothing')
  proxy.mode = 'pass'
  await opened(page, false)
  await until(() => backend.texts().length > 0, SOON_MS, 'the command')
  clearInterval(timer)
  await got(page, `#${pushed - 1}`)
  const { messages, gaps, acks } = await seen(page)
  const first = Number(messages[0].slice(1))
  assert.deepEqual(messages, Array.from({ length: pushed - first }, (_, n) => `#${first + n}`), 'each once, over all that')
  assert.deepEqual([gaps, acks, backend.texts()], [[], ['a command'], ['a command']])
  await quiet(async () => (await seen(page)).states.at(-1).readsOnly, 1000, 'it leaves the WebSocket again')
})

test('without the option nothing but WebSockets is tried; a handshake that hangs counts as one that fails', { timeout: 120_000 }, async (t) => {
  const { proxy, page } = await start(t)
  await page.evaluate((url) => window.startClient(url, { reconnect: { min: 20, max: 60 } }), proxy.url(PATH))
  await until(() => proxy.handshakes >= 5, SOON_MS, 'tries')
  assert.deepEqual(proxy.requests, [])
  await page.evaluate(() => window.client.close())
  proxy.mode = 'hang'
  await begin(page, proxy.url(PATH), { connectTimeout: 300 })
  await opened(page, true)
})

test('subscriptions are streams, few at once; what is refused reaches the right one', { timeout: 120_000 }, async (t) => {
  const { backend, hub, proxy, page } = await start(t)
  await begin(page, proxy.url('/admin?subscribe'))
  await page.evaluate(() => {
    window.fleet = window.client.subscribe([...Array(8).keys()].map((n) => `/admin/V${n}?remoteWs`))
    window.bad = window.client.subscribe('/admin/V1?nothing')
    window.told = { texts: [], closed: [] }
    window.fleet.on('message', (text, { url }) => window.told.texts.push(`${url} ${text}`))
    window.bad.on('closed', ({ code }) => window.told.closed.push(code))
  })
  await until(async () => await hub.metric('vinhub_clients') === 5, SOON_MS, 'five streams')
  const texts = () => page.evaluate(() => window.told.texts)
  await backend.one('/base/admin/V0')
  backend.push('/base/admin/V0', 'one')
  await until(async () => (await texts()).includes('/admin/V0?remoteWs one'), SOON_MS, 'the push')
  await page.evaluate(() => window.fleet.unsubscribe([...Array(6).keys()].map((n) => `/admin/V${n}?remoteWs`)))
  await backend.one('/base/admin/V7')
  backend.push('/base/admin/V7', 'seven')
  await until(async () => (await texts()).includes('/admin/V7?remoteWs seven'), SOON_MS, 'the push')
  await until(() => page.evaluate(() => window.told.closed.includes('unknown_service')), SOON_MS, 'the refusal')
  await until(async () => await hub.metric('vinhub_clients') === 2, SOON_MS, 'the others to be closed')
})

test('a stream that an operator closes is no reason to come back; one that a draining node ends is', { timeout: 120_000 }, async (t) => {
  const { backend, hub, proxy, page } = await start(t)
  await begin(page, proxy.url(PATH))
  await opened(page, true)
  await hub.stop()
  await until(async () => (await seen(page)).closes.some(({ code }) => code === 1012), SOON_MS, 'the drain to be told')
  await hub.restart()
  await opened(page, true)
  await backend.one(UPSTREAM)
  const { status } = await hub.admin('/api/sessions/remoteWs%3AVIN1/close', { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: '{}' })
  assert.ok(status < 300)
  await until(() => page.evaluate(() => window.client.state === 'failed'), SOON_MS, 'it to stay away')
  assert.equal((await seen(page)).closes.at(-1).code, 4006)
})

test('the token goes in a header; one that is refused is asked for again', { timeout: 120_000 }, async (t) => {
  const file = join(scratch(t), 'secret')
  writeFileSync(file, SECRET)
  const { backend, proxy, page } = await start(t, { auth: { mode: 'jwt', secret_file: file } })
  const tokens = [-60, -60, -60, 600].map((seconds) => token({ sub: 'admin', vins: ['VIN1'], exp: inSeconds(seconds) }, { key: SECRET }))
  await begin(page, proxy.url(PATH), { tokens })
  await opened(page, true)
  await backend.one(UPSTREAM)
  backend.push(UPSTREAM, 'one')
  await got(page, 'one')
  assert.deepEqual(await page.evaluate(() => window.asked.map(({ refused }) => refused)), [false, false, false, true])
  const gets = proxy.requests.filter(({ method }) => method === 'GET')
  assert.equal(gets.at(-1).headers.authorization, `Bearer ${tokens[3]}`)
  assert.ok(gets.every(({ url }) => !url.includes('token')))
})
