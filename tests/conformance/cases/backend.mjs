// The backend's side: ill-formed data of a backend never reaches a browser, which stays open while the hub reconnects;
// anything that RFC 6455 allows is accepted, however odd.
import assert from 'node:assert/strict'
import { assertMessages, UPSTREAM_MAX } from '../rig.mjs'
import { BINARY, CLOSE, CONTINUATION, PING, PONG, RSV1, TEXT, chop, closePayload, fragments, frame, randomBytes } from '../wire.mjs'
import { until } from '../../lib/until.mjs'

const WAIT_MS = 60_000
const M = { mask: false }
const HELLO = Buffer.from([0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00])

const unmasked = (opcode, payload, options) => frame(opcode, payload, { ...options, mask: false })
const range = (from, to) => Array.from({ length: to - from + 1 }, (_, at) => from + at)

/** The first connection says `before` and then these bytes; the next one says `again`. */
async function spoils(rig, bytes, { code, size, before = [frame(TEXT, 'before', M)], good = [[TEXT, 'before']], hub } = {}) {
  const vin = rig.vin()
  rig.raw.scripts.set(vin, [
    { async onOpen(upstream) {
      upstream.write(...before)
      if (size === undefined) upstream.write(...bytes, frame(TEXT, 'never', M))
      else await upstream.trickle(Buffer.concat(bytes), size)
    } },
    { onOpen: (upstream) => upstream.send(TEXT, 'again') },
  ])
  const peer = await rig.open(`/u/${vin}?raw`, { hub })
  await peer.got(good.length + 1)
  assertMessages(peer.messages, [...good, [TEXT, 'again']])
  const [first] = rig.raw.of(vin)
  await until(() => first.ended, WAIT_MS, 'the first connection to end')
  assert.equal(first.fault, null)
  if (code !== undefined) assert.equal(first.close, code, 'the code in the hub\'s close frame')
  await peer.send(frame(PING, 'still open'))
  await peer.when(() => peer.pongs.length === 1, 'an answer')
  await rig.farewell(peer)
}

