// Contract section 9 in volume: many messages wait, many clients come or go at once. Each case bounds the time until all is as
// before, the longest turn of a node and its memory, and checks that every loss was announced.
// FAULTS_FULL=1: the numbers of the table in hub/docs/promises.md, which VOLUME_README=1 writes.
import assert from 'node:assert/strict'
import { generateKeyPairSync } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from '../lib/runner.mjs'
import { freePort } from '../lib/ports.mjs'
import { scratch, startHub } from '../lib/hub.mjs'
import { RedisServer } from '../lib/redis.mjs'
import { Authority } from '../lib/certificates.mjs'
import { inSeconds, token } from '../lib/tokens.mjs'
import { quiet, until } from '../lib/until.mjs'
import { Crowd, ms, sum } from './crowd.mjs'
import { FULL, note, range, SLACK_MS } from './rig.mjs'
import { Costs, heardAfterMark, judgeCosts, judgeCrowd, reload, row, startVolume, writeTable } from './volume-rig.mjs'

const hold = (time) => quiet(() => false, time, '')
const thousands = (count) => count.toLocaleString('en')
const OTHERS_P99_MS = 50
/** Publications that wait for Redis on a node, and the memory to keep and send them. */
const AWAY_MIB = 64 + 48

// --- Redis away -----------------------------------------------------------------------------------

const AWAY_VINS = 300
const AWAY_RATE = 3000
const HISTORY = 100

/** Redis away under pushes. how: it is killed and comes back empty, or stops and goes on. */
function redisAway({ onLoss, leaseS, awayS, how }) {
  const name = `Redis ${how} for ${awayS} s under ${thousands(AWAY_RATE)} pushes/s of 1 KB, ${onLoss}, lease ${leaseS} s`
  test(`${name}: pushes reach members within lease + 2 s`, { timeout: (awayS + leaseS * 3 + 60) * 1000 }, async (t) => {
    const leaseMs = leaseS * 1000
    const rig = await startVolume(t, { vehicles: AWAY_VINS, leaseMs, old: how === 'stopped', settings: { redis: { on_loss: onLoss } } })
    const { crowd } = rig
    await rig.openSessions(6)
    const groups = []
    for (const target of [0, 1]) groups.push(await crowd.open({ target, count: AWAY_VINS, form: '1' }))
    rig.startLoad(30)
    await crowd.mark()
    await crowd.rate(AWAY_RATE, 1000)
    await heardAfterMark(crowd, groups, 10_000, 'pushes before')
    // The rings of what was published last are full before memory is measured.
    for (const _ of range(HISTORY)) await crowd.pushEach(1000)
    await crowd.until((now) => sum(now, 'delivered') > HISTORY * AWAY_VINS * groups.length, 20_000, 'the rings to be full')
    const costs = await Costs.begin(rig.hubs)
    if (how === 'stopped') rig.redis.child.signal('SIGSTOP')
    else await rig.redis.kill()
    await hold(awayS * 1000)
    if (how === 'stopped') rig.redis.child.signal('SIGCONT')
    else await rig.redis.restart()
    await crowd.mark()
    const heard = await heardAfterMark(crowd, groups, leaseMs + 2000 + SLACK_MS, 'pushes at members')
    await rig.untilHeard('pushes at the checked members', leaseMs + 2000 + SLACK_MS)
    await hold(1000)
    await crowd.rate(0)
    const stat = await crowd.until((now) => sum(now, 'behind') === 0, 20_000, 'the last pushes to arrive')
    await rig.settle()
    const cost = await costs.end()
    const fenced = onLoss === 'fence' && awayS > leaseS
    // Messages in the upstream's socket when the fenced owner reset it have no position: the owner's clients see only the new
    // epoch. For publications since Redis fell silent, members get a GAP.
    const missing = judgeCrowd(stat, { torn: fenced ? AWAY_VINS : 0 })
    assert.equal(stat.groups[groups[1]].torn, 0, 'ends of an epoch that members miss without a GAP')
    rig.judge({ lost: Infinity, ownerLost: fenced || how === 'killed', dataLost: how === 'killed' })
    assert.ok(missing === 0 || fenced || cost.dropped > 0, 'what is missing is counted')
    assert.equal(sum(stat, 'closed'), 0, 'no client was closed')
    const announced = fenced ? `counted; ${thousands(sum(stat, 'torn'))} clients of the owner are told by the new epoch alone` : 'announced'
    row(name, `lease + 2 s; ${AWAY_MIB} MiB`, `back after ${(heard / 1000).toFixed(1)} s, ${thousands(missing)} of ${
      thousands(stat.backend.pushes * groups.length)} missing${missing > 0 ? `, ${announced}` : ''}`, cost)
    judgeCosts(cost, { memory: AWAY_MIB })
  })
}

