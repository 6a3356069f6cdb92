// Contract section 6, "Event streams": what curl, fetch and EventSource get at the URL of a WebSocket.
import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import http from 'node:http'
import { join } from 'node:path'
import { chromium } from 'playwright-core'
import { test } from '../lib/runner.mjs'
import { Backend } from '../lib/backend.mjs'
import { Browser } from '../lib/browser.mjs'
import { Authority } from '../lib/certificates.mjs'
import { EventReader, EventStream } from '../lib/event-stream.mjs'
import { scratch, service, SLACK_MS, startCluster, startHub } from '../lib/hub.mjs'
import { rawSocket } from '../lib/net.mjs'
import { startNginx } from '../lib/nginx.mjs'
import { freePort } from '../lib/ports.mjs'
import { RedisServer } from '../lib/redis.mjs'
import { inSeconds, token } from '../lib/tokens.mjs'
import { until } from '../lib/until.mjs'

const UPSTREAM = '/base/admin/VIN1'
const PAGE = '/admin/VIN1?remoteWs'
const ACCEPT = { Accept: 'text/event-stream' }

async function start(t, settings = {}, serviceSettings = {}) {
  const backend = await Backend.start(t)
  const hub = await startHub(t, { settings: { services: [service(backend, serviceSettings)], ...settings } })
  return { backend, hub }
}

const place = (id) => id.split('.').map(Number)

test('a stream begins with its position and gets each push with its own', async (t) => {
  const { backend, hub } = await start(t)
  const stream = await EventStream.open(t, hub.port, PAGE)
  assert.equal(stream.headers['content-type'], 'text/event-stream')
  assert.equal(stream.headers['cache-control'], 'no-cache')
  assert.equal(stream.headers['x-accel-buffering'], 'no')
  assert.equal(stream.headers.vary, 'Origin')
  await stream.welcomed()
  assert.match(stream.text, /^id: \d+\.\d+\n\n/, 'a lone id is first')
  const [epoch, offset] = place(stream.id)
  await backend.one(UPSTREAM)
  for (const data of ['{"speed":1}', '', 'two\nlines', 'a\r\nb\rc\n', 'Türe 车']) backend.push(UPSTREAM, data)
  backend.push(UPSTREAM, Buffer.from([0, 10, 255]), { binary: true })
  await until(() => stream.of('binary').length === 1, 5000, 'all of them')
  assert.deepEqual(stream.messages(), ['{"speed":1}', '', 'two\nlines', 'a\nb\nc\n', 'Türe 车'])
  assert.equal(stream.of('binary')[0].data, Buffer.from([0, 10, 255]).toString('base64'))
  const pushed = stream.events.filter(({ type }) => type === 'message' || type === 'binary')
  assert.deepEqual(pushed.map(({ id }) => place(id)), pushed.map((_, n) => [epoch, offset + n + 1]))
  assert.equal(await hub.metric('vinhub_clients'), 1)
  assert.equal(await hub.metric('vinhub_messages_out_total'), 6)
})

test('streams, raw clients and clients of vinhub.v1 of a vin share one upstream', async (t) => {
  const { backend, hub } = await start(t)
  const raw = await Browser.open(t, hub.url(PAGE))
  const v1 = await Browser.open(t, hub.url(PAGE), { protocols: ['vinhub.v1'] })
  const streams = await Promise.all(Array.from({ length: 3 }, () => EventStream.open(t, hub.port, PAGE)))
  await Promise.all(streams.map((stream) => stream.welcomed()))
  await backend.one(UPSTREAM)
  backend.push(UPSTREAM, 'for all')
  await Promise.all([raw.got(1), ...streams.map((stream) => stream.got(1))])
  const message = await until(() => v1.texts().map((text) => JSON.parse(text)).find(({ type }) => type === 'MESSAGE'), 5000, 'MESSAGE')
  for (const stream of streams) assert.equal(stream.of('message')[0].id, `${message.epoch}.${message.offset}`)
  assert.equal(backend.upgrades.length, 1)
})

