// Contract section 5: messages of raw clients pass unchanged in both directions, and a message that is too
// large or ill-formed harms only its sender.
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { test } from '../lib/runner.mjs'
import { Backend } from '../lib/backend.mjs'
import { Browser } from '../lib/browser.mjs'
import { service, startHub } from '../lib/hub.mjs'
import { clientFrame, closeCodeOf, handshakeText, rawSocket } from '../lib/net.mjs'
import { quiet, until } from '../lib/until.mjs'

const UPSTREAM = '/base/admin/VIN1'
const MIB = 1024 * 1024
const BIG_TEXT = 'ü漢🚗 '.repeat(100_000) // 1 MB of UTF-8 in one to four bytes

async function start(t, { clients = {}, ...settings } = {}) {
  const backend = await Backend.start(t)
  const hub = await startHub(t, { settings: { services: [service(backend, settings)], clients } })
  const page = await Browser.open(t, hub.url('/admin/VIN1?remoteWs'))
  await backend.one(UPSTREAM)
  return { backend, hub, page }
}

const KINDS = [
  ['text', Buffer.from('{"a": 1}'), false],
  ['a text with NUL and all lengths of UTF-8', Buffer.from('a\0é漢🚗\u{10ffff}'), false],
  ['an empty text', Buffer.alloc(0), false],
  ['binary', Buffer.from([0, 255, 128, 1]), true],
  ['an empty binary message', Buffer.alloc(0), true],
  ['binary that reads ping', Buffer.from('ping'), true],
  ['binary that reads pong', Buffer.from('pong'), true],
  ['125 bytes', randomBytes(125), true],
  ['126 bytes', randomBytes(126), true],
  ['65,535 bytes', randomBytes(65535), true],
  ['65,536 bytes', randomBytes(65536), true],
  ['1 MiB of binary', randomBytes(MIB), true],
  ['a large text', Buffer.from(BIG_TEXT), false],
]

test('the backend\'s messages arrive byte for byte, with their kind, in order', async (t) => {
  const { backend, page } = await start(t, { slow_client: { queue: '8MiB' } })
  const second = await Browser.open(t, page.socket.url)
  for (const [, data, binary] of KINDS) backend.push(UPSTREAM, data, { binary })
  for (const receiver of [page, second]) {
    await receiver.got(KINDS.length, 10_000)
    KINDS.forEach(([name, data, binary], index) => {
      const { data: got, binary: kind } = receiver.received[index]
      assert.equal(kind, binary, `${name}: opcode`)
      assert.ok(got.equals(data), `${name}: ${got.length} bytes arrived, ${data.length} were sent`)
    })
  }
})

test('a client\'s messages arrive byte for byte, with their kind, in order', async (t) => {
  const { backend, page } = await start(t)
  for (const [, data, binary] of KINDS) page.send(data, { binary })
  await until(() => backend.messages.length === KINDS.length, 10_000, () => `all messages (have ${backend.messages.length})`)
  KINDS.forEach(([name, data, binary], index) => {
    assert.equal(backend.messages[index].binary, binary, `${name}: opcode`)
    assert.ok(backend.messages[index].data.equals(data), `${name}: differs`)
  })
})

test('fragmented messages arrive whole in both directions', async (t) => {
  const { backend, page } = await start(t)
  const parts = ['für ', '', 'alle ', '漢字']
  backend.pushFragments(UPSTREAM, parts)
  backend.pushFragments(UPSTREAM, [Buffer.from([1]), randomBytes(70_000), Buffer.from([3])], { binary: true })
  await page.got(2)
  assert.equal(page.received[0].text, parts.join(''))
  assert.equal(page.received[1].data.length, 70_002)
  parts.forEach((part, index) => page.send(part, { fin: index === parts.length - 1 }))
  page.socket.send(Buffer.from([1]), { binary: true, fin: false })
  page.socket.ping('between fragments')
  page.socket.send(Buffer.from([2]), { binary: true, fin: true })
  await until(() => backend.messages.length === 2, 3000, 'both messages at the backend')
  assert.equal(backend.messages[0].text, parts.join(''))
  assert.deepEqual([...backend.messages[1].data], [1, 2])
})

