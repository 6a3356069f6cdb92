// The hub's own subprotocols: a WebSocket message that is not one of theirs is answered with ERROR and the client stays;
// an ill-formed frame closes it like any other client.
import assert from 'node:assert/strict'
import { decode, encode } from '@msgpack/msgpack'
import { BINARY, PING, RSV1, TEXT, closeFrame, fragments, frame } from '../wire.mjs'
import { MAX_MESSAGE } from '../rig.mjs'
import zlib from 'node:zlib'

const FORMS = {
  'vinhub.v1': { opcode: TEXT, pack: (value) => Buffer.from(JSON.stringify(value)), unpack: (bytes) => JSON.parse(bytes.toString()) },
  'vinhub.v1.msgpack': { opcode: BINARY, pack: (value) => Buffer.from(encode(value)), unpack: (bytes) => decode(bytes) },
}
const NAMES = Object.keys(FORMS)
const DEFLATE = [['Sec-WebSocket-Extensions', 'permessage-deflate']]
const send = (form, value, options) => frame(form.opcode, form.pack(value), options)

async function open(rig, name, { service = 'echo', fields = [], hub, vin = rig.vin() } = {}) {
  const form = FORMS[name]
  const peer = await rig.open(`/u/${vin}?${service}`, { hub, fields: [['Sec-WebSocket-Protocol', name], ...fields] })
  assert.equal(peer.field('sec-websocket-protocol'), name)
  const all = () => peer.messages.map(([opcode, payload]) => {
    assert.equal(opcode, form.opcode, 'the opcode of the form')
    return form.unpack(payload)
  })
  const of = (type) => all().filter((one) => one.type === type)
  const got = async (type, count = 1) => {
    await peer.when(() => of(type).length >= count, `${count} ${type}`)
    return of(type)
  }
  await got('WELCOME')
  return { peer, form, of, got }
}

/** SEND still works: ACK, and the echo as MESSAGE. */
async function alive({ peer, form, got, of }, id = 7001) {
  const before = of('MESSAGE').length
  await peer.send(send(form, { type: 'SEND', id, payload: 'alive', encoding: 'text' }))
  await peer.when(() => of('ACK').some(({ payload }) => payload.id === id), 'an ACK')
  const message = (await got('MESSAGE', before + 1)).at(-1)
  assert.equal(message.payload, 'alive')
  assert.equal(message.encoding, 'text')
}

const NO_JSON = [
  ['no JSON', 'hello'], ['nothing', ''], ['blanks', '  '], ['a string', '"x"'], ['a number', '5'], ['null', 'null'], ['an array', '[]'], ['an object without a type', '{}'],
  ['half an object', '{"type":"PING"'], ['two objects', '{"type":"PING"}{"type":"PING"}'], ['a type of another kind', '{"type":5}'], ['an unknown type', '{"type":"HELLO"}'],
  ['a type in another case', '{"type":"ping"}'], ['a server\'s type', '{"type":"MESSAGE","payload":"x"}'], ['a SEND without an id', '{"type":"SEND","payload":"x","encoding":"text"}'],
  ['a SEND with the id 0', '{"type":"SEND","id":0,"payload":"x"}'], ['a negative id', '{"type":"SEND","id":-1,"payload":"x"}'], ['a fractional id', '{"type":"SEND","id":1.5,"payload":"x"}'],
  ['an id above 2^53', '{"type":"SEND","id":9007199254740994,"payload":"x"}'], ['an id as a string', '{"type":"SEND","id":"1","payload":"x"}'], ['a SEND without a payload', '{"type":"SEND","id":1}'],
  ['a payload that is an object', '{"type":"SEND","id":1,"payload":{}}'], ['an unknown encoding', '{"type":"SEND","id":1,"payload":"x","encoding":"hex"}'],
  ['a payload that is not base64', '{"type":"SEND","id":1,"payload":"%%%","encoding":"base64"}'], ['half a surrogate pair', '{"type":"SEND","id":1,"payload":"\\ud800"}'],
  ['a field twice', '{"type":"PING","type":"PING"}'], ['brackets 1,000 deep', `${'['.repeat(1000)}${']'.repeat(1000)}`], ['the text of a heartbeat', 'ping'], ['a byte order mark', '\ufeff{"type":"PING"}'],
].map(([name, text]) => ['vinhub.v1', name, frame(TEXT, text)])

