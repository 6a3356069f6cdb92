// Contract section 9, faults of Redis: killed and empty, away, slow, asleep, closing connections.
import assert from 'node:assert/strict'
import { distribution } from '../lib/checker.mjs'
import { RedisServer } from '../lib/redis.mjs'
import { test } from '../lib/runner.mjs'
import { quiet, until } from '../lib/until.mjs'
import { FULL, note, range, Rig, SLACK_MS } from './rig.mjs'

const [SESSIONS, RATE] = FULL ? [200, 2000] : [30, 150]

// A lease for cases where nothing may close: it must not run out on a busy machine.
const LONG_MS = 5000
const stayed = (rig) => rig.urls.every((url) => rig.backend.of(url).all.length === 1)
const hold = (ms) => quiet(() => false, ms, '')
const readiness = (rig) => Promise.all(rig.hubs.map(async (hub) => (await hub.admin('/readyz')).status))

test('Redis killed and restarted empty within a lease: nobody closed, no upstream closed, no push lost', async (t) => {
  const rig = await Rig.start(t, { leaseMs: LONG_MS })
  await rig.openSessions(SESSIONS)
  rig.startLoad(RATE)
  const epochs = new Map(await Promise.all(rig.sessions.map(async ({ vin }) => [vin, BigInt(await rig.redis.client.hget(`vinhub:session:{remoteWs:${vin}}`, 'epoch'))])))
  for (let n = 0; n < 3; n++) {
    await rig.redis.kill()
    await hold(300)
    await rig.redis.restart()
    const since = performance.now()
    await until(async () => (await rig.redis.client.keys('vinhub:session:*')).length === SESSIONS, LONG_MS + 1000 + SLACK_MS, 'all records to be back')
    await until(async () => (await rig.redis.client.zcard('vinhub:nodes')) === 3, LONG_MS + 1000 + SLACK_MS, 'all nodes to be listed')
    note(`all records back ${Math.round(performance.now() - since)} ms after the restart`)
    await rig.untilHeard('pushes after the restart')
    await hold(1000) // the lease goes on being renewed
  }
  await rig.settle()
  assert.equal(rig.closedClients(), 0, 'clients closed')
  assert.ok(stayed(rig), 'each upstream stayed')
  for (const [vin, epoch] of epochs) {
    assert.ok(BigInt(await rig.redis.client.hget(`vinhub:session:{remoteWs:${vin}}`, 'epoch')) >= epoch, `${vin}: the epoch does not go back`)
  }
  rig.judge({ lost: 0, gaps: 0 })
})

test('Redis away for 10 leases with fence: upstreams close in time, clients stay, all is back in lease + reconnect', async (t) => {
  const leaseMs = 1000
  const rig = await Rig.start(t, { leaseMs })
  await rig.openSessions(SESSIONS)
  rig.startLoad(RATE)
  const since = performance.now()
  await rig.redis.kill()
  await until(() => rig.backend.upstreams.size === 0, leaseMs + SLACK_MS, 'the upstreams to be closed')
  note(`upstreams closed: ${distribution(rig.urls.map((url) => rig.backend.of(url).all.at(-1).closedAt - since))}`)
  await quiet(() => rig.backend.upstreams.size > 0, 10 * leaseMs - (performance.now() - since), 'an upstream without a lease')
  assert.deepEqual(await readiness(rig), [503, 503, 503])
  await rig.redis.restart()
  const back = performance.now()
  await rig.whole(leaseMs + 1000 + 1000 + SLACK_MS)
  note(`upstreams back: ${distribution(rig.takeOverTimes(rig.urls, back))}`)
  await rig.settle()
  assert.equal(rig.closedClients(), 0, 'clients closed')
  assert.deepEqual(await readiness(rig), [200, 200, 200])
  rig.judge({ lost: Infinity, ownerLost: true })
})

