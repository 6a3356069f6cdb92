// Contract section 9, "owner killed": take-over within lease + 1 s, and what clients see of it.
import assert from 'node:assert/strict'
import { countedMs, mark } from '../lib/busy.mjs'
import { distribution } from '../lib/checker.mjs'
import { test } from '../lib/runner.mjs'
import { SANITIZED } from '../lib/hub.mjs'
import { quiet, until } from '../lib/until.mjs'
import { FULL, note, range, Rig, SLACK_MS } from './rig.mjs'

const [SESSIONS, RATE] = FULL ? [200, 2000] : [60, 300]
// With sanitizers times mean little.
const SLOWER_MS = SANITIZED ? SLACK_MS : 0

/**
 * Kills the busiest owner again and again under pushes, each time brings it back and its clients home. Bounds on
 * times leave out the time in which processes waited for a processor (busy.mjs). Where that was so long that another node's lease ran out, the
 * kill is not measured; on a machine that was not busy a lease that runs out is a fault.
 */
async function killOwners(t, { leaseMs, kills, limitMs }) {
  const rig = await Rig.start(t, { leaseMs })
  await rig.openSessions(SESSIONS)
  rig.startLoad(RATE)
  const [takeOvers, recoveries, counted] = [[], [], []]
  let disturbed = 0
  const fences = async (killed) => {
    const counts = await Promise.all(rig.hubs.filter((hub) => hub !== killed).map((hub) => hub.metric('vinhub_fences_total')))
    return counts.reduce((sum, count) => sum + count, 0)
  }
  for (let n = 0; n < kills; n++) {
    const { hub, sessions } = await rig.busiest()
    const urls = sessions.map(({ url }) => url)
    const fencesBefore = await fences(hub)
    const before = mark()
    const since = before.at
    await hub.kill()
    await until(() => rig.takeOverTimes(urls, since).every(Number.isFinite), leaseMs + 15_000, () => `kill ${n + 1}: a take-over of ${
      rig.takeOverTimes(urls, since).filter((time) => !Number.isFinite(time)).length} of ${urls.length}`)
    const { held } = mark()
    await rig.whole()
    await rig.untilHeard(`kill ${n + 1}: pushes again`)
    if (await fences(hub) === fencesBefore) {
      takeOvers.push(...rig.takeOverTimes(urls, since))
      counted.push(...rig.takeOverTimes(urls, since).map((time) => countedMs(before, { at: since + time, held })))
      recoveries.push(...rig.recoveryTimes(sessions, since))
    } else {
      const heldUp = mark().held - before.held
      assert.ok(heldUp > leaseMs / 4, `kill ${n + 1}: the lease of another node ran out, and the machine held nobody up (${heldUp} ms)`)
      disturbed++
    }
    if (n === kills - 1) break
    await hub.restart()
    for (const client of rig.clients) if (rig.hubs[client.home] === hub) client.goHome()
    await rig.whole()
    await rig.untilHeard(`kill ${n + 1}: pushes to clients that are home again`)
  }
  await rig.settle()
  note(`${kills} owner kills, lease ${leaseMs} ms, ${SESSIONS} sessions, ${RATE} pushes/s`)
  if (disturbed > 0) note(`${disturbed} kills do not count: another node got no processor for so long that its own lease ran out`)
  note(`take-over: ${distribution(takeOvers)}`)
  note(`of that not the machine's: ${distribution(counted)}`)
  note(`a client's first push of the new upstream: ${distribution(recoveries)}`)
  rig.judge({ lost: Infinity, ownerLost: true })
  if (counted.length === 0) return // each kill was disturbed: everything but the times was checked
  assert.ok(distribution(counted).p99 <= limitMs + SLOWER_MS, `take-over p99 ${distribution(counted).p99} ms, allowed ${limitMs}`)
}

test('20 owner kills with lease 500 ms under load: no double, no disorder, each gap announced, p99 under 1 s', { timeout: 240_000 },
  (t) => killOwners(t, { leaseMs: 500, kills: 20, limitMs: 1000 }))

test('owner kills with lease 3 s under load: no double, no disorder, each gap announced, p99 under lease + 1 s', { timeout: 400_000 },
  (t) => killOwners(t, { leaseMs: 3000, kills: FULL ? 20 : 2, limitMs: 4000 }))

