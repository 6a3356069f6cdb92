// Contract sections 1, 5 and 9 on three nodes and a real Redis: one upstream a vin wherever its browsers
// sit, pushes and commands across nodes, and the rows of the failure table.
import assert from 'node:assert/strict'
import { test } from '../lib/runner.mjs'
import { Backend } from '../lib/backend.mjs'
import { Browser } from '../lib/browser.mjs'
import { service, SLACK_MS, startCluster } from '../lib/hub.mjs'
import { startNginx } from '../lib/nginx.mjs'
import { RedisServer } from '../lib/redis.mjs'
import { each, quiet, until } from '../lib/until.mjs'

const UPSTREAM = '/base/admin/VIN1'
const PAGE = '/admin/VIN1?remoteWs'
const LEASE_MS = 2000
const range = (count) => Array.from({ length: count }, (_, n) => n)

async function start(t, { settings = {}, services = {}, ...options } = {}) {
  const [redis, backend] = await Promise.all([RedisServer.start(t), Backend.start(t)])
  const hubs = await startCluster(t, { redis, ...options, settings: {
    ...settings, node: { lease: `${LEASE_MS}ms`, ...settings.node }, services: [service(backend, services)],
  } })
  return { redis, backend, hubs }
}

/** `count` browsers of the page, spread over the hubs in turn. */
function openSpread(t, hubs, count, page = PAGE) {
  return Promise.all(range(count).map((n) => Browser.open(t, hubs[n % hubs.length].url(page))))
}

async function ownerOf(redis, hubs, session = 'remoteWs:VIN1') {
  const owner = await until(() => redis.client.hget(`vinhub:session:{${session}}`, 'owner'), 5000, `an owner of ${session}`)
  return hubs.find(({ id }) => id === owner)
}

/** Pushes marks until each browser has got one: all of them are joined. */
async function untilJoined(backend, browsers, upstream = UPSTREAM) {
  await backend.one(upstream)
  await until(() => {
    backend.push(upstream, 'mark')
    return browsers.every(({ received }) => received.length > 0)
  }, 10_000, 'all browsers to be joined')
  backend.push(upstream, 'start')
  await until(() => browsers.every((browser) => browser.received.at(-1).text === 'start'), 5000, 'the marks to be over')
  for (const browser of browsers) browser.received.length = 0
}

test('30 browsers of one vin on three nodes share one upstream; 1,000 pushes reach each once, in order', async (t) => {
  const { backend, hubs } = await start(t)
  const browsers = await openSpread(t, hubs, 30)
  await untilJoined(backend, browsers)
  const sent = range(1000).map((n) => `{"push":${n}}`)
  for (const text of sent) backend.push(UPSTREAM, text)
  await Promise.all(browsers.map((browser) => browser.got(1000, 15_000)))
  await quiet(() => browsers.some(({ received }) => received.length > 1000), 300, 'a push to come twice')
  for (const browser of browsers) assert.deepEqual(browser.texts(), sent)
  assert.equal(backend.upgrades.length, 1)
})

test('30 browsers on three nodes send 100 messages each: all arrive once, each browser\'s in its order', async (t) => {
  const { backend, hubs } = await start(t)
  const browsers = await openSpread(t, hubs, 30)
  await untilJoined(backend, browsers)
  for (let n = 0; n < 100; n++) browsers.forEach((browser, who) => browser.send(`${who}:${n}`))
  await until(() => backend.messages.length >= 3000, 15_000, () => `3,000 messages (have ${backend.messages.length})`)
  await quiet(() => backend.messages.length > 3000, 300, 'a message to come twice')
  for (let who = 0; who < 30; who++) {
    const mine = backend.texts().filter((text) => text.startsWith(`${who}:`))
    assert.deepEqual(mine, range(100).map((n) => `${who}:${n}`))
  }
})

