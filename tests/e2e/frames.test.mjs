// RFC 6455 on the browser's side, frame by frame: what is answered, and with which code an ill-formed one closes
// its own client. Nothing of it reaches the upstream.
import assert from 'node:assert/strict'
import { test } from '../lib/runner.mjs'
import { Backend } from '../lib/backend.mjs'
import { service, startHub } from '../lib/hub.mjs'
import { clientFrame, closeCodeOf, handshakeText, rawSocket } from '../lib/net.mjs'
import { until } from '../lib/until.mjs'

const PATH = '/admin/VIN1?remoteWs'
const [CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG] = [0, 1, 2, 8, 9, 10]
const CLOSE_1000 = clientFrame(CLOSE, [3, 232])

async function start(t) {
  const backend = await Backend.start(t)
  const hub = await startHub(t, { settings: { services: [service(backend)] } })
  const send = (...frames) => rawSocket(t, hub.port, Buffer.concat([Buffer.from(handshakeText(PATH)), ...frames]))
  return { backend, hub, send }
}

const unmasked = (first, payload) => Buffer.concat([Buffer.from([first, payload.length]), Buffer.from(payload)])
const closeWith = (code, reason = '') => clientFrame(CLOSE, Buffer.concat([Buffer.from([code >> 8, code & 255]), Buffer.from(reason)]))

const ILL_FORMED = [
  ['a frame without a mask', 1002, unmasked(0x81, 'hi')],
  ['RSV1 without an extension', 1002, clientFrame(TEXT, 'hi', { rsv: 4 })],
  ['RSV2', 1002, clientFrame(TEXT, 'hi', { rsv: 2 })],
  ['RSV3', 1002, clientFrame(PING, 'hi', { rsv: 1 })],
  ...[3, 4, 5, 6, 7, 11, 12, 13, 14, 15].map((opcode) => [`opcode ${opcode}`, 1002, clientFrame(opcode, 'hi')]),
  ['a fragmented PING', 1002, clientFrame(PING, 'hi', { fin: false })],
  ['a fragmented close', 1002, clientFrame(CLOSE, [3, 232], { fin: false })],
  ['a PING of 126 bytes', 1002, clientFrame(PING, Buffer.alloc(126))],
  ['a continuation of nothing', 1002, clientFrame(CONTINUATION, 'hi')],
  ['a continuation after the end', 1002, clientFrame(PING, 'x'), clientFrame(CONTINUATION, 'b')],
  ['a text within a text', 1002, clientFrame(TEXT, 'a', { fin: false }), clientFrame(TEXT, 'b')],
  ['a binary within a text', 1002, clientFrame(TEXT, 'a', { fin: false }), clientFrame(BINARY, 'b')],
  ['an overlong UTF-8 form', 1007, clientFrame(TEXT, [0xc0, 0x80])],
  ['a surrogate', 1007, clientFrame(TEXT, [0xed, 0xa0, 0x80])],
  ['beyond U+10FFFF', 1007, clientFrame(TEXT, [0xf4, 0x90, 0x80, 0x80])],
  ['a text that ends within a character', 1007, clientFrame(TEXT, [0xe2, 0x82])],
  ['a character broken across fragments', 1007, clientFrame(TEXT, [0xe2, 0x82], { fin: false }), clientFrame(CONTINUATION, 'A')],
  ['a close of one byte', 1002, clientFrame(CLOSE, [3])],
  ['a close reason that is not UTF-8', 1007, closeWith(1000, Buffer.from([0xff]))],
  ...[0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535].map((code) => [`close code ${code}`, 1002, closeWith(code)]),
]

test('an ill-formed frame closes its client with the right code and goes no further', async (t) => {
  const { backend, hub, send } = await start(t)
  for (const [name, code, ...frames] of ILL_FORMED) {
    const peer = send(...frames)
    await until(() => closeCodeOf(peer) !== null, 5000, `${name}: a close frame`)
    assert.equal(closeCodeOf(peer), code, name)
    peer.socket.destroy()
  }
  await backend.one('/base/admin/VIN1')
  assert.deepEqual(backend.messages, [])
  assert.ok(await hub.metric('vinhub_dropped_total', 'malformed') >= ILL_FORMED.length - 1)
})

test('valid close codes are answered in kind, and the connection ends', async (t) => {
  const { send } = await start(t)
  for (const code of [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999]) {
    const peer = send(closeWith(code, 'grüße'))
    await until(() => peer.closed, 5000, `close ${code} to end`)
    assert.equal(closeCodeOf(peer), code)
  }
  const bare = send(clientFrame(CLOSE, ''))
  await until(() => bare.closed, 5000, 'a close without a code to end')
  assert.ok(bare.data.subarray(-2).equals(Buffer.from([0x88, 0])), 'answered without a code')
})

test('control frames come in between, and a PING is answered with its own payload', async (t) => {
  const { backend, send } = await start(t)
  const payload = Buffer.alloc(125, 'p')
  const peer = send(clientFrame(TEXT, 'one ', { fin: false }), clientFrame(PING, payload), clientFrame(CONTINUATION, '', { fin: false }),
    clientFrame(PONG, 'unasked'), clientFrame(CONTINUATION, 'message'), clientFrame(BINARY, ''), CLOSE_1000)
  await until(() => peer.closed, 5000, 'the end')
  assert.ok(peer.data.includes(Buffer.concat([Buffer.from([0x8a, 125]), payload])), 'a PONG')
  await until(() => backend.messages.length === 2, 5000, 'two messages')
  assert.equal(backend.messages[0].text, 'one message')
  assert.equal(backend.messages[1].binary, true)
})

test('bytes one by one make the same messages', async (t) => {
  const { backend, send } = await start(t)
  const peer = send()
  await until(() => peer.text().includes('\r\n\r\n'), 5000, 'the handshake')
  peer.socket.setNoDelay(true)
  const bytes = Buffer.concat([clientFrame(TEXT, 'grüße', { fin: false }), clientFrame(CONTINUATION, '€'), clientFrame(BINARY, Buffer.alloc(300, 1)), CLOSE_1000])
  for (const byte of bytes) await new Promise((resolve) => { peer.socket.write(Buffer.from([byte]), resolve) })
  await until(() => peer.closed && backend.messages.length === 2, 5000, 'two messages and the end')
  assert.equal(backend.messages[0].text, 'grüße€')
  assert.equal(backend.messages[1].data.length, 300)
})