const NO_MSGPACK = [
  ['garbage', [0xc1]], ['nothing', []], ['half a map', [0x82, 0xa4]], ['a number', [5]], ['an array', [0x90]], ['an empty map', [0x80]], ['bytes behind', [...encode({ type: 'PING' }), 0]],
  ['a length it does not have', [0xdb, 0xff, 0xff, 0xff, 0xff]], ['a map of four billion', [0xdf, 0xff, 0xff, 0xff, 0xff]], ['an unknown type', encode({ type: 'HELLO' })],
  ['a SEND without an id', encode({ type: 'SEND', payload: 'x' })], ['a SEND with the id 0', encode({ type: 'SEND', id: 0, payload: 'x' })],
  ['a str that is not UTF-8', [...encode({ type: 'SEND', id: 1 }).with(0, 0x83), 0xa7, ...Buffer.from('payload'), 0xa1, 0xff]],
  ['arrays 1,000 deep', Buffer.alloc(1000, 0x91)], ['JSON as binary', Buffer.from('{"type":"PING"}')],
].map(([name, bytes]) => ['vinhub.v1.msgpack', name, frame(BINARY, bytes)])

const WRONG_KIND = [
  ['vinhub.v1', 'a binary frame with JSON', frame(BINARY, '{"type":"PING"}')], ['vinhub.v1', 'an empty binary frame', frame(BINARY)], ['vinhub.v1', 'a binary frame with msgpack', frame(BINARY, encode({ type: 'PING' }))],
  ['vinhub.v1.msgpack', 'a text frame with JSON', frame(TEXT, '{"type":"PING"}')], ['vinhub.v1.msgpack', 'an empty text frame', frame(TEXT)], ['vinhub.v1.msgpack', 'the text of a heartbeat', frame(TEXT, 'ping')],
  ['vinhub.v1', 'a SEND in a binary frame', frame(BINARY, '{"type":"SEND","id":1,"payload":"never","encoding":"text"}')],
  ['vinhub.v1.msgpack', 'a SEND in a text frame', frame(TEXT, '{"type":"SEND","id":1,"payload":"never","encoding":"text"}')],
]

const errors = [...NO_JSON, ...NO_MSGPACK, ...WRONG_KIND].map(([name, what, bytes]) => ({
  name: `${name}: ${what} is answered with ERROR, and the client stays`,
  async run(rig) {
    const client = await open(rig, name)
    await client.peer.send(bytes)
    const [error] = await client.got('ERROR')
    assert.equal(typeof error.payload.code, 'string')
    assert.equal(typeof error.payload.message, 'string')
    await alive(client)
    assert.equal(client.of('ERROR').length, 1)
    assert.deepEqual(client.of('MESSAGE').map(({ payload }) => payload), ['alive'], 'nothing of it went upstream')
    await rig.farewell(client.peer)
  },
}))

