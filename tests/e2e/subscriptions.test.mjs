// Contract section 6, "Subscriptions": many sessions on one connection, in both encodings.
import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Backend } from '../lib/backend.mjs'
import { Browser } from '../lib/browser.mjs'
import { runVinhub, scratch, service, startCluster, startHub } from '../lib/hub.mjs'
import { RedisServer } from '../lib/redis.mjs'
import { test } from '../lib/runner.mjs'
import { Subscriber } from '../lib/subscriber.mjs'
import { inSeconds, token } from '../lib/tokens.mjs'
import { until } from '../lib/until.mjs'
import { handshake } from '../lib/net.mjs'

const url = (vin) => `/admin/${vin}?remoteWs`
const upstream = (vin) => `/base/admin/${vin}`
const SESSION = (vin) => `remoteWs:${vin}`

async function start(t, settings = {}) {
  const backend = await Backend.start(t)
  return { backend, hub: await startHub(t, { settings: { services: [service(backend)], ...settings } }) }
}

async function live(subscriber, backend, vins) {
  subscriber.subscribe(vins.map(url))
  await until(() => vins.every((vin) => subscriber.sessions.has(SESSION(vin))), 5000, 'each WELCOME')
  await Promise.all(vins.map((vin) => backend.one(upstream(vin))))
  const connected = (vin) => subscriber.find('STATUS', ({ session, payload }) => session === SESSION(vin) && payload.upstream === 'connected') ||
    subscriber.find('WELCOME', ({ payload }) => payload.session === SESSION(vin) && payload.upstream === 'connected')
  await until(() => vins.every(connected), 5000, 'each upstream')
}

for (const protocol of ['vinhub.v1', 'vinhub.v1.msgpack']) {
  test(`${protocol}: each url of a SUBSCRIBE is answered in its order, and its session's messages name it`, async (t) => {
    const { backend, hub } = await start(t)
    const page = await Subscriber.open(t, hub, { protocol })
    const id = page.subscribe([url('V1'), '/admin/V2?none', 'V3', url('V1'), url('V2'), '/admin?subscribe'])
    await until(() => page.told.length >= 7, 5000, 'all answers')
    const answers = page.told.filter(({ type }) => type !== 'STATUS').slice(1)
    assert.deepEqual(answers.map((event) => event.payload.code ?? event.url),
      [url('V1'), 'unknown_service', 'malformed_url', 'subscribed', url('V2'), 'unknown_service'])
    assert.deepEqual(answers.map((event) => event.id ?? event.payload.id), Array(6).fill(id))
    assert.deepEqual(answers.map((event) => event.url ?? event.payload.url),
      [url('V1'), '/admin/V2?none', 'V3', url('V1'), url('V2'), '/admin?subscribe'])
    for (const vin of ['V1', 'V2']) (await backend.one(upstream(vin))).socket.send(`of ${vin}`)
    await until(() => ['V1', 'V2'].every((vin) => page.sessions.get(SESSION(vin)).texts.includes(`of ${vin}`)), 5000, 'both pushes')
    page.say({ type: 'SEND', id: 1, payload: 'to V2', session: SESSION('V2') })
    await until(() => page.find('ACK', ({ payload }) => payload.id === 1), 5000, 'ACK')
    assert.deepEqual(backend.messages.map(({ url: to, text }) => [to, text]), [[upstream('V2'), 'to V2']])
    page.say({ type: 'UNSUBSCRIBE', id: 8, sessions: [SESSION('V2'), SESSION('V9')] })
    const closed = await until(() => page.find('CLOSED'), 5000, 'CLOSED')
    assert.deepEqual({ ...closed.payload, reason: '' }, { id: 8, session: SESSION('V2'), code: 1000, reason: '' })
    const refused = await until(() => page.find('ERROR', ({ payload }) => payload.code === 'not_subscribed'), 5000, 'ERROR')
    assert.equal(refused.payload.id, 8)
    await until(() => backend.open(upstream('V2')).length === 0, 10_000, 'its upstream to be closed')
    assert.equal(page.browser.end, null)
  })
}

