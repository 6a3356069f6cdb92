// Contract section 9, one node cut off from Redis by a proxy: by a reset, silently, or with its subscriptions alone.
import assert from 'node:assert/strict'
import { countedMs, mark } from '../lib/busy.mjs'
import { test } from '../lib/runner.mjs'
import { quiet, until } from '../lib/until.mjs'
import { note, Rig, SLACK_MS } from './rig.mjs'

const LEASE_MS = 1000
const hold = (ms) => quiet(() => false, ms, '')

/** A link of an owner breaks for longer than its lease. */
async function loseOwner(t, breakLink) {
  const rig = await Rig.start(t, { leaseMs: LEASE_MS, proxied: true })
  await rig.openSessions(20)
  rig.startLoad(100)
  const { hub, sessions } = await rig.busiest()
  const proxy = rig.proxies[rig.hubs.indexOf(hub)]
  const before = mark()
  const since = before.at
  breakLink(proxy)
  const stale = sessions.map(({ url }) => rig.backend.of(url).all.at(-1))
  await until(() => stale.every(({ closedAt }) => closedAt !== null), LEASE_MS + SLACK_MS, 'the upstreams to close with the lease')
  note(`upstreams closed at most ${Math.round(Math.max(...stale.map(({ closedAt }) => closedAt)) - since)} ms after the cut`)
  const last = stale.reduce((a, b) => (a.closedAt > b.closedAt ? a : b))
  assert.ok(countedMs(before, { at: last.closedAt, held: last.closedHeld }) <= LEASE_MS + 50, 'within the lease')
  await until(() => rig.takeOverTimes(sessions.map(({ url }) => url), since).every(Number.isFinite), LEASE_MS + 1000 + SLACK_MS, 'the take-over')
  await until(async () => (await hub.admin('/readyz')).status === 503, 1000, 'the node not to be ready')
  await hold(2 * LEASE_MS)
  proxy.heal()
  await hub.ready(LEASE_MS + 2000 + SLACK_MS)
  await rig.settle()
  assert.equal(rig.closedClients(), 0, 'clients closed')
  const { torn } = rig.judge({ lost: Infinity, ownerLost: true })
  // Where the machine is busy, another node's lease may run out, too.
  const counted = (await Promise.all(rig.hubs.map((each) => each.metric('vinhub_dropped_total')))).reduce((sum, one) => sum + one, 0)
  assert.ok(counted >= torn.size, `${torn.size} publications went to their node's own clients only, ${counted} are counted`)
}

test('an owner cut from Redis: its upstreams close within the lease, before another node opens one', (t) => loseOwner(t, (proxy) => proxy.cut()))

test('an owner whose link goes silent: the same, and what it had written comes too late to count', (t) => loseOwner(t, (proxy) => proxy.silence()))

test('a member cut from Redis for less than a lease fetches what it missed: all, in order, no double', async (t) => {
  const rig = await Rig.start(t, { leaseMs: 5000, proxied: true })
  await rig.openSessions(20)
  rig.startLoad(200)
  for (let n = 0; n < 6; n++) {
    const proxy = rig.proxies[n % 3]
    proxy.cut()
    await hold(500)
    proxy.heal()
    await rig.untilHeard('pushes after the cut')
  }
  await rig.settle()
  assert.equal(rig.closedClients(), 0, 'clients closed')
  assert.ok(rig.urls.every((url) => rig.backend.of(url).all.length === 1), 'each upstream stayed')
  rig.judge({ lost: 0, gaps: 0 })
})

test('a link that is silent for half a lease and then delivers everything at once: nothing lost or doubled', async (t) => {
  const rig = await Rig.start(t, { leaseMs: 5000, proxied: true })
  await rig.openSessions(20)
  rig.startLoad(200)
  for (let n = 0; n < 3; n++) {
    const proxy = rig.proxies[n % 3]
    proxy.silence()
    await hold(1300)
    proxy.heal()
    await rig.untilHeard('pushes after the silence')
  }
  await rig.settle()
  assert.equal(rig.closedClients(), 0, 'clients closed')
  assert.ok(rig.urls.every((url) => rig.backend.of(url).all.length === 1), 'each upstream stayed')
  rig.judge({ lost: 0, gaps: 0 })
})

test('a deaf subscription is noticed by the probe, renewed, and what was missed is fetched', async (t) => {
  const rig = await Rig.start(t, { leaseMs: 3000, proxied: true })
  await rig.openSessions(20)
  rig.startLoad(200)
  for (const [n, proxy] of rig.proxies.entries()) {
    const accepted = proxy.accepted
    assert.ok(proxy.deafen() >= 1, 'there is a subscription to deafen')
    const since = performance.now()
    await until(() => proxy.accepted > accepted, 3000 + SLACK_MS, `node ${n} to connect anew`)
    note(`noticed after ${Math.round(performance.now() - since)} ms with a lease of 3,000 ms`)
    await rig.untilHeard('pushes after the deafness')
  }
  await rig.settle()
  assert.equal(rig.closedClients(), 0, 'clients closed')
  assert.ok(rig.urls.every((url) => rig.backend.of(url).all.length === 1), 'each upstream stayed')
  rig.judge({ lost: 0, gaps: 0 })
})
