// Who is connected, on all nodes (contract section 10): /api/clients and /api/clients/close.
import assert from 'node:assert/strict'
import { test } from '../lib/runner.mjs'
import { Backend } from '../lib/backend.mjs'
import { Browser } from '../lib/browser.mjs'
import { countedMs, mark } from '../lib/busy.mjs'
import { service, SLACK_MS, startCluster, startHub } from '../lib/hub.mjs'
import { RedisServer } from '../lib/redis.mjs'
import { until } from '../lib/until.mjs'

const BY_OPERATOR = { code: 4006, reason: 'closed by an operator' }

async function start(t, { nodes = 2, more = {} } = {}) {
  const [redis, backend] = await Promise.all([RedisServer.start(t), Backend.start(t)])
  const other = { ...service(backend), name: 'otherWs' }
  const settings = { node: { lease: '2s' }, services: [service(backend), other], ...more }
  return { redis, backend, hubs: await startCluster(t, { redis, nodes, settings }) }
}

const post = (hub, body, at = '/api/clients/close') => hub.admin(at, { method: 'POST', headers: { 'Content-Type': 'application/json' },
  body: JSON.stringify(body) })
const open = (t, hub, path, options) => Browser.open(t, hub.url(path), options)

async function list(hub, query = '') {
  const answer = await hub.admin(`/api/clients${query}`)
  assert.equal(answer.status, 200, answer.body)
  return answer.json()
}

async function close(hub, body) {
  const answer = await post(hub, body)
  assert.equal(answer.status, 200, answer.body)
  return answer.json()
}

const users = ({ clients }) => clients.map(({ user }) => user).sort().join()

test('a row has a client\'s user, node, address and counts in both directions', async (t) => {
  const { backend, hubs: [a, b] } = await start(t)
  const before = Date.now()
  const raw = await open(t, a, '/admin/VIN1?remoteWs')
  await backend.one('/base/admin/VIN1', 15_000) // of the first one, before another node may open it
  const v1 = await open(t, b, '/%C3%BC%20x/VIN1?remoteWs', { protocols: ['vinhub.v1'] })
  const nobody = await open(t, b, '/ws?remoteWs&vin=VIN2', { protocols: ['vinhub.v1.msgpack'] })
  raw.send('ping')
  raw.send('to the car')
  await raw.got(1)
  const welcome = await until(() => v1.received.map(({ text }) => JSON.parse(text)).find(({ type }) => type === 'WELCOME'), 5000, 'WELCOME')
  await until(() => backend.push('/base/admin/VIN1', 'p') || raw.received.length > 1, 5000, 'a push')
  const { clients, next, missing } = await list(a)
  assert.equal(next, null)
  assert.equal(missing, undefined)
  assert.equal(clients.length, 3)
  const [first, ...others] = clients
  assert.deepEqual(Object.keys(first).sort(), ['address', 'id', 'node', 'protocol', 'queued', 'received', 'sent', 'session', 'since',
    'subscriptions', 'user'])
  assert.deepEqual([first.user, first.node, first.session, first.address, first.protocol, first.received, first.queued, first.subscriptions],
    ['admin', 'a', 'remoteWs:VIN1', '127.0.0.1', 'raw', 2, 0, 0])
  assert.ok(first.since >= before - 2 && first.since <= Date.now() && first.sent >= 1 && first.id.length > 0, JSON.stringify(first))
  // It is computed from two clocks, but the same each time
  for (let n = 0; n < 20; n++) assert.equal((await list(a)).clients[0].since, first.since)
  const second = others.find(({ user }) => user === 'ü x')
  assert.equal(second.id, welcome.payload.client)
  assert.equal(second.protocol, 'vinhub.v1')
  const third = others.find(({ user }) => user === '')
  assert.deepEqual([third.node, third.session, third.protocol], ['b', 'remoteWs:VIN2', 'vinhub.v1.msgpack'])
  assert.equal(nobody.end, null)
  assert.equal(new Set(clients.map(({ id }) => id)).size, 3)
})

