// Contract sections 3, 5 and 9: clients that do not read, and clients that do not answer PINGs.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from '../lib/runner.mjs'
import { Backend } from '../lib/backend.mjs'
import { Browser } from '../lib/browser.mjs'
import { service, SLACK_MS, startHub } from '../lib/hub.mjs'
import { quiet, until } from '../lib/until.mjs'

const UPSTREAM = '/base/admin/VIN1'
const PAGE = '/admin/VIN1?remoteWs'
const MESSAGE = 16 * 1024
// More than the kernel buffers of one connection hold, so that the hub's queue must overflow.
const COUNT = 2000

/** A hub with one client that reads and one that has stopped reading. */
async function start(t, policy, options) {
  const backend = await Backend.start(t)
  const hub = await startHub(t, { settings: { services: [service(backend, { slow_client: { queue: '128KiB', policy } })] } })
  const [reader, sleeper] = [await Browser.open(t, hub.url(PAGE)), await Browser.open(t, hub.url(PAGE), options)]
  await backend.one(UPSTREAM)
  sleeper.stopReading()
  return { backend, hub, reader, sleeper }
}

/** Numbered messages, never more of them on the way than the reading client's queue takes. */
async function pushAll(backend, reader) {
  for (let n = 0; n < COUNT; n++) {
    backend.push(UPSTREAM, `${n}:`.padEnd(MESSAGE, '.'))
    if (n % 4 === 3) await until(() => reader.received.length > n - 4, 5000, () => `the reader to keep up at ${n}`)
  }
  await reader.got(COUNT)
}

const numbers = (browser) => browser.texts().map((text) => parseInt(text, 10))

/** The number of messages since the last gap: the queue's content, if it had overflowed before. */
function sinceLastGap(seen) {
  const gap = seen.findLastIndex((n, index) => index > 0 && n !== seen[index - 1] + 1)
  return seen.length - gap
}

function assertIncreasing(seen) {
  assert.ok(seen.every((n, index) => index === 0 || n > seen[index - 1]), 'in order and none twice')
}

test('policy close: the slow client gets 4005, the other one gets everything', async (t) => {
  const { backend, hub, reader, sleeper } = await start(t, 'close')
  const overflow = until(async () => await hub.metric('vinhub_dropped_total') > 0, 30_000, 'the overflow to be counted')
    .then(() => sleeper.readOn())
  await pushAll(backend, reader)
  await overflow
  const { code, reason } = await sleeper.ended()
  assert.equal(code, 4005)
  assert.ok(reason.length > 0, 'with a reason')
  assert.deepEqual(numbers(reader), Array.from({ length: COUNT }, (_, n) => n))
  const seen = numbers(sleeper)
  assert.deepEqual(seen, seen.map((_, index) => index), 'what it got is without a gap')
})

test('policy close: a client that never reads again is reset and frees its place', async (t) => {
  const { backend, hub, reader, sleeper } = await start(t, 'close')
  await pushAll(backend, reader)
  await until(async () => await hub.metric('vinhub_clients') === 1, 1000 + SLACK_MS, 'the slow client to be gone')
  assert.equal(sleeper.end, null, 'it has not read its end yet')
  assert.equal(reader.end, null)
})

test('policy drop_oldest: the slow client misses the oldest and stays', async (t) => {
  const { backend, hub, reader, sleeper } = await start(t, 'drop_oldest')
  await pushAll(backend, reader)
  sleeper.readOn()
  await until(() => numbers(sleeper).at(-1) === COUNT - 1, 5000, 'the newest message')
  const seen = numbers(sleeper)
  assertIncreasing(seen)
  assert.ok(seen.length < COUNT, 'some were dropped')
  const kept = sinceLastGap(seen)
  assert.ok(kept >= 4 && kept * MESSAGE <= 256 * 1024, `the queue held the newest ${kept}`)
  const dropped = await hub.metric('vinhub_dropped_total')
  assert.ok(dropped >= COUNT - seen.length, `${COUNT - seen.length} are missing, ${dropped} counted`)
  assert.equal(sleeper.end, null)
})

test('policy latest: a full queue makes room for the newest message by dropping all others', async (t) => {
  const { backend, hub, reader, sleeper } = await start(t, 'latest')
  await pushAll(backend, reader)
  const before = await hub.metric('vinhub_dropped_total')
  let last = COUNT - 1
  let dropped = 0
  await until(async () => {
    backend.push(UPSTREAM, `${++last}:`.padEnd(MESSAGE, '.'))
    await reader.got(last + 1)
    dropped = await hub.metric('vinhub_dropped_total') - before
    return dropped > 0
  }, 10_000, 'the queue to be full once more')
  assert.ok(dropped >= 4, `all that waited was dropped at once, not ${dropped}`)
  sleeper.readOn()
  await until(() => numbers(sleeper).at(-1) === last, 5000, 'the newest message')
  assertIncreasing(numbers(sleeper))
  assert.equal(sinceLastGap(numbers(sleeper)), 1, 'nothing but the newest was left')
  backend.push(UPSTREAM, `${last + 1}:`)
  await until(() => numbers(sleeper).at(-1) === last + 1, 2000, 'live again')
  assert.equal(sleeper.end, null)
})