test('the texts in clients.replies are answered on the spot and never forwarded', async (t) => {
  const { backend, page } = await start(t)
  const asked = ['ping', 'heartbeat', '{"type":"PING"}']
  for (const text of asked) page.send(text)
  page.send('ping ')
  page.send(Buffer.from('heartbeat'), { binary: true })
  await page.got(3)
  assert.deepEqual(page.texts(), ['pong', 'heartbeat-ack', '{"type":"PONG"}'])
  await until(() => backend.messages.length === 2, 3000, 'what is no heartbeat at the backend')
  assert.deepEqual(backend.messages.map(({ data }) => data.toString()), ['ping ', 'heartbeat'])
})

test('clients.replies of the configuration take the place of the default ones', async (t) => {
  const { backend, page } = await start(t, { clients: { replies: { 'are you there?': 'yes: "I" am' } } })
  page.send('are you there?')
  page.send('heartbeat')
  await page.got(1)
  assert.deepEqual(page.texts(), ['yes: "I" am'])
  await until(() => backend.texts().includes('heartbeat'), 3000, 'a text that is no reply any more')
})

test('a WebSocket PING of a client is answered by a PONG with its bytes', async (t) => {
  const { page } = await start(t)
  const answered = new Promise((resolve) => { page.socket.once('pong', resolve) })
  page.socket.ping('are you there')
  assert.equal((await answered).toString(), 'are you there')
})

test('300 messages of five clients on one session keep each client\'s order', async (t) => {
  const { backend, hub } = await start(t)
  const pages = await Promise.all([1, 2, 3, 4, 5].map(() => Browser.open(t, hub.url('/admin/VIN1?remoteWs'))))
  for (let n = 0; n < 300; n++) pages.forEach((page, who) => page.send(`${who}:${n}`))
  await until(() => backend.messages.length === 1500, 10_000, () => `all messages (have ${backend.messages.length})`)
  for (let who = 0; who < 5; who++) {
    const mine = backend.texts().filter((text) => text.startsWith(`${who}:`))
    assert.deepEqual(mine, Array.from({ length: 300 }, (_, n) => `${who}:${n}`))
  }
})

test('a client that sends more than max_message is closed with 4003, in one frame or in many', async (t) => {
  const { backend, hub, page } = await start(t, { clients: { max_message: '64KiB' } })
  const url = hub.url('/admin/VIN1?remoteWs')
  const [exact, whole, parts] = await Promise.all([1, 2, 3].map(() => Browser.open(t, url)))
  exact.send(Buffer.alloc(65536))
  whole.send(Buffer.alloc(65537))
  for (let part = 0; part < 9; part++) parts.send(Buffer.alloc(8192), { fin: false })
  assert.equal((await whole.ended()).code, 4003)
  const end = await parts.ended()
  assert.equal(end.code, 4003)
  assert.ok(end.reason.length > 0, 'with a reason')
  await until(() => backend.messages.length === 1, 3000, 'the message of just the limit')
  backend.push(UPSTREAM, 'still here')
  await Promise.all([page.got(1), exact.got(1)])
  assert.deepEqual(backend.messages.map(({ data }) => data.length), [65536])
})

test('a frame that announces 100 MiB is refused before its bytes come', async (t) => {
  const { hub, page } = await start(t)
  const peer = rawSocket(t, hub.port, handshakeText('/admin/VIN1?remoteWs'))
  await until(() => peer.text().includes('\r\n\r\n'), 3000, 'the handshake')
  const before = hub.rss()
  peer.socket.write(clientFrame(2, Buffer.alloc(2 * MIB), { length: 100 * MIB }))
  await until(() => closeCodeOf(peer) === 4003, 5000, () => `4003 (have ${closeCodeOf(peer)}, closed ${peer.closed})`)
  assert.ok(hub.rss() - before < 32 * MIB, 'memory stays bounded')
  assert.equal(page.end, null)
})

