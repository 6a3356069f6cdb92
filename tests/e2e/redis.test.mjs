// Contract section 11 and the Redis rows of section 9: what people read in Redis is true at each step,
// and what a cluster does when Redis goes away.
import assert from 'node:assert/strict'
import { encode } from '@msgpack/msgpack'
import { test } from '../lib/runner.mjs'
import { Backend } from '../lib/backend.mjs'
import { Browser } from '../lib/browser.mjs'
import { service, SLACK_MS, startCluster, startHub } from '../lib/hub.mjs'
import { RedisServer } from '../lib/redis.mjs'
import { quiet, until } from '../lib/until.mjs'

const UPSTREAM = '/base/admin/VIN1'
const PAGE = '/admin/VIN1?remoteWs'
const SESSION = 'remoteWs:VIN1'
const RECORD = `vinhub:session:{${SESSION}}`
const LEASE_MS = 2000

async function start(t, { nodes = 2, settings = {}, services = {}, lease = LEASE_MS } = {}) {
  const [redis, backend] = await Promise.all([RedisServer.start(t), Backend.start(t)])
  const hubs = await startCluster(t, { redis, nodes, settings: {
    ...settings, node: { lease: `${lease}ms` }, services: [service(backend, { linger: '500ms', ...services })],
  } })
  return { redis, backend, hubs }
}

/** Polls a Redis hash until the given fields have the given values; returns the hash. */
async function untilHash(redis, key, fields, ms = LEASE_MS + 1000 + SLACK_MS) {
  let hash
  await until(async () => {
    hash = await redis.client.hgetall(key)
    return Object.entries(fields).every(([name, value]) => hash[name] === String(value))
  }, ms, () => `${key} with ${JSON.stringify(fields)} (is ${JSON.stringify(hash)})`)
  return hash
}

async function pushUntilSeen(backend, browser, text) {
  await until(() => { backend.push(UPSTREAM, text); return browser.texts().includes(text) }, 5000, `${text} at the browser`)
}

test('a node is listed with its lease and described, and a clean stop takes it out', async (t) => {
  const { redis, hubs: [a, b] } = await start(t)
  const { client } = redis
  assert.deepEqual((await client.zrange('vinhub:nodes', 0, -1)).sort(), ['a', 'b'])
  const score = Number(await client.zscore('vinhub:nodes', 'a'))
  assert.ok(Math.abs(score - Date.now()) < LEASE_MS, 'the score is the time of the renewal in ms')
  await until(async () => Number(await client.zscore('vinhub:nodes', 'a')) > score, LEASE_MS, 'a renewal')
  const node = await untilHash(redis, 'vinhub:node:a', { state: 'up', clients: 0, sessions: 0, upstreams: 0 })
  for (const field of ['host', 'pid', 'version', 'started', 'lease', 'listen', 'admin', 'state', 'clients', 'sessions',
    'upstreams', 'msgs_in', 'msgs_out', 'rss', 'loop_lag_ms']) assert.ok(node[field] !== undefined, `field ${field}: ${JSON.stringify(node)}`)
  assert.equal(node.pid, String(a.pid))
  assert.ok(node.listen.includes(String(a.port)) && node.admin.includes(String(a.adminPort)))
  const ttl = await client.pttl('vinhub:node:a')
  assert.ok(ttl > 0 && ttl <= LEASE_MS, `time to live ${ttl}`)
  await a.stop()
  assert.deepEqual(await client.zrange('vinhub:nodes', 0, -1), ['b'])
  assert.equal(await client.exists('vinhub:node:a'), 0)
  assert.equal((await b.admin('/readyz')).status, 200)
})

test('a killed node\'s description expires with the lease, others take it out after ten', async (t) => {
  const { redis, hubs: [a] } = await start(t, { lease: 1000 })
  await a.kill()
  await until(async () => await redis.client.exists('vinhub:node:a') === 0, 1000 + SLACK_MS, 'the description to expire')
  assert.notEqual(await redis.client.zscore('vinhub:nodes', 'a'), null, 'still listed')
  await until(async () => await redis.client.zscore('vinhub:nodes', 'a') === null, 10_000 + 2000 + SLACK_MS, 'it to be taken out')
})