const closes = NAMES.flatMap((name) => [
  ['an unmasked frame', 1002, (form) => frame(form.opcode, 'x', { mask: false })],
  ['a reserved bit', 1002, (form) => frame(form.opcode, 'x', { rsv: RSV1 })],
  ['an unknown opcode', 1002, () => frame(5, 'x')],
  ['a continuation of nothing', 1002, () => frame(0, 'x')],
  ['a text that is not UTF-8', 1007, () => frame(TEXT, [0x7b, 0xff, 0x7d])],
  ['a SEND whose payload is not UTF-8', 1007, () => frame(TEXT, Buffer.concat([Buffer.from('{"type":"SEND","id":1,"payload":"'), Buffer.from([0xed, 0xa0, 0x80]), Buffer.from('"}')]))],
  ['a message that is too large', 4003, (form) => frame(form.opcode, Buffer.alloc(MAX_MESSAGE + 1))],
  ['an invalid close code', 1002, () => closeFrame(1005)],
  ['a close reason that is not UTF-8', 1007, () => closeFrame(1000, Buffer.from([0xff]))],
].map(([what, code, bytes]) => ({
  name: `${name}: ${what} closes with ${code}`,
  async run(rig) {
    const { peer, form } = await open(rig, name)
    await peer.send(bytes(form))
    await peer.when(() => peer.close !== null, 'a close frame')
    assert.equal(peer.close.code, code)
    await peer.send(closeFrame(code))
    await peer.ended()
    assert.equal(peer.fault, null)
    peer.destroy()
  },
})))

const PAYLOADS = [['a text', TEXT, 'Grüße ★ 𝄞'], ['an empty text', TEXT, ''], ['a text of all ASCII', TEXT, String.fromCharCode(...Array(127).keys())], ['a binary', BINARY, Buffer.from([0, 255, 128, 1])],
  ['an empty binary', BINARY, Buffer.alloc(0)], ['a large text', TEXT, 'x'.repeat(200_000)], ['a large binary', BINARY, Buffer.alloc(200_000, 9)]]

/** What a client SENDs in its form comes to the backend as a plain message, and back in its form. */
const both = NAMES.flatMap((name) => PAYLOADS.flatMap(([kind, opcode, payload]) => ['plain', 'deflating', 'fragments'].map((way) => ({
  name: `${name}: ${kind} there and back, ${way}`,
  async run(rig) {
    const vin = rig.vin()
    const options = way === 'deflating' ? { hub: 'deflating', fields: DEFLATE } : {}
    const { peer, form, got } = await open(rig, name, { ...options, service: 'raw', vin })
    const isText = opcode === TEXT
    const value = isText || name.endsWith('msgpack') ? payload : payload.toString('base64')
    const bytes = form.pack({ type: 'SEND', id: 1, payload: value, encoding: isText ? 'text' : 'base64' })
    const packed = () => zlib.deflateRawSync(bytes, { finishFlush: zlib.constants.Z_SYNC_FLUSH }).subarray(0, -4)
    await peer.send(way === 'fragments' ? fragments(form.opcode, [bytes.subarray(0, 3), '', bytes.subarray(3)]).flatMap((one) => [frame(PING), one])
      : way === 'deflating' ? frame(form.opcode, packed(), { rsv: RSV1 }) : frame(form.opcode, bytes))
    const [{ payload: ack }] = await got('ACK')
    assert.equal(ack.id, 1)
    const [message] = await got('MESSAGE')
    const echoed = isText || name.endsWith('msgpack') ? message.payload : Buffer.from(message.payload, 'base64')
    assert.deepEqual(Buffer.from(echoed), Buffer.from(payload))
    assert.equal(message.encoding, isText ? 'text' : 'base64')
    const [upstream] = rig.raw.of(vin)
    assert.deepEqual(upstream.messages, [[opcode, Buffer.from(payload)]])
    if (way === 'deflating' && payload.length > 1000) assert.equal(peer.deflated, 1)
    await rig.farewell(peer)
  },
}))))

const pings = NAMES.map((name) => ({
  name: `${name}: PING is answered with PONG, a PING frame with a PONG frame`,
  async run(rig) {
    const { peer, form, got } = await open(rig, name)
    await peer.send([send(form, { type: 'PING' }), frame(PING, 'p'), send(form, { type: 'PING' })])
    await got('PONG', 2)
    await peer.when(() => peer.pongs.length === 1, 'a PONG frame')
    await rig.farewell(peer)
  },
}))

export const cases = [...errors, ...closes, ...both, ...pings]