test('text, binary, empty and 1 MiB messages cross nodes unchanged in both directions', async (t) => {
  const { backend, hubs, redis } = await start(t, { services: { slow_client: { queue: '8MiB' } } })
  const browsers = await openSpread(t, hubs, 3)
  await untilJoined(backend, browsers)
  const owner = await ownerOf(redis, hubs)
  const remote = browsers[(hubs.indexOf(owner) + 1) % 3]
  const messages = [['é漢🚗\0', false], ['', false], [Buffer.alloc(0), true], [Buffer.from([0, 255]), true],
    [Buffer.alloc(1024 * 1024, 0x5a), true], ['ping', true], ['last', false]].map(([data, binary]) => [Buffer.from(data), binary])
  // Pushes are heard before the owner has said that it takes messages; until then a large one finds no room behind others.
  remote.send('mark')
  await until(() => backend.messages.length === 1, 5000, 'the way back to be open')
  backend.messages.length = 0
  for (const [data, binary] of messages) {
    backend.push(UPSTREAM, data, { binary })
    remote.send(data, { binary })
  }
  await Promise.all(browsers.map((browser) => browser.got(messages.length, 10_000)))
  await until(() => backend.messages.length === messages.length, 10_000, () => `all messages (have ${backend.messages.length})`)
  for (const received of [...browsers.map((browser) => browser.received), backend.messages]) {
    messages.forEach(([data, binary], index) => {
      assert.equal(received[index].binary, binary, `opcode of message ${index}`)
      assert.ok(received[index].data.equals(data), `message ${index}`)
    })
  }
})

test('a large message behind a small one waits for a slow owner instead of closing the client', async (t) => {
  const { backend, hubs, redis } = await start(t, { settings: { node: { lease: '6s' } } })
  const browsers = await openSpread(t, hubs, 3)
  await untilJoined(backend, browsers)
  const owner = await ownerOf(redis, hubs)
  const remote = browsers[(hubs.indexOf(owner) + 1) % 3]
  const told = await redis.watch(t, `vinhub:inbox:${owner.id}`)
  await owner.whilePaused(async () => {
    remote.send('small')
    await until(() => told('small'), 2000, 'the small message on the bus')
    remote.send(Buffer.alloc(1024 * 1024))
    remote.send('last')
    await quiet(() => remote.end, 400, 'the client to be closed')
  })
  await until(() => backend.messages.length === 3, 5000, () => `three messages (have ${backend.messages.length}, end ${JSON.stringify(remote.end)})`)
  assert.deepEqual(backend.messages.map(({ data }) => data.length), [5, 1024 * 1024, 4])
  assert.equal(remote.end, null)
})

test('100 vins claimed on three nodes at the same moment get one upstream each', async (t) => {
  const { backend, hubs } = await start(t)
  const pages = range(100).flatMap((vin) => hubs.map((hub) => hub.url(`/admin/V${vin}?remoteWs`)))
  const browsers = await Promise.all(pages.map((url) => Browser.open(t, url)))
  await until(() => backend.upstreams.size === 100, 10_000, () => `100 upstreams (have ${backend.upstreams.size})`)
  await until(() => {
    range(100).forEach((vin) => backend.push(`/base/admin/V${vin}`, `for V${vin}`))
    return browsers.every(({ received }) => received.length > 0)
  }, 10_000, 'a push at each browser')
  assert.ok([...backend.peaks.values()].every((peak) => peak === 1), 'never two upstreams of one vin')
  browsers.forEach((browser, n) => {
    assert.deepEqual([...new Set(browser.texts())], [`for V${Math.floor(n / 3)}`], 'each browser gets its own vin only')
  })
})

test('a joining node causes no second upstream, and the last leaving client of all nodes closes it', async (t) => {
  const { backend, hubs } = await start(t, { services: { linger: '500ms' } })
  const [first] = await openSpread(t, hubs.slice(0, 1), 1)
  await backend.one(UPSTREAM)
  const later = await openSpread(t, hubs.slice(1), 2)
  await untilJoined(backend, [first, ...later])
  await first.close()
  await later[0].close()
  await quiet(() => backend.upstreams.size !== 1, 1200, 'the upstream to close while one node has a client')
  backend.push(UPSTREAM, 'still')
  await later[1].got(1)
  await later[1].close()
  await until(() => backend.upstreams.size === 0, 500 + 1000 + SLACK_MS, 'the upstream to close after linger')
  assert.equal(backend.upgrades.length, 1)
})