test('a session\'s record is true from claim to release', async (t) => {
  const { redis, backend, hubs: [a, b] } = await start(t, { services: { reconnect: { min: '100ms', max: '400ms' } } })
  const { client } = redis
  const first = await Browser.open(t, a.url('/admin/VIN1?remoteWs&secret=42'))
  await backend.one(`${UPSTREAM}?secret=42`)
  const record = await untilHash(redis, RECORD, { owner: 'a', state: 'connected', clients: 1, members: 1 })
  assert.ok(Number(record.epoch) > 0)
  assert.ok(record.since !== undefined && record.offset !== undefined && record.reason !== undefined, JSON.stringify(record))
  assert.ok(record.upstream.includes(`127.0.0.1:${backend.port}/base/admin/VIN1`), record.upstream)
  assert.ok(!record.upstream.includes('42'), 'without query values')
  assert.notEqual(await client.zscore('vinhub:sessions', SESSION), null)
  const ttl = await client.ttl(RECORD)
  assert.ok(ttl > 20 * 60 && ttl <= 30 * 60, `time to live ${ttl}`)
  await untilHash(redis, 'vinhub:node:a', { clients: 1, sessions: 1, upstreams: 1 })

  const others = [await Browser.open(t, b.url(PAGE)), await Browser.open(t, b.url(PAGE))]
  await untilHash(redis, RECORD, { owner: 'a', clients: 3, members: 2, epoch: record.epoch })
  await untilHash(redis, 'vinhub:node:b', { clients: 2, sessions: 1, upstreams: 0 })

  await backend.kill()
  const down = await untilHash(redis, RECORD, { owner: 'a', state: 'waiting' })
  assert.ok(down.reason.length > 0, 'with the reason')
  await backend.restart()
  await untilHash(redis, RECORD, { owner: 'a', state: 'connected', epoch: record.epoch })

  await others[0].close()
  await untilHash(redis, RECORD, { clients: 2 })
  await others[1].close()
  await untilHash(redis, RECORD, { clients: 1, members: 1 })
  await first.close()
  const released = await untilHash(redis, RECORD, { owner: '' })
  assert.ok([...backend.upstreams].every(({ socket }) => socket.readyState !== socket.OPEN), 'the upstream is closed before the record is released')
  assert.equal(released.epoch, record.epoch, 'the epoch stays')
  assert.ok(await client.ttl(RECORD) > 0, 'the record expires')
  await untilHash(redis, 'vinhub:node:a', { clients: 0, sessions: 0, upstreams: 0 })

  await Browser.open(t, b.url(PAGE))
  const next = await untilHash(redis, RECORD, { owner: 'b', state: 'connected' })
  assert.ok(BigInt(next.epoch) > BigInt(record.epoch), 'a new owner has a higher epoch')
})

test('clients that come to a member node while it joins are counted as well', async (t) => {
  const { redis, backend, hubs: [a, b] } = await start(t, { lease: 6000 })
  await Browser.open(t, a.url(PAGE))
  await backend.one(UPSTREAM)
  const told = await redis.watch(t, 'vinhub:inbox:a')
  await a.whilePaused(async () => {
    await Browser.open(t, b.url(PAGE))
    await until(() => told(SESSION), 2000, 'the join to be under way')
    await Browser.open(t, b.url(PAGE))
  })
  await untilHash(redis, RECORD, { owner: 'a', clients: 3, members: 2 }, 6000 + SLACK_MS)
})

test('a session of a node that died alone is free after the lease', async (t) => {
  const { redis, backend, hubs: [a, b] } = await start(t)
  await Browser.open(t, a.url(PAGE))
  await backend.one(UPSTREAM)
  await untilHash(redis, RECORD, { owner: 'a' })
  await a.kill()
  const page = await Browser.open(t, b.url(PAGE))
  await until(() => backend.upgrades.length === 2 && backend.upstreams.size === 1, LEASE_MS + 1000 + SLACK_MS, 'a new upstream')
  await untilHash(redis, RECORD, { owner: 'b', state: 'connected' })
  await pushUntilSeen(backend, page, 'from the new owner')
})

