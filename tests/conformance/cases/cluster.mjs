// Through two nodes: the client is on one, the upstream on the other. What holds on one node holds across them.
import assert from 'node:assert/strict'
import zlib from 'node:zlib'
import { MAX_MESSAGE, assertMessages } from '../rig.mjs'
import { BINARY, CLOSE, CONTINUATION, PING, PONG, RSV1, TEXT, chop, closePayload, fragments, frame, randomBytes, textBytes } from '../wire.mjs'

const M = { mask: false }
const DEFLATE = [['Sec-WebSocket-Extensions', 'permessage-deflate']]
const acrossNodes = { across: true, hub: 'member' }
const deflate = (plain) => zlib.deflateRawSync(plain, { finishFlush: zlib.constants.Z_SYNC_FLUSH }).subarray(0, -4)
const range = (count) => Array.from({ length: count }, (_, at) => at)

const SIZES = [0, 1, 125, 126, 127, 4096, 65535, 65536, 131072, MAX_MESSAGE]
const sized = SIZES.flatMap((size) => [[TEXT, textBytes(size)], [BINARY, randomBytes(size)]].flatMap(([opcode, payload]) => [false, true].map((deflated) => ({
  name: `a ${opcode === TEXT ? 'text' : 'binary'} of ${size} bytes${deflated ? ', deflated' : ''}`,
  run: (rig) => rig.echoes({ ...acrossNodes, messages: [[opcode, payload]], fields: deflated ? DEFLATE : [],
    frames: deflated ? frame(opcode, deflate(payload), { rsv: RSV1 }) : frame(opcode, payload) }),
}))))

const kosme = Buffer.from('κόσμε 🚗')
const talks = [
  ['a text in fragments of one byte with PINGs, byte by byte', { size: 1, messages: [[TEXT, kosme]], pongs: [...kosme].map(() => 'p'),
    frames: fragments(TEXT, [...kosme].map((byte) => [byte])).flatMap((one) => [frame(PING, 'p'), one]) }],
  ['a deflated text in fragments with PINGs and PONGs', { fields: DEFLATE, messages: [[TEXT, textBytes(3000)]], pongs: ['p', 'p', 'p'],
    frames: fragments(TEXT, chop(deflate(textBytes(3000)), Math.ceil(deflate(textBytes(3000)).length / 3)), { rsv: RSV1 }).flatMap((one) => [frame(PING, 'p'), frame(PONG), one]) }],
  ['plain and deflated messages by turns', { fields: DEFLATE, messages: range(100).map((at) => [TEXT, textBytes(at * 13)]),
    frames: range(100).map((at) => (at % 2 ? frame(TEXT, deflate(textBytes(at * 13)), { rsv: RSV1 }) : frame(TEXT, textBytes(at * 13)))) }],
  ['1,000 messages in the packet of the handshake', { inHandshake: true, messages: range(1000).map((at) => [at % 2 ? TEXT : BINARY, `number ${at}`]),
    frames: range(1000).map((at) => frame(at % 2 ? TEXT : BINARY, `number ${at}`)) }],
  ['what the backend sends in fragments, between PINGs', { service: 'raw', user: 'fragments', messages: [[TEXT, textBytes(5000)]], frames: frame(TEXT, textBytes(5000)) }],
  ['what the backend sends byte by byte', { service: 'raw', user: 'trickle', messages: [[BINARY, 'slowly']], frames: frame(BINARY, 'slowly') }],
].map(([name, what]) => ({ name, run: (rig) => rig.echoes({ ...acrossNodes, ...what }) }))

