// UTF-8: each border of the encoding, whole, in fragments and packets that cut characters, and the moment of refusal.
import { BINARY, CONTINUATION, PING, TEXT, fragments, frame } from '../wire.mjs'

const hex = (bytes) => Buffer.from(bytes).toString('hex').replace(/(..)(?=.)/g, '$1 ')

const VALID = [
  ['ASCII', [...Array(128).keys()]],
  ['the first and last of two bytes', [0xc2, 0x80, 0xdf, 0xbf]],
  ['the first and last of three bytes', [0xe0, 0xa0, 0x80, 0xef, 0xbf, 0xbf]],
  ['the first and last of four bytes', [0xf0, 0x90, 0x80, 0x80, 0xf4, 0x8f, 0xbf, 0xbf]],
  ['U+D7FF and U+E000, next to the surrogates', [0xed, 0x9f, 0xbf, 0xee, 0x80, 0x80]],
  ['U+FFFD, U+FFFE and U+FFFF', [0xef, 0xbf, 0xbd, 0xef, 0xbf, 0xbe, 0xef, 0xbf, 0xbf]],
  ['U+FDD0, no character', [0xef, 0xb7, 0x90]],
  ['U+1FFFE and U+10FFFE, no characters', [0xf0, 0x9f, 0xbf, 0xbe, 0xf4, 0x8f, 0xbf, 0xbe]],
  ['a byte order mark', [0xef, 0xbb, 0xbf, 0x61]],
  ['the Greek word kosme', Buffer.from('κόσμε')],
  ['a sentence of many scripts', Buffer.from('Hello-µ@ßöäüàá-UTF-8!! 漢字 עברית العربية 🚗🔋')],
  ['combining characters', Buffer.from('e\u0301\u0323 ก็')],
]

/** Sequences that no UTF-8 text holds: [bytes, how many of them it takes until that is certain]. */
const INVALID = [
  ...[0x80, 0xbf].map((byte) => [[byte], 1]),
  ...[0xc0, 0xc1].flatMap((byte) => [[[byte, 0x80], 1], [[byte, 0xbf], 1]]),
  ...[0xf5, 0xf6, 0xf7, 0xf8, 0xf9, 0xfb, 0xfc, 0xfd, 0xfe, 0xff].map((byte) => [[byte, 0x80, 0x80, 0x80], 1]),
  [[0xe0, 0x80, 0x80], 2], [[0xe0, 0x9f, 0xbf], 2],
  [[0xf0, 0x80, 0x80, 0x80], 2], [[0xf0, 0x8f, 0xbf, 0xbf], 2],
  [[0xed, 0xa0, 0x80], 2], [[0xed, 0xad, 0xbf], 2], [[0xed, 0xae, 0x80], 2], [[0xed, 0xb0, 0x80], 2], [[0xed, 0xbf, 0xbf], 2],
  [[0xed, 0xa0, 0x80, 0xed, 0xb0, 0x80], 2],
  [[0xf4, 0x90, 0x80, 0x80], 2], [[0xf4, 0xbf, 0xbf, 0xbf], 2],
  [[0xc2, 0x41], 2], [[0xc2, 0xc2, 0x80], 2], [[0xdf, 0x00], 2], [[0xe1, 0x80, 0x41], 3], [[0xe1, 0x41, 0x80], 2], [[0xe1, 0xe1, 0x80, 0x80], 2],
  [[0xf1, 0x80, 0x80, 0x41], 4], [[0xf1, 0x80, 0x41, 0x80], 3], [[0xf1, 0x41, 0x80, 0x80], 2], [[0xf1, 0x80, 0x80, 0xff], 4],
  [[0xc2, 0x80, 0x80], 3], [[0xe1, 0x80, 0x80, 0x80], 4], [[0xf1, 0x80, 0x80, 0x80, 0x80], 5],
  [[0xef, 0xbf, 0xbd, 0xff], 4],
]

/** What a text must not end with. */
const CUT_OFF = [[0xc2], [0xdf], [0xe0], [0xe0, 0xa0], [0xe1, 0x80], [0xed, 0x9f], [0xef, 0xbf], [0xf0], [0xf0, 0x90], [0xf0, 0x90, 0x80], [0xf1, 0x80, 0x80], [0xf4, 0x8f, 0xbf]]

