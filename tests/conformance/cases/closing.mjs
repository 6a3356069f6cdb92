// The closing handshake: codes, reasons, what comes after, and who ends the connection.
import assert from 'node:assert/strict'
import { countedMs, mark } from '../../lib/busy.mjs'
import { until } from '../../lib/until.mjs'
import { BINARY, CLOSE, CONTINUATION, PING, TEXT, closeFrame, closePayload, frame } from '../wire.mjs'

const VALID_CODES = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3001, 3999, 4000, 4001, 4006, 4999]
const INVALID_CODES = [0, 1, 200, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 5001, 10_000, 65535]
const REASONS = [['no reason', ''], ['a reason', 'goodbye'], ['a reason of 123 bytes', 'x'.repeat(123)], ['a reason in Greek', 'κόσμε '.repeat(10)], ['a reason with a zero', 'a\0b']]

async function closes(rig, frames, code, { size, hub } = {}) {
  const path = `/u/${rig.vin()}?echo`
  const witness = await rig.open(path)
  const peer = await rig.open(path, { hub })
  await peer.send(frames, size)
  await peer.ended()
  assert.equal(peer.fault, null)
  assert.deepEqual(peer.close, { code, reason: '' })
  assert.equal(peer.end, 'fin')
  assert.deepEqual(peer.messages, [])
  await witness.send(frame(TEXT, 'the last'))
  await witness.got(1)
  assert.equal(witness.messages[0][1].toString(), 'the last')
  await rig.farewell(witness)
}

const valid = VALID_CODES.flatMap((code) => REASONS.map(([name, reason], at) => ({
  name: `code ${code} with ${name}`,
  run: (rig) => closes(rig, closeFrame(code, reason), code, { size: at % 2 ? 1 : undefined }),
})))

const invalid = INVALID_CODES.flatMap((code) => [
  { name: `code ${code} is invalid`, run: (rig) => rig.refuses({ code: 1002, frames: closeFrame(code, '') }) },
  { name: `code ${code} with a reason is invalid`, run: (rig) => rig.refuses({ code: 1002, frames: closeFrame(code, 'reason'), size: 1 }) },
])

const BAD_REASONS = [[0xff], [0xc0, 0x80], [0xed, 0xa0, 0x80], [0xf4, 0x90, 0x80, 0x80], [0xe2, 0x82], [...Buffer.from('κόσμε'), 0xed, 0xa0, 0x80, ...Buffer.from('edited')]]
const reasons = BAD_REASONS.map((bytes) => ({
  name: `a reason of ${Buffer.from(bytes).toString('hex')} is not UTF-8`,
  run: (rig) => rig.refuses({ code: 1007, frames: frame(CLOSE, closePayload(1000, Buffer.from(bytes))) }),
}))

const lengths = [
  { name: 'a close frame without a code is answered without one', run: (rig) => closes(rig, closeFrame(), null) },
  { name: 'a close frame without a code, byte by byte', run: (rig) => closes(rig, closeFrame(), null, { size: 1 }) },
  ...[0, 3, 255].map((byte) => ({ name: `a close frame of the one byte ${byte}`, run: (rig) => rig.refuses({ code: 1002, frames: frame(CLOSE, [byte]) }) })),
  { name: 'a reason of 124 bytes is too long', run: (rig) => rig.refuses({ code: 1002, frames: closeFrame(1000, 'x'.repeat(124)) }) },
]

const AFTER = [
  ['a text', [frame(TEXT, 'late')]],
  ['a binary', [frame(BINARY, 'late')]],
  ['a PING', [frame(PING, 'late')]],
  ['another close frame', [closeFrame(1001)]],
  ['an ill-formed frame', [frame(3, 'late', { rsv: 7 })]],
  ['a text that is not UTF-8', [frame(TEXT, [0xff])]],
  ['a hundred texts', Array.from({ length: 100 }, () => frame(TEXT, 'late'))],
  ['garbage', [Buffer.alloc(5000, 0xa5)]],
].flatMap(([name, frames]) => [undefined, 1].filter((size) => size === undefined || frames.length === 1 && frames[0].length < 100).map((size) => ({
  name: `after the close frame ${name}${size ? ', byte by byte,' : ''} is not looked at`,
  run: (rig) => closes(rig, [closeFrame(1000, 'first'), ...frames], 1000, { size }),
})))