test('?subscribe is for clients of vinhub.v1, and stands alone', async (t) => {
  const { hub } = await start(t, { default_service: 'remoteWs' })
  const status = async (path, protocol) => (await handshake(hub.port, path, protocol ? { 'Sec-WebSocket-Protocol': protocol } : {})).status
  assert.equal(await status('/admin?subscribe'), 404)
  assert.equal(await status('/admin?subscribe', 'bearer'), 404)
  assert.equal(await status('/admin?subscribe', 'vinhub.v1'), 101)
  assert.equal(await status('/admin?subscribe=', 'vinhub.v1.msgpack'), 101)
  assert.equal(await status('/admin?subscribe&remoteWs', 'vinhub.v1'), 400)
  assert.equal(await status('/admin/V1?subscribe', 'vinhub.v1'), 400)
  assert.equal(await status('/admin/V1?remoteWs&subscribe'), 400)
})

test('a service that is named subscribe is a mistake', async (t) => {
  const file = join(scratch(t), 'vinhub.yaml')
  writeFileSync(file, 'services:\n  - name: subscribe\n    upstream: ws://127.0.0.1:1/x\n')
  const { code, err } = await runVinhub(['-c', file, '--check'])
  assert.equal(code, 2)
  assert.match(err, /vinhub\.yaml:2: services\.subscribe\.name: .*another name/)
})

test('a token counts for all sessions of a connection, and what a new one does not cover is closed', async (t) => {
  const key = 'k'.repeat(32)
  const backend = await Backend.start(t)
  const hub = await startHub(t, { settings: { services: [service(backend)], auth: { mode: 'jwt' } }, env: { VINHUB_JWT_SECRET: key } })
  const pass = (vins) => token({ sub: 'admin', exp: inSeconds(60), vins }, { key })
  const page = await Subscriber.open(t, hub, { path: `/admin?subscribe&token=${pass(['V*'])}` })
  page.subscribe([url('V1'), url('V2'), url('W1'), '/other/V3?remoteWs', `${url('V3')}&token=x`])
  await until(() => page.told.filter(({ type }) => type !== 'STATUS').length >= 6, 5000, 'all answers')
  assert.deepEqual(page.all('ERROR').map(({ payload }) => [payload.code, payload.url]),
    [['unauthorized', url('W1')], ['unauthorized', '/other/V3?remoteWs']])
  assert.deepEqual([...page.sessions.keys()], ['V1', 'V2', 'V3'].map(SESSION))
  await backend.one(upstream('V3')) // the token in its url went nowhere
  page.say({ type: 'REFRESH', id: 5, token: pass(['V1', 'V3']) })
  const closed = await until(() => page.find('CLOSED'), 5000, 'CLOSED')
  assert.equal(closed.payload.code, 4001)
  assert.equal(closed.payload.session, SESSION('V2'))
  assert.equal(closed.payload.id, undefined)
  assert.equal(page.find('ACK').payload.id, 5)
  page.forget()
  page.subscribe([url('V2')])
  assert.equal((await until(() => page.find('ERROR'), 5000, 'ERROR')).payload.code, 'unauthorized')
  assert.equal(page.browser.end, null)
})

test('max_subscriptions is reloaded, and full opens nothing', async (t) => {
  const { backend, hub } = await start(t, { clients: { max_subscriptions: 2 } })
  const page = await Subscriber.open(t, hub)
  page.subscribe(['V1', 'V2', 'V3'].map(url))
  assert.equal((await until(() => page.find('ERROR'), 5000, 'ERROR')).payload.code, 'full')
  await live(page, backend, [])
  assert.equal(await hub.metric('vinhub_subscriptions'), 2)
  assert.equal(await hub.metric('vinhub_refused_total', 'reason="full"'), 1)
  assert.equal(backend.upgrades.filter(({ url: path }) => path === upstream('V3')).length, 0)
  const { readFileSync } = await import('node:fs')
  writeFileSync(hub.file, readFileSync(hub.file, 'utf8').replace('max_subscriptions: 2', 'max_subscriptions: 3'))
  hub.child.signal('SIGHUP')
  await until(() => hub.lines.some((line) => line.includes('max_subscriptions')), 5000, 'the reload')
  page.subscribe([url('V3')])
  await until(() => page.sessions.has(SESSION('V3')), 5000, 'WELCOME')
})