const valid = VALID.flatMap(([name, text]) => {
  const bytes = Buffer.from(text)
  const messages = [[TEXT, bytes]]
  return [
    ['whole', { frames: frame(TEXT, bytes) }],
    ['byte by byte', { frames: frame(TEXT, bytes), size: 1 }],
    ['in fragments of one byte', { frames: fragments(TEXT, [...bytes].map((byte) => [byte])) }],
    ['in fragments of one byte with PINGs, byte by byte', { frames: fragments(TEXT, [...bytes].map((byte) => [byte])).flatMap((one) => [one, frame(PING)]),
      pongs: [...bytes].map(() => ''), size: bytes.length < 20 ? 1 : 'random' }],
    ['behind 4,096 other bytes', { frames: frame(TEXT, Buffer.concat([Buffer.alloc(4093, 'x'), bytes])), messages: [[TEXT, Buffer.concat([Buffer.alloc(4093, 'x'), bytes])]] }],
  ].map(([way, what]) => ({ name: `${name}, ${way}`, run: (rig) => rig.echoes({ messages, ...what }) }))
})

const afterMuch = (bytes) => Buffer.concat([Buffer.alloc(65530, 'x'), Buffer.from(bytes)])

const invalid = INVALID.flatMap(([bytes, certain]) => [
  ['whole', { frames: frame(TEXT, bytes) }],
  ['between letters', { frames: frame(TEXT, Buffer.concat([Buffer.from('κόσμε'), Buffer.from(bytes), Buffer.from('edited')])) }],
  ['byte by byte', { frames: frame(TEXT, bytes), size: 1 }],
  ['in fragments of one byte', { frames: fragments(TEXT, bytes.map((byte) => [byte])) }],
  ['after 64 KiB', { frames: frame(TEXT, afterMuch(bytes)), size: 'random' }],
  // Fail-fast: what decides is there, the rest of the frame never comes.
  ['refused before the frame ends', { frames: frame(TEXT, bytes.slice(0, certain), { size: 1000 }), open: true }],
  ['refused before the message ends', { frames: [frame(TEXT, 'so far ', { fin: false }), frame(CONTINUATION, bytes.slice(0, certain), { fin: false })], open: true }],
].map(([way, what]) => ({ name: `${hex(bytes)} ${way}`, run: (rig) => rig.refuses({ code: 1007, ...what }) })))

const cutOff = CUT_OFF.flatMap((bytes) => [
  ['alone', { frames: frame(TEXT, bytes) }],
  ['at the end of a text', { frames: frame(TEXT, Buffer.concat([Buffer.from('text '), Buffer.from(bytes)])) }],
  ['at the end of the last fragment', { frames: fragments(TEXT, ['text ', bytes]) }],
  ['before an empty last fragment', { frames: fragments(TEXT, [bytes, '']) }],
  ['before a letter in the next fragment', { frames: fragments(TEXT, [bytes, 'A']) }],
].map(([way, what]) => ({ name: `${hex(bytes)} ${way} is cut off`, run: (rig) => rig.refuses({ code: 1007, ...what }) })))

const binary = INVALID.slice(0, 12).map(([bytes]) => ({
  name: `${hex(bytes)} in a binary is nobody's business`,
  run: (rig) => rig.echoes({ frames: frame(BINARY, bytes), messages: [[BINARY, bytes]] }),
}))

const waits = {
  name: 'a character that is not complete is waited for',
  async run(rig) {
    const bytes = Buffer.from('🚗')
    const peer = await rig.open(`/u/${rig.vin()}?echo`)
    await peer.send([frame(TEXT, bytes.subarray(0, 3), { fin: false }), frame(PING, 'still there?')])
    await peer.when(() => peer.pongs.length === 1, 'an answer')
    await peer.send(frame(CONTINUATION, bytes.subarray(3)))
    await peer.got(1)
    await rig.farewell(peer)
  },
}

/** All 1,112,064 scalar values, in five texts. */
const everything = Array.from({ length: 5 }, (_, part) => ({
  name: `every code point, part ${part + 1} of 5`,
  run(rig) {
    const size = Math.ceil(0x110000 / 5)
    let text = ''
    for (let point = part * size; point < Math.min(0x110000, (part + 1) * size); point++)
      if (point < 0xd800 || point > 0xdfff) text += String.fromCodePoint(point)
    return rig.echoes({ frames: frame(TEXT, text), messages: [[TEXT, text]], size: 'random' })
  },
}))

export const cases = [...valid, ...invalid, ...cutOff, ...binary, waits, ...everything]
