// Contract section 9 in volume: much that waits, many that come, many that go at once. Each case bounds the time until
// all is as before, the longest turn of a node, its memory, and judges what was lost and whether it was announced.
// FAULTS_FULL=1: the numbers of the README's table, which VOLUME_README=1 writes.
import assert from 'node:assert/strict'
import { test } from '../lib/runner.mjs'
import { freePort } from '../lib/ports.mjs'
import { startHub } from '../lib/hub.mjs'
import { RedisServer } from '../lib/redis.mjs'
import { quiet, until } from '../lib/until.mjs'
import { Crowd, ms, sum } from './crowd.mjs'
import { FULL, note, range, SLACK_MS } from './rig.mjs'
import { Costs, heardAfterMark, judgeCosts, judgeCrowd, reload, row, startVolume, writeTable } from './volume-rig.mjs'

const hold = (time) => quiet(() => false, time, '')
const thousands = (count) => count.toLocaleString('en')
const OTHERS_P99_MS = 50
// --- a killed node --------------------------------------------------------------------------------

const KILL_LEASE_MS = 3000
const RESUMING = FULL ? 5000 : 2000

test(`${thousands(RESUMING)} clients of a killed node resume on two others within 5 s, others do not wait`, { timeout: 120_000 }, async (t) => {
  const [vins, others] = [200, 50]
  const rig = await startVolume(t, { vehicles: vins + others, leaseMs: KILL_LEASE_MS })
  const { crowd } = rig
  // The sessions are owned elsewhere: who resumes has not to wait for a take-over.
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

test('volume: the table', async () => writeTable())
