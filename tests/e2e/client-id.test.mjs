// Contract sections 6 and 7: a client id belongs to the connection that came last with it; an older one is closed
// with 4007, on whichever node, and nothing is acknowledged that did not go upstream.
import assert from 'node:assert/strict'
import { test } from '../lib/runner.mjs'
import { Backend } from '../lib/backend.mjs'
import { Browser } from '../lib/browser.mjs'
import { service, startCluster, startHub } from '../lib/hub.mjs'
import { RedisServer } from '../lib/redis.mjs'
import { quiet, until } from '../lib/until.mjs'

const PAGE = '/admin/VIN1?remoteWs'
const UPSTREAM = '/base/admin/VIN1'

const events = (browser, type) => browser.texts().map((text) => JSON.parse(text)).filter((event) => event.type === type)
const acked = (browser) => events(browser, 'ACK').map(({ payload }) => payload.id)
const send = (browser, id, payload) => browser.send(JSON.stringify({ type: 'SEND', id, payload, encoding: 'text' }))

async function welcome(t, hub, client, path = PAGE) {
  const browser = await Browser.open(t, hub.url(client ? `${path}&resume=0.0.${client}` : path), { protocols: ['vinhub.v1'] })
  const { payload } = await until(() => events(browser, 'WELCOME')[0], 5000, 'WELCOME')
  return { browser, client: payload.client }
}

async function startNodes(t, count) {
  const backend = await Backend.start(t)
  const settings = { services: [service(backend)] }
  if (count === 1) return { backend, hubs: [await startHub(t, { settings })] }
  const redis = await RedisServer.start(t)
  return { backend, hubs: await startCluster(t, { redis, count, settings }) }
}

const PLACES = [
  ['on the same node', 1, 0, 0],
  ['from the owner to another node', 2, 0, 1],
  ['from another node to the owner', 2, 1, 0],
  ['between nodes that are not the owner', 3, 1, 2],
]

for (const [where, count, from, to] of PLACES) {
  test(`a client id that comes again closes the older connection with 4007: ${where}`, async (t) => {
    const { backend, hubs } = await startNodes(t, count)
    const watcher = await welcome(t, hubs[0])
    await backend.one(UPSTREAM)
    const older = await welcome(t, hubs[from])
    send(older.browser, 1, 'first of the older one')
    await until(() => acked(older.browser).includes(1), 5000, 'its ACK')
    const later = await welcome(t, hubs[to], older.client)
    assert.equal(later.client, older.client)
    const end = await older.browser.ended()
    assert.equal(end.code, 4007)
    assert.match(end.reason, /another connection/)
    send(later.browser, 1, 'first of the older one')
    send(later.browser, 2, 'second, of the later one')
    await until(() => acked(later.browser).length === 2, 5000, 'its ACKs')
    assert.deepEqual(backend.texts(), ['first of the older one', 'second, of the later one'])
    await quiet(() => later.browser.end !== null || watcher.browser.end !== null, 1500, 'another close')
  })
}

// The owner decides by the order in which it learns of them: each connects when the one before has taken over.
test('of many connections that come with one client id, one after the other, the last one stays', async (t) => {
  const { backend, hubs } = await startNodes(t, 2)
  let last = await welcome(t, hubs[0])
  await backend.one(UPSTREAM)
  for (let n = 1; n <= 6; n++) {
    const before = last
    last = await welcome(t, hubs[n % 2], before.client)
    assert.equal((await before.browser.ended()).code, 4007)
  }
  await quiet(() => last.browser.end !== null, 1500, 'the last one to be closed')
})

test('the same client id in another session is another client', async (t) => {
  const { hubs } = await startNodes(t, 1)
  const one = await welcome(t, hubs[0])
  const other = await welcome(t, hubs[0], one.client, '/admin/VIN2?remoteWs')
  await quiet(() => one.browser.end !== null || other.browser.end !== null, 500, 'a close')
})

test('what the older connection had queued and nobody sent is not taken for the later one\'s', async (t) => {
  const { backend, hubs } = await startNodes(t, 1)
  backend.handshake = 503
  const older = await welcome(t, hubs[0])
  send(older.browser, 1, 'of the older one')
  await until(() => backend.upgrades.length > 0, 5000, 'a try')
  const later = await welcome(t, hubs[0], older.client)
  assert.equal((await older.browser.ended()).code, 4007)
  send(later.browser, 1, 'of the later one')
  backend.handshake = 'accept'
  await until(() => acked(later.browser).includes(1), 15_000, 'its ACK')
  assert.deepEqual(backend.texts(), ['of the later one'])
})
