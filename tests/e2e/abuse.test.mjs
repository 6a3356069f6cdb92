// Hostile peers on the listening port get the right answer or an end. Memory is bounded, and no other client notices.
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { test } from '../lib/runner.mjs'
import { Backend } from '../lib/backend.mjs'
import { Browser } from '../lib/browser.mjs'
import { countedMs, mark } from '../lib/busy.mjs'
import { service, startHub } from '../lib/hub.mjs'
import { clientFrame, closeCodeOf, handshakeText, rawSocket } from '../lib/net.mjs'
import { until } from '../lib/until.mjs'

const UPSTREAM = '/base/admin/VIN1'
const PAGE = '/admin/VIN1?remoteWs'
const MIB = 1024 * 1024
const GROWTH = 48 * MIB

/** A hub with a well-behaved page; check() shows that it was not harmed and memory did not run away. */
async function start(t, settings = {}) {
  const backend = await Backend.start(t)
  const hub = await startHub(t, { settings: { services: [service(backend)], ...settings } })
  const page = await Browser.open(t, hub.url(PAGE))
  await backend.one(UPSTREAM)
  const before = hub.rss()
  const check = async () => {
    const count = page.received.length
    const asked = mark()
    page.send('ping')
    backend.push(UPSTREAM, 'push')
    await page.got(count + 2, 3000)
    assert.ok(countedMs(asked) < 1500, `answered after ${countedMs(asked)} ms`)
    assert.equal(page.end, null)
    assert.equal(backend.upgrades.filter(({ url }) => url === UPSTREAM).length, 1)
    const grown = hub.rss() - before
    assert.ok(grown < GROWTH, `memory grew by ${grown}`)
  }
  return { backend, hub, page, check }
}

const statusOf = (peer) => Number(/^HTTP\/1\.1 (\d{3})/.exec(peer.text())?.[1] ?? 0)

test('a message of 100 MiB is refused with 4003 while it comes', async (t) => {
  const { backend, hub, check } = await start(t)
  const client = await Browser.open(t, hub.url(PAGE))
  client.send(Buffer.alloc(100 * MIB), () => {})
  assert.equal((await client.ended(20_000)).code, 4003)
  await check()
  assert.equal(backend.messages.length, 0)
})

test('a message of 100 MiB in small fragments is refused as well', async (t) => {
  const { hub, check } = await start(t)
  const peer = rawSocket(t, hub.port, handshakeText(PAGE))
  await until(() => peer.text().includes('\r\n\r\n'), 3000, 'the handshake')
  const part = clientFrame(2, Buffer.alloc(512), { fin: false })
  const next = clientFrame(0, Buffer.alloc(512), { fin: false })
  peer.socket.write(part)
  for (let n = 0; n < 4096; n++) peer.socket.write(next)
  await until(() => closeCodeOf(peer) === 4003, 10_000, () => `4003 (have ${closeCodeOf(peer)})`)
  await check()
})

test('a header of 1 MB is refused', async (t) => {
  const { hub, check } = await start(t)
  const peer = rawSocket(t, hub.port, handshakeText(PAGE, `X-Big: ${'a'.repeat(1_000_000)}\r\n`))
  await until(() => peer.closed, 30_000, 'the connection to be ended')
  const status = statusOf(peer)
  assert.ok([0, 400, 413, 431].includes(status), `status ${status}`)
  await check()
})

test('10,000 headers are refused', async (t) => {
  const { hub, check } = await start(t)
  const peer = rawSocket(t, hub.port, handshakeText(PAGE, Array.from({ length: 10_000 }, (_, n) => `X-${n}: ${'a'.repeat(50)}\r\n`).join('')))
  await until(() => peer.closed, 30_000, 'the connection to be ended')
  assert.notEqual(statusOf(peer), 101)
  await check()
})

