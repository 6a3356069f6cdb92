// Redis in its other shapes, under load: it fails over, moves slots, wants TLS and a user. Contract section 9: no client is closed,
// no upstream is closed if the fail-over is shorter than the lease, and nothing is lost without a GAP.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { RedisCluster, RedisSecured, RedisSentinel } from '../lib/redis-shapes.mjs'
import { test } from '../lib/runner.mjs'
import { until } from '../lib/until.mjs'
import { FULL, note, Rig, SLACK_MS } from './rig.mjs'

const [SESSIONS, RATE] = FULL ? [200, 2000] : [30, 150]
const LEASE_MS = 8000 // longer than these servers take to fail over, on a busy machine, too

const stayed = (rig) => rig.urls.every((url) => rig.backend.of(url).all.length === 1)

async function underLoad(t, options) {
  const rig = await Rig.start(t, options)
  await rig.openSessions(SESSIONS)
  rig.startLoad(RATE)
  return rig
}

/** All nodes have renewed their lease since `from`, by the scores in the store. */
async function renewed(rig, from) {
  const scores = async () => (await rig.redis.client.zrange('vinhub:nodes', 0, -1, 'WITHSCORES')).filter((_, i) => i % 2 === 1).map(Number)
  await until(async () => {
    const all = await scores().catch(() => [])
    return all.length === rig.hubs.length && all.every((score) => score > from)
  }, LEASE_MS + SLACK_MS, 'all nodes to have renewed their lease')
  return Date.now() - from
}

async function judge(rig) {
  await rig.settle()
  assert.equal(rig.closedClients(), 0, 'clients closed')
  for (const hub of rig.hubs) assert.equal(await hub.metric('vinhub_fences_total'), 0, `${hub.id} was not fenced`)
  assert.ok(stayed(rig), 'each upstream stayed')
  rig.judge({ lost: 0, gaps: 0 })
}

test('Sentinel: the primary is killed under load, nobody notices', { timeout: 120_000 }, async (t) => {
  const redis = await RedisSentinel.start(t)
  const rig = await underLoad(t, { leaseMs: LEASE_MS, redis })
  const from = Date.now()
  await redis.failOver()
  note(`another primary after ${Date.now() - from} ms`)
  note(`all leases renewed there after ${await renewed(rig, from)} ms`)
  await rig.untilHeard('pushes after the fail-over')
  await judge(rig)
})

test('Cluster: each primary in turn is killed under load, that of the leases first', { timeout: 180_000 }, async (t) => {
  const redis = await RedisCluster.start(t)
  const rig = await underLoad(t, { leaseMs: LEASE_MS, redis })
  const leases = redis.homeOf('vinhub:nodes')
  for (const n of [leases, (leases + 1) % 3]) {
    const from = Date.now()
    await redis.failOver(n)
    note(`a replica took over after ${Date.now() - from} ms`)
    note(`all leases renewed after ${await renewed(rig, Date.now())} ms more`)
    await rig.untilHeard('pushes after the fail-over')
    await until(() => redis.client.call('CLUSTER', 'INFO').then((info) => /cluster_state:ok/.test(info), () => false), LEASE_MS, 'the cluster to be whole')
  }
  await judge(rig)
})

test('Cluster: slots of leases and sessions move to other primaries under load', { timeout: 120_000 }, async (t) => {
  const redis = await RedisCluster.start(t)
  const rig = await underLoad(t, { leaseMs: LEASE_MS, redis })
  // All from one to one other: slots that move both ways at once can make the servers themselves disagree.
  const from = redis.homeOf('vinhub:nodes')
  const keys = ['vinhub:nodes', ...rig.sessions.map(({ vin }) => `vinhub:session:{remoteWs:${vin}}`)].filter((key) => redis.homeOf(key) === from)
  for (const key of keys) await redis.moveSlot(key, (from + 1) % 3)
  note(`${keys.length} slots moved`)
  note(`all leases renewed after ${await renewed(rig, Date.now())} ms`)
  await rig.untilHeard('pushes after the move')
  await judge(rig)
})

test('TLS and a user with the rights that the manual names: a node is killed under load, all goes on', { timeout: 120_000 }, async (t) => {
  const manual = readFileSync(new URL('../../docker/README.md', import.meta.url), 'utf8')
  const rights = /ACL SETUSER hub on >PASSWORD (.*)$/m.exec(manual)[1].split(' ')
  const redis = await RedisSecured.start(t, rights)
  const rig = await underLoad(t, { leaseMs: 2000, redis, settings: { redis: { tls_ca: redis.tlsCa } } })
  const { hub, sessions } = await rig.busiest()
  const from = performance.now()
  await hub.kill()
  await rig.whole()
  note(`${sessions.length} sessions taken over after at most ${Math.round(Math.max(...rig.takeOverTimes(sessions.map(({ url }) => url), from)))} ms`)
  await rig.settle()
  const denied = await redis.client.call('ACL', 'LOG')
  assert.deepEqual(denied, [], 'nothing was denied')
  rig.judge({ lost: Infinity, ownerLost: true })
})