test('the upstream\'s state comes as it changes', async (t) => {
  const { backend, hub } = await start(t)
  const stream = await EventStream.open(t, hub.port, PAGE)
  await backend.one(UPSTREAM)
  const states = () => stream.of('status').map(({ data }) => JSON.parse(data))
  await until(() => states().some(({ upstream }) => upstream === 'connected'), 5000, 'connected')
  const before = stream.id
  await backend.kill()
  await until(() => states().some(({ upstream, reason }) => upstream !== 'connected' && reason), 5000, 'why it is down')
  assert.equal(stream.id, before, 'status does not move the position')
})

test('resume: by Last-Event-ID, else by resume in the URL; neither is an error', async (t) => {
  const { backend, hub } = await start(t)
  const first = await EventStream.open(t, hub.port, PAGE)
  await backend.one(UPSTREAM)
  for (let n = 1; n <= 5; n++) backend.push(UPSTREAM, `m${n}`)
  await first.got(5)
  const ids = first.of('message').map(({ id }) => id)
  first.close()
  const resumed = async (path, headers) => {
    const stream = await EventStream.open(t, hub.port, path, { headers })
    await stream.welcomed()
    return stream
  }
  const byHeader = await resumed(PAGE, { 'Last-Event-ID': ids[2] })
  await byHeader.got(2)
  assert.match(byHeader.text, new RegExp(`^id: ${ids[2]}\n\n`))
  assert.deepEqual(byHeader.messages(), ['m4', 'm5'])
  const byUrl = await resumed(`${PAGE}&resume=${ids[0]}`)
  await byUrl.got(4)
  assert.deepEqual(byUrl.messages(), ['m2', 'm3', 'm4', 'm5'])
  const both = await resumed(`${PAGE}&resume=${ids[0]}`, { 'Last-Event-ID': ids[3] })
  await both.got(1)
  assert.deepEqual(both.messages(), ['m5'], 'the header is the later one: a browser keeps the URL')
  const unknown = await resumed(`${PAGE}&resume=${ids[0]}`, { 'Last-Event-ID': '0.0' })
  await unknown.got(4)
  assert.deepEqual(unknown.messages(), ['m2', 'm3', 'm4', 'm5'], 'who was told no position has the one that it came with')
  const strange = await Promise.all(['x', '1.1.1.1', '9'.repeat(400), '99999999999999.1'].map((id) => resumed(PAGE, { 'Last-Event-ID': id })))
  const replayed = await resumed(`${PAGE}&replay=2`)
  backend.push(UPSTREAM, 'live')
  for (const stream of strange) {
    await stream.got(1)
    assert.deepEqual(stream.messages(), ['live'])
  }
  await until(() => replayed.messages().includes('live'), 5000, 'live')
  await byHeader.got(3)
  assert.deepEqual(byHeader.messages(), ['m4', 'm5', 'live'])
})

test('what is no longer kept is one gap', async (t) => {
  const { backend, hub } = await start(t, {}, { history: { size: 2 } })
  const first = await EventStream.open(t, hub.port, PAGE)
  await first.welcomed()
  const [epoch, offset] = place(first.id)
  await backend.one(UPSTREAM)
  for (let n = 1; n <= 40; n++) backend.push(UPSTREAM, `m${n}`)
  await first.got(40)
  const stream = await EventStream.open(t, hub.port, PAGE, { headers: { 'Last-Event-ID': `${epoch}.${offset + 1}` } })
  await until(() => stream.messages().includes('m40'), 5000, 'the last')
  const [gap, ...more] = stream.of('gap').map(({ data }) => JSON.parse(data))
  assert.equal(more.length, 0)
  assert.equal(gap.epoch, epoch)
  assert.equal(gap.from, offset + 2)
  assert.equal(stream.of('message')[0].id, `${epoch}.${gap.to + 1}`)
})

