// The admin port: its limits, its streams, forms of a session id, SIGHUP and SIGTERM.
import assert from 'node:assert/strict'
import { readFileSync, writeFileSync } from 'node:fs'
import { Backend } from '../lib/backend.mjs'
import { Browser } from '../lib/browser.mjs'
import { countedMs, mark } from '../lib/busy.mjs'
import { service, startCluster, startHub } from '../lib/hub.mjs'
import { rawSocket } from '../lib/net.mjs'
import { RedisServer } from '../lib/redis.mjs'
import { test } from '../lib/runner.mjs'
import { until } from '../lib/until.mjs'

const UPSTREAM = '/base/admin/VIN1'
const PAGE = '/admin/VIN1?remoteWs'
const ID = 'remoteWs:VIN1'
const SOON_MS = 10_000
const HEAD = 'Host: 127.0.0.1\r\n'

async function startOne(t, settings = {}) {
  const backend = await Backend.start(t)
  const hub = await startHub(t, { id: 'a', settings: { services: [service(backend)], ...settings } })
  return { backend, hub }
}

const post = (hub, path, body) => hub.admin(path, {
  method: 'POST', headers: { 'Content-Type': 'application/json' }, body: typeof body === 'string' ? body : JSON.stringify(body),
})

/** A raw stream of events: {socket, events(name)}. */
function stream(t, hub, path = '/api/events') {
  const peer = rawSocket(t, hub.adminPort, `GET ${path} HTTP/1.1\r\n${HEAD}\r\n`)
  peer.events = (name) => [...peer.text().matchAll(new RegExp(`event: ${name}\ndata: (.*)\n`, 'g'))].map((match) => JSON.parse(match[1]))
  return peer
}

test('connections that send half a request keep nobody out', async (t) => {
  const { hub } = await startOne(t)
  for (let i = 0; i < 200; i++) rawSocket(t, hub.adminPort, `GET /healthz HTTP/1.1\r\n${HEAD}X-Slow: `)
  const began = mark()
  for (let i = 0; i < 5; i++) assert.equal((await hub.admin('/healthz')).status, 200)
  assert.ok(countedMs(began) < SOON_MS, 'within a few seconds')
})

test('streams are bounded in number, and a place is free again when one ends', async (t) => {
  const { hub } = await startOne(t)
  const streams = Array.from({ length: 16 }, () => stream(t, hub))
  await until(() => streams.every((peer) => peer.events('open').length === 1), SOON_MS, '16 streams')
  assert.equal((await hub.admin('/api/events')).status, 503)
  await until(() => streams[0].events('stats').length > 0, SOON_MS, 'the state of the cluster')
  const [{ node, nodes, totals, self }] = streams[0].events('stats')
  assert.deepEqual([node, nodes.length, totals.clients, self.clients], ['a', 1, 0, 0])
  streams[0].socket.destroy()
  await until(() => {
    const peer = streams.at(-1).events('open').length === 1 ? stream(t, hub) : streams.at(-1)
    streams.push(peer)
    return until(() => peer.events('open').length === 1, 500, 'a place')
  }, SOON_MS, 'a place for another')
})

test('a stream that nobody reads loses messages, gets their number, and costs a bounded amount of memory', { timeout: 90_000 }, async (t) => {
  const { backend, hub } = await startOne(t)
  const browser = await Browser.open(t, hub.url(PAGE))
  await backend.one(UPSTREAM)
  const peer = stream(t, hub, `/api/events?session=${ID}`)
  await until(() => peer.events('open').length === 1, SOON_MS, 'the stream')
  backend.push(UPSTREAM, 'first')
  await until(() => peer.events('message').length === 1, SOON_MS, 'the first message')
  peer.socket.pause()
  const before = hub.rss()
  const big = 'x'.repeat(512 * 1024)
  for (let i = 0; i < 100; i++) {
    backend.push(UPSTREAM, `${i}${big}`)
    if (i % 10 === 9) await browser.got(i + 2, SOON_MS)
  }
  await browser.got(101, SOON_MS)
  // The history keeps all 100 in memory (50 MiB); a sanitizer's allocator keeps what was freed for a while as well.
  assert.ok(hub.rss() - before < 400 * 1024 * 1024, `${(hub.rss() - before) >> 20} MiB more`)
  peer.socket.resume()
  await until(() => {
    backend.push(UPSTREAM, 'again')
    return peer.events('dropped').length > 0
  }, SOON_MS, 'word of what was dropped')
  const [{ count }] = peer.events('dropped')
  const got = peer.events('message').map(({ offset }) => offset)
  const gap = got.findIndex((offset, i) => i > 0 && offset !== got[i - 1] + 1)
  assert.equal(got[gap] - got[gap - 1] - 1, count, 'the count is that of the hole')
})

