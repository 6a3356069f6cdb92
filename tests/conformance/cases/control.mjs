// PINGs and PONGs, reserved bits, opcodes, masks and lengths.
import { BINARY, CLOSE, CONTINUATION, PING, PONG, RSV1, TEXT, closeFrame, frame, randomBytes } from '../wire.mjs'

const range = (from, to) => Array.from({ length: to - from + 1 }, (_, at) => from + at)

const pings = range(0, 125).map((size) => ({
  name: `a PING of ${size} bytes${size % 3 === 0 ? ', byte by byte' : ''}`,
  run(rig) {
    const payload = randomBytes(size)
    return rig.echoes({ frames: frame(PING, payload), pongs: [payload], size: size % 3 === 0 ? 1 : undefined })
  },
}))

const talks = [
  ['ten PINGs in one packet are answered in order', { frames: range(0, 9).map((at) => frame(PING, `ping ${at}`)), pongs: range(0, 9).map((at) => `ping ${at}`) }],
  ['ten PINGs byte by byte', { frames: range(0, 9).map((at) => frame(PING, `ping ${at}`)), pongs: range(0, 9).map((at) => `ping ${at}`), size: 1 }],
  ['2,000 PINGs of 125 bytes are all answered', { frames: range(1, 2000).map((at) => frame(PING, Buffer.alloc(125, at))), pongs: range(1, 2000).map((at) => Buffer.alloc(125, at)) }],
  ['PINGs between messages', { frames: [frame(PING, 'a'), frame(TEXT, 'one'), frame(PING, 'b'), frame(BINARY, 'two'), frame(PING, 'c')],
    pongs: ['a', 'b', 'c'], messages: [[TEXT, 'one'], [BINARY, 'two']] }],
  ['a PONG that nobody asked for', { frames: [frame(PONG, ''), frame(PONG, 'x'), frame(PONG, Buffer.alloc(125, 'p')), frame(TEXT, 'on')], messages: [[TEXT, 'on']] }],
  ['a PONG and then a PING', { frames: [frame(PONG, 'unasked'), frame(PING, 'asked')], pongs: ['asked'] }],
  ['a PING that is not UTF-8', { frames: [frame(PING, [0xff, 0xfe, 0xc0])], pongs: [[0xff, 0xfe, 0xc0]] }],
  ['the text "ping" as a PING', { frames: [frame(PING, 'ping')], pongs: ['ping'] }],
].map(([name, what]) => ({ name, run: (rig) => rig.echoes(what) }))

/** Each broken rule alone, after a message that was right, before one that would be, and within a message. */
function inAllPlaces(name, code, bad) {
  const begun = frame(TEXT, 'begun, ', { fin: false })
  return [
    [name, { frames: bad }],
    [`${name}, byte by byte`, { frames: bad, size: 1 }],
    [`${name}, in the same packet as the handshake`, { frames: [bad], inHandshake: true }],
    [`${name}, after a message`, { frames: [bad, frame(TEXT, 'after')], first: [frame(TEXT, 'before')], good: [[TEXT, 'before']] }],
    [`${name}, within a message`, { frames: [begun, bad, frame(CONTINUATION, 'ended')] }],
  ].map(([title, what]) => ({ name: title, run: (rig) => rig.refuses({ code, ...what }) }))
}

const NAMES = { [CONTINUATION]: 'a continuation', [TEXT]: 'a text', [BINARY]: 'a binary', [CLOSE]: 'a close', [PING]: 'a PING', [PONG]: 'a PONG' }

const reserved = range(1, 7).flatMap((rsv) => Object.entries(NAMES).flatMap(([opcode, name]) =>
  inAllPlaces(`reserved bits ${rsv.toString(2).padStart(3, '0')} on ${name}`, 1002,
    frame(Number(opcode), Number(opcode) === CLOSE ? [3, 232] : 'x', { rsv })).filter((_, at) => rsv === RSV1 || at === 0)))

const opcodes = [3, 4, 5, 6, 7, 11, 12, 13, 14, 15].flatMap((opcode) => [
  ...inAllPlaces(`opcode ${opcode}`, 1002, frame(opcode, 'payload')),
  { name: `opcode ${opcode}, empty`, run: (rig) => rig.refuses({ code: 1002, frames: frame(opcode) }) },
  { name: `opcode ${opcode}, not final`, run: (rig) => rig.refuses({ code: 1002, frames: frame(opcode, 'x', { fin: false }) }) },
])

const oversized = [PING, PONG, CLOSE].flatMap((opcode) => [126, 127, 200, 65535, 65536].map((size) => ({
  name: `${NAMES[opcode]} of ${size} bytes`,
  run: (rig) => rig.refuses({ code: 1002, frames: frame(opcode, Buffer.alloc(size, 3)) }),
})))

const split = [PING, PONG, CLOSE].flatMap((opcode) => inAllPlaces(`${NAMES[opcode]} in fragments`, 1002,
  frame(opcode, opcode === CLOSE ? [3, 232] : 'half', { fin: false })))

const unmasked = Object.entries(NAMES).flatMap(([opcode, name]) => inAllPlaces(`${name} without a mask`, 1002,
  frame(Number(opcode), Number(opcode) === CLOSE ? [3, 232] : 'x', { mask: false })).filter((_, at) => at !== 1))

/** Mistakes in the first two bytes, refused before the rest comes. */
const early = [
  ['a reserved bit', [0xa1, 0x80]], ['an unknown opcode', [0x83, 0x80]], ['a missing mask', [0x81, 0x05]],
  ['a PING that is too long', [0x89, 0xfe]], ['a PING in fragments', [0x09, 0x80]], ['a continuation of nothing', [0x80, 0x80]],
].map(([name, bytes]) => ({ name: `${name} is refused by its first two bytes`, run: (rig) => rig.refuses({ code: 1002, frames: Buffer.from(bytes), open: true }) }))

const lengths = [
  ...[0, 1, 125].map((size) => ['16 bits', size, 16]), ...[0, 1, 125, 126, 65535].map((size) => ['64 bits', size, 64]),
].flatMap(([form, size, bits]) => [TEXT, BINARY].map((opcode) => ({
  name: `a ${opcode === TEXT ? 'text' : 'binary'}'s length of ${size} in ${form}`,
  run: (rig) => rig.refuses({ code: 1002, frames: frame(opcode, Buffer.alloc(size, 'x'), { form: bits }) }),
})))

const huge = [2n ** 63n, 2n ** 63n + 1n, 2n ** 64n - 1n].map((size) => ({
  name: `a length of ${size}, whose highest bit is set`,
  run: (rig) => rig.refuses({ code: 1002, frames: frame(BINARY, '', { size, form: 64 }), open: true }),
}))

const withoutClose = {
  name: 'a connection that ends without a close frame is dropped for its client alone',
  async run(rig) {
    const path = `/u/${rig.vin()}?echo`
    const witness = await rig.open(path)
    const peer = await rig.open(path)
    await peer.send(frame(TEXT, 'half', { fin: false }))
    peer.socket.end()
    await peer.ended()
    await witness.send(frame(TEXT, 'still here'))
    await witness.got(1)
    await witness.send(closeFrame(1000))
    await witness.ended()
  },
}

export const cases = [...pings, ...talks, ...reserved, ...opcodes, ...oversized, ...split, ...unmasked, ...early, ...lengths, ...huge, withoutClose]