redisAway({ onLoss: 'serve', leaseS: 3, awayS: 12, how: 'killed' })
redisAway({ onLoss: 'fence', leaseS: 3, awayS: 12, how: 'stopped' })
if (FULL) {
  redisAway({ onLoss: 'serve', leaseS: 3, awayS: 12, how: 'stopped' })
  redisAway({ onLoss: 'serve', leaseS: 3, awayS: 60, how: 'stopped' })
  redisAway({ onLoss: 'serve', leaseS: 30, awayS: 60, how: 'killed' })
  redisAway({ onLoss: 'fence', leaseS: 30, awayS: 12, how: 'stopped' })
  redisAway({ onLoss: 'fence', leaseS: 30, awayS: 60, how: 'stopped' })
  redisAway({ onLoss: 'fence', leaseS: 3, awayS: 60, how: 'killed' })
}

// --- a killed node --------------------------------------------------------------------------------

// A process here may have 20,000 descriptors: an upstream and a client for each session.
const OWNED = FULL ? 9500 : 1500
const KILL_LEASE_MS = 3000
/** Contract section 9: lease + 1 s for up to 2,000 sessions, 1 s for each further 5,000. */
const takeOverMs = (sessions) => KILL_LEASE_MS + 1000 + Math.max(0, Math.ceil((sessions - 2000) / 5000)) * 1000

test(`a node is killed that owns ${thousands(OWNED)} sessions: all push again in time, others do not wait`, { timeout: 180_000 }, async (t) => {
  const others = 50
  const rig = await startVolume(t, { vehicles: OWNED + others, leaseMs: KILL_LEASE_MS })
  const { crowd } = rig
  const half = Math.floor(OWNED / 2)
  await crowd.open({ target: 0, count: OWNED })
  await crowd.until(({ backend }) => backend.open === OWNED, 20_000, 'upstreams to open')
  // A crowd of its own: both ends of all these connections are more than one process may have.
  const members = await Crowd.start(t, { port: 0, vehicles: OWNED, hubs: rig.hubs })
  const [second, third] = [await members.open({ target: 1, count: half, form: '1' }),
    await members.open({ target: 2, count: OWNED - half, first: half + 1, form: '1' })]
  const watched = await crowd.open({ target: 1, count: others, first: OWNED + 1 })
  // Each session is pushed to once a second; what the others wait is measured by a crowd of its own.
  await crowd.rate(OWNED, 200)
  await members.mark()
  await heardAfterMark(members, [second, third], 30_000, 'pushes before')
  const alive = rig.hubs.slice(1)
  const costs = await Costs.begin(alive)
  await Promise.all([crowd.mark(), members.mark()])
  await rig.hubs[0].kill()
  const limit = takeOverMs(OWNED)
  const back = await crowd.until(({ backend }) => backend.after_mark >= OWNED, limit + SLACK_MS, 'take-overs')
  const took = ms(back.backend.reopened.max)
  assert.ok(took <= limit + SLACK_MS, `the last upstream opened after ${took} ms, allowed ${limit}`)
  const heard = await heardAfterMark(members, [second, third], 15_000, 'pushes at members')
  const { groups } = await crowd.stat()
  const wait = ms(groups[watched].latency.p99)
  await crowd.rate(0)
  const cost = await costs.end()
  judgeCrowd(await members.stat(), { torn: Infinity })
  assert.equal((await crowd.stat()).backend.two_at_once, 0, 'two upstreams of a vehicle')
  row(`a node killed that owns ${thousands(OWNED)} sessions`, `lease + ${(limit - KILL_LEASE_MS) / 1000} s (lease 3 s)`,
    `upstreams back after ${(took / 1000).toFixed(1)} s, every member hears pushes after ${(heard / 1000).toFixed(1)} s; others' pushes meanwhile p99 ${wait} ms`, cost)
  judgeCosts(cost, { memory: 16 + OWNED * 12 / 1024 })
  assert.ok(wait <= 2 * OTHERS_P99_MS + 2 * cost.waitMs, `others' pushes p99 ${wait} ms`)
})