const ILL_FORMED = [
  ['a text that is no UTF-8', clientFrame(1, Buffer.from([0x61, 0xff, 0x62])), 1007],
  ['a text that ends within a character', clientFrame(1, Buffer.from([0xe6, 0xbc])), 1007],
  ['a reserved opcode', clientFrame(3, 'x'), 1002],
  ['reserved bits', clientFrame(1, 'x', { rsv: 2 }), 1002],
  ['a continuation of nothing', clientFrame(0, 'x'), 1002],
  ['a fragmented control frame', clientFrame(9, 'x', { fin: false }), 1002],
  ['an oversized control frame', clientFrame(9, 'x'.repeat(126)), 1002],
  ['an unmasked frame', Buffer.from([0x81, 1, 0x78]), 1002],
]

test('ill-formed frames end that client with 1002 or 1007 and reach nobody', async (t) => {
  const { backend, hub, page } = await start(t)
  const wrong = []
  for (const [name, bytes, code] of ILL_FORMED) {
    const peer = rawSocket(t, hub.port, handshakeText('/admin/VIN1?remoteWs'))
    await until(() => peer.text().includes('\r\n\r\n'), 3000, 'the handshake')
    peer.socket.write(bytes)
    await until(() => closeCodeOf(peer) !== null || peer.closed, 5000, `${name} to end the client`)
    if (closeCodeOf(peer) !== code) wrong.push(`${name}: ${closeCodeOf(peer)} instead of ${code}`)
  }
  assert.deepEqual(wrong, [])
  backend.push(UPSTREAM, 'still here')
  await page.got(1)
  assert.deepEqual(backend.texts(), [], 'nothing of it reached the backend')
})

test('an ill-formed or oversized message of the backend reaches no browser, and the upstream comes back', async (t) => {
  const { backend, page } = await start(t, { upstream_max_message: '64KiB', reconnect: { min: '50ms', max: '200ms' } })
  const attempts = [
    ['oversized', () => backend.push(UPSTREAM, Buffer.alloc(65537)), 1009],
    ['no UTF-8', () => backend.pushBytes(UPSTREAM, Buffer.from([0x81, 2, 0xff, 0xfe])), 1007],
    ['reserved opcode', () => backend.pushBytes(UPSTREAM, Buffer.from([0x83, 1, 0x78])), 1002],
  ]
  for (const [name, misbehave, code] of attempts) {
    const upstream = await backend.one(UPSTREAM)
    misbehave()
    await until(() => upstream.end !== null, 5000, `the upstream to be closed after ${name}`)
    assert.equal(upstream.end.code, code, name)
  }
  await backend.one(UPSTREAM)
  backend.push(UPSTREAM, Buffer.alloc(65536))
  await page.got(1)
  assert.equal(page.received[0].data.length, 65536, 'a message of just the limit passes')
  await quiet(() => page.received.length > 1 || page.end, 200, 'anything else at the browser')
})

test('log.audit: a line with user, session and size for each message sent upstream, and never its content', async (t) => {
  const backend = await Backend.start(t)
  const hub = await startHub(t, { settings: { services: [service(backend)], log: { audit: true } } })
  const raw = await Browser.open(t, hub.url('/admin/VIN1?remoteWs'))
  const v1 = await Browser.open(t, hub.url('/other/VIN1?remoteWs'), { protocols: ['vinhub.v1'] })
  raw.send('ping')
  raw.send('nine byte')
  await until(() => backend.messages.length === 1, 5000, 'the raw message')
  for (const payload of ['seventeen bytes..', 'the same id again']) v1.send(JSON.stringify({ type: 'SEND', id: 1, payload }))
  await until(() => backend.messages.length === 2, 5000, 'the SEND')
  await until(() => v1.texts().filter((text) => text.includes('"ACK"')).length === 2, 5000, 'two ACKs')
  const lines = hub.lines.filter((line) => line.includes(' audit '))
  assert.deepEqual(lines.map((line) => line.replace(/.* (user=.*)/, '$1')), [
    'user=admin session=remoteWs:VIN1 bytes=9', 'user=other session=remoteWs:VIN1 bytes=17',
  ])
  assert.ok(!hub.lines.some((line) => /nine byte|seventeen/.test(line)))
})