test('a killed node: its streams resume on another without gap or double', async (t) => {
  const redis = await RedisServer.start(t)
  const backend = await Backend.start(t)
  const [a, b] = await startCluster(t, { nodes: 2, redis, settings: { node: { lease: '1s' }, services: [service(backend)] } })
  const watcher = await EventStream.open(t, b.port, PAGE)
  await watcher.welcomed()
  await backend.one(UPSTREAM)
  const stream = await EventStream.open(t, a.port, PAGE)
  await stream.welcomed()
  for (let n = 1; n <= 5; n++) backend.push(UPSTREAM, `m${n}`)
  await stream.got(5)
  await a.kill()
  await stream.over()
  for (let n = 6; n <= 8; n++) backend.push(UPSTREAM, `m${n}`)
  await watcher.got(8)
  const again = await EventStream.open(t, b.port, PAGE, { headers: { 'Last-Event-ID': stream.id } })
  await again.got(3)
  backend.push(UPSTREAM, 'm9')
  await again.got(4)
  assert.deepEqual(again.messages(), ['m6', 'm7', 'm8', 'm9'])
  assert.equal(again.of('gap').length, 0)
})

/** Raw sockets: the request, the status line, and whether it becomes a stream. */
const REQUESTS = [
  ['curl', 'GET {} HTTP/1.1\r\nHost: h\r\nUser-Agent: curl/8\r\nAccept: text/event-stream\r\n\r\n', 200],
  ['curl --http2 on a plain port', 'GET {} HTTP/1.1\r\nHost: h\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\nAccept: text/event-stream\r\n\r\n', 200],
  ['nginx by default: HTTP/1.0', 'GET {} HTTP/1.0\r\nHost: h\r\nConnection: close\r\nAccept: text/event-stream\r\n\r\n', 200],
  ['HTTP/1.0 without a Host', 'GET {} HTTP/1.0\r\nAccept: text/event-stream\r\n\r\n', 200],
  ['a body of none', 'GET {} HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\nAccept: text/event-stream\r\n\r\n', 200],
  ['a whole URI', 'GET http://h:1{} HTTP/1.1\r\nHost: h\r\nAccept: text/event-stream\r\n\r\n', 200],
  ['what follows is no second request', 'GET {} HTTP/1.1\r\nHost: h\r\nAccept: text/event-stream\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n', 200],
  ['a body', 'GET {} HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nAccept: text/event-stream\r\n\r\nabc', 400],
  ['a chunked body', 'GET {} HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nAccept: text/event-stream\r\n\r\n0\r\n\r\n', 400],
  ['no Host', 'GET {} HTTP/1.1\r\nAccept: text/event-stream\r\n\r\n', 400],
  ['two Hosts', 'GET {} HTTP/1.1\r\nHost: h\r\nHost: g\r\nAccept: text/event-stream\r\n\r\n', 400],
  ['HTTP/1.2', 'GET {} HTTP/1.2\r\nHost: h\r\nAccept: text/event-stream\r\n\r\n', 400],
  ['POST', 'POST {} HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\nAccept: text/event-stream\r\n\r\n', 405],
  ['a handshake with Accept', 'GET {} HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nAccept: text/event-stream\r\n\r\n', 101],
]