test('the prefix is the configured one and nothing else is written', async (t) => {
  const { redis, backend, hubs: [a, b] } = await start(t, { settings: { redis: { prefix: 'cars' } } })
  const browsers = [await Browser.open(t, a.url(PAGE)), await Browser.open(t, b.url(PAGE))]
  await backend.one(UPSTREAM)
  await pushUntilSeen(backend, browsers[1], 'pushed')
  await until(async () => await redis.client.exists(`cars:session:{${SESSION}}`) === 1, 3000, 'the record')
  const keys = await redis.client.keys('*')
  const known = /^cars:(nodes|node:[ab]|sessions|(session|history):\{remoteWs:VIN1\})$/
  assert.deepEqual(keys.filter((key) => !known.test(key)), [])
  const channels = await redis.client.pubsub('CHANNELS', '*')
  for (const channel of [`cars:push:{${SESSION}}`, 'cars:inbox:a', 'cars:inbox:b']) assert.ok(channels.includes(channel), `${channel} in ${channels}`)
})

test('a push that only one node watches costs no Redis command', async (t) => {
  const { redis, backend, hubs: [a] } = await start(t, { services: { history: { size: 0 } } })
  const page = await Browser.open(t, a.url(PAGE))
  await backend.one(UPSTREAM)
  await untilHash(redis, RECORD, { state: 'connected', clients: 1 })
  await pushUntilSeen(backend, page, 'first')
  // For two leases the claim and the first client still cause commands.
  const window = 2 * LEASE_MS
  const spent = async (work) => {
    const before = await redis.commands()
    await quiet(work, window, 'the window to end early')
    return await redis.commands() - before
  }
  await spent(() => false)
  const idle = await spent(() => false)
  let pushes = 0
  page.received.length = 0
  const busy = await spent(() => { for (let n = 0; n < 5; n++) { backend.push(UPSTREAM, `push ${n}`); pushes++ } return false })
  await page.got(pushes)
  assert.ok(pushes > 200, `${pushes} pushes were made`)
  assert.ok(busy <= idle + 8, `${busy} commands with ${pushes} pushes, ${idle} idle`)
})

test('clusters in two databases of one server do not hear each other', async (t) => {
  const [redis, one, other] = await Promise.all([RedisServer.start(t), Backend.start(t), Backend.start(t)])
  const settings = (backend) => ({ node: { lease: `${LEASE_MS}ms` }, services: [service(backend)] })
  const [a] = await startCluster(t, { redis, nodes: 1, settings: settings(one) })
  const second = { url: redis.url.replace(/0$/, '1') }
  const [b, c] = await startCluster(t, { redis: second, nodes: 2, settings: settings(other) })
  const page = await Browser.open(t, a.url(PAGE))
  await one.one(UPSTREAM)
  const pages = [await Browser.open(t, b.url(PAGE)), await Browser.open(t, c.url(PAGE))]
  await other.one(UPSTREAM)
  for (const browser of pages) await pushUntilSeen(other, browser, 'of /1')
  await pushUntilSeen(one, page, 'of /0')
  assert.deepEqual(page.texts().filter((text) => text !== 'of /0'), [])
  for (const browser of pages) assert.deepEqual(browser.texts().filter((text) => text !== 'of /1'), [])
  assert.deepEqual([one.upgrades.length, other.upgrades.length], [1, 1])
  const channels = await redis.client.pubsub('CHANNELS', '*')
  for (const channel of [`vinhub:push:{${SESSION}}`, 'vinhub:inbox:a', `vinhub@1:push:{${SESSION}}`, 'vinhub@1:inbox:a', 'vinhub@1:inbox:b'])
    assert.ok(channels.includes(channel), `${channel} in ${channels}`)
})

/** Lines of a hub's log of that event. */
const logged = (hub, event) => hub.child.err.split('\n').filter((line) => line.includes(` ${event} `))

