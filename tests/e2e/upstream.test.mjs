// Contract sections 5 and 9, the upstream's side: heartbeat, reconnect with back-off, the waiting queue,
// linger, and backends that misbehave. Clients stay open through all of it.
import assert from 'node:assert/strict'
import net from 'node:net'
import { test } from '../lib/runner.mjs'
import { countedMs, mark } from '../lib/busy.mjs'
import { Backend } from '../lib/backend.mjs'
import { Browser } from '../lib/browser.mjs'
import { service, SLACK_MS, startHub } from '../lib/hub.mjs'
import { freePort } from '../lib/ports.mjs'
import { quiet, until } from '../lib/until.mjs'

const UPSTREAM = '/base/admin/VIN1'
const PAGE = '/admin/VIN1?remoteWs'
const FAST = { reconnect: { min: '100ms', max: '400ms', timeout: '1s' } }
/** How much earlier than asked a timer may seem to fire, seen from another process. */
const EARLY_MS = 30

async function start(t, settings = {}, clients = {}, node = {}) {
  const backend = await Backend.start(t)
  const hub = await startHub(t, { settings: { node, services: [service(backend, settings)], clients } })
  return { backend, hub }
}

/** Waits until the hub itself has noticed: by its log, which is written in that very turn. */
const seesLoss = (hub) => until(() => hub.lines.some((line) => line.includes('upstream_lost')), 3000, 'the hub to see the loss')
const whole = (gaps) => JSON.stringify(gaps.map(({ least, most }) => [Math.round(least), Math.round(most)]))

async function startOpen(t, settings, clients, node) {
  const { backend, hub } = await start(t, settings, clients, node)
  const page = await Browser.open(t, hub.url(PAGE))
  await backend.one(UPSTREAM)
  return { backend, hub, page }
}

test('an upstream without a sign of life is reconnected, and the client stays', async (t) => {
  const { backend, page } = await startOpen(t, { heartbeat: { every: '200ms', timeout: '1500ms' }, ...FAST })
  await until(() => backend.pings.length >= 12, 6000, 'heartbeats that are answered')
  assert.equal(backend.upgrades.length, 1, 'answered heartbeats keep the upstream')
  backend.pong = null
  const answered = backend.pings.at(-1) // the last sign of life leaves at that moment
  await until(() => backend.upgrades.length === 2, 5000, 'a second handshake')
  assert.ok(backend.upgrades[1].at - answered.at > 1500, `reconnected after ${backend.upgrades[1].at - answered.at} ms of silence`)
  assert.ok(countedMs(answered, backend.upgrades[1]) < 1500 + 200 + 400 + SLACK_MS, `not before ${countedMs(answered, backend.upgrades[1])} ms`)
  backend.pong = 'pong'
  await backend.one(UPSTREAM)
  assert.equal(backend.peaks.get(UPSTREAM), 1, 'the silent one was closed first')
  backend.push(UPSTREAM, 'back')
  await page.got(1)
  assert.deepEqual(page.texts(), ['back'])
  assert.equal(page.end, null)
})

test('pushes are a sign of life as good as a pong', async (t) => {
  const { backend, page } = await startOpen(t, { heartbeat: { every: '200ms', timeout: '1500ms' }, ...FAST })
  backend.pong = null
  const pushing = setInterval(() => backend.push(UPSTREAM, 'push'), 100)
  t.defer(() => clearInterval(pushing))
  await page.got(35, 10_000)
  assert.equal(backend.upgrades.length, 1)
})

test('the text of the heartbeat and of its reply are the configured ones', async (t) => {
  const { backend, page } = await startOpen(t, { heartbeat: { text: 'are you there', reply: 'I am', every: '200ms', timeout: '10s' } })
  await until(() => backend.texts().includes('are you there'), 3000, 'the heartbeat')
  for (const text of ['I am', 'pong', 'I am here']) backend.push(UPSTREAM, text)
  await page.got(2)
  assert.deepEqual(page.texts(), ['pong', 'I am here'])
})

test('reconnects back off from min to max while clients stay open', async (t) => {
  const { backend, hub } = await start(t, { reconnect: { min: '200ms', max: '800ms', timeout: '1s' } })
  backend.handshake = 'reset'
  const page = await Browser.open(t, hub.url(PAGE))
  await until(() => backend.upgrades.length >= 8, 12_000, 'eight tries')
  const seen = backend.gaps()
  for (const { least, most } of seen) assert.ok(most >= 200 - EARLY_MS && least <= 800 + SLACK_MS, `between min and max: ${whole(seen)}`)
  assert.ok(seen[0].least < 400, `it begins with min: ${whole(seen)}`)
  for (const { most } of seen.slice(3)) assert.ok(most >= 600 - EARLY_MS, `it backs off up to max, less a quarter: ${whole(seen)}`)
  assert.equal(page.end, null)
  backend.handshake = 'accept'
  await backend.one(UPSTREAM)
})