test('requests as programs write them', async (t) => {
  const { backend, hub } = await start(t)
  const holder = await Browser.open(t, hub.url(PAGE))
  await backend.one(UPSTREAM)
  for (const [name, text, status] of REQUESTS) {
    const peer = rawSocket(t, hub.port, text.replace('{}', PAGE))
    const answer = await until(() => /^HTTP\/1\.1 (\d+) .*?\r\n\r\n/s.exec(peer.text()), 5000, name)
    assert.equal(Number(answer[1]), status, name)
    if (status === 200) {
      const reader = new EventReader()
      await until(() => /\r\n\r\nid: \d+\.\d+\n\n/.test(peer.text()), 5000, `${name}: the position`)
      backend.push(UPSTREAM, name)
      await until(() => peer.text().includes(`data: ${name}\n\n`), 5000, `${name}: a push`)
      reader.add(peer.text().slice(peer.text().indexOf('\r\n\r\n') + 4))
      assert.deepEqual(reader.events.filter(({ type }) => type === 'message').map(({ data }) => data), [name])
    }
    peer.socket.destroy()
  }
  await until(async () => await hub.metric('vinhub_clients') === 1, 2000, 'all who hung up to be gone')
  assert.equal(holder.end, null)
})

/** Accept -> whether a stream is asked for. Whoever asks for anything gets what a plain GET gets. */
const ACCEPTS = [
  ['text/event-stream', true], ['TEXT/Event-Stream', true], ['text/event-stream; charset=utf-8', true], ['text/event-stream ;q=0.1', true],
  ['application/json, text/event-stream', true], ['text/event-stream;q=0.5, */*;q=0.1', true], ['text/html,text/event-stream', true],
  ['text/event-stream;q=1.000', true], ['text/event-stream;v=1;q=0.001', true],
  ['*/*', false], ['text/*', false], ['', false], ['text/html', false], ['text/event-stream;q=0', false], ['text/event-stream; q=0.000', false],
  ['text/event-stream;Q=0., text/html', false], ['text/event-streams', false], ['x-text/event-stream', false], ['text/event-stream/x', false],
]

test('only a request for an event stream gets one', async (t) => {
  const { hub } = await start(t)
  for (const [accept, isStream] of ACCEPTS) {
    const stream = await EventStream.open(t, hub.port, PAGE, { headers: { Accept: accept } })
    assert.equal(stream.status, isStream ? 200 : 426, `Accept: ${accept}`)
    stream.close()
  }
  const head = await EventStream.open(t, hub.port, PAGE, { method: 'HEAD' })
  assert.equal(head.headers['content-type'], 'text/event-stream')
  await head.over()
  assert.equal(head.text, '')
})

test('URLs are those of WebSockets, and so are their mistakes', async (t) => {
  const { backend, hub } = await start(t, { default_service: '' })
  for (const [url, upstream] of [['/ann/V1?remoteWs', '/base/ann/V1'], ['/ann?remoteWs', '/base/ann'], ['/ws?remoteWs&vin=V2&k=v', '/base/ws?vin=V2&k=v'],
    ['/ann/V3?remoteWs&resume=1.1&replay=0&rate=5&x=y', '/base/ann/V3?x=y']]) {
    const stream = await EventStream.open(t, hub.port, url)
    assert.equal(stream.status, 200, url)
    await backend.one(upstream)
  }
  for (const [url, status] of [['/ann/V1?nope', 404], ['/ann?subscribe', 404], ['/ann/V1', 404], ['/a/b/c?remoteWs', 400], ['/ann/../V1?remoteWs', 400],
    ['/ann/V1?remoteWs&rate=0', 400], ['/ann/V1?remoteWs&rate=101', 400], ['/ann/V1?remoteWs&replay=x', 400]]) {
    const refused = await EventStream.open(t, hub.port, url)
    assert.equal(refused.status, status, url)
    await refused.over()
    assert.match(refused.text, /^[^\n<]+\n$/, `${url}: one line that says why`)
  }
})