test('kill -9 of the owner: another member takes over within lease + 1 s, other nodes\' browsers stay', async (t) => {
  const { redis, backend, hubs } = await start(t)
  const browsers = await openSpread(t, hubs, 9)
  await untilJoined(backend, browsers)
  const owner = await ownerOf(redis, hubs)
  const epoch = BigInt(await redis.client.hget('vinhub:session:{remoteWs:VIN1}', 'epoch'))
  const survivors = browsers.filter((_, n) => hubs[n % 3] !== owner)
  await owner.kill()
  const killedAt = performance.now()
  await until(() => backend.upgrades.length === 2 && backend.upstreams.size === 1, LEASE_MS + 1000 + SLACK_MS, 'the take-over')
  t.explain(() => [`take-over after ${Math.round(backend.upgrades.at(-1).at - killedAt)} ms`])
  survivors[0].send('to the new owner')
  await until(() => backend.texts().includes('to the new owner'), 3000, 'a message through the new owner')
  for (const text of ['one', 'two']) backend.push(UPSTREAM, text)
  await Promise.all(survivors.map((browser) => browser.got(2)))
  for (const browser of survivors) {
    assert.deepEqual(browser.texts(), ['one', 'two'])
    assert.equal(browser.end, null)
  }
  assert.equal(backend.upgrades[1].url, UPSTREAM, 'the same upstream URL again')
  assert.equal(backend.peaks.get(UPSTREAM), 1)
  const record = await redis.client.hgetall('vinhub:session:{remoteWs:VIN1}')
  assert.notEqual(record.owner, owner.id)
  assert.ok(BigInt(record.epoch) > epoch, `the epoch grows: ${epoch} -> ${record.epoch}`)
})

test('kill -9 of a member that is not the owner changes nothing for the others', async (t) => {
  const { redis, backend, hubs } = await start(t)
  const browsers = await openSpread(t, hubs, 6)
  await untilJoined(backend, browsers)
  const owner = await ownerOf(redis, hubs)
  const victim = hubs.find((hub) => hub !== owner)
  const survivors = browsers.filter((_, n) => hubs[n % 3] !== victim)
  await victim.kill()
  await quiet(() => backend.upgrades.length > 1, LEASE_MS + 1000, 'a second upstream')
  backend.push(UPSTREAM, 'on')
  await Promise.all(survivors.map((browser) => browser.got(1)))
  for (const browser of survivors) await browser.close()
  await until(() => backend.upstreams.size === 0, 5000 + 2000 + SLACK_MS, 'the dead node\'s members not to hold the session')
})

test('SIGTERM of the owner: its clients get 1012, the vin goes on elsewhere, exit 0', async (t) => {
  const { redis, backend, hubs } = await start(t, { settings: { node: { drain: '1s' } } })
  const browsers = await openSpread(t, hubs, 6)
  await untilJoined(backend, browsers)
  const owner = await ownerOf(redis, hubs)
  const own = browsers.filter((_, n) => hubs[n % 3] === owner)
  const others = browsers.filter((_, n) => hubs[n % 3] !== owner)
  const took = await owner.stop(1000 + 3000 + SLACK_MS)
  for (const browser of own) assert.equal((await browser.ended()).code, 1012)
  assert.equal(await redis.client.zscore('vinhub:nodes', owner.id), null, 'a clean stop takes the node out of the list')
  await backend.one(UPSTREAM, LEASE_MS + 1000 + SLACK_MS)
  await until(() => { backend.push(UPSTREAM, 'after'); return others.every(({ received }) => received.length > 0) }, 3000, 'pushes to flow again')
  for (const browser of others) assert.equal(browser.end, null)
  t.explain(() => [`the stop took ${Math.round(took)} ms`])
})

