// Contract section 6, "Subscriptions", "Rate" and "Event streams", when nodes are killed: each vehicle of a connection is on its own.
import assert from 'node:assert/strict'
import { countedMs, mark } from '../lib/busy.mjs'
import { SANITIZED } from '../lib/hub.mjs'
import { test } from '../lib/runner.mjs'
import { until } from '../lib/until.mjs'
import { Page, Stream } from './page.mjs'
import { FULL, note, range, Rig, SLACK_MS, upstreamOf } from './rig.mjs'

const VEHICLES = 1000
const LIVE_MS = 1000 + (SANITIZED ? SLACK_MS : 0) // with sanitizers times mean little
const LOAD = FULL ? 2000 : 500

const vinsOf = (count, first = 0) => range(count).map((n) => `V${first + n}`)
const settings = { clients: { max_subscriptions: VEHICLES } }

/** Adds them to what the rig waits for and judges. */
function watch(rig, views) {
  for (const view of views) {
    let session = rig.sessions.find(({ vin }) => vin === view.vin)
    if (!session) rig.sessions.push(session = { vin: view.vin, url: upstreamOf(view.vin), clients: [] })
    session.clients.push(view)
  }
}

const isLive = ({ joined, upstream }) => joined && upstream === 'connected'

/** Waits until all are live; returns how long it took, without what the machine held the processes up. */
async function live(views, ms) {
  const began = mark()
  await until(() => views.every(isLive), ms, () => `all to be live; ${views.filter((view) => !isLive(view)).length} are not`)
  return Math.round(countedMs(began))
}

/** Pages on these nodes share the vehicles: each node owns its part. */
async function ownedBy(t, rig, homes, vins) {
  const parts = homes.map((home, n) => ({ hub: rig.hubs[home], vins: vins.filter((_, v) => v % homes.length === n) }))
  for (const [n, { vins: own }] of parts.entries()) {
    const page = new Page(t, rig.hubs, homes[n], 'vinhub.v1.msgpack')
    const views = page.follow(own)
    watch(rig, views)
    await live(views, 20_000 + rig.leaseMs)
  }
  return parts
}

test('1,000 vehicles on one connection: live within a second, one upstream each, each push once; its node killed: all go on elsewhere', { timeout: 180_000 },
  async (t) => {
    const rig = await Rig.start(t, { leaseMs: 1000, settings })
    // Half of the sessions are open on other nodes; the page opens the rest, and all stay open when it is away.
    await ownedBy(t, rig, [1, 2], vinsOf(VEHICLES / 2))
    const page = new Page(t, rig.hubs, 0)
    await until(() => page.open, 5000, 'WELCOME of the connection')
    const views = page.follow(vinsOf(VEHICLES))
    watch(rig, views)
    const took = await live(views, LIVE_MS)
    note(`live after ${took} ms`)
    const heir = new Page(t, rig.hubs, 1, 'vinhub.v1.msgpack')
    const others = heir.follow(vinsOf(VEHICLES / 2, VEHICLES / 2))
    watch(rig, others)
    await live(others, 10_000)
    await rig.whole()
    rig.startLoad(LOAD)
    await until(() => views.every(({ lastNumber }) => lastNumber >= 1), 30_000, 'pushes on all')
    const owners = await rig.owners()
    const theirs = new Set(owners.filter(({ owner }) => owner === rig.hubs[0]).map(({ session }) => session.vin))
    note(`the page's node owns ${theirs.size} of ${VEHICLES}`)
    const from = performance.now()
    await rig.hubs[0].kill()
    await until(() => views.every(({ log, joined }) => joined && log.some(({ kind, at }) => kind === 'welcome' && at > from)), 10_000, 'all to be resumed')
    note(`resumed on ${page.node.id} after ${Math.round(performance.now() - from)} ms`)
    await rig.settle()
    assert.equal(page.ends, 1)
    rig.judge({ lost: Infinity, ownerLost: true })
    // Those of other owners have lost nothing at all.
    const gaps = page.told.filter(({ type, session }) => type === 'GAP' && !theirs.has(session.split(':')[1]))
    assert.deepEqual(gaps.slice(0, 5), [], 'no gap of a vehicle whose owner lived')
    for (const { vin, url, clients } of rig.sessions.filter((session) => !theirs.has(session.vin))) {
      const view = clients.find((client) => client.path && views.includes(client))
      const first = view.numbers()[0]
      assert.deepEqual(view.numbers(), range(rig.backend.of(url).sent.length - first).map((n) => first + n), `${vin}: each push once, in order`)
    }
  })