test('origins: named on answers and refusals, asked for before a header is sent', async (t) => {
  const { hub } = await start(t, { origins: ['https://page.example', '*.fleet.example'] })
  const open = (path, origin, options = {}) => EventStream.open(t, hub.port, path, { headers: { ...origin && { Origin: origin } }, ...options })
  const allowed = { 'access-control-allow-origin': 'https://page.example', 'access-control-allow-credentials': 'true', vary: 'Origin' }
  const cors = ({ headers }) => Object.fromEntries(Object.entries(headers).filter(([name]) => name.startsWith('access-control-allow-') || name === 'vary'))
  const good = await open(PAGE, 'https://page.example')
  assert.deepEqual([good.status, cors(good)], [200, allowed])
  const below = await open(PAGE, 'http://a.fleet.example:81')
  assert.equal(below.headers['access-control-allow-origin'], 'http://a.fleet.example:81')
  const none = await open(PAGE)
  assert.deepEqual([none.status, cors(none)], [200, { vary: 'Origin' }])
  const missing = await open('/admin/VIN1?nope', 'https://page.example')
  assert.deepEqual([missing.status, cors(missing)], [404, allowed], 'a page may read why')
  const malformed = await open('/a/b/c?remoteWs', 'https://page.example')
  assert.deepEqual([malformed.status, cors(malformed)], [400, allowed])
  const foreign = await open(PAGE, 'https://evil.example')
  assert.deepEqual([foreign.status, cors(foreign)], [403, { vary: 'Origin' }])

  const ask = { method: 'OPTIONS' }
  const preflight = await open(PAGE, 'https://page.example', ask)
  assert.equal(preflight.status, 204)
  assert.equal(preflight.headers['access-control-allow-headers'], 'Authorization, Last-Event-ID')
  assert.match(preflight.headers['access-control-allow-methods'], /GET/)
  assert.equal(preflight.headers['access-control-allow-origin'], 'https://page.example')
  assert.equal(preflight.headers['access-control-allow-credentials'], 'true')
  assert.equal((await open(PAGE, 'https://evil.example', ask)).status, 403)
  assert.equal((await open('/', undefined, ask)).status, 204)
})

const SECRET = 'a secret of at least thirty-two bytes, as it should be'

test('tokens: 401 and 403 that can be read, from each place, and the end of one', async (t) => {
  const file = join(scratch(t), 'secret')
  writeFileSync(file, SECRET)
  const { backend, hub } = await start(t, { auth: { mode: 'jwt', secret_file: file }, origins: ['https://page.example'] })
  const make = (claims = {}, key = SECRET) => token({ sub: 'admin', vins: ['VIN1'], exp: inSeconds(600), ...claims }, { key })
  const status = async (path, headers = {}) => {
    const stream = await EventStream.open(t, hub.port, path, { headers: { Origin: 'https://page.example', ...headers } })
    stream.close()
    assert.equal(stream.headers['access-control-allow-origin'], 'https://page.example')
    return stream.status
  }
  const bearer = (value) => ({ Authorization: `Bearer ${value}` })
  assert.equal(await status(PAGE, bearer(make())), 200)
  assert.equal(await status(`${PAGE}&token=${make()}`), 200)
  assert.equal(await status(PAGE, { Cookie: `token=${make()}` }), 200)
  assert.equal(await status(PAGE), 401, 'missing')
  assert.equal(await status(PAGE, bearer('x')), 401, 'unreadable')
  assert.equal(await status(PAGE, bearer(make({}, 'another secret that is long enough to be one'))), 401, 'signature')
  assert.equal(await status(PAGE, bearer(make({ exp: inSeconds(-60) }))), 401, 'over')
  assert.equal(await status(PAGE, bearer(make({ nbf: inSeconds(60) }))), 401, 'not yet')
  assert.equal(await status(PAGE, bearer(make({ vins: ['VIN2'] }))), 403, 'another vin')
  assert.equal(await status(PAGE, bearer(make({ vins: undefined }))), 403, 'no vin')
  assert.equal(await status(PAGE, bearer(make({ services: ['x'] }))), 403, 'another service')
  assert.equal(await status(PAGE, bearer(make({ sub: 'bob' }))), 403, 'another user')
  const refused = await EventStream.open(t, hub.port, PAGE)
  assert.equal(refused.headers['www-authenticate'], 'Bearer')
  assert.match(refused.text, /^token missing\n$/)
  assert.equal(await hub.metric('vinhub_refused_total', 'unauthorized'), 10)

  await until(async () => await hub.metric('vinhub_clients') === 0, 3000, 'nobody')
  const short = await EventStream.open(t, hub.port, PAGE, { headers: bearer(make({ exp: inSeconds(2) })) })
  await backend.one(UPSTREAM)
  await short.over(3000 + SLACK_MS)
  assert.ok(short.comments.some(({ text }) => text.startsWith('4001 token expired')), JSON.stringify(short.comments))

  const named = make({ jti: 'one' })
  const revoked = await EventStream.open(t, hub.port, PAGE, { headers: bearer(named) })
  await revoked.welcomed()
  const post = (path, body) => hub.admin(path, { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(body) })
  assert.deepEqual((await post('/api/revoke', { jti: 'one' })).json(), { closed: 1 })
  await revoked.over(1000 + SLACK_MS)
  assert.equal(await status(PAGE, bearer(named)), 401, 'revoked')
})