test('the missing right to one channel costs that session only, and its clients get the reason', async (t) => {
  const [redis, backend] = await Promise.all([RedisServer.start(t), Backend.start(t)])
  const rights = ['SETUSER', 'hub', 'on', '>pw', '~*', '+@all', 'resetchannels', '&vinhub:inbox:*', '&vinhub:push:{remoteWs:GOOD*']
  await redis.client.acl(...rights)
  const [a] = await startCluster(t, { redis: { url: redis.url.replace('//', '//hub:pw@') }, nodes: 1,
    settings: { node: { lease: `${LEASE_MS}ms` }, services: [service(backend)] } })
  const good = await Browser.open(t, a.url('/admin/GOOD1?remoteWs'))
  const bad = await Browser.open(t, a.url('/admin/BAD1?remoteWs'), { protocols: ['vinhub.v1'] })
  await until(() => bad.texts().some((text) => /"STATUS".*NOPERM/.test(text)), 5000, () => `the reason at the client: ${bad.texts()}`)
  await backend.one('/base/admin/GOOD1')
  await until(() => { backend.push('/base/admin/GOOD1', 'x'); return good.texts().includes('x') }, 5000, 'a push')
  assert.equal((await a.admin('/readyz')).status, 200)
  assert.equal(logged(a, 'redis_channel_refused').length, 1)
  assert.equal(logged(a, 'fenced').length, 0)
  await redis.client.acl('SETUSER', 'hub', '&vinhub:push:*')
  await backend.one('/base/admin/BAD1', 5000 + SLACK_MS)
  assert.deepEqual([good.end, bad.end], [null, null])
})

test('readyz, metrics and log say why a node is out of service; a cause that stays is logged once', async (t) => {
  const { redis, hubs: [a] } = await start(t, { nodes: 1 })
  const readyz = async () => (await a.admin('/readyz')).body
  const metric = async (name) => (await a.admin('/metrics')).body.split('\n').find((line) => line.startsWith(name))
  await until(async () => await metric('vinhub_bus_connected') === 'vinhub_bus_connected 1', 5000, 'Redis to be used')
  const lines = a.child.err.split('\n').length
  await redis.client.config('SET', 'min-replicas-to-write', '1')
  await until(async () => /the lease ran out.*NOREPLICAS Not enough good replicas/.test(await readyz()), LEASE_MS + 2000 + SLACK_MS, 'the cause in readyz')
  assert.equal(await metric('vinhub_bus_connected'), 'vinhub_bus_connected 0')
  assert.match(await metric('vinhub_out_of_service{'), /NOREPLICAS.* 1$/)
  await quiet(() => a.child.err.split('\n').length > lines + 8, 3000, 'line after line of one cause')
  assert.match(a.child.err, /NOREPLICAS/)
  await redis.client.config('SET', 'min-replicas-to-write', '0')
  await a.ready()
  await until(async () => await metric('vinhub_bus_connected') === 'vinhub_bus_connected 1', 5000, 'Redis to be used again')
})

test('a node id that is in use makes the later node exit 1', async (t) => {
  const { redis, backend, hubs: [a] } = await start(t, { nodes: 1 })
  const second = await startHub(t, { id: 'a', redis, ready: false, settings: { node: { lease: `${LEASE_MS}ms` }, services: [service(backend)] } })
  second.mayEnd = true
  await until(() => second.child.exit, 3 * LEASE_MS + SLACK_MS, 'the second node to end')
  assert.equal(second.child.exit.code, 1)
  assert.match(second.child.err, /node id a is in use/)
  assert.equal((await a.admin('/readyz')).status, 200)
})

test('a node under an id that was just killed waits until its old life has expired', async (t) => {
  const lease = 5000 // so that it is up again well before, on a busy machine, too
  const { hubs: [a] } = await start(t, { nodes: 1, lease })
  await a.kill()
  const killedAt = performance.now()
  a.relaunch()
  await until(async () => (await a.admin('/readyz')).status === 503, 3000, 'readyz to say 503')
  await a.ready(lease + 1000 + SLACK_MS)
  assert.ok(performance.now() - killedAt > lease / 2, 'it waited')
})

