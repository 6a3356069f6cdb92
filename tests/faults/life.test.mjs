// Contract section 9, the rows about clients, backends and starts: joining, leaving, a backend that dies, a
// client that does not read, a node id that is taken.
import assert from 'node:assert/strict'
import { Browser } from '../lib/browser.mjs'
import { distribution } from '../lib/checker.mjs'
import { service, startHub } from '../lib/hub.mjs'
import { closeCodeOf, handshakeText, rawSocket } from '../lib/net.mjs'
import { test } from '../lib/runner.mjs'
import { quiet, until } from '../lib/until.mjs'
import { note, pageOf, range, Rig, SLACK_MS } from './rig.mjs'

test('a client that comes where the session exists elsewhere joins it: no second upstream, no push missed from then on', async (t) => {
  const rig = await Rig.start(t)
  const opened = await rig.openSessions(20, { homes: [0] })
  rig.startLoad(200)
  for (const home of [1, 2, 0]) {
    for (const session of opened) rig.addClient(session, home)
    await rig.whole()
    await rig.untilHeard('pushes at those who came')
  }
  await rig.settle()
  assert.ok(rig.urls.every((url) => rig.backend.of(url).all.length === 1), 'one upstream for ever')
  // A client that is there from the start gets all; a later one may miss pushes before its WELCOME.
  const result = rig.judge({ lost: Infinity, gaps: 0 })
  assert.deepEqual(result.lost.filter(({ client }) => client === 0), [])
})

test('when the last client of all nodes has left the upstream closes after linger, and not before', async (t) => {
  const rig = await Rig.start(t, { services: { linger: '700ms' } })
  const [{ clients, url }] = await rig.openSessions(1)
  clients[0].stop()
  clients[1].stop()
  await quiet(() => rig.backend.counts.get(url) !== 1, 1200, 'the upstream to close while somebody watches')
  const since = performance.now()
  clients[2].stop()
  await until(() => rig.backend.counts.get(url) === 0, 700 + 1000 + SLACK_MS, 'the upstream to close')
  const [{ closedAt, end }] = rig.backend.of(url).all
  note(`upstream closed ${Math.round(closedAt - since)} ms after the last client left, linger 700 ms`)
  assert.ok(closedAt - since >= 650, 'not before linger')
  assert.equal(end.code, 1000)
})

test('a backend that dies and returns, five times under load: clients stay, and each push made arrives in order', async (t) => {
  const rig = await Rig.start(t)
  await rig.openSessions(30)
  rig.startLoad(150)
  const times = []
  for (let n = 0; n < 5; n++) {
    await rig.backend.kill()
    await quiet(() => false, 400, '')
    await rig.backend.restart()
    const since = performance.now()
    await rig.whole(1000 + 1000 + SLACK_MS)
    times.push(...rig.takeOverTimes(rig.urls, since))
    await rig.untilHeard('pushes after the return')
  }
  note(`upstreams back after the backend's return, reconnect.max 1 s: ${distribution(times)}`)
  await rig.settle()
  assert.equal(rig.closedClients(), 0, 'clients closed')
  rig.judge({ lost: Infinity, gaps: 0 }) // what dies on its way to the hub is lost with the backend's connection
})

test('a client that does not read is closed and reset within 1 s, and nobody else is held up', async (t) => {
  const rig = await Rig.start(t, { services: { slow_client: { queue: '64KiB' } } })
  const [{ url, vin, clients }] = await rig.openSessions(1)
  const slow = rig.hubs.map((hub) => rawSocket(t, hub.port, handshakeText(pageOf(vin))))
  await until(() => slow.every((peer) => peer.text().includes('101')), 5000, 'the slow ones to be in')
  slow.forEach(({ socket }) => socket.pause())
  const padding = ` ${'x'.repeat(100_000)}`
  const lag = []
  const dropped = async () => {
    const drops = await Promise.all(rig.hubs.map((hub) => hub.metric('vinhub_dropped_total', 'slow_client')))
    return drops.every((count) => count > 0)
  }
  let overAt = null
  await until(async () => {
    const number = rig.backend.pushNext(url, padding)
    const pushedAt = performance.now()
    await until(() => clients.every(({ lastNumber }) => lastNumber >= number), 3000, 'the others to get it')
    lag.push(performance.now() - pushedAt)
    if (overAt === null && await dropped()) overAt = performance.now()
    return overAt !== null
  }, 20_000, 'the slow ones to be over their queue')
  const count = async () => (await Promise.all(rig.hubs.map((hub) => hub.json('/websocket-stats')))).reduce((sum, { connections }) => sum + connections, 0)
  await until(async () => (await count()) === clients.length, 1000 + SLACK_MS, 'the slow ones to be gone')
  note(`gone ${Math.round(performance.now() - overAt)} ms after the queue was full; pushes of 100 kB to the others meanwhile: ${distribution(lag)}`)
  slow.forEach(({ socket }) => socket.resume())
  await until(() => slow.every(({ closed }) => closed), 3000, 'their sockets to end')
  for (const peer of slow) assert.ok([4005, null].includes(closeCodeOf(peer)), `close code ${closeCodeOf(peer)}`)
  await rig.settle()
  rig.judge({ lost: 0, gaps: 0 })
})

test('a node that starts under an id killed a moment ago waits for its old life to end, then serves', async (t) => {
  const leaseMs = 5000 // so that it is up again well before, on a busy machine, too
  const rig = await Rig.start(t, { leaseMs })
  await rig.openSessions(6)
  const [hub] = rig.hubs
  await hub.kill()
  const since = performance.now()
  hub.relaunch()
  await until(async () => (await hub.admin('/readyz')).status === 503, 3000, 'readyz to say 503')
  const refused = await new Promise((resolve) => {
    const browser = Browser.dial(t, hub.url(pageOf('V0')))
    browser.opened.then(() => resolve('open'), (error) => resolve(error.message))
  })
  assert.match(refused, /503/, 'no client is taken meanwhile')
  await hub.ready(leaseMs + 1000 + SLACK_MS)
  note(`ready ${Math.round(performance.now() - since)} ms after the kill, lease ${leaseMs} ms`)
  assert.ok(performance.now() - since >= leaseMs / 2)
  await rig.settle()
  rig.judge({ lost: Infinity })
})

test('nodes that start under an id in use end with 1; the node that has it does not notice', async (t) => {
  const rig = await Rig.start(t)
  await rig.openSessions(6)
  rig.startLoad(60)
  const [hub] = rig.hubs
  const twins = await Promise.all(range(2).map(() => startHub(t, { id: hub.id, redis: rig.redis, ready: false,
    settings: { node: { lease: '1s' }, services: [service(rig.backend)] } })))
  twins.forEach((twin) => { twin.mayEnd = true })
  await until(() => twins.every(({ child }) => child.exit), 3000 + SLACK_MS, 'the twins to end')
  for (const { child } of twins) {
    assert.equal(child.exit.code, 1)
    assert.match(child.err, /node id a is in use/)
  }
  await rig.settle()
  assert.equal(rig.closedClients(), 0)
  rig.judge({ lost: 0, gaps: 0 })
})
