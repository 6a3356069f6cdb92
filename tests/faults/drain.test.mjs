// Contract section 9, "owner SIGTERM": sessions are handed over, a rolling restart loses and doubles nothing.
import assert from 'node:assert/strict'
import { distribution } from '../lib/checker.mjs'
import { test } from '../lib/runner.mjs'
import { FULL, note, range, Rig } from './rig.mjs'

const [SESSIONS, RATE, DRAIN] = FULL ? [200, 1000, '10s'] : [40, 200, '2s']
const ROLL_MS = 60_000

/** SIGTERM for each node in turn; the next when the one before is back and has clients again. */
async function rollAll(rig) {
  const darkness = []
  for (const hub of rig.hubs) {
    const { length } = rig.closings
    await hub.stop(ROLL_MS)
    await hub.restart()
    for (const client of rig.clients) if (rig.hubs[client.home] === hub) client.goHome()
    await rig.whole()
    await rig.untilHeard(`pushes after ${hub.id} came back`)
    darkness.push(...rig.closings.slice(length))
  }
  return darkness
}

/** Without an upstream from a close to the next open, for each URL, as ms. */
function darkTimes(rig) {
  return rig.urls.flatMap((url) => rig.backend.of(url).all.slice(1).map((next, n) => next.openedAt - rig.backend.of(url).all[n].closedAt))
}

test('a rolling restart under pushes: each client gets each push once, in order; never two upstreams of a vin', { timeout: 300_000 }, async (t) => {
  const rig = await Rig.start(t, { leaseMs: 2000, settings: { node: { drain: DRAIN } } })
  rig.closings = []
  await rig.openSessions(SESSIONS)
  rig.startLoad(RATE)
  await rollAll(rig)
  await rig.settle()
  const moves = darkTimes(rig)
  note(`${SESSIONS} sessions, ${SESSIONS * 3} clients, ${RATE} pushes/s; without an upstream in a hand-over: ${distribution(moves)}`)
  assert.ok(moves.length >= SESSIONS, `sessions moved: ${moves.length}`)
  assert.ok(moves.every((ms) => ms >= 0), 'the next upstream opens after the end of the one before')
  const ends = rig.clients.flatMap((client) => client.ends().map(({ code }) => code))
  assert.ok(ends.filter((code) => code === 1012).length >= SESSIONS, 'clients of a stopping node get 1012')
  assert.deepEqual([...new Set(ends)].filter((code) => code !== 1012 && code !== 1006), [])
  rig.judge({ lost: 0, gaps: 0 })
})

test('SENDs through a rolling restart and reconnects reach the backend exactly once, each client\'s in order', { timeout: 120_000 }, async (t) => {
  const rig = await Rig.start(t, { leaseMs: 2000, settings: { node: { drain: '1s' } } })
  rig.closings = []
  await rig.openSessions(15)
  rig.startLoad(30)
  const sendAll = setInterval(() => rig.clients.forEach((client, who) => client.send(`${who}:${client.sends}`)), 25)
  t.defer(() => clearInterval(sendAll))
  let turn = 0
  const wander = setInterval(() => rig.clients[turn++ % rig.clients.length].moveOn(), 40)
  t.defer(() => clearInterval(wander))
  await rollAll(rig).finally(() => clearInterval(wander))
  clearInterval(sendAll)
  await rig.whole()
  await rig.untilSent()
  await rig.settle()
  const byClient = rig.clients.map(() => [])
  for (const { text } of rig.backend.messages) {
    const [who, id] = text.split(':').map(Number)
    byClient[who].push(id)
  }
  note(`${rig.backend.messages.length} SENDs, ${rig.clients.reduce((sum, client) => sum + client.ends().length, 0)} reconnects`)
  rig.clients.forEach((client, who) => assert.deepEqual(byClient[who], range(client.sends), `client ${who}: each once, in order`))
  const errors = rig.clients.flatMap(({ log }) => log.filter(({ kind }) => kind === 'error'))
  assert.deepEqual(errors, [])
  rig.judge({ lost: 0, gaps: 0 })
})

test('a drained node with the only member closes its clients, which open the session elsewhere; one upstream at a time', async (t) => {
  const rig = await Rig.start(t, { leaseMs: 1000, settings: { node: { drain: '500ms' } } })
  await rig.openSessions(20, { homes: [0] })
  rig.startLoad(200)
  await rig.hubs[0].stop(20_000)
  await rig.settle()
  assert.ok(rig.clients.every(({ node }) => node !== rig.hubs[0]))
  assert.ok(rig.clients.every((client) => client.ends()[0].code === 1012))
  rig.judge({ lost: 0, gaps: 0 })
})