const BAD = [
  ...range(1, 7).flatMap((rsv) => [[`reserved bits ${rsv} on a text`, 1002, [unmasked(TEXT, 'bad', { rsv })]], [`reserved bits ${rsv} on a PING`, 1002, [unmasked(PING, 'bad', { rsv })]]]),
  ['a deflated text, though nothing was agreed', 1002, [unmasked(TEXT, HELLO, { rsv: RSV1 })]],
  ['a deflated continuation', 1002, [unmasked(TEXT, 'a', { fin: false }), unmasked(CONTINUATION, HELLO, { rsv: RSV1 })]],
  ...[3, 4, 5, 6, 7, 11, 12, 13, 14, 15].map((opcode) => [`opcode ${opcode}`, 1002, [unmasked(opcode, 'bad')]]),
  ...[['text', TEXT], ['binary', BINARY], ['PING', PING], ['PONG', PONG]].map(([name, opcode]) => [`a masked ${name}`, 1002, [frame(opcode, 'bad')]]),
  ['a masked close', 1002, [frame(CLOSE, closePayload(1000))]],
  ['a masked continuation', 1002, [unmasked(TEXT, 'a', { fin: false }), frame(CONTINUATION, 'b')]],
  ['an empty masked text', 1002, [frame(TEXT)]],
  ['a continuation of nothing', 1002, [unmasked(CONTINUATION, 'bad')]],
  ['a text within a text', 1002, [unmasked(TEXT, 'a', { fin: false }), unmasked(TEXT, 'b')]],
  ['a binary within a text', 1002, [unmasked(TEXT, 'a', { fin: false }), unmasked(BINARY, 'b')]],
  ['a PING in fragments', 1002, [unmasked(PING, 'a', { fin: false })]],
  ['a close in fragments', 1002, [unmasked(CLOSE, closePayload(1000), { fin: false })]],
  ['a PING of 126 bytes', 1002, [unmasked(PING, Buffer.alloc(126))]],
  ['a PONG of 65536 bytes', 1002, [unmasked(PONG, Buffer.alloc(65536))]],
  ['a length of 5 in 16 bits', 1002, [unmasked(TEXT, 'inlet', { form: 16 })]],
  ['a length of 200 in 64 bits', 1002, [unmasked(TEXT, 'x'.repeat(200), { form: 64 })]],
  ['a length of 2^63', 1002, [unmasked(TEXT, '', { size: 2n ** 63n, form: 64 })]],
  ...[[0xff], [0xc0, 0x80], [0xed, 0xa0, 0x80], [0xf4, 0x90, 0x80, 0x80], [0xe2, 0x82], [0x80]].map((bytes) => [`the text ${Buffer.from(bytes).toString('hex')}`, 1007, [unmasked(TEXT, bytes)]]),
  ['a text that is not UTF-8 in its second fragment', 1007, fragments(TEXT, ['good', [0xff]], M)],
  ['a text whose character the next fragment breaks', 1007, fragments(TEXT, [[0xe2, 0x82], 'A'], M)],
  ['a text that ends within a character', 1007, fragments(TEXT, ['good', [0xe2, 0x82]], M)],
  ['a close frame of one byte', 1002, [unmasked(CLOSE, [3])]],
  ...[0, 999, 1004, 1005, 1006, 1015, 1016, 2000, 2999, 5000, 65535].map((code) => [`close code ${code}`, 1002, [unmasked(CLOSE, closePayload(code))]]),
  ['a close reason that is not UTF-8', 1007, [unmasked(CLOSE, closePayload(1000, Buffer.from([0xff])))]],
  [`a message of ${UPSTREAM_MAX + 1} bytes, by its header`, 1009, [unmasked(BINARY, '', { size: UPSTREAM_MAX + 1 })]],
  ['a message that is too large in fragments', 1009, [unmasked(BINARY, Buffer.alloc(UPSTREAM_MAX), { fin: false }), unmasked(CONTINUATION, 'x')]],
  ['a message of 2^62 bytes, by its header', 1009, [unmasked(BINARY, '', { size: 2n ** 62n, form: 64 })]],
  ['a page of HTML', 1002, [Buffer.from('<html><body>502 Bad Gateway</body></html>')]],
  ['bytes of 255', 1002, [Buffer.alloc(3000, 255)]],
]

const bad = BAD.flatMap(([name, code, bytes]) => [undefined, 1].filter((size) => size === undefined || Buffer.concat(bytes).length < 300).map((size) => ({
  name: `${name} never reaches a browser${size ? ', byte by byte' : ''}`,
  run: (rig) => spoils(rig, bytes, { code, size }),
})))

const begunWell = {
  name: 'the good half of a message whose second half is ill-formed never reaches a browser',
  run: (rig) => spoils(rig, [unmasked(TEXT, 'half', { fin: false }), unmasked(PING, 'p'), unmasked(3, 'bad')], { code: 1002 }),
}

const toAll = {
  name: 'no browser of the session gets what is ill-formed, with compression either',
  async run(rig) {
    const extension = { hub: 'deflating', fields: [['Sec-WebSocket-Extensions', 'permessage-deflate']] }
    const vin = rig.vin()
    rig.raw.scripts.set(vin, [{ onMessage: (upstream) => upstream.write(unmasked(TEXT, HELLO, { rsv: RSV1 })) }, { onOpen: (upstream) => upstream.send(TEXT, 'again') }])
    const peers = [await rig.open(`/u/${vin}?raw`, extension), await rig.open(`/u/${vin}?raw`, { hub: 'deflating' })]
    await peers[0].send(frame(TEXT, 'go'))
    for (const peer of peers) {
      await peer.got(1)
      assertMessages(peer.messages, [[TEXT, 'again']])
      await rig.farewell(peer)
    }
  },
}

// --- how a connection may end ---