const begun = [
  { name: 'a close frame within a text', run: (rig) => closes(rig, [frame(TEXT, 'half', { fin: false }), closeFrame(1000)], 1000) },
  { name: 'a close frame within a text, which then goes on', run: (rig) => closes(rig, [frame(TEXT, 'half', { fin: false }), closeFrame(1001), frame(CONTINUATION, 'rest')], 1001) },
]

const pongFirst = {
  name: 'a PING before the close frame is answered before it',
  async run(rig) {
    const peer = await rig.open(`/u/${rig.vin()}?echo`)
    await peer.send([frame(PING, 'first'), closeFrame(1000)])
    await peer.ended()
    assert.equal(peer.fault, null)
    assert.deepEqual(peer.pongs.map(String), ['first'])
    assert.equal(peer.close.code, 1000)
  },
}

const messagesFirst = {
  name: 'messages before the close frame go upstream',
  async run(rig) {
    const path = `/u/${rig.vin()}?echo`
    const witness = await rig.open(path)
    const peer = await rig.open(path)
    await peer.send([...Array.from({ length: 20 }, (_, at) => frame(TEXT, `${at}`)), closeFrame(1000)])
    await peer.ended()
    await witness.got(20)
    assert.deepEqual(witness.messages.map(([, payload]) => String(payload)), Array.from({ length: 20 }, (_, at) => `${at}`))
    await rig.farewell(witness)
  },
}

const hubEnds = {
  name: 'the hub ends the connection, at once, without waiting for the client to do so',
  async run(rig) {
    const peer = await rig.open(`/u/${rig.vin()}?echo`)
    const began = mark()
    await peer.send(closeFrame(1000))
    await peer.ended()
    assert.ok(countedMs(began) < 900, 'below the second that an answer may take')
  },
}

const answersLate = {
  name: 'to a close frame of the hub the answer is awaited, then it ends the connection',
  async run(rig) {
    const peer = await rig.open(`/u/${rig.vin()}?echo`)
    await peer.send(frame(TEXT, Buffer.alloc(2_000_000)))
    await peer.when(() => peer.close !== null, 'a close frame')
    assert.equal(peer.close.code, 4003)
    await peer.send(closeFrame(4003))
    await peer.ended()
  },
}

/**
 * A socket that is closed with bytes unread answers with a reset, which can overtake the close frame: then a browser
 * says 1006. The hub is stopped while the flood is sent, so that more is there than one read takes.
 */
const noReset = [['a close frame', closeFrame(1000), 1000], ['an ill-formed frame', frame(3, 'ill-formed', { rsv: 7 }), 1002]].map(([name, first, code]) => ({
  name: `a flood behind ${name} is no reason for a reset`,
  async run(rig) {
    const vin = rig.vin()
    const peer = await rig.open(`/u/${vin}?echo`)
    peer.socket.pause()
    await rig.plain.whilePaused(() => peer.send([first, Buffer.alloc(200_000, 0xa5)]))
    await until(async () => {
      const answer = await rig.plain.admin(`/api/sessions/echo:${vin}`)
      return answer.status === 404 || (await answer.json()).clients === 0
    }, 60_000, 'the hub to have closed the client')
    // After two turns the hub is done with the socket: if it was reset, this write fails.
    for (let n = 0; n < 2; n++) assert.equal((await rig.plain.admin('/healthz')).status, 200)
    await peer.send(Buffer.from([0]))
    peer.socket.resume()
    await peer.closed()
    assert.equal(peer.socket.errored, null)
    assert.equal(peer.fault, null)
    assert.equal(peer.close?.code, code)
    assert.equal(peer.end, 'fin')
  },
}))

export const cases = [...valid, ...invalid, ...reasons, ...lengths, ...AFTER, ...begun, ...noReset, pongFirst, messagesFirst, hubEnds, answersLate]