const refused = [
  ['a reserved bit', 1002, frame(TEXT, 'x', { rsv: RSV1 })], ['an unknown opcode', 1002, frame(3, 'x')], ['a frame without a mask', 1002, frame(TEXT, 'x', { mask: false })],
  ['a continuation of nothing', 1002, frame(CONTINUATION, 'x')], ['a PING in fragments', 1002, frame(PING, 'x', { fin: false })], ['close code 1005', 1002, frame(CLOSE, closePayload(1005))],
  ['a text that is not UTF-8', 1007, frame(TEXT, [0xff])], ['a text whose second fragment is not UTF-8', 1007, fragments(TEXT, ['good', [0xed, 0xa0, 0x80]])],
  ['a message above the limit', 4003, frame(BINARY, Buffer.alloc(MAX_MESSAGE + 1))], ['a bomb', 4003, frame(BINARY, deflate(Buffer.alloc(16 * MAX_MESSAGE)), { rsv: RSV1 }), DEFLATE],
  ['what was never deflated', 1007, frame(TEXT, 'this was never deflated', { rsv: RSV1 }), DEFLATE],
  ['RSV1 on a continuation', 1002, [frame(TEXT, deflate('a'), { rsv: RSV1, fin: false }), frame(CONTINUATION, deflate('b'), { rsv: RSV1 })], DEFLATE],
].map(([name, code, frames, fields]) => ({
  name: `${name} closes its client; nobody on the other node sees anything`,
  run: (rig) => rig.refuses({ ...acrossNodes, code, frames, fields, first: [frame(TEXT, 'before')], good: [[TEXT, 'before']], open: true }),
}))

/** Each node deflates for its own clients, by what it agreed on with each. */
const together = {
  name: 'clients of both nodes, with several windows and without, get the same messages from one upstream',
  async run(rig) {
    const vin = rig.vin()
    const path = `/u/${vin}?raw`
    const holder = await rig.hold(path, 'owner')
    const rows = [['owner', ''], ['member', ''], ['owner', '; server_max_window_bits=9'], ['member', '; server_max_window_bits=10'], ['member', null]]
    const peers = await Promise.all(rows.map(([hub, offer]) => rig.open(path, { hub, fields: offer === null ? [] : [['Sec-WebSocket-Extensions', `permessage-deflate${offer}`]] })))
    // All have joined once each has had an answer of its own.
    for (const [at, peer] of peers.entries()) {
      await peer.send(frame(TEXT, `here is ${at}`))
      await peer.when(() => peer.messages.some(([, payload]) => String(payload) === `here is ${at}`), 'its own answer')
    }
    const messages = [100, 400, 600, 900, 3000].map((size) => [TEXT, textBytes(size)])
    for (const [opcode, payload] of messages) rig.raw.of(vin)[0].send(opcode, payload)
    for (const [at, deflated] of [5, 5, 2, 4, 0].entries()) {
      const peer = peers[at]
      const pushed = () => peer.messages.filter(([, payload]) => payload.length >= 100)
      await peer.when(() => pushed().length >= messages.length, 'all pushes')
      assertMessages(pushed(), messages)
      assert.equal(peer.deflated, deflated, `deflated for ${rows[at]}`)
      await rig.farewell(peer)
    }
    assert.equal(rig.raw.of(vin).length, 1, 'one upstream')
    await rig.farewell(holder)
  },
}

const illFormed = [
  ['a reserved bit', frame(TEXT, 'bad', { ...M, rsv: RSV1 })], ['a masked frame', frame(TEXT, 'bad')], ['a text that is not UTF-8', frame(TEXT, [0xff], M)],
  ['a close code that nobody may send', frame(CLOSE, closePayload(1005), M)],
].map(([name, bytes]) => ({
  name: `of a backend ${name} reaches clients of neither node`,
  async run(rig) {
    const vin = rig.vin()
    const echo = (upstream, opcode, payload) => upstream.send(opcode, payload)
    rig.raw.scripts.set(vin, [
      { onMessage: (upstream, opcode, payload) => (String(payload) === 'go' ? upstream.write(bytes, frame(TEXT, 'never', M)) : echo(upstream, opcode, payload)) },
      { onOpen: (upstream) => upstream.send(TEXT, 'again') },
    ])
    const holder = await rig.hold(`/u/${vin}?raw`, 'owner')
    const peer = await rig.open(`/u/${vin}?raw`, { hub: 'member' })
    await peer.send(frame(TEXT, 'joined'))
    await peer.got(1)
    await peer.send(frame(TEXT, 'go'))
    await Promise.all([peer.got(2), holder.got(3)])
    assertMessages(peer.messages, [[TEXT, 'joined'], [TEXT, 'again']])
    assertMessages(holder.messages, [[TEXT, 'held'], [TEXT, 'joined'], [TEXT, 'again']])
    await rig.farewell(peer)
    await rig.farewell(holder)
  },
}))

export const cases = [...sized, ...talks, ...refused, together, ...illFormed]