const ends = [
  ...[1000, 1001, 1002, 1003, 1007, 1008, 1009, 1011, 1012, 1013, 3000, 4000, 4999].map((code) => [`close code ${code}`, code, [unmasked(CLOSE, closePayload(code, 'bye'))]]),
  ['a close without a code', 0, [unmasked(CLOSE)]],
].map(([name, code, bytes]) => ({ name: `${name} is answered in kind; browsers stay`, run: (rig) => spoils(rig, bytes, { code }) }))

const cuts = [
  ['ends without a close frame', (upstream) => upstream.socket.end()],
  ['resets', (upstream) => upstream.socket.resetAndDestroy()],
  ['ends within a header', (upstream) => upstream.socket.end(Buffer.from([0x81]))],
  ['ends within a frame', (upstream) => upstream.socket.end(unmasked(TEXT, 'never', { size: 100 }))],
  ['ends within a message', (upstream) => upstream.socket.end(unmasked(TEXT, 'never', { fin: false }))],
].map(([name, cut]) => ({
  name: `a backend that ${name}`,
  async run(rig) {
    const vin = rig.vin()
    rig.raw.scripts.set(vin, [{ onMessage: cut }, { onOpen: (upstream) => upstream.send(TEXT, 'again') }])
    const peer = await rig.open(`/u/${vin}?raw`)
    await peer.send(frame(TEXT, 'go'))
    await peer.got(1)
    assertMessages(peer.messages, [[TEXT, 'again']])
    await rig.farewell(peer)
  },
}))

// --- handshakes that fail ---

const head = (upstream) => upstream.accept().trimEnd().split('\r\n')
const answer = (lines) => `${lines.join('\r\n')}\r\n\r\n`
const without = (name) => (upstream) => answer(head(upstream).filter((line) => !line.toLowerCase().startsWith(name)))
const changed = (from, to) => (upstream) => upstream.accept().replace(from, to)

const REFUSALS = [
  ['no Upgrade', without('upgrade')], ['no Connection', without('connection')], ['no Sec-WebSocket-Accept', without('sec-websocket-accept')],
  ['another Upgrade', changed('Upgrade: websocket', 'Upgrade: h2c')], ['another Connection', changed('Connection: Upgrade', 'Connection: close')],
  ['a wrong Sec-WebSocket-Accept', changed(/Accept: .../, 'Accept: AAA')], ['an empty Sec-WebSocket-Accept', changed(/Accept: .*/, 'Accept:')],
  ['two of Sec-WebSocket-Accept', (upstream) => upstream.accept('Sec-WebSocket-Accept: x\r\n')],
  ['an extension nobody offered', (upstream) => upstream.accept('Sec-WebSocket-Extensions: permessage-deflate\r\n')],
  ['an extension behind an empty field', (upstream) => upstream.accept('Sec-WebSocket-Extensions:\r\nSec-WebSocket-Extensions: permessage-deflate\r\n')],
  ['a subprotocol nobody offered', (upstream) => upstream.accept('Sec-WebSocket-Protocol: chat\r\n')],
  ...['200 OK', '204 No Content', '301 Moved', '400 Bad Request', '401 Unauthorized', '403 Forbidden', '404 Not Found', '426 Upgrade Required', '500 Error', '502 Bad Gateway', '503 Busy'].map((status) =>
    [`status ${status}`, () => `HTTP/1.1 ${status}\r\nContent-Length: 2\r\nLocation: ws://127.0.0.1:1/\r\n\r\nno`]),
  ['17 interim answers', (upstream) => `${'HTTP/1.1 103 Early Hints\r\n\r\n'.repeat(17)}${upstream.accept()}`],
  ['an interim answer and a refusal', () => 'HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 403 Forbidden\r\n\r\n'],
  ['status 100 alone', () => 'HTTP/1.1 100 Continue\r\n\r\n'],
  ['status 1010', changed('101', '1010')], ['status 10', changed('101', '10')], ['HTTP/2', changed('HTTP/1.1', 'HTTP/2')], ['HTTP/1.x', changed('HTTP/1.1', 'HTTP/1.x')], ['no HTTP at all', () => 'SSH-2.0-OpenSSH_9.2\r\n\r\n'],
  ['a folded field', (upstream) => upstream.accept('X-A: a\r\n b\r\n')], ['a field without a colon', (upstream) => upstream.accept('nonsense\r\n')],
  ['a control byte', (upstream) => upstream.accept('X-A: a\x01b\r\n')],
  ['300 fields', (upstream) => upstream.accept(range(1, 300).map((at) => `X-${at}: x\r\n`).join(''))],
  ['a head of 100 KB', (upstream) => upstream.accept(`X-Long: ${'x'.repeat(100_000)}\r\n`)],
  ['bytes of 0', () => Buffer.alloc(100_000)], ['the end at once', () => ''],
]