test('operators see streams among the clients, and close them', async (t) => {
  const { backend, hub } = await start(t)
  const stream = await EventStream.open(t, hub.port, PAGE)
  await stream.welcomed()
  await backend.one(UPSTREAM)
  backend.push(UPSTREAM, 'one')
  await stream.got(1)
  const { clients } = await hub.json('/api/clients?vin=VIN1')
  assert.deepEqual(clients.map(({ user, session, protocol, sent, received }) => [user, session, protocol, sent, received]),
    [['admin', 'remoteWs:VIN1', 'event-stream', 1, 0]])
  const body = JSON.stringify({ user: 'admin', reason: 'enough\nid: 1.1' })
  const closed = await hub.admin('/api/clients/close', { method: 'POST', headers: { 'Content-Type': 'application/json' }, body })
  assert.deepEqual(closed.json(), { closed: 1 })
  await stream.over()
  assert.ok(stream.comments.some(({ text }) => /^4006 enough.id: 1.1$/.test(text)), JSON.stringify(stream.comments))
  assert.notEqual(stream.id, '1.1')
})

test('limits: full, too many of an address, draining', async (t) => {
  const { hub } = await start(t, { clients: { max_per_ip: 2 } })
  const one = await EventStream.open(t, hub.port, PAGE)
  await Browser.open(t, hub.url(PAGE))
  const third = await EventStream.open(t, hub.port, PAGE)
  assert.equal(third.status, 503)
  assert.ok(Number(third.headers['retry-after']) > 0)
  one.close()
  await until(async () => await hub.metric('vinhub_clients') === 1, 1000, 'who hung up to be gone at once')
  assert.equal((await EventStream.open(t, hub.port, PAGE)).status, 200)
})

test('a drain ends each stream with retry: 1000', async (t) => {
  const { hub } = await start(t)
  const streams = await Promise.all(Array.from({ length: 3 }, () => EventStream.open(t, hub.port, PAGE)))
  await Promise.all(streams.map((stream) => stream.welcomed()))
  await hub.stop()
  for (const stream of streams) {
    await stream.over()
    assert.equal(stream.retry, 1000)
    assert.match(stream.text, /retry: 1000\n\n$/)
  }
})