test('Redis killed and back empty within a lease: nothing closes, all records are back', async (t) => {
  const { redis, backend, hubs: [a, b] } = await start(t, { lease: 6000 })
  const browsers = [await Browser.open(t, a.url(PAGE)), await Browser.open(t, b.url(PAGE))]
  await backend.one(UPSTREAM)
  await pushUntilSeen(backend, browsers[1], 'before')
  const { epoch, owner } = await untilHash(redis, RECORD, { state: 'connected', members: 2 }, 8000)
  await redis.kill()
  backend.push(UPSTREAM, 'meanwhile')
  const own = browsers[owner === 'a' ? 0 : 1]
  await until(() => own.texts().includes('meanwhile'), 2000, 'the owner to serve its own clients')
  await redis.restart()
  await until(async () => (await redis.client.zcard('vinhub:nodes')) === 2, 6000 + SLACK_MS, 'both nodes to be listed')
  const record = await untilHash(redis, RECORD, { owner, state: 'connected' }, 6000 + 1000 + SLACK_MS)
  assert.ok(BigInt(record.epoch) >= BigInt(epoch), `the epoch does not go back: ${epoch} -> ${record.epoch}`)
  await pushUntilSeen(backend, browsers[1], 'after')
  await pushUntilSeen(backend, browsers[0], 'after')
  assert.equal(backend.upgrades.length, 1, 'the upstream stayed')
  assert.deepEqual(browsers.map(({ end }) => end), [null, null])
})

test('Redis away for longer than a lease: upstreams close in time, clients stay, all comes back', async (t) => {
  const { redis, backend, hubs: [a, b] } = await start(t)
  const browsers = [await Browser.open(t, a.url(PAGE)), await Browser.open(t, b.url(PAGE))]
  await backend.one(UPSTREAM)
  await pushUntilSeen(backend, browsers[1], 'before')
  await redis.kill()
  await until(() => backend.upstreams.size === 0, LEASE_MS + SLACK_MS, 'the upstream to close when the lease is over')
  for (const hub of [a, b]) await until(async () => (await hub.admin('/readyz')).status === 503, 2000, `${hub.id} not to be ready`)
  await quiet(() => backend.upstreams.size > 0, 1000, 'an upstream without a lease')
  await redis.restart()
  await Promise.all([a.ready(), b.ready()])
  await backend.one(UPSTREAM, 2 * LEASE_MS + 2000 + SLACK_MS)
  await pushUntilSeen(backend, browsers[0], 'after')
  await pushUntilSeen(backend, browsers[1], 'after')
  assert.equal(backend.peaks.get(UPSTREAM), 1)
  assert.deepEqual(browsers.map(({ end }) => end), [null, null])
})

test('what cannot be read on the bus is dropped and harms nobody', async (t) => {
  const { redis, backend, hubs: [a, b] } = await start(t)
  const browsers = [await Browser.open(t, a.url(PAGE)), await Browser.open(t, b.url(PAGE))]
  await backend.one(UPSTREAM)
  await pushUntilSeen(backend, browsers[1], 'before')
  const junk = ['', 'x', '\x90', Buffer.from([0x91, 0xff]), Buffer.from([0xdd, 0xff, 0xff, 0xff, 0xff]), Buffer.from([0xc1]), Buffer.alloc(100_000, 0x91)]
  for (const bytes of junk) {
    for (const channel of [`vinhub:push:{${SESSION}}`, 'vinhub:inbox:a', 'vinhub:inbox:b']) await redis.client.publish(channel, bytes)
  }
  await pushUntilSeen(backend, browsers[0], 'after')
  await pushUntilSeen(backend, browsers[1], 'after')
  assert.equal(backend.upgrades.length, 1)
})

/** A message of the bus, as common/envelope.h lays it out. */
function envelope(type, { node = '', number = 0, epoch = 0, offset = 0, items = [] }) {
  return Buffer.from(encode([1, type, SESSION, node, 0, number, epoch, offset, 0, 0, '', '', items]))
}