test('what is no request at all is answered in JSON, too', async (t) => {
  const { hub } = await startOne(t)
  const cases = [['BREW /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n', 501], [`GET /healthz HTTP/1.1\r\n${HEAD}X: ${'a'.repeat(40_000)}\r\n\r\n`, 400],
    ['GET\r\n\r\n', 400], [`POST /api/publish HTTP/1.1\r\n${HEAD}Content-Type: application/json\r\nContent-Length: -1\r\n\r\n`, 400]]
  for (const [request, status] of cases) {
    const peer = rawSocket(t, hub.adminPort, request)
    await until(() => peer.closed, SOON_MS, 'the end')
    assert.match(peer.text(), new RegExp(`^HTTP/1.1 ${status} [^]*application/json[^]*\\{"error":"[^"]+"\\}$`), request.slice(0, 60))
  }
  const large = await post(hub, '/api/publish', 'x'.repeat(20 << 20))
  assert.equal(large.status, 413)
  assert.equal(typeof large.json().error, 'string')
})

test('HEAD is answered as GET, without the body', async (t) => {
  const { hub } = await startOne(t)
  for (const path of ['/healthz', '/readyz', '/api/nodes', '/', '/nope']) {
    const get = await hub.admin(path)
    const peer = rawSocket(t, hub.adminPort, `HEAD ${path} HTTP/1.1\r\n${HEAD}Connection: close\r\n\r\n`)
    await until(() => peer.closed, SOON_MS, 'the answer')
    const [head, body] = peer.text().split('\r\n\r\n')
    assert.match(head, new RegExp(`^HTTP/1.1 ${get.status} `), path)
    assert.equal(body, '', path)
    const length = Number(/^Content-Length: (\d+)$/mi.exec(head)[1])
    if (path !== '/api/nodes') assert.equal(length, get.body.length, path) // its numbers change
  }
})

test('with a token only health, readiness and the page are served without it', async (t) => {
  const { hub } = await startOne(t, { admin: { token: 'open-sesame' } })
  for (const path of ['/healthz', '/readyz', '/', '/console/console.js']) assert.equal((await hub.admin(path)).status, 200, path)
  const paths = ['/metrics', '/websocket-stats', '/api/nodes', '/api/sessions', `/api/sessions/${ID}`, '/api/events', '/api/nope', '/nope']
  for (const path of paths) {
    for (const method of ['GET', 'HEAD', 'POST', 'DELETE']) {
      const headers = { 'Content-Type': 'application/json' }
      assert.equal((await hub.admin(path, { method, headers })).status, 401, `${method} ${path}`)
    }
    const wrong = await hub.admin(path, { headers: { Authorization: 'Bearer open-sesam' } })
    assert.deepEqual([wrong.status, typeof wrong.json().error], [401, 'string'], path)
  }
  const headers = { Authorization: 'Bearer open-sesame' }
  assert.equal((await hub.admin('/nope', { headers })).status, 404)
  assert.equal((await hub.admin('/metrics', { headers, method: 'DELETE' })).status, 405)
  assert.equal((await hub.admin('/metrics', { headers: { ...headers, Host: 'anywhere.example' } })).status, 200, 'any Host will do')
})

