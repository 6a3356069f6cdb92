// Faults of all kinds in random order, several at a time, under pushes and SENDs. FAULTS_SEED replays a
// schedule (the processes' own timing differs); FAULTS_SECONDS sets how long it goes on.
import assert from 'node:assert/strict'
import { test } from '../lib/runner.mjs'
import { quiet, until } from '../lib/until.mjs'
import { FULL, note, Rig, SLACK_MS } from './rig.mjs'

const LEASE_MS = 1500
const SECONDS = Number(process.env.FAULTS_SECONDS ?? (FULL ? 300 : 20))
const SEED = Number(process.env.FAULTS_SEED ?? Date.now() % 1_000_000)

/** A small seeded generator: floats in [0, 1). */
function generator(seed) {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let z = state
    z = Math.imul(z ^ (z >>> 15), z | 1)
    z ^= z + Math.imul(z ^ (z >>> 7), z | 61)
    return ((z ^ (z >>> 14)) >>> 0) / 4294967296
  }
}

/** Each fault gets the number of its node and how long it lasts, and ends healed. */
const FAULTS = {
  async kill(rig, node, hold) {
    await rig.hubs[node].kill()
    await hold()
    rig.hubs[node].relaunch()
    await rig.hubs[node].ready(20_000)
  },
  async stop(rig, node, hold) { await rig.hubs[node].whilePaused(hold) },
  async restart(rig, node, hold) {
    await rig.hubs[node].stop(30_000)
    await hold()
    rig.hubs[node].relaunch()
    await rig.hubs[node].ready(20_000)
  },
  async cut(rig, node, hold) { rig.proxies[node].cut(); await hold(); rig.proxies[node].heal() },
  async silence(rig, node, hold) { rig.proxies[node].silence(); await hold(); rig.proxies[node].heal() },
  async deafen(rig, node, hold) { rig.proxies[node].deafen(); await hold(); rig.proxies[node].heal() },
}

/** Faults of what all nodes share: these come one at a time. */
const SHARED = {
  async redisEmptied(rig, hold) { await rig.redis.kill(); await hold(); await rig.redis.restart() },
  async redisAsleep(rig, hold) {
    rig.redis.child.signal('SIGSTOP')
    try { await hold() } finally { rig.redis.child.signal('SIGCONT') }
  },
  async redisKillsLinks(rig) {
    await rig.redis.client.client('KILL', 'TYPE', 'pubsub')
    await rig.redis.client.client('KILL', 'TYPE', 'normal', 'SKIPME', 'yes')
  },
  async backendDies(rig, hold) { await rig.backend.kill(); await hold(); await rig.backend.restart() },
}

async function run(rig, random, log, done) {
  const pick = (table) => Object.keys(table)[Math.floor(random() * Object.keys(table).length)]
  const began = performance.now()
  const lane = async (name, next) => {
    while (!done()) {
      const { what, act, ms } = next()
      log.push(`${Math.round(performance.now() - began)} ${name} ${what} ${ms}`)
      await act(() => quiet(() => false, ms, ''))
      await quiet(() => false, 200 + random() * 600, '')
    }
  }
  const duration = () => Math.round(random() < 0.5 ? random() * 400 : random() * 3 * LEASE_MS)
  const onNode = (node) => () => {
    const [what, ms] = [pick(FAULTS), duration()]
    return { what, ms, act: (hold) => FAULTS[what](rig, node, hold) }
  }
  const onAll = () => {
    const [what, ms] = [pick(SHARED), Math.round(duration() / 2)]
    return { what, ms, act: (hold) => SHARED[what](rig, hold) }
  }
  await Promise.all([...rig.hubs.map((hub, node) => lane(hub.id, onNode(node))), lane('all', onAll)])
}

test(`random faults for ${SECONDS} s: nothing double, nothing out of order, each gap announced, and all is well again after`,
  { timeout: (SECONDS + 120) * 1000 }, async (t) => {
    note(`seed ${SEED}`)
    const rig = await Rig.start(t, { leaseMs: LEASE_MS, proxied: true, settings: { node: { drain: '500ms' } } })
    const random = generator(SEED)
    await rig.openSessions(20)
    rig.startLoad(100)
    let turn = 0
    const wander = setInterval(() => {
      const client = rig.clients[turn++ % rig.clients.length]
      if (client.joined) client.moveOn()
    }, 100)
    t.defer(() => clearInterval(wander))
    const talk = setInterval(() => { for (const client of rig.clients) if (client.unacknowledged.size < 5) client.send(`${client.path} ${client.sends}`) }, 200)
    t.defer(() => clearInterval(talk))
    const endsAt = performance.now() + SECONDS * 1000
    const log = []
    t.explain(() => ['faults: at ms, node, what, for ms', ...log])
    await run(rig, random, log, () => performance.now() > endsAt)
    clearInterval(wander)
    clearInterval(talk)
    const healed = performance.now()
    await Promise.all(rig.hubs.map((hub) => hub.ready(LEASE_MS + 5000 + SLACK_MS)))
    await rig.whole(LEASE_MS + 8000)
    await rig.untilHeard('pushes after all the faults', LEASE_MS + 8000)
    note(`${log.length} faults; all sessions and clients well ${Math.round(performance.now() - healed)} ms after the last`)
    await until(() => rig.clients.every(({ unacknowledged }) => unacknowledged.size === 0), 15_000, () => `all SENDs to be acknowledged; ${
      rig.clients.filter(({ unacknowledged }) => unacknowledged.size > 0).length} clients wait`)
    await rig.settle()
    // Several faults at once can keep a node from knowing any position for longer than a client waits for it.
    // Stopped processes hold their old connections open meanwhile: the most at once is judged in pause and link.
    const result = rig.judge({ lost: Infinity, peak: Infinity, unresumed: Infinity, ownerLost: true, dataLost: true })
    assert.ok(result.messages > 0)
  })