test('an owner of 100 vehicles of a page is killed: only these pause, and each comes back within lease + 1 s', { timeout: 120_000 }, async (t) => {
  const leaseMs = 3000
  const rig = await Rig.start(t, { leaseMs, settings })
  const [killed, other] = await ownedBy(t, rig, [1, 2], vinsOf(200))
  const page = new Page(t, rig.hubs, 0)
  const views = page.follow(vinsOf(200))
  watch(rig, views)
  await live(views, 10_000)
  await rig.untilHeard('all to be joined')
  const told = page.told.length
  const before = mark()
  await killed.hub.kill()
  // While those of the killed node have no upstream the others get each push.
  const urls = other.vins.map(upstreamOf)
  const theirs = views.filter(({ vin }) => other.vins.includes(vin))
  let rounds = 0
  while (countedMs(before) < leaseMs / 3) {
    const marks = new Map(urls.map((url) => [url, rig.backend.pushNext(url)]))
    await until(() => theirs.every(({ vin, lastNumber }) => lastNumber >= marks.get(upstreamOf(vin))), 1000, 'pushes of the others')
    rounds++
  }
  note(`${rounds} pushes each on the others while ${killed.vins.length} were without an owner`)
  const taken = killed.vins.map(upstreamOf)
  await until(() => rig.takeOverTimes(taken, before.at).every(Number.isFinite), leaseMs + 1000 + SLACK_MS, 'the take-over of all')
  note(`taken over after at most ${Math.round(Math.max(...rig.takeOverTimes(taken, before.at)))} ms`)
  await rig.settle()
  assert.equal(page.ends, 0, 'the connection stays')
  const strange = page.told.slice(told).filter(({ session }) => other.vins.includes(session.split(':')[1]))
  assert.deepEqual(strange.slice(0, 3), [], 'nothing is told of the others')
  rig.judge({ lost: Infinity, ownerLost: true })
})

for (const [what, home, ownerLost] of [['a member', 0, false], ['the owner', 1, true]]) {
  test(`event streams on ${what} that is killed go on by Last-Event-ID on another node, ${ownerLost ? 'each gap announced' : 'without gap or double'}`,
    { timeout: 90_000 }, async (t) => {
      const rig = await Rig.start(t, { leaseMs: 1000 })
      await rig.openSessions(20, { homes: [1] })
      const [hubs, streams] = [[...rig.hubs.slice(home), ...rig.hubs.slice(0, home)], []]
      for (const { vin } of [...rig.sessions]) {
        const stream = new Stream(t, hubs, vin)
        streams.push(stream)
        watch(rig, [stream.one])
      }
      await rig.whole()
      await rig.untilHeard('all streams')
      rig.startLoad(400)
      const goOn = async (count) => {
        const marks = streams.map(({ one }) => one.lastNumber)
        await until(() => streams.every(({ one }, n) => one.lastNumber >= marks[n] + count), 15_000, 'pushes to all streams')
      }
      await goOn(20)
      await rig.hubs[home].kill()
      await until(() => streams.every(({ one, ends }) => ends > 0 && one.joined), 10_000, 'all streams to be back')
      await goOn(20)
      await rig.settle()
      assert.ok(streams.every(({ one }) => one.log.filter(({ kind }) => kind === 'welcome').length > 1), 'each came back')
      rig.judge(ownerLost ? { lost: Infinity, ownerLost: true } : { lost: 0, gaps: 0 })
    })
}

test('rate=1 at 20 pushes a second, through a kill of the owner: the newest each second, the last one always, others get all twenty', { timeout: 120_000 },
  async (t) => {
    const rig = await Rig.start(t, { leaseMs: 1000, settings })
    const [killed, other] = await ownedBy(t, rig, [1, 2], vinsOf(6))
    const [slow, whole] = [new Page(t, rig.hubs, 0), new Page(t, rig.hubs, 0)]
    const rated = slow.follow(vinsOf(6), '&rate=1')
    const all = whole.follow(vinsOf(6))
    watch(rig, all)
    await live([...rated, ...all], 10_000)
    await rig.untilHeard('all to be joined')
    for (const view of rated) view.log.length = 0
    // What each of the others had when a rated one came.
    const behind = []
    rated.forEach((view, n) => {
      const { message } = view
      view.message = function (text, position, node) { message.call(view, text, position, node); behind.push(all[n].lastNumber - view.lastNumber) }
    })
    const began = performance.now()
    rig.startLoad(20 * 6)
    const got = (views, count) => until(() => views.every(({ log }) => log.filter(({ kind }) => kind === 'message').length >= count), 20_000,
      () => `${count} rated messages of each; they have ${views.map(({ log }) => log.filter(({ kind }) => kind === 'message').length)}`)
    await got(rated, 3)
    await killed.hub.kill()
    await got(rated, 7)
    rig.backend.stopLoad()
    const last = (view) => rig.backend.of(upstreamOf(view.vin)).sent.length - 1
    await until(() => rated.every((view) => view.lastNumber === last(view)), 1000 + 50 + SLACK_MS, () => `the last push of each: ${
      rated.map((view) => `${view.vin} ${view.lastNumber} of ${last(view)}`)}`)
    const seconds = (performance.now() - began) / 1000
    for (const view of rated) {
      const numbers = view.numbers()
      assert.ok(numbers.length <= seconds + 2, `${view.vin}: ${numbers.length} messages in ${seconds} s`)
      assert.deepEqual(numbers, [...new Set(numbers)].sort((a, b) => a - b), `${view.vin}: once and in order`)
      assert.equal(view.log.filter(({ kind }) => kind === 'gap' && other.vins.includes(view.vin)).length, 0, 'a jump is no gap')
    }
    behind.sort((a, b) => a - b)
    note(`${behind.length} rated messages in ${seconds.toFixed(1)} s, at most ${behind.at(-1)} pushes behind the newest`)
    assert.ok(behind.at(-1) <= 10, `a rated message was ${behind.at(-1)} pushes behind the newest`)
    assert.equal(slow.ends + whole.ends, 0)
    await rig.settle()
    rig.judge({ lost: Infinity, ownerLost: true })
    for (const view of all.filter(({ vin }) => other.vins.includes(vin))) {
      const numbers = view.numbers()
      assert.deepEqual(numbers, range(last(view) + 1 - numbers[0]).map((n) => numbers[0] + n), `${view.vin}: all twenty`)
    }
  })