test('a client of a killed owner resumes on a node that had no part in the session, before the lease is over', async (t) => {
  const rig = await Rig.start(t, { leaseMs: 3000 })
  // The clients at home on b own the sessions and go on to c, which has none of them; a is a member.
  const opened = await rig.openSessions(10, { homes: [1] })
  for (const session of opened) rig.addClient(session, 0)
  await rig.whole()
  await rig.untilHeard('the members to be joined')
  const away = opened.map(({ clients: [client] }) => client)
  const before = rig.backend.of(opened[0].url).sent.length
  await rig.hubs[1].kill()
  await rig.whole(3000 + 1000 + SLACK_MS + 2000)
  assert.ok(away.every(({ node }) => node === rig.hubs[2]), 'they are on the third node')
  await rig.settle()
  assert.ok(rig.backend.of(opened[0].url).sent.length > before)
  rig.judge({ lost: Infinity, ownerLost: true })
})

test('a session whose owner was killed and had no other member opens for the next client, after the lease', async (t) => {
  const rig = await Rig.start(t, { leaseMs: 1000 })
  const [{ clients: [client], url }] = await rig.openSessions(1, { homes: [0] })
  const since = performance.now()
  await rig.hubs[0].kill()
  await until(() => rig.takeOverTimes([url], since)[0] < Infinity, 1000 + 1000 + SLACK_MS, 'the upstream to open elsewhere')
  note(`take-over without a member: ${Math.round(rig.takeOverTimes([url], since)[0])} ms after the kill`)
  assert.ok(rig.takeOverTimes([url], since)[0] > 500, 'not while the killed owner might still live')
  assert.notEqual(client.node, rig.hubs[0])
  await rig.settle()
  rig.judge({ lost: Infinity, ownerLost: true })
})

test('SENDs across owner kills reach the backend at least once, each client\'s in order, and all are acknowledged', async (t) => {
  const rig = await Rig.start(t, { leaseMs: 500 })
  await rig.openSessions(10)
  const sendAll = setInterval(() => rig.clients.forEach((client, who) => client.send(`${who}:${client.sends}`)), 20)
  t.defer(() => clearInterval(sendAll))
  for (const n of range(4)) {
    const { hub } = await rig.busiest()
    await hub.kill()
    await rig.whole()
    await rig.untilHeard(`kill ${n + 1}: pushes again`)
    await hub.restart()
    for (const client of rig.clients) if (rig.hubs[client.home] === hub) client.goHome()
    await rig.whole()
  }
  clearInterval(sendAll)
  await rig.untilSent()
  const counts = new Map()
  const lastOf = new Map()
  for (const { text } of rig.backend.messages) {
    const [who, id] = text.split(':').map(Number)
    if (!counts.has(text)) {
      assert.ok(id > (lastOf.get(who) ?? -1), `client ${who}: ${id} came first after ${lastOf.get(who)}`)
      lastOf.set(who, id)
    }
    counts.set(text, (counts.get(text) ?? 0) + 1)
  }
  rig.clients.forEach((client, who) => range(client.sends).forEach((id) => assert.ok(counts.has(`${who}:${id}`), `${who}:${id} never came`)))
  note(`${counts.size} SENDs, ${[...counts.values()].filter((count) => count > 1).length} of them more than once`)
  await rig.settle()
  rig.judge({ lost: Infinity, ownerLost: true })
})

test('raw messages across an owner kill reach the backend once at most and in order, and close nobody', async (t) => {
  const { Browser } = await import('../lib/browser.mjs')
  const rig = await Rig.start(t, { leaseMs: 500 })
  const [{ url }] = await rig.openSessions(1)
  const { hub } = await rig.busiest()
  const others = rig.hubs.filter((other) => other !== hub)
  const browsers = await Promise.all(range(6).map((n) => Browser.open(t, others[n % 2].url('/u/V0?remoteWs'))))
  let round = 0
  const sendAll = setInterval(() => { browsers.forEach((browser, who) => browser.send(`raw ${who}:${round}`)); round++ }, 10)
  t.defer(() => clearInterval(sendAll))
  await until(() => rig.backend.messages.length > 300, 5000, 'messages to flow')
  const since = performance.now()
  await hub.kill()
  await until(() => rig.takeOverTimes([url], since)[0] < Infinity, 5000, 'the take-over')
  const before = rig.backend.messages.length
  await until(() => rig.backend.messages.length > before + 300, 5000, 'messages to flow again')
  clearInterval(sendAll)
  for (const [who] of browsers.entries()) {
    browsers[who].send(`raw ${who}:${round}`)
    await until(() => rig.backend.texts().includes(`raw ${who}:${round}`), 5000, 'the last message')
    const mine = rig.backend.texts().filter((text) => text.startsWith(`raw ${who}:`)).map((text) => Number(text.split(':')[1]))
    assert.deepEqual(mine, [...new Set(mine)].sort((a, b) => a - b), `client ${who}: once and in order`)
  }
  await quiet(() => browsers.some(({ end }) => end), 200, 'a browser to be closed')
})