test('Redis away for 10 leases with serve: owners serve their own clients, all members get what they missed', async (t) => {
  const leaseMs = 1000
  const rig = await Rig.start(t, { leaseMs, settings: { redis: { on_loss: 'serve' } }, services: { history: { size: 1000 } } })
  await rig.openSessions(10)
  const { session: { clients, url }, owner } = (await rig.owners())[0]
  await rig.redis.kill()
  const since = performance.now()
  rig.startLoad(50)
  await hold(2 * leaseMs)
  const own = clients.find(({ node }) => node === owner)
  const before = own.lastNumber
  await until(() => own.lastNumber > before + 5, 5000, 'the owner to serve its own client')
  assert.deepEqual(await readiness(rig), [200, 200, 200])
  await hold(10 * leaseMs - (performance.now() - since))
  assert.equal(rig.backend.of(url).all.length, 1)
  await rig.redis.restart()
  await rig.untilHeard('pushes at all members', leaseMs + 2000 + SLACK_MS)
  await rig.settle()
  assert.equal(rig.closedClients(), 0, 'clients closed')
  assert.ok(stayed(rig), 'each upstream stayed')
  rig.judge({ lost: Infinity, ownerLost: true })
})

test('CLIENT PAUSE for less than a lease: nothing closed, nothing lost', async (t) => {
  const rig = await Rig.start(t, { leaseMs: LONG_MS })
  await rig.openSessions(SESSIONS)
  rig.startLoad(RATE)
  for (let n = 0; n < 2; n++) {
    await rig.redis.client.client('PAUSE', 1500, 'ALL')
    await hold(1500)
    await rig.untilHeard('pushes after the pause')
    await hold(1000) // for a renewal: two pauses without one count as one long pause
  }
  await rig.settle()
  assert.equal(rig.closedClients(), 0, 'clients closed')
  assert.ok(stayed(rig), 'each upstream stayed')
  rig.judge({ lost: 0, gaps: 0 })
})

test('DEBUG SLEEP for two leases: upstreams close in time, clients stay, and all is back', async (t) => {
  const leaseMs = 1000
  const rig = await Rig.start(t, { leaseMs })
  await rig.openSessions(SESSIONS)
  rig.startLoad(RATE)
  const since = performance.now()
  // Debian's Redis lets a local connection debug it; where not, SIGSTOP does the same to the process.
  const asleep = rig.redis.client.debug('SLEEP', '3').catch(() => rig.redis.child.signal('SIGSTOP'))
  await until(() => rig.backend.upstreams.size === 0, leaseMs + SLACK_MS, 'the upstreams to be closed')
  await quiet(() => rig.backend.upstreams.size > 0, 2900 - (performance.now() - since), 'an upstream without a lease')
  rig.redis.child.signal('SIGCONT')
  await asleep
  await rig.whole(leaseMs + 2000 + SLACK_MS)
  await rig.settle()
  assert.equal(rig.closedClients(), 0, 'clients closed')
  rig.judge({ lost: Infinity, ownerLost: true })
})

for (const type of ['pubsub', 'normal']) {
  test(`CLIENT KILL TYPE ${type} again and again under load: gaps are filled from the history, no double`, async (t) => {
    const rig = await Rig.start(t, { leaseMs: LONG_MS })
    await rig.openSessions(SESSIONS)
    rig.startLoad(RATE)
    for (let n = 0; n < 8; n++) {
      // The asking connection is of the type `normal` itself and is spared.
      const killed = await rig.redis.client.client('KILL', 'TYPE', type, 'SKIPME', 'yes')
      assert.ok(killed >= 3, `connections killed: ${killed}`)
      await rig.untilHeard('pushes after the kill')
      await hold(200)
    }
    await rig.settle()
    assert.equal(rig.closedClients(), 0, 'clients closed')
    assert.ok(stayed(rig), 'each upstream stayed')
    rig.judge({ lost: 0, gaps: 0 })
  })
}

test('clients that are away while Redis restarts empty get all they missed, on whichever node they come back', async (t) => {
  const rig = await Rig.start(t, { leaseMs: LONG_MS })
  const opened = await rig.openSessions(SESSIONS)
  rig.startLoad(RATE)
  // One client of each session stays, so that its owner keeps it; the others leave and miss pushes before and after.
  const away = opened.flatMap(({ clients }) => clients.slice(1))
  for (const client of away) client.pause()
  await hold(500)
  await rig.redis.kill()
  await hold(400)
  await rig.redis.restart()
  await hold(1500)
  away.forEach((client, n) => client.comeBack(n))
  await rig.settle()
  assert.ok(stayed(rig), 'each upstream stayed')
  rig.judge({ lost: 0, gaps: 0 })
})