const refusals = REFUSALS.map(([name, text]) => ({
  name: `the answer to the hub's handshake has ${name}: nothing of it is taken`,
  async run(rig) {
    const vin = rig.vin()
    rig.raw.scripts.set(vin, [
      { onUpgrade(upstream) { upstream.socket.end(Buffer.concat([Buffer.from(text(upstream)), frame(TEXT, 'never', M)])) } },
      { onOpen: (upstream) => upstream.send(TEXT, 'at last') },
    ])
    const peer = await rig.open(`/u/${vin}?raw`)
    await peer.got(1)
    assertMessages(peer.messages, [[TEXT, 'at last']])
    await rig.farewell(peer)
  },
}))

const accepts = [
  ['in other case', (upstream) => upstream.accept().replace('websocket', 'WebSocket').replace(': Upgrade', ': upgrade')],
  ['with more fields', (upstream) => upstream.accept('Server: x\r\nDate: now\r\nSet-Cookie: a=b\r\n')],
  ['with empty extensions', (upstream) => upstream.accept('Sec-WebSocket-Extensions:\r\n')],
  ['without a reason', (upstream) => upstream.accept().replace('101 Switching Protocols', '101 ')],
  ['after interim answers', (upstream) => `HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n${upstream.accept()}`],
  ['with a length and a coding', (upstream) => upstream.accept('Content-Length: 0\r\nTransfer-Encoding: chunked\r\n')],
  ['with an empty subprotocol', (upstream) => upstream.accept('Sec-WebSocket-Protocol:\r\n')],
  ['with a Connection of two', (upstream) => upstream.accept().replace(': Upgrade', ': keep-alive, Upgrade')],
].flatMap(([name, text]) => [false, true].map((inPieces) => ({
  name: `an answer ${name}${inPieces ? ', byte by byte,' : ''} is taken, and frames in the same packet`,
  async run(rig) {
    const vin = rig.vin()
    rig.raw.scripts.set(vin, { onUpgrade(upstream) {
      const bytes = Buffer.concat([Buffer.from(text(upstream)), frame(TEXT, 'at once', M), frame(PING, 'p', M)])
      if (inPieces) upstream.trickle(bytes, 1)
      else upstream.write(bytes)
    } })
    const peer = await rig.open(`/u/${vin}?raw`)
    await peer.got(1)
    assertMessages(peer.messages, [[TEXT, 'at once']])
    const [upstream] = rig.raw.of(vin)
    await until(() => upstream.pongs.length === 1, WAIT_MS, 'a PONG')
    await rig.farewell(peer)
    assert.match(upstream.head, /^GET \/base\/u\/C\d+ HTTP\/1\.1\r\n/)
    assert.match(upstream.head, /\r\nSec-WebSocket-Version: 13(\r\n|$)/i)
    assert.match(upstream.head, /\r\nHost: 127\.0\.0\.1:\d+(\r\n|$)/i)
    assert.doesNotMatch(upstream.head, /Sec-WebSocket-(Extensions|Protocol)/i, 'nothing is offered')
  },
})))