const JOINED = 4, GRANT = 20, PUSH = 21
const FAR = 2 ** 51
const lies = {
  'a publication far ahead': (owner, epoch) => [PUSH, { node: owner, epoch, items: [[0, FAR, 0, 1, 1, '', Buffer.from('never sent')]] }],
  'a publication of an epoch far ahead': (owner) => [PUSH, { node: owner, epoch: FAR, items: [[0, 7, 0, 1, 1, '', Buffer.from('never sent')]] }],
  'a text that is none': (owner, epoch) => [PUSH, { node: owner, epoch, items: [[0, 9, 0, 1, 1, '', Buffer.from([0xff, 0xfe])]] }],
  'a position far ahead': (owner, epoch) => [JOINED, { node: owner, number: FAR, epoch, offset: FAR }],
  'an epoch far ahead': (owner) => [JOINED, { node: owner, number: FAR, epoch: FAR, offset: 5 }],
  'an owner that there is not': () => [GRANT, { node: 'ghost', epoch: FAR }],
}

/** Pushes all the while, until the browser has one that was sent so long after this began. */
async function pushesGoOn(backend, browser, ms) {
  const from = performance.now()
  const since = () => Math.round(performance.now() - from)
  await until(() => { backend.push(UPSTREAM, `${since()} ms`); return browser.texts().some((text) => parseInt(text) >= ms) },
    ms + 5000, () => `a push of ${ms} ms later (the last: ${browser.texts().at(-1)})`)
}

/** The positions that a vinhub.v1 client got only grow, and none is skipped without a GAP. */
function assertAnnounced(browser) {
  let last = null
  let gaps = []
  for (const { type, payload, epoch, offset } of browser.texts().map((text) => JSON.parse(text))) {
    if (type === 'GAP') gaps.push(payload)
    if (type !== 'MESSAGE') continue
    if (last) {
      assert.ok(epoch > last.epoch || (epoch === last.epoch && offset > last.offset), `${epoch}.${offset} after ${last.epoch}.${last.offset}`)
      const isTold = gaps.some((gap) => gap.epoch === last.epoch && gap.from <= last.offset + 1 && (gap.to === 0 || gap.to >= offset - 1))
      if (epoch === last.epoch && offset > last.offset + 1) assert.ok(isTold, `${last.offset} to ${offset} without a gap: ${JSON.stringify(gaps)}`)
    }
    last = { epoch, offset }
    gaps = []
  }
  assert.ok(last, 'it had messages')
}

const HELD_MS = 1000 // longer than the hub waits for publications before a position far ahead

for (const [name, lie] of Object.entries(lies)) {
  for (const size of [0, 100]) {
    test(`a lie on the bus is got over: ${name}, ${size ? 'with' : 'without'} history`, async (t) => {
      const { redis, backend, hubs: [a, b] } = await start(t, { services: size ? { history: { size } } : {} })
      const browsers = [await Browser.open(t, a.url(PAGE)), await Browser.open(t, b.url(PAGE))]
      const watchers = await Promise.all([a, b].map((hub) => Browser.open(t, hub.url(PAGE), { protocols: ['vinhub.v1'] })))
      await backend.one(UPSTREAM)
      await pushUntilSeen(backend, browsers[1], 'before')
      await pushUntilSeen(backend, browsers[0], 'before')
      const { owner, epoch } = await redis.client.hgetall(RECORD)
      const [type, fields] = lie(owner, Number(epoch))
      const to = type === JOINED ? `vinhub:inbox:${owner === 'a' ? 'b' : 'a'}` : `vinhub:push:{${SESSION}}`
      assert.ok(await redis.client.publish(to, envelope(type, fields)) > 0, `somebody hears ${to}`)
      await Promise.all(browsers.map((browser) => pushesGoOn(backend, browser, HELD_MS)))
      assert.deepEqual([...browsers, ...watchers].map(({ end }) => end), [null, null, null, null])
      watchers.forEach(assertAnnounced)
      if (type !== GRANT) assert.equal(backend.upgrades.length, 1, 'the upstream stayed')
      assert.ok(backend.peaks.get(UPSTREAM) === 1)
    })
  }
}