test('SENDs while Redis closes connections and clients wander reach the backend exactly once, each client\'s in order', async (t) => {
  const rig = await Rig.start(t, { leaseMs: LONG_MS })
  await rig.openSessions(10)
  rig.startLoad(50)
  const sendAll = setInterval(() => rig.clients.forEach((client, who) => client.send(`${who}:${client.sends}`)), 20)
  t.defer(() => clearInterval(sendAll))
  let turn = 0
  const wander = setInterval(() => rig.clients[turn++ % rig.clients.length].moveOn(), 50)
  t.defer(() => clearInterval(wander))
  for (const type of ['normal', 'pubsub', 'normal', 'pubsub', 'normal']) {
    await rig.redis.client.client('KILL', 'TYPE', type, 'SKIPME', 'yes')
    await hold(700)
  }
  clearInterval(wander)
  clearInterval(sendAll)
  await rig.whole()
  await rig.untilSent()
  const byClient = rig.clients.map(() => [])
  for (const { text } of rig.backend.messages) {
    const [who, id] = text.split(':').map(Number)
    byClient[who].push(id)
  }
  note(`${rig.backend.messages.length} SENDs`)
  rig.clients.forEach((client, who) => assert.deepEqual(byClient[who], range(client.sends), `client ${who}: each once, in order`))
  await rig.settle()
  rig.judge({ lost: 0, gaps: 0 })
})

test('SIGTERM while Redis is away ends the node all the same, with 1012 for its clients', async (t) => {
  const rig = await Rig.start(t, { leaseMs: 1000, nodes: 2, settings: { node: { drain: '500ms' } } })
  await rig.openSessions(6, { homes: [0, 1] })
  await rig.redis.kill()
  const took = await rig.hubs[0].stop(500 + 1000 + SLACK_MS) // drain, or the lease, whichever is later
  note(`the stop took ${Math.round(took)} ms`)
  const own = rig.clients.filter(({ home }) => home === 0)
  assert.deepEqual([...new Set(own.flatMap((client) => client.ends().map(({ code }) => code)))], [1012])
  await rig.redis.restart()
  await rig.settle()
  rig.judge({ lost: Infinity, ownerLost: true, dataLost: true, unresumed: Infinity })
})

test('Redis emptied by FLUSHALL under load: owners write their records back, clients stay', async (t) => {
  const rig = await Rig.start(t, { leaseMs: 2000 })
  await rig.openSessions(SESSIONS)
  rig.startLoad(RATE)
  for (let n = 0; n < 3; n++) {
    await rig.redis.client.flushall()
    await until(async () => (await rig.redis.client.keys('vinhub:session:*')).length === SESSIONS, 3000 + SLACK_MS, 'all records to be back')
    await rig.untilHeard('pushes after the loss')
    await hold(500)
  }
  await rig.settle()
  assert.equal(rig.closedClients(), 0, 'clients closed')
  rig.judge({ lost: 0, gaps: 0 })
})

/** A server with one replica that follows it. */
async function withReplica(t) {
  const [redis, replica] = await Promise.all([RedisServer.start(t), RedisServer.start(t)])
  await replica.client.replicaof('127.0.0.1', redis.port)
  await until(async () => (await redis.client.info('replication')).includes('state=online'), 15_000, 'the replica to follow')
  return { redis, replica }
}

test('redis.replicas: while the replica is stopped nothing is renewed; upstreams close within the lease and are back after it', async (t) => {
  const leaseMs = 2000
  const { redis, replica } = await withReplica(t)
  const rig = await Rig.start(t, { leaseMs, redis, settings: { redis: { replicas: 1 } } })
  await rig.openSessions(10)
  rig.startLoad(100)
  await rig.untilHeard('pushes')
  const since = performance.now()
  replica.child.signal('SIGSTOP')
  await until(() => rig.urls.every((url) => (rig.backend.counts.get(url) ?? 0) === 0), leaseMs + SLACK_MS, 'the upstreams to close')
  note(`upstreams closed at most ${Math.round(performance.now() - since)} ms after the replica stopped`)
  assert.deepEqual([...new Set(await readiness(rig))], [503])
  replica.child.signal('SIGCONT')
  await rig.whole(leaseMs + 2000 + SLACK_MS)
  await rig.settle()
  assert.equal(rig.closedClients(), 0, 'clients closed')
  rig.judge({ lost: Infinity, ownerLost: true })
})
