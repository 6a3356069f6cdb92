// send(data, {ttl}) of the library against hubs whose upstream is away: a late message is reported to the caller and never goes upstream.
import assert from 'node:assert/strict'
import WebSocket from 'ws'
import { VinhubClient } from '../../hub/web/client/vinhub.js'
import { Backend } from '../lib/backend.mjs'
import { service, startCluster, startHub } from '../lib/hub.mjs'
import { RedisServer } from '../lib/redis.mjs'
import { test } from '../lib/runner.mjs'
import { quiet, until } from '../lib/until.mjs'

const SOON_MS = 15_000
const TTL_MS = 300
const upstream = (n) => `/base/admin/V${n}`
const page = (n) => `/admin/V${n}?remoteWs`

const settingsOf = (backend) => ({ services: [service(backend, { reconnect: { min: '50ms', max: '100ms' } })] })

function connect(t, urls) {
  const client = new VinhubClient(urls, { WebSocket, reconnect: { min: 50, max: 100 } })
  t.defer(() => client.close())
  client.connect()
  return client
}

/** From now on each try of the first upstream is refused, and the one that is open ends. */
async function takeAway(backend, follower) {
  backend.handshake = ({ url }) => (url === upstream(1) ? 503 : 'accept')
  for (const { socket } of backend.open(upstream(1))) socket.terminate()
  await until(() => follower.upstream !== 'connected', SOON_MS, 'the upstream to be away')
}

/** The result of a send: 'acknowledged', or the code of its refusal and whether it was written. */
const fate = (sending) => sending.then(() => 'acknowledged', ({ code, sent }) => ({ code, sent }))

const assertNeverUpstream = (backend, late) =>
  quiet(() => backend.texts().includes(late), 500, 'what has expired to go upstream')

test('a send that waits for its upstream longer than its ttl is refused as expired, the others go on', async (t) => {
  const backend = await Backend.start(t)
  const hub = await startHub(t, { settings: settingsOf(backend) })
  const client = connect(t, hub.url(page(1)))
  await until(() => client.upstream === 'connected', SOON_MS, 'the upstream')
  await takeAway(backend, client)
  const began = performance.now()
  const sends = [client.send('too late', { ttl: TTL_MS }), client.send('kept'), client.send('in time', { ttl: 60_000 })].map(fate)
  assert.deepEqual(await sends[0], { code: 'expired', sent: true })
  const took = performance.now() - began
  assert.ok(took >= TTL_MS - 50, `expired after ${took} ms, before its ttl`)
  assert.equal(client.state, 'open')
  backend.handshake = 'accept'
  assert.deepEqual(await Promise.all(sends.slice(1)), ['acknowledged', 'acknowledged'])
  assert.equal(await fate(client.send('after', { ttl: TTL_MS * 10 })), 'acknowledged')
  await assertNeverUpstream(backend, 'too late')
  assert.deepEqual(backend.texts(), ['kept', 'in time', 'after'])
})

test('the same of a subscription, whose upstream alone is away', async (t) => {
  const backend = await Backend.start(t)
  const hub = await startHub(t, { settings: settingsOf(backend) })
  const client = connect(t, hub.url('/admin?subscribe'))
  const [one, two] = [client.subscribe(page(1)), client.subscribe(page(2))]
  await until(() => one.upstream === 'connected' && two.upstream === 'connected', SOON_MS, 'both upstreams')
  await takeAway(backend, one)
  const late = fate(one.send('too late', { ttl: TTL_MS })), kept = fate(two.send('kept'))
  assert.deepEqual(await late, { code: 'expired', sent: true })
  backend.handshake = 'accept'
  assert.equal(await kept, 'acknowledged')
  assert.equal(await fate(one.send('after')), 'acknowledged')
  await assertNeverUpstream(backend, 'too late')
  assert.deepEqual(backend.texts().sort(), ['after', 'kept'])
})

test('its node is killed while it waits: the other node refuses it as expired, and it never goes upstream', async (t) => {
  const [redis, backend] = await Promise.all([RedisServer.start(t), Backend.start(t)])
  const hubs = await startCluster(t, { redis, nodes: 2, settings: { node: { lease: '1s' }, ...settingsOf(backend) } })
  const client = connect(t, hubs.map((hub) => hub.url(page(1))))
  await until(() => client.upstream === 'connected', SOON_MS, 'the upstream')
  await takeAway(backend, client)
  const sends = [client.send('too late', { ttl: TTL_MS }), client.send('in time', { ttl: 60_000 })].map(fate)
  await hubs.find(({ id }) => id === client.node).kill()
  const { code } = await sends[0]
  assert.equal(code, 'expired')
  backend.handshake = 'accept'
  assert.equal(await sends[1], 'acknowledged')
  await assertNeverUpstream(backend, 'too late')
  assert.deepEqual(backend.texts(), ['in time'])
})