test('a URL of 64 KiB is refused', async (t) => {
  const { backend, hub, check } = await start(t)
  const urls = [`/admin/${'V'.repeat(65536)}?remoteWs`, `/admin/VIN2?remoteWs&x=${'y'.repeat(65536)}`, `/admin/VIN2?remoteWs${'&a=b'.repeat(16384)}`]
  for (const url of urls) {
    const peer = rawSocket(t, hub.port, handshakeText(url))
    await until(() => peer.closed || statusOf(peer), 30_000, 'an answer')
    assert.ok([0, 400, 414, 431].includes(statusOf(peer)), `status ${statusOf(peer)}`)
  }
  await check()
  assert.equal(backend.upgrades.length, 1)
})

test('500 half-open handshakes keep nobody out and are ended', { timeout: 90_000 }, async (t) => {
  const { hub, check } = await start(t)
  const half = handshakeText(PAGE)
  const peers = Array.from({ length: 500 }, (_, n) => rawSocket(t, hub.port, half.slice(0, (n * 7) % (half.length - 2))))
  await until(() => peers.every(({ socket }) => !socket.connecting), 5000, 'all to be connected')
  const newcomer = await Browser.open(t, hub.url(PAGE))
  newcomer.send('ping')
  await newcomer.got(1, 2000)
  await check()
  await until(() => peers.every(({ closed }) => closed), 60_000, () => `all to be ended (${peers.filter(({ closed }) => !closed).length} are not)`)
  await check()
})

test('garbage instead of a handshake, and after it', async (t) => {
  const { hub, check } = await start(t)
  const junk = [randomBytes(10_000), Buffer.alloc(5000), Buffer.from('\r\n\r\n'), Buffer.from('GET\r\n\r\n'),
    Buffer.from('PUT /admin/VIN1?remoteWs HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello'),
    Buffer.from('GET /admin/VIN1?remoteWs HTTP/9.9\r\n\r\n'), Buffer.from([0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3])]
  for (const bytes of junk) {
    const peer = rawSocket(t, hub.port, bytes)
    await until(() => !peer.socket.connecting, 2000, 'it to be connected')
    peer.socket.end()
    await until(() => peer.closed, 25_000, `the end of a connection that sent ${bytes.subarray(0, 20).toString('latin1')}`)
    assert.notEqual(statusOf(peer), 101)
  }
  const after = rawSocket(t, hub.port, Buffer.concat([Buffer.from(handshakeText(PAGE)), Buffer.alloc(4000, 0xa5)]))
  await until(() => after.closed || closeCodeOf(after) === 1002, 5000, 'the end of a client that sends garbage')
  await check()
})

test('a flood of PINGs, of empty messages and of one-byte frames is borne', async (t) => {
  const { hub, check } = await start(t, { clients: { rate: { messages: 0 } } })
  const flood = async (frame) => {
    const peer = rawSocket(t, hub.port, handshakeText(PAGE))
    await until(() => peer.text().includes('\r\n\r\n'), 3000, 'the handshake')
    for (let n = 0; n < 20_000; n++) peer.socket.write(frame)
    return peer
  }
  const pings = await flood(clientFrame(9, 'flood'))
  await flood(clientFrame(1, 'ping'))
  const fragments = await flood(clientFrame(0, 'x', { fin: false }))
  await until(() => fragments.closed || closeCodeOf(fragments) === 1002, 10_000, 'the end of a stray continuation')
  await until(() => pings.closed || pings.data.includes('flood'), 5000, 'a PONG or the end')
  await check()
})

test('clients that vanish at any moment leave nothing behind', async (t) => {
  const { hub, check } = await start(t)
  for (let round = 0; round < 5; round++) {
    const peers = Array.from({ length: 100 }, (_, n) => rawSocket(t, hub.port,
      Buffer.concat([Buffer.from(handshakeText(PAGE)), clientFrame(1, 'x'.repeat(n * 11))]).subarray(0, 100 + n * 10)))
    await until(() => peers.every(({ socket }) => !socket.connecting), 5000, 'all to be connected')
    for (const { socket } of peers) socket.resetAndDestroy()
  }
  await until(async () => await hub.metric('vinhub_clients') === 1, 10_000, 'only the page to be left')
  await check()
})
