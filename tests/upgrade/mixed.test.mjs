// Two neighbouring versions in one cluster (contract section 11): nodes of the version before and of this tree, in turn, under
// pushes and commands. Everything that holds for a cluster of one version has to hold for this one.
import assert from 'node:assert/strict'
import { join } from 'node:path'
import { test } from '../lib/runner.mjs'
import { VINHUB } from '../lib/hub.mjs'
import { inOwnNetwork } from '../lib/namespace.mjs'
import { run } from '../lib/process.mjs'
import { until } from '../lib/until.mjs'
import { note, range, Rig } from '../faults/rig.mjs'

inOwnNetwork()
const BEFORE = process.env.VINHUB_BEFORE
const CONTROL = join(VINHUB, '../vinhubctl')
const STOP_MS = 30_000
const [SESSIONS, RATE] = [24, 150]

/** Each client sends a command, numbered, every `everyMs`. */
function startCommands(t, rig, everyMs) {
  const timer = setInterval(() => rig.clients.forEach((client, who) => client.send(`${who}:${client.sends}`)), everyMs)
  const stop = () => clearInterval(timer)
  t.defer(stop)
  return stop
}

/** What reached the backend, by client. */
function received(rig) {
  const ids = rig.clients.map(() => [])
  for (const { text } of rig.backend.messages) {
    const [who, id] = text.split(':').map(Number)
    ids[who].push(id)
  }
  return ids
}

async function acknowledged(rig) {
  const waiting = () => rig.clients.filter(({ unacknowledged }) => unacknowledged.size > 0).length
  await until(() => waiting() === 0, 15_000, () => `all SENDs to be acknowledged; ${waiting()} clients wait`)
}

/** Restarts the node with that program; its clients return to it, and all get pushes again. */
async function comeBack(rig, hub, program) {
  hub.program = program
  await hub.restart()
  for (const client of rig.clients) if (rig.hubs[client.home] === hub) client.goHome()
  await rig.whole()
  await rig.untilHeard(`pushes after ${hub.id} came back`)
}

const versions = async (rig) => (await rig.hubs[0].json('/api/nodes')).nodes.map(({ version }) => version).sort()

/**
 * No node of this version got a message of another that it could not read. 0.1.0 counts and drops the kinds that it does
 * not know (a client id that is taken).
 */
async function assertAllRead(rig) {
  for (const hub of rig.hubs.filter(({ program }) => program !== BEFORE)) assert.equal(await hub.metric('vinhub_dropped_total', 'reason="bus_unreadable"'), 0, `node ${hub.id}`)
}

test('an upgrade node by node, and back: no push lost or double, each command once and in order, one upstream at a time', { timeout: 240_000 }, async (t) => {
  const rig = await Rig.start(t, { leaseMs: 2000, program: BEFORE, settings: { node: { drain: '1s' } } })
  await rig.openSessions(SESSIONS)
  assert.deepEqual(await versions(rig), ['0.1.0', '0.1.0', '0.1.0'])
  rig.startLoad(RATE)
  const stopCommands = startCommands(t, rig, 60)
  for (const program of [VINHUB, BEFORE]) {
    for (const hub of rig.hubs) {
      await hub.stop(STOP_MS)
      await comeBack(rig, hub, program)
      assert.ok((await versions(rig)).length === 3)
    }
    assert.equal(new Set(await versions(rig)).size, 1)
  }
  stopCommands()
  await acknowledged(rig)
  await assertAllRead(rig)
  await rig.settle()
  const ids = received(rig)
  rig.clients.forEach((client, who) => assert.deepEqual(ids[who], range(client.sends), `client ${who}: each once, in order`))
  assert.deepEqual(rig.clients.flatMap(({ log }) => log.filter(({ kind }) => kind === 'error')), [])
  note(`6 drains, ${rig.backend.messages.length} SENDs`)
  rig.judge({ lost: 0, gaps: 0 })
})

test('owners of either version are killed: the other takes over, each gap announced, no command lost', { timeout: 240_000 }, async (t) => {
  const rig = await Rig.start(t, { leaseMs: 1000, program: BEFORE })
  await rig.openSessions(SESSIONS)
  rig.startLoad(RATE)
  const stopCommands = startCommands(t, rig, 60)
  const [a, b, c] = rig.hubs
  // a stays as it was; b is this tree from the second step on, c changes with each kill.
  for (const [hub, program] of [[b, VINHUB], [a, BEFORE], [b, VINHUB], [c, VINHUB], [c, BEFORE], [a, BEFORE]]) {
    await hub.kill()
    await rig.whole()
    await rig.untilHeard(`pushes without ${hub.id}`)
    await comeBack(rig, hub, program)
  }
  assert.deepEqual(await versions(rig), ['0.1.0', '0.1.0', '0.2.0'])
  stopCommands()
  await acknowledged(rig)
  await assertAllRead(rig)
  await rig.settle()
  const ids = received(rig)
  rig.clients.forEach((client, who) => assert.deepEqual([...new Set(ids[who])], range(client.sends), `client ${who}: each at least once`))
  rig.judge({ lost: Infinity, ownerLost: true })
})

test('clients come and go on both versions; operators reach each node through either', { timeout: 120_000 }, async (t) => {
  const rig = await Rig.start(t, { leaseMs: 1000, program: BEFORE, settings: { node: { drain: '500ms' } } })
  const [a, b, c] = rig.hubs
  await b.stop(STOP_MS)
  b.program = VINHUB
  await b.restart()
  for (const n of range(6)) { // sessions that a node of one version opens and one of the other joins
    await rig.openSessions(4, { first: 4 * n, homes: n % 2 ? [1, 0, 2] : [0, 1, 2] })
  }
  rig.startLoad(RATE)
  const wander = setInterval(() => rig.clients[Math.floor(Math.random() * rig.clients.length)].moveOn(), 25)
  t.defer(() => clearInterval(wander))
  await until(() => rig.clients.reduce((sum, { log }) => sum + log.filter(({ kind }) => kind === 'welcome').length, 0) > 400, 60_000, 'clients to come and go')
  clearInterval(wander)
  await rig.whole()
  rig.backend.stopLoad()
  await rig.untilHeard('pushes to those who wandered')

  for (const [asked, node] of [[a, b], [b, c]]) { // either version can drain a node of the other
    const { code, err } = await run(CONTROL, ['--admin', `http://127.0.0.1:${asked.adminPort}`, 'drain', node.id])
    assert.equal(code, 0, err)
    node.mayEnd = true
    await until(() => node.child.exit !== null, STOP_MS, `node ${node.id} to go`)
    await comeBack(rig, node, node === b ? VINHUB : BEFORE)
  }
  await assertAllRead(rig)
  await rig.settle()
  rig.judge({ lost: 0, gaps: 0 })
})