test('a comment comes each clients.ping.every; one that stops reading is ended', { timeout: 90_000 }, async (t) => {
  const { backend, hub } = await start(t, { clients: { ping: { every: '300ms', timeout: '1s' } } })
  const stream = await EventStream.open(t, hub.port, PAGE)
  await until(() => stream.comments.length >= 4, 4000, 'comments')
  const [first, last] = [stream.comments[0].at, stream.comments.at(-1).at]
  assert.ok(last - first >= 300 * (stream.comments.length - 1) - 150, 'no more often')
  await backend.one(UPSTREAM)
  const sleeper = rawSocket(t, hub.port, `GET ${PAGE} HTTP/1.1\r\nHost: h\r\nAccept: text/event-stream\r\n\r\n`)
  await until(() => sleeper.text().includes('id: '), 5000, 'the other')
  sleeper.socket.pause()
  for (let n = 0; n < 1200; n++) {
    backend.push(UPSTREAM, `${n}:`.padEnd(16384, '.'))
    if (n % 4 === 3) await until(() => stream.messages().length > n - 4, 5000, () => `the reader to keep up at ${n}`)
  }
  await until(async () => await hub.metric('vinhub_clients') === 1, 15_000, 'the sleeper to be gone')
  assert.ok(await hub.metric('vinhub_dropped_total') > 0, 'what it did not get is counted')
  assert.equal(stream.ended, undefined)
})

test('policy latest: a client that reads on gets the newest, and a gap for the rest', { timeout: 90_000 }, async (t) => {
  const { backend, hub } = await start(t, {}, { slow_client: { queue: '64KiB', policy: 'latest' } })
  const reader = await EventStream.open(t, hub.port, PAGE)
  const sleeper = await EventStream.open(t, hub.port, PAGE)
  await Promise.all([reader.welcomed(), sleeper.welcomed()])
  await backend.one(UPSTREAM)
  sleeper.response.pause()
  for (let n = 0; n < 1500; n++) {
    backend.push(UPSTREAM, `${n}:`.padEnd(16384, '.'))
    if (n % 4 === 3) await until(() => reader.messages().length > n - 4, 5000, () => `the reader to keep up at ${n}`)
  }
  await reader.got(1500)
  sleeper.response.resume()
  await until(() => sleeper.messages().some((data) => data.startsWith('1499:')), 15_000, 'the newest')
  const offsets = sleeper.events.flatMap(({ type, id, data }) => {
    if (type === 'message') return [place(id)[1]]
    if (type !== 'gap') return []
    const { from, to } = JSON.parse(data)
    return Array.from({ length: to - from + 1 }, (_, n) => from + n)
  })
  assert.ok(sleeper.of('gap').length > 0)
  assert.deepEqual(offsets, offsets.map((_, n) => offsets[0] + n), 'each push came or is in a gap, once, in order')
})

test('a stream whose client floods it is ended; a little input is ignored', async (t) => {
  const { backend, hub } = await start(t)
  const peer = rawSocket(t, hub.port, `GET ${PAGE} HTTP/1.1\r\nHost: h\r\nAccept: text/event-stream\r\n\r\n`)
  await until(() => peer.text().includes('id: '), 5000, 'the stream')
  await backend.one(UPSTREAM)
  peer.socket.write(Buffer.alloc(100_000, 0x81))
  backend.push(UPSTREAM, 'still there')
  await until(() => peer.text().includes('data: still there\n'), 5000, 'a push')
  peer.socket.write(Buffer.alloc(1_000_000, 0x81))
  await until(async () => await hub.metric('vinhub_clients') === 0, 5000, 'its end')
  assert.equal(await hub.metric('vinhub_dropped_total', 'malformed'), 1)
  assert.equal(backend.texts().length, 0, 'nothing of it went upstream')
})

test('over TLS', async (t) => {
  const authority = new Authority(t)
  const { cert, key } = authority.issue('hub')
  const backend = await Backend.start(t)
  const port = await freePort()
  const hub = await startHub(t, { settings: { listen: { address: `127.0.0.1:${port}`, tls_cert: cert, tls_key: key }, services: [service(backend)] } })
  const stream = await EventStream.open(t, port, PAGE, { ca: authority.ca })
  await stream.welcomed()
  await backend.one(UPSTREAM)
  backend.push(UPSTREAM, 'x'.repeat(100_000))
  await stream.got(1)
  await hub.stop()
  await stream.over()
  assert.equal(stream.retry, 1000)
})