/** Pushes until the hub has dropped something, and enough more to drop all that waited then. */
async function overflow(backend, hub, reader) {
  let n = reader.received.length
  const push = () => {
    backend.push(UPSTREAM, `${n++}:`.padEnd(MESSAGE, '.'))
    return reader.got(n)
  }
  const before = await hub.metric('vinhub_dropped_total')
  await until(async () => {
    await push()
    return await hub.metric('vinhub_dropped_total') > before
  }, 30_000, 'the queue to overflow')
  for (let more = 0; more < 20; more++) await push()
  return n
}

for (const policy of ['drop_oldest', 'latest']) {
  test(`policy ${policy}: a client of vinhub.v1 loses publications only, and gets a GAP for them`, async (t) => {
    const { backend, hub, reader, sleeper } = await start(t, policy, { protocols: ['vinhub.v1'] })
    await overflow(backend, hub, reader)
    const upstream = await backend.one(UPSTREAM)
    upstream.socket.close(1011)
    await until(async () => await backend.one(UPSTREAM) !== upstream, 5000, 'the upstream to come back')
    const count = await overflow(backend, hub, reader)
    sleeper.readOn()
    const messages = () => sleeper.texts().map((text) => JSON.parse(text))
    await until(() => messages().at(-1)?.offset === count, 5000, 'the newest message')
    assert.equal(messages()[0].type, 'WELCOME')
    const told = messages().filter(({ type }) => type === 'STATUS').map(({ payload }) => payload.upstream)
    assert.deepEqual(told.slice(told.indexOf('down')), ['down', 'connected'])
    let next = 1
    for (const { type, offset, payload } of messages()) {
      if (type === 'GAP') {
        assert.equal(payload.from, next)
        next = payload.to + 1
      } else if (type === 'MESSAGE') {
        assert.equal(offset, next++)
      }
    }
  })
}

test('a slow client holds nobody up, and memory stays bounded', async (t) => {
  const { backend, hub, reader, sleeper } = await start(t, 'drop_oldest')
  const before = hub.rss()
  await pushAll(backend, reader)
  const grown = hub.rss() - before
  assert.ok(grown < 48 * 1024 * 1024, `memory grew by ${grown}`)
  assert.equal(sleeper.end, null)
})

/** The most that the kernel keeps unsent of one connection of this port. */
function keptByKernel(port) {
  const lines = readFileSync('/proc/net/tcp', 'utf8').split('\n').slice(1).map((line) => line.trim().split(/\s+/))
  return Math.max(...lines.filter(([, local]) => local && parseInt(local.split(':')[1], 16) === port).map((fields) => parseInt(fields[4], 16)))
}

test('of a client that stopped reading the kernel soon keeps no more, until it reads on', async (t) => {
  const { backend, hub, reader, sleeper } = await start(t, 'drop_oldest')
  let n = 0
  const push = () => {
    backend.push(UPSTREAM, `${n++}:`.padEnd(4096, '.'))
    return reader.got(n)
  }
  await until(async () => {
    await push()
    return await hub.metric('vinhub_dropped_total') > 0
  }, 30_000, 'the queue to overflow')
  const kept = keptByKernel(hub.port)
  assert.ok(kept > 0 && kept < 1.5 * 1024 * 1024, `the kernel keeps ${kept} bytes, of megabytes that it would`)
  sleeper.readOn()
  await until(() => numbers(sleeper).at(-1) === n - 1, 5000, 'what was kept for it')
  for (let more = 0; more < 50; more++) await push()
  await until(() => numbers(sleeper).at(-1) === n - 1, 5000, 'all that came afterwards')
  assert.ok(sinceLastGap(numbers(sleeper)) >= 50, 'nothing was dropped any more')
})

test('a client that does not answer PINGs is dropped, one that only answers PINGs stays', async (t) => {
  const backend = await Backend.start(t)
  const hub = await startHub(t, { settings: { services: [service(backend)], clients: { ping: { every: '500ms', timeout: '1500ms' } } } })
  const alive = await Browser.open(t, hub.url(PAGE))
  const began = performance.now() // before the handshake: when the page sees it, the hub's own time may have run for a while
  const dead = await Browser.open(t, hub.url(PAGE), { autoPong: false })
  await dead.ended(2000 + 1000 + SLACK_MS)
  const after = performance.now() - began
  assert.ok(after > 2000 - 50, `not before every and timeout are over, but after ${after} ms`)
  await quiet(() => alive.end, 2500, 'a client that answers PINGs to be dropped')
  assert.ok(alive.pings >= 3, `${alive.pings} PINGs came`)
  await until(async () => await hub.metric('vinhub_clients') === 1, 2000, 'the dead client to be gone')
})
