// Contract section 9, "process paused longer than the lease": SIGSTOP and SIGCONT of an owner.
import assert from 'node:assert/strict'
import { test } from '../lib/runner.mjs'
import { quiet, until } from '../lib/until.mjs'
import { note, Rig, SLACK_MS } from './rig.mjs'

const LEASE_MS = 1000

/** What each URL's stale connection is once a newer one has been opened: [{url, stale, next}]. */
function replaced(rig, sessions) {
  return sessions.map(({ url }) => {
    const { all } = rig.backend.of(url)
    return { url, stale: all.at(-2), next: all.at(-1) }
  })
}

test('an owner stopped for 3 leases: after the new upstream is open nothing passes by the stale one, either way', async (t) => {
  const rig = await Rig.start(t, { leaseMs: LEASE_MS })
  await rig.openSessions(20)
  rig.startLoad(200)
  let words = 0
  const talk = setInterval(() => { rig.clients.forEach((client) => client.send(`word ${words++}`)) }, 20)
  t.defer(() => clearInterval(talk))
  await until(() => rig.backend.messages.length > 200, 5000, 'messages to flow')
  const { hub, sessions } = await rig.busiest()
  assert.ok(sessions.length > 0)
  const since = performance.now()
  await hub.whilePaused(async () => {
    await until(() => sessions.every(({ url }) => rig.backend.of(url).all.at(-1).openedAt > since), LEASE_MS + 1000 + SLACK_MS, 'the take-over')
    // The stale connections are open all the while, and the backend goes on pushing on both.
    await quiet(() => false, since + 3 * LEASE_MS - performance.now(), '')
  })
  const woken = performance.now()
  const pairs = replaced(rig, sessions)
  await until(() => pairs.every(({ stale }) => stale.closedAt !== null), 500 + SLACK_MS, 'the stale upstreams to be reset')
  note(`stale upstreams gone ${Math.round(Math.max(...pairs.map(({ stale }) => stale.closedAt)) - woken)} ms after waking`)
  clearInterval(talk)
  await rig.settle()
  for (const { url, stale, next } of pairs) {
    const late = rig.backend.messages.filter(({ upstream, at }) => upstream === stale && at > next.openedAt)
    assert.deepEqual(late.map(({ text }) => text), [], `${url}: client messages by the stale upstream`)
    assert.equal(stale.end.code, 1006, `${url}: the stale upstream is reset, not closed politely`)
    const forbidden = new Set(rig.backend.of(url).sent.filter(({ upstream, at }) => upstream === stale && at > next.openedAt).map(({ number }) => number))
    assert.ok(forbidden.size > 5, 'pushes were made on the stale upstream')
    for (const { log } of rig.sessions.find((session) => session.url === url).clients) {
      assert.deepEqual(log.filter(({ kind, number }) => kind === 'message' && forbidden.has(number)).map(({ text }) => text), [])
    }
  }
  rig.judge({ lost: Infinity, peak: 2, ownerLost: true })
})

test('an owner stopped for half a lease again and again: nothing is lost, doubled or closed', async (t) => {
  const rig = await Rig.start(t, { leaseMs: 5000 })
  await rig.openSessions(20)
  rig.startLoad(200)
  for (let n = 0; n < 6; n++) {
    const { hub } = await rig.busiest()
    await rig.hubs[(rig.hubs.indexOf(hub) + n) % 3].whilePaused(() => quiet(() => false, 1200, ''))
    await rig.untilHeard('pushes after the pause')
  }
  await rig.settle()
  rig.judge({ gaps: 0 })
  assert.equal(rig.closedClients(), 0)
  assert.ok(rig.urls.every((url) => rig.backend.of(url).all.length === 1), 'each upstream stayed')
})

test('a member stopped for 3 leases catches up from the history: no double, no disorder', async (t) => {
  const rig = await Rig.start(t, { leaseMs: LEASE_MS })
  const opened = await rig.openSessions(10, { homes: [0] })
  for (const session of opened) rig.addClient(session, 1)
  await rig.whole()
  await rig.untilHeard('the members to be joined')
  rig.startLoad(100)
  await rig.hubs[1].whilePaused(() => quiet(() => false, 3 * LEASE_MS, ''))
  await rig.settle()
  rig.judge({ gaps: 0 })
  assert.equal(rig.closedClients(), 0)
  assert.ok(rig.urls.every((url) => rig.backend.of(url).all.length === 1), 'the owner stayed')
})