test('the back-off is jittered: sessions do not come back in step', async (t) => {
  const { backend, hub } = await start(t, { reconnect: { min: '200ms', max: '2s', timeout: '1s' } })
  backend.handshake = 'reset'
  await Promise.all(Array.from({ length: 20 }, (_, n) => Browser.open(t, hub.url(`/admin/V${n}?remoteWs`))))
  const times = (url) => backend.upgrades.filter((upgrade) => upgrade.url === url).map(({ at }) => at)
  const urls = Array.from({ length: 20 }, (_, n) => `/base/admin/V${n}`)
  await until(() => urls.every((url) => times(url).length >= 4), 15_000, 'four tries each')
  const thirds = urls.map((url) => times(url)[3] - times(url)[2]) // of 800 ms and up to half more
  assert.ok(Math.max(...thirds) - Math.min(...thirds) > 50, `third gaps differ: ${thirds.map(Math.round)}`)
})

test('the back-off starts over once an upstream was open for max', async (t) => {
  const { backend, hub } = await start(t, { reconnect: { min: '100ms', max: '1s', timeout: '1s' } })
  backend.handshake = 'reset'
  await Browser.open(t, hub.url(PAGE))
  await until(() => backend.upgrades.length >= 6, 12_000, 'six tries')
  backend.handshake = 'accept'
  const upstream = await backend.one(UPSTREAM)
  await until(() => hub.lines.some((line) => line.includes('upstream_open')), 3000, 'the hub to have it open')
  const open = performance.now()
  await until(() => performance.now() - open > 1050, 3000, 'it to be open for more than max')
  const before = backend.upgrades.length
  const lost = mark()
  upstream.socket.terminate()
  await until(() => backend.upgrades.length > before, 3000, 'the next try')
  // 100 to 150 ms where it starts over, 750 to 1,000 ms where it does not
  assert.ok(countedMs(lost, backend.upgrades[before]) < 600, `the next try came after ${countedMs(lost, backend.upgrades[before])} ms`)
})

test('after an HTTP refusal the back-off goes beyond max', async (t) => {
  const { backend, hub } = await start(t, { reconnect: { min: '50ms', max: '200ms', timeout: '1s' } })
  backend.handshake = 401
  const page = await Browser.open(t, hub.url(PAGE))
  await until(() => backend.gaps().some(({ least }) => least > 600), 30_000, () => `a gap of over 600 ms: ${whole(backend.gaps())}`)
  assert.equal(page.end, null)
})

test('a backend that is away: clients stay, their messages wait and arrive in order', async (t) => {
  const { backend, hub, page } = await startOpen(t, FAST)
  const second = await Browser.open(t, hub.url(PAGE))
  await backend.kill()
  for (let n = 0; n < 100; n++) {
    page.send(`first ${n}`)
    second.send(Buffer.from(`second ${n}`))
  }
  page.send('ping')
  await page.got(1)
  assert.deepEqual(page.texts(), ['pong'], 'heartbeats are answered meanwhile')
  await backend.restart()
  await until(() => backend.messages.length === 200, 400 + 1000 + SLACK_MS, () => `200 messages (have ${backend.messages.length})`)
  for (const who of ['first', 'second']) {
    const mine = backend.messages.map(({ data }) => data.toString()).filter((text) => text.startsWith(who))
    assert.deepEqual(mine, Array.from({ length: 100 }, (_, n) => `${who} ${n}`))
  }
  assert.equal(backend.messages.find(({ text }) => text === null).binary, true)
  assert.deepEqual([page.end, second.end], [null, null])
})

test('messages sent before the upstream is open wait as well', async (t) => {
  const { backend, hub } = await start(t, FAST)
  backend.handshake = 'mute'
  const page = await Browser.open(t, hub.url(PAGE))
  page.send('at once')
  await until(() => backend.upgrades.length === 1, 3000, 'the first try')
  backend.handshake = 'accept'
  await until(() => backend.texts().includes('at once'), 1000 + 400 + 1000 + SLACK_MS, 'the message')
})