test('backend killed for 5 s: no browser closes, all is back in reconnect.max + 1 s, what waited arrives in order', async (t) => {
  const { backend, hubs } = await start(t, { services: { reconnect: { min: '200ms', max: '2s', timeout: '2s' } } })
  const vins = range(40)
  const url = (vin) => `/base/admin/V${vin}`
  const browsers = await Promise.all(vins.flatMap((vin) => hubs.map((hub) => Browser.open(t, hub.url(`/admin/V${vin}?remoteWs`)))))
  await until(() => backend.upstreams.size === vins.length, 10_000, 'an upstream for each vin')
  await backend.kill()
  const killedAt = performance.now()
  browsers.forEach((browser, n) => range(5).forEach((k) => browser.send(`${n}:${k}`)))
  await quiet(() => browsers.some(({ end }) => end), 5000 - (performance.now() - killedAt), 'a browser to be closed')
  await backend.restart()
  const expected = browsers.length * 5
  await until(() => vins.every((vin) => backend.counts.get(url(vin)) === 1), 2000 + 1000 + SLACK_MS, 'all sessions to be back')
  await until(() => backend.messages.length === expected, 3000, () => `what waited (${backend.messages.length} of ${expected})`)
  browsers.forEach((browser, n) => {
    const mine = backend.texts().filter((text) => text.startsWith(`${n}:`))
    assert.deepEqual(mine, range(5).map((k) => `${n}:${k}`))
  })
  vins.forEach((vin) => backend.push(url(vin), `back ${vin}`))
  await Promise.all(browsers.map((browser) => browser.got(1)))
  assert.ok([...backend.peaks.values()].every((peak) => peak === 1))
  assert.ok(browsers.every(({ end }) => end === null))
})

test('through nginx the browsers spread over the nodes and share the upstream', async (t) => {
  const { backend, hubs } = await start(t)
  const nginx = await startNginx(t, hubs)
  const browsers = await Promise.all(range(12).map(() => Browser.open(t, nginx.url(PAGE))))
  await untilJoined(backend, browsers)
  for (const hub of hubs) assert.ok((await hub.json('/websocket-stats')).connections > 0, `browsers on ${hub.id}`)
  await each(browsers, 12, async (browser) => { browser.send('ping'); await browser.got(1) })
  assert.equal(backend.upgrades.length, 1)
})

test('a SEND that went upstream does not go again when its session was released, on whichever node the client comes back', async (t) => {
  const { backend, hubs, redis } = await start(t, { services: { linger: '100ms' } })
  const first = await Browser.open(t, hubs[0].url(PAGE), { protocols: ['vinhub.v1'] })
  await first.got(1)
  const { epoch, offset, client } = JSON.parse(first.texts()[0]).payload
  const send = async (browser) => {
    browser.send(JSON.stringify({ type: 'SEND', id: 1, payload: 'once' }))
    await until(() => browser.texts().some((text) => JSON.parse(text).type === 'ACK'), 5000, 'an ACK')
    await browser.close()
    await until(async () => await redis.client.hget('vinhub:session:{remoteWs:VIN1}', 'owner') === '', 5000, 'the session to be released')
  }
  await send(first)
  for (const hub of [hubs[1], hubs[2], hubs[0]]) {
    await send(await Browser.open(t, hub.url(`${PAGE}&resume=${epoch}.${offset}.${client}`), { protocols: ['vinhub.v1'] }))
  }
  assert.deepEqual(backend.texts(), ['once'])
  assert.equal(backend.upgrades.length, 4, 'each time over an upstream of its own')
})

test('a client closed with 1012 gets the time to reconnect, each another one', async (t) => {
  const { hubs: [a] } = await start(t)
  const pages = await Promise.all(Array.from({ length: 100 }, (_, n) => Browser.open(t, a.url(`/u${n}/VIN1?remoteWs`))))
  await a.stop()
  const ends = await Promise.all(pages.map((page) => page.ended()))
  const waits = ends.map(({ code, reason }) => {
    assert.equal(code, 1012)
    assert.match(reason, /^node restarts retry=\d+$/)
    return Number(reason.split('=')[1])
  })
  assert.ok(waits.every((wait) => wait <= 1000), `at once, or nearly: ${waits}`)
  assert.ok(new Set(waits).size > 50, `by chance: ${waits}`)
})
