// Contract section 6: `ttl` of a SEND and `replay` of protocol clients, through the nodes of a cluster.
import assert from 'node:assert/strict'
import { Backend } from '../lib/backend.mjs'
import { Browser } from '../lib/browser.mjs'
import { service, startCluster } from '../lib/hub.mjs'
import { RedisServer } from '../lib/redis.mjs'
import { test } from '../lib/runner.mjs'
import { quiet, until } from '../lib/until.mjs'

const PAGE = '/admin/V1?remoteWs'
const UPSTREAM = '/base/admin/V1'

const events = (browser, type) => browser.texts().map((text) => JSON.parse(text)).filter((event) => event.type === type)

async function join(t, hub, parameters = '') {
  const browser = await Browser.open(t, hub.url(PAGE + parameters), { protocols: ['vinhub.v1'] })
  const { payload } = await until(() => events(browser, 'WELCOME')[0], 5000, 'WELCOME')
  return Object.assign(browser, { welcome: payload })
}

const send = (browser, id, payload, ttl) => browser.send(JSON.stringify({ type: 'SEND', id, payload, ...(ttl ? { ttl } : {}) }))
const expired = (browser) => events(browser, 'ERROR').filter(({ payload }) => payload.code === 'expired').map(({ payload }) => payload.id)
const acked = (browser) => events(browser, 'ACK').map(({ payload }) => payload.id)

async function start(t, nodes) {
  const backend = await Backend.start(t)
  const redis = await RedisServer.start(t)
  return { backend, hubs: await startCluster(t, { nodes, redis, settings: { services: [service(backend)] } }) }
}

test('a SEND that did not go upstream within its ttl never does, nor does its repeat on another node', async (t) => {
  const { backend, hubs } = await start(t, 3)
  const owner = await join(t, hubs[0])
  await backend.one(UPSTREAM)
  const page = await join(t, hubs[1])
  backend.handshake = 503
  for (const { socket } of backend.open(UPSTREAM)) socket.terminate()
  await until(() => events(page, 'STATUS').some(({ payload }) => payload.upstream !== 'connected'), 5000, 'the upstream to be away')
  send(page, 1, 'too late', 300)
  send(page, 2, 'in time', 60_000)
  await until(() => expired(page).includes(1), 5000, 'ERROR expired')
  const again = await join(t, hubs[2], `&resume=0.0.${page.welcome.client}`)
  send(again, 1, 'too late', 300)
  await until(() => expired(again).includes(1), 5000, 'the same answer to its repeat')
  backend.handshake = 'accept'
  await backend.one(UPSTREAM, 20_000)
  send(again, 2, 'in time', 60_000)
  send(again, 1, 'too late')
  send(again, 3, 'last')
  await until(() => acked(again).includes(3), 10_000, 'ACK')
  assert.ok(expired(again).filter((id) => id === 1).length >= 2)
  await quiet(() => backend.messages.some(({ text }) => text === 'too late'), 500, 'what has expired to go upstream')
  assert.deepEqual(backend.messages.map(({ text }) => text), ['in time', 'last'])
  assert.equal(owner.end, null)
})

for (const where of [0, 1]) {
  test(`replay=N gives the last N that are kept first, ${where ? 'on another node' : 'on the node of the owner'}`, async (t) => {
    const { backend, hubs } = await start(t, 2)
    await join(t, hubs[0])
    const { socket } = await backend.one(UPSTREAM)
    const watcher = await join(t, hubs[1])
    for (let number = 1; number <= 6; number++) socket.send(`push ${number}`)
    await until(() => events(watcher, 'MESSAGE').length === 6, 5000, 'all pushes')
    const page = await join(t, hubs[where], '&replay=3')
    socket.send('push 7')
    await until(() => events(page, 'MESSAGE').some(({ payload }) => payload === 'push 7'), 5000, 'the live push')
    assert.deepEqual(events(page, 'MESSAGE').map(({ payload }) => payload), [4, 5, 6, 7].map((number) => `push ${number}`))
    assert.equal(page.welcome.offset, 3)
    assert.equal(page.welcome.resumed, false)
    assert.deepEqual(events(page, 'GAP'), [])
  })
}

test('replay gives what a former epoch left, while the backend is away', { timeout: 90_000 }, async (t) => {
  const { backend, hubs } = await start(t, 2)
  const first = await join(t, hubs[0])
  const { socket } = await backend.one(UPSTREAM)
  for (let number = 1; number <= 4; number++) socket.send(`push ${number}`)
  await until(() => events(first, 'MESSAGE').length === 4, 5000, 'all pushes')
  await first.close()
  await until(async () => (await hubs[0].json('/api/sessions')).sessions.every(({ owner }) => !owner), 20_000, 'the session to be released')
  backend.handshake = 503
  const page = await join(t, hubs[1], '&replay=2')
  await until(() => events(page, 'MESSAGE').length === 2, 5000, 'what is kept')
  assert.deepEqual(events(page, 'MESSAGE').map(({ payload }) => payload), ['push 3', 'push 4'])
  assert.equal(page.welcome.offset, 2)
})