test('the client whose message does not fit the waiting queue is closed with 4004, the others stay', async (t) => {
  const { backend, hub, page } = await startOpen(t, { ...FAST, to_upstream: { queue: '64KiB', wait: '30s' } })
  const greedy = await Browser.open(t, hub.url(PAGE))
  await backend.kill()
  page.send('kept')
  await seesLoss(hub)
  for (let n = 0; n < 20; n++) greedy.send(Buffer.alloc(8192, n))
  const end = await greedy.ended()
  assert.equal(end.code, 4004)
  assert.ok(end.reason.length > 0, 'with a reason')
  assert.ok(await hub.metric('vinhub_dropped_total') > 0, 'drops are counted')
  await backend.restart()
  await until(() => backend.texts().includes('kept'), 400 + 1000 + SLACK_MS, 'the message of the other client')
  assert.equal(page.end, null)
})

test('messages of a client that has left go upstream, however many and small they are', async (t) => {
  const backend = await Backend.start(t)
  // Of so small a message the object counts, not the byte.
  const settings = { services: [service(backend, { ...FAST, to_upstream: { queue: '16MiB' } })], clients: { rate: { messages: 0 } } }
  const hub = await startHub(t, { settings })
  backend.handshake = 'mute'
  const page = await Browser.open(t, hub.url(PAGE))
  const count = 2 ** 16
  for (let n = 0; n < count; n++) page.send('x')
  await page.close()
  backend.handshake = 'accept'
  await until(() => backend.texts().length === count, 10_000, () => `all of them, not ${backend.texts().length}`)
})

test('messages without content fill the waiting queue, too', async (t) => {
  const { backend, hub } = await start(t, { ...FAST, to_upstream: { queue: '16KiB' } }, { rate: { messages: 0 } })
  backend.handshake = 'mute'
  const page = await Browser.open(t, hub.url(PAGE))
  await page.flood(20_000, () => '')
  assert.equal((await page.ended()).code, 4004)
})

test('clients whose messages waited for longer than `wait` are closed with 4004, spread over half of it', async (t) => {
  const { backend, hub, page } = await startOpen(t, { ...FAST, to_upstream: { queue: '64KiB', wait: '2s' } })
  const waiting = await Promise.all(Array.from({ length: 10 }, () => Browser.open(t, hub.url(PAGE))))
  await backend.kill()
  await seesLoss(hub)
  const sentAt = mark()
  const ends = await Promise.all(waiting.map(async (client) => {
    client.send('waits')
    const end = await client.ended(3000 + SLACK_MS)
    return { ...end, ...mark() }
  }))
  for (const end of ends) {
    assert.equal(end.code, 4004)
    assert.ok(end.reason.length > 0, 'with a reason')
    assert.ok(end.at - sentAt.at > 2000 - EARLY_MS, `closed after ${end.at - sentAt.at} ms`)
    assert.ok(countedMs(sentAt, end) < 3000 + SLACK_MS, `not before ${countedMs(sentAt, end)} ms`)
  }
  const times = ends.map(({ at }) => at - sentAt.at)
  assert.ok(Math.max(...times) - Math.min(...times) > 200, `the closes are spread: ${times.map(Math.round)}`)
  assert.equal(page.end, null, 'who sent nothing stays')
})

test('the upstream lingers after the last client and a client that comes back finds it', async (t) => {
  // What the admin port says of a session is at most a lease old.
  const { backend, hub, page } = await startOpen(t, { linger: '1500ms' }, {}, { lease: '1s' })
  await page.close()
  const upstream = backend.open(UPSTREAM)[0]
  await until(async () => (await hub.json('/api/sessions/remoteWs:VIN1')).state === 'lingering', 1400, 'state lingering')
  const back = await Browser.open(t, hub.url('/other/VIN1?remoteWs'))
  backend.push(UPSTREAM, 'welcome back')
  await back.got(1)
  await quiet(() => upstream.end, 1800, 'the upstream to be closed under a client that came back')
  const left = performance.now() // before the close: the hub's time begins when it reads that
  await back.close()
  await until(() => upstream.end, 1500 + 1000 + SLACK_MS, 'the upstream to be closed')
  assert.ok(performance.now() - left > 1500 - EARLY_MS, 'not before linger')
  assert.ok([1000, 1001].includes(upstream.end.code), `closed politely, not with ${upstream.end.code}`)
  assert.equal(backend.upgrades.length, 1)
  const fresh = await Browser.open(t, hub.url(PAGE))
  await until(() => backend.upgrades.length === 2, 3000, 'a new upstream for a client that came too late')
  assert.equal(fresh.end, null)
})