test('publish takes text and base64, and refuses what is neither', async (t) => {
  const { backend, hub } = await startOne(t)
  const browser = await Browser.open(t, hub.url(PAGE))
  await backend.one(UPSTREAM)
  assert.deepEqual((await post(hub, '/api/publish', { session: ID, data: 'text ✓ \u0000' })).json().offset, 1)
  assert.deepEqual((await post(hub, '/api/publish', { session: ID, data_base64: 'AP8B' })).json().offset, 2)
  assert.deepEqual((await post(hub, '/api/publish', { session: ID, data: '' })).json().offset, 3)
  assert.deepEqual((await post(hub, '/api/publish', { session: ID, data_base64: '' })).json().offset, 4)
  await browser.got(4)
  assert.deepEqual(browser.received.map(({ data, binary }) => [data.toString('hex'), binary]),
    [[Buffer.from('text ✓ \u0000').toString('hex'), false], ['00ff01', true], ['', false], ['', true]])
  for (const body of ['', '[]', '{"session":1,"data":"x"}', { session: ID }, { session: ID, data: 1 }, { session: ID, data: 'x', data_base64: '' },
    { session: ID, data_base64: 'A' }, { session: ID, data_base64: 'AP9=' }, { session: ID, data_base64: 'A=BC' }, '{"session":"a:b","data":"x"']) {
    assert.equal((await post(hub, '/api/publish', body)).status, 400, JSON.stringify(body))
  }
})

test('a session id goes into a path encoded once more, or as it is', async (t) => {
  const { backend, hub } = await startOne(t)
  await Browser.open(t, hub.url('/ws?remoteWs&k=a,b&c=d'))
  await until(() => backend.upstreams.size === 1, SOON_MS, 'the upstream')
  const { sessions: [{ id }] } = await hub.json('/api/sessions')
  assert.match(id, /^remoteWs:\/ws\?.*%[0-9A-F]{2}/, 'an id with a slash and an escape in it')
  assert.equal((await hub.json(`/api/sessions/${encodeURIComponent(id)}`)).id, id)
  assert.equal((await hub.json(`/api/sessions/${id}`)).id, id)
  for (const part of [encodeURIComponent(id), id]) assert.equal((await post(hub, `/api/sessions/${part}/close`, {})).status, 200)
})

test('sessions are filtered by a part of their id, its beginning, service, owner and state', async (t) => {
  const [redis, backend] = await Promise.all([RedisServer.start(t), Backend.start(t)])
  const settings = { node: { lease: '1s' }, services: [service(backend), { ...service(backend), name: 'other' }] }
  const hubs = await startCluster(t, { redis, nodes: 2, settings })
  const vins = Array.from({ length: 30 }, (_, n) => `LSV${String(n).padStart(3, '0')}`)
  await Promise.all(vins.map((vin, n) => Browser.open(t, hubs[n % 2].url(`/admin/${vin}?${n % 3 ? 'remoteWs' : 'other'}`))))
  const ids = async (query) => (await hubs[0].json(`/api/sessions?${query}`)).sessions.map(({ id }) => id)
  await until(async () => (await ids('state=connected')).length === 30, SOON_MS, 'all sessions')
  assert.deepEqual(await ids('q=v01'), ['other:LSV012', 'other:LSV015', 'other:LSV018', 'remoteWs:LSV010', 'remoteWs:LSV011', 'remoteWs:LSV013',
    'remoteWs:LSV014', 'remoteWs:LSV016', 'remoteWs:LSV017', 'remoteWs:LSV019'])
  assert.deepEqual((await ids('prefix=LSV02')).sort(), (await ids('q=LSV02')).sort())
  assert.deepEqual(await ids('prefix=SV'), [])
  assert.equal((await ids('service=other')).length, 10)
  assert.equal((await ids('service=oth')).length, 0)
  assert.equal((await ids('owner=b')).length, 15)
  assert.equal((await ids('owner=b&service=other&q=3')).length, (await ids('owner=b&service=other')).filter((id) => id.includes('3')).length)
  const page = await hubs[0].json('/api/sessions?service=remoteWs&limit=7')
  assert.deepEqual([page.sessions.length, page.next], [7, page.sessions[6].id])
})