const RESUMING = FULL ? 5000 : 2000

test(`${thousands(RESUMING)} clients of a killed node resume on two others within 5 s, others do not wait`, { timeout: 120_000 }, async (t) => {
  const [vins, others] = [200, 50]
  const rig = await startVolume(t, { vehicles: vins + others, leaseMs: KILL_LEASE_MS })
  const { crowd } = rig
  // Other nodes own the sessions: a resume does not wait for a take-over.
  const owners = await crowd.open({ target: 1, count: vins, form: '1' })
  await crowd.until(({ backend }) => backend.open === vins, 10_000, 'upstreams to open')
  const group = await crowd.open({ target: 0, count: RESUMING, vins, form: '1r' })
  const watched = await crowd.open({ target: 2, count: others, first: vins + 1 })
  await crowd.mark()
  await crowd.rate(500, 200)
  await heardAfterMark(crowd, [owners, group, watched], 20_000, 'pushes before')
  const costs = await Costs.begin(rig.hubs.slice(1))
  await crowd.mark()
  await rig.hubs[0].kill()
  const stat = await crowd.until(({ groups }) => groups[group].resumed + groups[group].unresumed >= RESUMING, 5000 + SLACK_MS, 'clients to resume')
  const resumed = ms(stat.groups[group].welcomed.max)
  await hold(1000)
  await crowd.rate(0)
  const last = await crowd.until((now) => sum(now, 'behind') === 0, 10_000, 'the last pushes to arrive')
  const wait = ms(last.groups[watched].latency.p99)
  const cost = await costs.end()
  judgeCrowd(last, { missing: 0 })
  assert.equal(last.groups[group].unresumed, 0, 'clients that could not resume')
  row(`${thousands(RESUMING)} clients of a killed node resume on two others`, '5 s; others\' pushes p99 100 ms',
    `all after ${(resumed / 1000).toFixed(1)} s, nothing missing; others' pushes meanwhile p99 ${wait} ms`, cost)
  judgeCosts(cost, { memory: 24 + RESUMING * 8 / 1024 })
  assert.ok(wait <= 2 * OTHERS_P99_MS + 2 * cost.waitMs, `others' pushes p99 ${wait} ms`)
})

// --- many come, many go ---------------------------------------------------------------------------

test('3,000 TLS handshakes at once: others\' pushes wait at most 50 ms', { timeout: 90_000 }, async (t) => {
  const [count, vins] = [3000, 50]
  const { cert, key } = new Authority(t).issue('node')
  const rig = await startVolume(t, { nodes: 1, vehicles: 2 * vins, settings: { listen: { tls_cert: cert, tls_key: key } } })
  const { crowd } = rig
  const watched = await crowd.open({ count: vins, form: 't' })
  // Its handshakes take as much of a processor as the hub's: the measuring side goes first.
  const storm = await Crowd.start(t, { port: 0, vehicles: 2 * vins, hubs: rig.hubs, nice: 5 })
  await crowd.mark()
  await crowd.rate(500, 200, 1, vins)
  await heardAfterMark(crowd, [watched], 10_000, 'pushes before')
  const costs = await Costs.begin(rig.hubs)
  await crowd.mark()
  const began = performance.now()
  await storm.open({ count, vins, first: vins + 1, connecting: count, form: 't' }, 40_000)
  const took = performance.now() - began
  const { p99, max } = (await crowd.stat()).groups[watched].latency
  const cost = await costs.end()
  await crowd.rate(0)
  judgeCrowd(await crowd.stat(), { missing: 0 })
  row(`${thousands(count)} TLS handshakes at once`, 'others\' pushes wait 50 ms', `all open after ${(took / 1000).toFixed(1)} s; others' pushes meanwhile p99 ${ms(p99)} ms, longest ${ms(max)} ms`, cost)
  judgeCosts(cost, { memory: 16 + count * 60 / 1024 })
  assert.ok(ms(p99) <= OTHERS_P99_MS + cost.waitMs, `others' pushes p99 ${ms(p99)} ms`)
})