test('filters fit exactly, all of them, whichever node is asked', async (t) => {
  const { hubs } = await start(t)
  const [a, b] = hubs
  await open(t, a, '/u1/V1?remoteWs')
  await open(t, b, '/u1/V2?remoteWs')
  await open(t, b, '/u2/V1?otherWs')
  await open(t, b, '/u11/V11?remoteWs')
  for (const hub of hubs) {
    assert.equal(users(await list(hub, '?user=u1')), 'u1,u1')
    assert.equal(users(await list(hub, '?vin=V1')), 'u1,u2')
    assert.equal(users(await list(hub, '?service=remoteWs')), 'u1,u1,u11')
    assert.equal(users(await list(hub, '?service=remoteWs&vin=V1')), 'u1')
    assert.equal(users(await list(hub, '?session=otherWs:V1')), 'u2')
    assert.equal(users(await list(hub, '?node=a')), 'u1')
    assert.equal(users(await list(hub, '?node=b&user=u1&vin=V2&address=127.0.0.1')), 'u1')
    for (const none of ['user=u', 'user=U1', 'vin=V', 'service=remote', 'session=V1', 'node=c', 'address=127.0.0.2', 'address=::1', 'user=u1&vin=V11']) {
      assert.deepEqual(await list(hub, `?${none}`), { clients: [], next: null }, none)
    }
  }
  for (const query of ['usr=u1', 'user=', 'address=x', 'address=127.0.0.1:80', 'limit=0', 'limit=x', 'after=x', 'after=a:', 'after=:1', 'after=a:x',
    'user=u1&user=u2', 'user=u1%00x', `user=${'u'.repeat(1025)}`]) {
    assert.equal((await a.admin(`/api/clients?${query}`)).status, 400, query)
  }
  assert.equal((await post(a, {}, '/api/clients')).status, 405)
})

test('pages name each client once, in order, also while others come and go', async (t) => {
  const { hubs } = await start(t, { nodes: 3 })
  const stays = await Promise.all(Array.from({ length: 60 }, (_, n) => open(t, hubs[n % 3], `/s${n}/V${n % 7}?remoteWs`)))
  const come = []
  for (let n = 0; n < 30; n++) come.push(await open(t, hubs[n % 3], `/c${n}/V1?remoteWs`))
  for (const limit of [7, 20, 1000]) {
    const seen = []
    for (let after = '', pages = 0; after !== null; pages++) {
      const { clients, next } = await list(hubs[pages % 3], `?limit=${limit}${after && `&after=${encodeURIComponent(after)}`}`)
      assert.ok(clients.length <= limit && (next === null || clients.length === limit))
      seen.push(...clients)
      after = next
      const one = come.pop()
      if (one) await one.close()
      await open(t, hubs[pages % 3], `/n${limit}-${pages}/V1?remoteWs`)
    }
    const ids = seen.map(({ id }) => id)
    assert.equal(new Set(ids).size, ids.length, 'nobody twice')
    const there = new Set(seen.map(({ user }) => user))
    assert.ok(stays.every((_, n) => there.has(`s${n}`)), 'who is there throughout is named')
    assert.equal(seen.map(({ node }) => node).join(''), seen.map(({ node }) => node).sort().join(''))
  }
})

test('clients are closed on all nodes, those that are meant and nobody else', async (t) => {
  const { hubs: [a, b] } = await start(t)
  const browsers = {}
  for (const [name, hub, path] of [['one', a, '/u1/V1?remoteWs'], ['two', b, '/u1/V2?remoteWs'], ['three', b, '/u2/V1?remoteWs'],
    ['four', a, '/u2/V2?otherWs']]) browsers[name] = await open(t, hub, path)
  assert.deepEqual(await close(b, { user: 'u1', vin: 'V3' }), { closed: 0 })
  assert.deepEqual(await close(b, { user: 'u1', reason: 'stolen läptop' }), { closed: 2 })
  for (const name of ['one', 'two']) assert.deepEqual(await browsers[name].ended(), { code: 4006, reason: 'stolen läptop' })
  assert.deepEqual(await close(a, { service: 'remoteWs', vin: 'V1' }), { closed: 1 })
  assert.deepEqual(await browsers.three.ended(), BY_OPERATOR)
  assert.equal(browsers.four.end, null)
  assert.deepEqual(await close(b, { address: '127.0.0.1', node: 'a' }), { closed: 1 })
  assert.deepEqual(await browsers.four.ended(), BY_OPERATOR)
  await until(async () => (await list(a)).clients.length === 0, 5000, 'nobody to be there')
  const lines = b.lines.filter((line) => / audit .*action=close_clients address=127\.0\.0\.1/.test(line))
  assert.equal(lines.length, 3)
  assert.match(lines[1], /u1.*stolen/)
})