test('a tail on a node that has no part in the session follows it and leaves it alone', async (t) => {
  const [redis, backend] = await Promise.all([RedisServer.start(t), Backend.start(t)])
  const [a, b] = await startCluster(t, { redis, nodes: 2, settings: { node: { lease: '1s' }, services: [service(backend, { linger: '1s' })] } })
  const browser = await Browser.open(t, a.url(PAGE))
  await backend.one(UPSTREAM)
  const peer = stream(t, b, `/api/events?session=${ID}`)
  await until(() => {
    backend.push(UPSTREAM, 'to be followed')
    return peer.events('message').length >= 3
  }, SOON_MS, 'messages on the other node')
  assert.equal((await b.json('/websocket-stats')).sessions, 0, 'it is no member')
  const late = await Browser.open(t, b.url(PAGE))
  const seen = () => peer.events('message').map(({ offset }) => offset)
  const before = seen().length
  await until(() => {
    backend.push(UPSTREAM, 'to both')
    return late.received.length >= 3 && seen().length >= before + 3
  }, SOON_MS, 'messages once it is a member')
  await late.close()
  await until(async () => (await b.json('/websocket-stats')).sessions === 0, SOON_MS, 'the session to have left the node')
  const then = seen().length
  await until(() => {
    backend.push(UPSTREAM, 'after it')
    return seen().length >= then + 3
  }, SOON_MS, 'messages after it has left')
  seen().forEach((offset, i, all) => assert.ok(i === 0 || offset > all[i - 1], 'in order, none twice'))
  await browser.close()
  await until(() => backend.upstreams.size === 0, SOON_MS, 'the upstream to end though it is followed')
})

test('a tail begins with what is kept, on any node, and goes on without a hole', async (t) => {
  const [redis, backend] = await Promise.all([RedisServer.start(t), Backend.start(t)])
  const hubs = await startCluster(t, { redis, nodes: 2, settings: { node: { lease: '1s' }, services: [service(backend)] } })
  const browser = await Browser.open(t, hubs[0].url(PAGE))
  await backend.one(UPSTREAM)
  for (let i = 1; i <= 40; i++) backend.push(UPSTREAM, `push ${i}`)
  await browser.got(40)
  await until(async () => (await hubs[1].json(`/api/sessions/${ID}`)).offset === 40, SOON_MS, 'the record to say so')
  const peers = hubs.map((hub) => stream(t, hub, `/api/events?session=${ID}&history=10`))
  let pushed = 40
  for (const peer of peers) {
    await until(() => {
      backend.push(UPSTREAM, `push ${++pushed}`)
      return peer.events('message').length >= 30
    }, SOON_MS, 'the past and the present')
    const messages = peer.events('message')
    assert.ok(messages[0].offset >= 31 && messages[0].offset <= 40, `begins at ${messages[0].offset}`)
    messages.forEach(({ offset, payload }, i) => assert.deepEqual([offset, payload], [messages[0].offset + i, `push ${offset}`]))
  }
})

test('SIGHUP applies a good file and logs what changed; a bad file changes nothing', async (t) => {
  const { hub } = await startOne(t)
  const text = readFileSync(hub.file, 'utf8')
  const said = (pattern) => until(() => hub.lines.some((line) => pattern.test(line)), SOON_MS, `a line like ${pattern}`)
  writeFileSync(hub.file, `${text}\nlog: {level: loud}\n`)
  hub.child.signal('SIGHUP')
  await said(/error reload_refused .*log\.level/)
  writeFileSync(hub.file, `${text}\nclients: {max: 7}\n`)
  hub.child.signal('SIGHUP')
  await said(/reload_change .*clients\.max.*7/)
  await said(/ reloaded /)
  assert.equal((await hub.admin('/readyz')).status, 200)
})

test('a second SIGTERM ends a drain at once', async (t) => {
  const { backend, hub } = await startOne(t, { node: { drain: '1h' } })
  const browser = await Browser.open(t, hub.url(PAGE))
  await backend.one(UPSTREAM)
  hub.mayEnd = true
  hub.child.signal('SIGTERM')
  await until(async () => (await hub.admin('/readyz')).status === 503, SOON_MS, 'the drain')
  assert.equal(browser.end, null, 'clients are let go slowly')
  const { code } = await hub.child.stop('SIGTERM', SOON_MS)
  assert.equal(code, 0)
})