test('3,000 handshakes with signed tokens at once: others\' pushes wait at most 50 ms', { timeout: 90_000 }, async (t) => {
  const [count, vins] = [3000, 50]
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const file = join(scratch(t), 'public.pem')
  writeFileSync(file, publicKey.export({ type: 'spki', format: 'pem' }))
  const signed = token({ sub: 'u', vins: ['*'], exp: inSeconds(3600) }, { alg: 'ES256', key: privateKey })
  const path = `/u/*?bulk&token=${signed}`
  const rig = await startVolume(t, { nodes: 1, vehicles: 2 * vins, settings: { auth: { mode: 'jwt', algorithm: 'ES256', public_key_file: file } } })
  const { crowd } = rig
  const watched = await crowd.open({ count: vins, path })
  const storm = await Crowd.start(t, { port: 0, vehicles: 2 * vins, hubs: rig.hubs, nice: 5 })
  await crowd.mark()
  await crowd.rate(500, 200, 1, vins)
  await heardAfterMark(crowd, [watched], 10_000, 'pushes before')
  const costs = await Costs.begin(rig.hubs)
  await crowd.mark()
  const began = performance.now()
  const group = await storm.open({ count, vins, first: vins + 1, connecting: count, path }, 40_000)
  const took = performance.now() - began
  const { p99, max } = (await crowd.stat()).groups[watched].latency
  const cost = await costs.end()
  await crowd.rate(0)
  judgeCrowd(await crowd.stat(), { missing: 0 })
  assert.equal((await storm.stat()).groups[group].closed, 0, 'clients with a good token that were closed')
  row(`${thousands(count)} handshakes with signed tokens at once`, 'others\' pushes wait 50 ms', `all open after ${(took / 1000).toFixed(1)} s; others' pushes meanwhile p99 ${ms(p99)} ms, longest ${ms(max)} ms`, cost)
  judgeCosts(cost, { memory: 16 + count * 8 / 1024 })
  assert.ok(ms(p99) <= OTHERS_P99_MS + cost.waitMs, `others' pushes p99 ${ms(p99)} ms`)
})

test('10,000 clients of a node leave at once: others do not wait', { timeout: 90_000 }, async (t) => {
  const [count, vins, others] = [10_000, 1000, 50]
  const rig = await startVolume(t, { nodes: 1, vehicles: vins + others, bulk: { linger: '500ms' } })
  const { crowd, hubs: [hub] } = rig
  const watched = await crowd.open({ count: others, first: vins + 1 })
  // Leaving keeps a process busy: the leavers have their own.
  const leavers = await Crowd.start(t, { port: 0, vehicles: vins, hubs: rig.hubs })
  await crowd.rate(500, 200, vins + 1, others)
  for (const how of ['reset', 'end']) {
    const group = await leavers.open({ count, vins, connecting: 1000 })
    await crowd.pushEach()
    await crowd.until(({ backend }) => backend.open === vins + others, 10_000, 'upstreams to open')
    const costs = await Costs.begin(rig.hubs)
    await crowd.mark()
    const began = performance.now()
    await leavers.leave(group, how)
    await until(async () => await hub.metric('vinhub_clients') === others, 10_000, 'all to be gone')
    const gone = performance.now() - began
    await crowd.until(({ backend }) => backend.open === others, 10_000, 'upstreams to be closed')
    const { count: seen, p99, max } = (await crowd.stat()).groups[watched].latency
    const cost = await costs.end()
    row(`${thousands(count)} clients of ${thousands(vins)} vehicles leave at once (${how === 'reset' ? 'resets' : 'ends of stream'})`, 'others\' pushes wait 50 ms',
      `all gone after ${(gone / 1000).toFixed(1)} s; others' pushes meanwhile p99 ${ms(p99)} ms, longest ${ms(max)} ms`, cost)
    assert.ok(seen > 100, `${seen} pushes to others`)
    judgeCosts(cost, { memory: 8 })
    assert.ok(ms(p99) <= OTHERS_P99_MS + cost.waitMs, `others' pushes p99 ${ms(p99)} ms`)
  }
  await crowd.rate(0)
  judgeCrowd(await crowd.stat(), { missing: 0 })
})