test('subscriptions count for vin, service and session, and closing by them closes the connection', async (t) => {
  const backend = await Backend.start(t)
  const hub = await startHub(t, { settings: { services: [service(backend)] } })
  const page = await open(t, hub, '/u?subscribe', { protocols: ['vinhub.v1'] })
  const other = await open(t, hub, '/w/V9?remoteWs')
  page.send(JSON.stringify({ type: 'SUBSCRIBE', id: 1, urls: ['/u/V2?remoteWs', '/u/V3?remoteWs'] }))
  await page.got(3)
  for (const query of ['vin=V2', 'session=remoteWs:V3', 'service=remoteWs&user=u', 'session=remoteWs:V2&vin=V2']) {
    const { clients } = await list(hub, `?${query}`)
    assert.deepEqual(clients.map(({ user, session, subscriptions }) => [user, session, subscriptions]), [['u', '', 2]], query)
  }
  assert.equal(users(await list(hub, '?service=remoteWs')), 'u,w')
  for (const query of ['vin=V4', 'session=remoteWs:V2&vin=V3']) assert.equal((await list(hub, `?${query}`)).clients.length, 0, 'one and the same session')
  assert.deepEqual(await close(hub, { vin: 'V3' }), { closed: 1 })
  assert.deepEqual(await page.ended(), BY_OPERATOR)
  assert.equal(other.end, null)
})

test('closing needs a filter, and refuses a malformed one', async (t) => {
  const backend = await Backend.start(t)
  const hub = await startHub(t, { settings: { services: [service(backend)] } })
  const browser = await open(t, hub, '/u1/V1?remoteWs')
  for (const body of [{}, { reason: 'x' }, { usr: 'u1' }, { user: 'u1', vim: 'V1' }, { user: 1 }, { user: '' }, { user: 'u1\u0000x' },
    { user: 'u1', reason: '' }, { user: 'u1', reason: 7 }, { user: 'u1', reason: 'x'.repeat(124) }, { address: 'localhost' }, ['user'], null]) {
    assert.equal((await post(hub, body)).status, 400, JSON.stringify(body))
  }
  assert.equal(browser.end, null)
  assert.deepEqual(await close(hub, { user: 'u1', reason: 'x'.repeat(123) }), { closed: 1 })
  assert.equal((await browser.ended()).reason.length, 123)
})

test('a filter that is not UTF-8 is 400 on each node of a cluster, in each encoding of it', async (t) => {
  const { hubs: [a, b] } = await start(t, { nodes: 2 })
  for (const hub of [a, b]) {
    for (const query of ['user=%ff', 'vin=V1&user=%C3', 'session=remoteWs:%ED%A0%80', 'node=a%80', 'user=%FF%FE&limit=1']) {
      assert.equal((await hub.admin(`/api/clients?${query}`)).status, 400, query)
    }
    assert.equal((await hub.admin('/api/clients?user=%C3%A4')).status, 200)
    assert.equal((await hub.admin('/readyz')).status, 200)
  }
})

test('a node that does not answer is named, and nothing waits for it', async (t) => {
  const { hubs: [a, b, c] } = await start(t, { nodes: 3 })
  await open(t, a, '/u1/V1?remoteWs')
  const far = await open(t, c, '/u1/V1?remoteWs')
  await b.whilePaused(async () => {
    const began = mark()
    const { clients, missing } = await list(a)
    assert.deepEqual(missing, ['b'])
    assert.equal(clients.length, 2)
    assert.ok(countedMs(began) < 1000 + SLACK_MS)
    assert.deepEqual(await list(a, '?node=c').then(({ clients: rows, missing: none }) => [rows.length, none]), [1, undefined])
  })
  assert.equal(far.end, null)
})

test('one user among thousands is closed at once, and listing shows the rest', async (t) => {
  const backend = await Backend.start(t)
  const hub = await startHub(t, { settings: { services: [service(backend)] } })
  const crowd = []
  for (let n = 0; n < 3000; n += 100) {
    crowd.push(...await Promise.all(Array.from({ length: 100 }, (_, k) => open(t, hub, `/many/V${(n + k) % 5}?remoteWs`))))
  }
  const victims = await Promise.all([1, 2].map(() => open(t, hub, '/victim/V1?remoteWs')))
  const began = mark()
  assert.deepEqual(await close(hub, { user: 'victim' }), { closed: 2 })
  for (const victim of victims) assert.deepEqual(await victim.ended(), BY_OPERATOR)
  assert.ok(countedMs(began) < 200 + SLACK_MS)
  assert.ok(crowd.every(({ end }) => end === null))
  // more than one turn finds, by a user and by a vin
  assert.deepEqual(await close(hub, { user: 'many', vin: 'V2' }), { closed: 600 })
  const { clients, next } = await list(hub, '?user=many&limit=1000')
  assert.equal(clients.length, 1000)
  assert.ok(next)
  assert.ok(clients.every(({ session }) => session !== 'remoteWs:V2'))
  assert.deepEqual(await close(hub, { address: '127.0.0.1' }), { closed: 2400 })
  await until(() => crowd.every(({ end }) => end?.code === 4006), 10_000, 'all to be closed')
})