test('fetch reads a stream and leaves it', async (t) => {
  const { backend, hub } = await start(t)
  const abort = new AbortController()
  t.defer(() => abort.abort())
  const response = await fetch(`http://127.0.0.1:${hub.port}${PAGE}`, { headers: ACCEPT, signal: abort.signal })
  assert.equal(response.status, 200)
  const reader = new EventReader()
  const reading = (async () => {
    try { for await (const part of response.body.pipeThrough(new TextDecoderStream())) reader.add(part) } catch { /* it was left */ }
  })()
  await backend.one(UPSTREAM)
  backend.push(UPSTREAM, 'one')
  await until(() => reader.events.some(({ data }) => data === 'one'), 5000, 'the push')
  abort.abort()
  await reading
  await until(async () => await hub.metric('vinhub_clients') === 0, 1000, 'it to be gone at once')
})

test('through nginx each event arrives at once', async (t) => {
  const { backend, hub } = await start(t)
  const nginx = await startNginx(t, [hub])
  const stream = await EventStream.open(t, nginx.port, PAGE)
  assert.equal(stream.status, 200)
  await stream.welcomed()
  await backend.one(UPSTREAM)
  for (let n = 1; n <= 3; n++) {
    backend.push(UPSTREAM, `m${n}`)
    await stream.got(n, 2000)
  }
  stream.close()
  await until(async () => await hub.metric('vinhub_clients') === 0, 2000, 'nginx to pass the end on')
})

const FLAGS = ['--no-sandbox', '--disable-gpu', '--disable-background-networking', '--disable-component-update', '--disable-sync']

test('EventSource in Chromium: from another origin, and back by itself after a restart of the node', { timeout: 90_000 }, async (t) => {
  const { backend, hub } = await start(t)
  const server = http.createServer((req, res) => res.writeHead(200, { 'Content-Type': 'text/html' }).end('<title>page</title>'))
  const port = await freePort()
  await new Promise((resolve) => { server.listen(port, '127.0.0.1', resolve) })
  t.defer(() => { server.closeAllConnections(); server.close() })
  const context = await chromium.launchPersistentContext(scratch(t), {
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', headless: true, args: FLAGS,
  })
  t.defer(() => context.close())
  const page = await context.newPage()
  await page.goto(`http://127.0.0.1:${port}/`)
  await page.evaluate((url) => {
    window.seen = []
    window.source = new EventSource(url, { withCredentials: true })
    for (const type of ['message', 'binary', 'status', 'gap', 'open', 'error']) {
      window.source.addEventListener(type, ({ data, lastEventId }) => window.seen.push({ type, data, id: lastEventId }))
    }
  }, `http://127.0.0.1:${hub.port}${PAGE}`)
  const seen = async (type) => (await page.evaluate(() => window.seen)).filter((event) => event.type === type)
  await backend.one(UPSTREAM)
  backend.push(UPSTREAM, 'Türe\noffen')
  backend.push(UPSTREAM, Buffer.from('bytes'), { binary: true })
  await until(async () => (await seen('binary')).length === 1, 5000, 'both')
  const [message] = await seen('message')
  assert.equal(message.data, 'Türe\noffen')
  assert.match(message.id, /^\d+\.\d+$/)
  assert.equal((await seen('binary'))[0].data, Buffer.from('bytes').toString('base64'))
  await hub.stop()
  await until(async () => (await seen('error')).length > 0, 5000, 'the page to see the end')
  await hub.restart()
  await until(async () => (await seen('open')).length >= 2, 10_000, 'the page to be back by itself')
  await backend.one(UPSTREAM)
  backend.push(UPSTREAM, 'after')
  await until(async () => (await seen('message')).some(({ data }) => data === 'after'), 5000, 'a push')
  await page.evaluate(() => window.source.close())
  await until(async () => await hub.metric('vinhub_clients') === 0, 1000 + SLACK_MS, 'it to be gone at once')
})