test('SIGHUP removes a service with thousands of clients: all are closed with 1001, others do not wait', { timeout: 90_000 }, async (t) => {
  const [count, vins, others] = FULL ? [9000, 3000, 6] : [5000, 1000, 6]
  const rig = await startVolume(t, { nodes: 1, vehicles: vins })
  const { crowd } = rig
  await rig.openSessions(others, { homes: [0] })
  const group = await crowd.open({ count, vins, connecting: 1000 })
  rig.startLoad(100)
  await rig.untilHeard('pushes before')
  const costs = await Costs.begin(rig.hubs)
  const began = performance.now()
  await reload(rig.hubs[0], (text) => text.replace(/\n {2}- name: bulk[^]*?(?=\n {2}- |\n\S|$)/, ''))
  const stat = await crowd.until(({ groups }) => groups[group].closed === count, 10_000, 'clients to be closed')
  const closed = performance.now() - began
  await crowd.until(({ backend }) => backend.open === 0, 10_000, 'upstreams to be closed')
  await rig.settle()
  const cost = await costs.end()
  assert.deepEqual(stat.groups[group].closes, { 1001: count })
  rig.judge({ lost: 0, gaps: 0 })
  row(`SIGHUP removes a service with ${thousands(count)} clients of ${thousands(vins)} vehicles`, 'no turn over 50 ms', `all closed with 1001 after ${(closed / 1000).toFixed(1)} s, nothing missing for others`, cost)
  judgeCosts(cost, { memory: 24 })
})

// --- messages that wait ---------------------------------------------------------------------------

test('250 clients send 1,000 one-byte messages each to a backend that is away, then all leave: memory as configured, others do not wait', { timeout: 90_000 }, async (t) => {
  const [count, messages, others] = [250, 1000, 50]
  const rig = await startVolume(t, { nodes: 1, vehicles: 1, settings: { clients: { rate: { messages: 0 } } } })
  const [hub] = rig.hubs
  const { crowd } = rig
  await rig.openSessions(others, { homes: [0] })
  const group = await crowd.open({ count, vins: 1 })
  await crowd.backend(false)
  await until(async () => await hub.metric('vinhub_upstreams') === others, 5000, 'the upstream to be lost')
  rig.startLoad(500)
  await rig.untilHeard('pushes before')
  const costs = await Costs.begin(rig.hubs)
  const { taken } = await crowd.send(group, messages, 1)
  // They are refused and closed, or wait: either way all that was sent has been read when nothing changes any more.
  let seen = -1
  await until(async () => {
    const before = seen
    await hold(300)
    seen = await hub.metric('vinhub_client_messages_in_total')
    return seen === before
  }, 20_000, 'all messages to be read')
  const stat = await crowd.stat()
  await crowd.leave(group, 'reset')
  await until(async () => await hub.metric('vinhub_clients') === others, 10_000, 'all to be gone')
  await rig.settle()
  const cost = await costs.end()
  rig.judge({ lost: 0, gaps: 0 })
  note(`${taken} messages taken by sockets, clients closed ${JSON.stringify(stat.groups[group].closes)}`)
  row(`${count} clients x ${thousands(messages)} one-byte messages, backend away, then all leave`, '`to_upstream.queue` 256 KiB; no turn over 50 ms',
    `${thousands(cost.dropped)} dropped and counted, ${stat.groups[group].closed} closed with 4004; nothing missing for others`, cost)
  assert.ok(cost.dropped > 0, 'what does not fit is counted')
  assert.deepEqual(Object.keys(stat.groups[group].closes).filter((code) => code !== '4004'), [], 'closes')
  judgeCosts(cost, { memory: 8 })
})