for (const [name, handshake] of [['never answers the handshake', 'mute'], ['answers with garbage', 'garbage'], ['refuses with 404', 404]]) {
  test(`a backend that ${name} is tried again, its clients stay, other services work`, async (t) => {
    const good = await Backend.start(t)
    const bad = await Backend.start(t)
    bad.handshake = handshake
    const reconnect = { min: '50ms', max: '200ms', timeout: '400ms' }
    const hub = await startHub(t, { settings: {
      services: [service(good), service(bad, { name: 'badWs', reconnect })],
    } })
    const [page, other] = [await Browser.open(t, hub.url('/admin/VIN1?badWs')), await Browser.open(t, hub.url(PAGE))]
    await until(() => bad.upgrades.length >= 4, 8000, 'four tries')
    await until(() => bad.sockets.size <= 1, 1000, 'tries that failed to be closed')
    await good.one(UPSTREAM)
    good.push(UPSTREAM, 'fine here')
    await other.got(1)
    assert.equal(page.end, null)
    bad.handshake = 'accept'
    await bad.one(UPSTREAM)
    bad.push(UPSTREAM, 'at last')
    await page.got(1)
  })
}

for (const [name, bytes] of [['SSH', 'SSH-2.0-x\r\n'], ['TLS', Buffer.from('15030100020228', 'hex')], ['Redis', '-ERR unknown command\r\n']]) {
  test(`a backend that speaks ${name} is not waited for, and the reason says so`, async (t) => {
    const port = await freePort()
    const server = net.createServer((socket) => socket.on('error', () => {}).once('data', () => socket.write(bytes))).listen(port, '127.0.0.1')
    t.defer(() => server.close())
    const hub = await startHub(t, { settings: { services: [{ name: 'remoteWs', upstream: `ws://127.0.0.1:${port}/x`, reconnect: { timeout: '1h' } }] } })
    const page = await Browser.open(t, hub.url(PAGE))
    await until(() => hub.lines.some((line) => /upstream_lost .*reason="answer is not HTTP"/.test(line)), 3000, 'the reason')
    page.socket.terminate()
  })
}

for (const [code, reason, said] of [[1008, '', /code=1008/], [1008, 'no ticket', /reason="no ticket"/], [undefined, '', /closed without a code/]]) {
  test(`a backend that closes with ${code ?? 'no code'} and "${reason}": the log says why`, async (t) => {
    const { backend, hub } = await start(t)
    await Browser.open(t, hub.url(PAGE))
    const link = await backend.one(UPSTREAM)
    link.socket.close(code, reason)
    await until(() => hub.lines.some((line) => /upstream_lost /.test(line) && said.test(line)), 3000, 'the reason')
    assert.ok(!hub.lines.some((line) => line.includes('reason=""')))
  })
}

test('garbage on an open upstream closes it and it comes back; no browser sees any of it', async (t) => {
  const { backend, page } = await startOpen(t, FAST)
  const upstream = backend.open(UPSTREAM)[0]
  backend.pushBytes(UPSTREAM, Buffer.alloc(3000, 0xa5))
  await until(() => upstream.end && backend.upgrades.length === 2, 3000, 'a new upstream')
  await backend.one(UPSTREAM)
  backend.push(UPSTREAM, 'clean')
  await page.got(1)
  assert.deepEqual(page.texts(), ['clean'])
})

test('a backend that does not read slows its clients down, then they get 4004; memory stays bounded', async (t) => {
  const { backend, hub } = await start(t, { to_upstream: { queue: '256KiB', wait: '1s' }, heartbeat: { timeout: '60s' } }, { rate: { messages: 0 } })
  backend.reads = false
  const flooder = await Browser.open(t, hub.url('/admin/VIN1?remoteWs'))
  await backend.one(UPSTREAM)
  backend.reads = true
  const other = await Browser.open(t, hub.url('/admin/VIN2?remoteWs'))
  await backend.one('/base/admin/VIN2')
  const before = hub.rss()
  const flood = flooder.flood(2000, (n) => Buffer.alloc(65536, n))
  const { code, reason } = await flooder.ended(20_000)
  const taken = await flood
  assert.equal(code, 4004)
  assert.ok(reason.length > 0, 'with a reason')
  assert.ok(taken < 500, `it was slowed down: ${taken} of 2,000 messages were taken`)
  const grown = hub.rss() - before
  assert.ok(grown < 80 * 1024 * 1024, `of 125 MiB that were sent memory grew by ${grown}`)
  other.send('unharmed')
  await until(() => backend.texts().includes('unharmed'), 2000, 'the message of another session')
})