test('an operator closes one session of many, on whichever node', async (t) => {
  const backend = await Backend.start(t)
  const redis = await RedisServer.start(t)
  const hubs = await startCluster(t, { nodes: 2, redis, settings: { services: [service(backend)] } })
  const page = await Subscriber.open(t, hubs[0])
  await live(page, backend, ['V1', 'V2'])
  const answer = await hubs[1].admin(`/api/sessions/${encodeURIComponent(SESSION('V2'))}/close`, {
    method: 'POST', headers: { 'Content-Type': 'application/json' }, body: '{}' })
  assert.equal(answer.status, 200)
  const closed = await until(() => page.find('CLOSED'), 5000, 'CLOSED')
  assert.deepEqual([closed.payload.session, closed.payload.code], [SESSION('V2'), 4006])
  backend.open(upstream('V1'))[0].socket.send('still there')
  await until(() => page.sessions.get(SESSION('V1')).texts.includes('still there'), 5000, 'a push of the other')
})

test('a client id holds for all sessions of its connection, on every node', async (t) => {
  const backend = await Backend.start(t)
  const redis = await RedisServer.start(t)
  const hubs = await startCluster(t, { nodes: 2, redis, settings: { services: [service(backend)] } })
  const older = await Subscriber.open(t, hubs[0])
  await live(older, backend, ['V1', 'V2'])
  older.say({ type: 'SEND', id: 1, payload: 'one', session: SESSION('V1') })
  older.say({ type: 'SEND', id: 2, payload: 'two', session: SESSION('V2') })
  await until(() => older.all('ACK').length === 2, 5000, 'ACKs')
  const later = new Subscriber(t, 'vinhub.v1.msgpack', '/u?subscribe')
  later.client = older.client
  await later.connect(hubs[1])
  later.subscribe(['V1', 'V2'].map(url))
  assert.equal((await older.browser.ended()).code, 4007)
  await until(() => later.sessions.size === 2, 5000, 'WELCOMEs')
  for (const [id, vin] of [[1, 'V1'], [2, 'V2'], [3, 'V1']]) later.say({ type: 'SEND', id, payload: `again ${id}`, session: SESSION(vin) })
  await until(() => later.all('ACK').length === 3, 5000, 'ACKs')
  assert.deepEqual(backend.messages.map(({ text }) => text), ['one', 'two', 'again 3'])
  assert.equal(later.browser.end, null)
})

test('10,000 requests in a second cost their sender its connection, and nobody else', async (t) => {
  const { backend, hub } = await start(t)
  const other = await Browser.open(t, hub.url(url('V0')))
  const page = await Subscriber.open(t, hub)
  const one = await backend.one(upstream('V0'))
  for (let id = 1; id <= 10_000; id++) {
    page.say(id % 2 ? { type: 'SUBSCRIBE', id, urls: [url('V1')] } : { type: 'UNSUBSCRIBE', id, sessions: [SESSION('V1')] })
  }
  one.socket.send('to the other')
  await until(() => other.texts().includes('to the other'), 2000, 'a push to the other')
  assert.equal((await page.browser.ended(20_000)).code, 4002)
  assert.equal(await hub.turnsOver(0.05), 0)
})

test('1,000 urls of 8 KiB that are refused are answered in portions', async (t) => {
  const { hub } = await start(t, { clients: { max_message: '16MiB' } })
  const page = await Subscriber.open(t, hub)
  const filler = 'x'.repeat(8000)
  page.subscribe(Array.from({ length: 1000 }, (_, index) => `/admin/V${index}?none&${filler}`))
  await until(() => page.all('ERROR').length === 1000, 20_000, 'all answers')
  assert.equal(page.browser.end, null)
  assert.equal(await hub.metric('vinhub_refused_total', 'reason="unknown_service"'), 1000)
})