// --- Redis comes back empty to many sessions ------------------------------------------------------

const UNITS = FULL ? 12 : 2
const UNIT_SESSIONS = FULL ? 8400 : 2500
const EMPTY_SESSIONS = UNITS * UNIT_SESSIONS
const EMPTY_LEASE_MS = FULL ? 10_000 : 3000
const ids = [...'abcdefghijkl']

test(`Redis restarts empty under ${thousands(EMPTY_SESSIONS)} sessions: all records are back within lease + 1 s, no upstream closes`, { timeout: 600_000 }, async (t) => {
  // A backend and a crowd for each node: a process here may have 20,000 descriptors.
  const ports = []
  for (const _ of range(UNITS)) ports.push(await freePort())
  const redis = await RedisServer.start(t)
  const hubs = await Promise.all(ports.map((port, n) => startHub(t, {
    id: ids[n], redis, atEnd: 'kill', settings: { log: { level: 'warn' }, node: { lease: `${EMPTY_LEASE_MS}ms` }, services: [
      { name: `bulk${n}`, upstream: `ws://127.0.0.1:${port}/base` }] } })))
  const crowds = await Promise.all(hubs.map((hub, n) => Crowd.start(t, { port: ports[n], vehicles: UNIT_SESSIONS, hubs: [hub] })))
  await Promise.all(crowds.map((crowd, n) => crowd.open({ count: UNIT_SESSIONS, connecting: 512, path: `/u/*?bulk${n}` }, 120_000)))
  await Promise.all(crowds.map((crowd) => crowd.until(({ backend }) => backend.open === UNIT_SESSIONS, 120_000, 'upstreams to open')))
  const records = () => redis.client.zcard('vinhub:sessions').then((count) => (count < EMPTY_SESSIONS ? 0 : redis.client.dbsize()))
  for (const crowd of crowds) { await crowd.mark(); await crowd.rate(1000 / UNITS, 200) }
  await Promise.all(crowds.map((crowd) => heardAfterMark(crowd, [0], 60_000 + EMPTY_SESSIONS, 'pushes before')))
  const costs = await Costs.begin(hubs)
  await redis.kill()
  await hold(500)
  await redis.restart()
  const began = performance.now()
  await until(async () => (await records()) >= EMPTY_SESSIONS, EMPTY_LEASE_MS + 1000 + SLACK_MS + EMPTY_SESSIONS / 10, 'all records to be back')
  const back = performance.now() - began
  await hold(1000)
  for (const crowd of crowds) await crowd.rate(0)
  const stats = await Promise.all(crowds.map((crowd) => crowd.until((now) => sum(now, 'behind') === 0, 20_000, 'the last pushes to arrive')))
  const cost = await costs.end()
  for (const stat of stats) {
    judgeCrowd(stat, { missing: 0 })
    assert.equal(stat.backend.accepted, UNIT_SESSIONS, 'each upstream stayed')
    assert.equal(stat.groups[0].closed, 0, 'no client was closed')
  }
  row(`Redis restarts empty under ${thousands(EMPTY_SESSIONS)} sessions of ${UNITS} nodes`, `lease + 1 s (lease ${EMPTY_LEASE_MS / 1000} s)`,
    `all records back after ${(back / 1000).toFixed(1)} s, no upstream closed, nothing missing`, cost)
  judgeCosts(cost, { memory: 64 })
})

// Last, when the Redis that was there before is older than the lease.
redisAway({ onLoss: 'fence', leaseS: 20, awayS: 14, how: 'stopped' })

test('volume: the table', async () => writeTable())