// --- what a backend may do ---

async function passes(rig, bytes, { messages = [], pongs = [], size }) {
  const vin = rig.vin()
  rig.raw.scripts.set(vin, { onOpen: (upstream) => (size === undefined ? upstream.write(...bytes) : upstream.trickle(Buffer.concat(bytes), size)) })
  const peer = await rig.open(`/u/${vin}?raw`)
  await peer.got(messages.length)
  assertMessages(peer.messages, messages)
  const upstream = await until(() => rig.raw.of(vin)[0], WAIT_MS, 'the upstream')
  await until(() => upstream.pongs.length >= pongs.length, WAIT_MS, 'the PONGs')
  assert.deepEqual(upstream.pongs.map(String), pongs.map(String))
  assert.equal(upstream.fault, null)
  await rig.farewell(peer)
}

const good = [
  ['an empty text and an empty binary', [unmasked(TEXT), unmasked(BINARY)], { messages: [[TEXT, ''], [BINARY, '']] }],
  ['PINGs of 0 to 125 bytes', range(0, 125).map((size) => unmasked(PING, 'p'.repeat(size))), { pongs: range(0, 125).map((size) => 'p'.repeat(size)) }],
  ['PONGs nobody asked for', [unmasked(PONG), unmasked(PONG, 'x'), unmasked(TEXT, 'on')], { messages: [[TEXT, 'on']] }],
  ['a message in fragments with PINGs', fragments(TEXT, ['one ', '', 'message'], M).flatMap((one) => [unmasked(PING, 'p'), one]), { messages: [[TEXT, 'one message']], pongs: ['p', 'p', 'p'] }],
  ['a character in four fragments', fragments(TEXT, [...Buffer.from('🚗')].map((byte) => [byte]), M), { messages: [[TEXT, '🚗']] }],
  ['a hundred messages in one packet', range(1, 100).map((at) => unmasked(at % 2 ? TEXT : BINARY, `push ${at}`)), { messages: range(1, 100).map((at) => [at % 2 ? TEXT : BINARY, `push ${at}`]) }],
  ['the largest message', [unmasked(BINARY, Buffer.alloc(UPSTREAM_MAX, 5))], { messages: [[BINARY, Buffer.alloc(UPSTREAM_MAX, 5)]] }],
  ['the largest message in fragments', fragments(BINARY, chop(Buffer.alloc(UPSTREAM_MAX, 6), 65536), M), { messages: [[BINARY, Buffer.alloc(UPSTREAM_MAX, 6)]] }],
].flatMap(([name, bytes, want]) => [undefined, 'random', 1].filter((size) => size !== 1 || Buffer.concat(bytes).length < 3000).map((size) => ({
  name: `${name}${size === undefined ? '' : size === 1 ? ', byte by byte' : ', cut at random'}`,
  run: (rig) => passes(rig, bytes, { ...want, size }),
})))

const masksDiffer = {
  name: 'what the hub sends is masked, with another mask each time',
  async run(rig) {
    const vin = rig.vin()
    const peer = await rig.open(`/u/${vin}?raw`)
    const messages = [0, 1, 125, 126, 65535, 65536].map((size) => [BINARY, randomBytes(size)])
    await peer.send(messages.map(([opcode, payload]) => frame(opcode, payload)))
    await peer.got(messages.length)
    const [upstream] = rig.raw.of(vin)
    assert.equal(upstream.fault, null)
    assertMessages(upstream.messages, messages)
    assert.equal(upstream.masks.size, messages.length)
    await rig.farewell(peer)
    await until(() => upstream.close === 1000, WAIT_MS, 'a close frame with 1000 after the last client')
    await until(() => upstream.ended, WAIT_MS, 'the end')
    assert.equal(upstream.fault, null)
  },
}

export const cases = [...bad, begunWell, toAll, ...ends, ...cuts, ...refusals, ...accepts, ...good, masksDiffer]
