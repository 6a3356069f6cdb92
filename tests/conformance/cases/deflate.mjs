// permessage-deflate, the messages (RFC 7692 section 7.2): both ways, in all sizes, windows and ways to deflate; and
// what a client may not send.
import assert from 'node:assert/strict'
import zlib from 'node:zlib'
import { BINARY, CONTINUATION, PING, PONG, RSV1, TEXT, chop, closeFrame, fragments, frame, random, randomBytes, textBytes } from '../wire.mjs'
import { MAX_MESSAGE } from '../rig.mjs'
import { inflate } from '../peer.mjs'

const { Z_SYNC_FLUSH, Z_HUFFMAN_ONLY, Z_RLE, Z_FIXED, Z_FILTERED, Z_DEFAULT_STRATEGY } = zlib.constants
const TAIL_BYTES = 4
const HELLO = Buffer.from([0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00]) // "Hello", of the RFC

const offer = (parameters = '') => ({ hub: 'deflating', fields: [['Sec-WebSocket-Extensions', `permessage-deflate${parameters}`]] })

function deflate(plain, options = {}) {
  const packed = zlib.deflateRawSync(plain, { finishFlush: Z_SYNC_FLUSH, ...options })
  return packed.subarray(0, packed.length - TAIL_BYTES)
}

const packed = (opcode, plain, options) => frame(opcode, deflate(plain, options), { rsv: RSV1 })

const KINDS = {
  JSON: (size) => Buffer.from(JSON.stringify(Array.from({ length: size / 20 + 1 }, (_, at) => ({ speed: at % 240, soc: at % 100 }))).slice(0, size)),
  zeros: (size) => Buffer.alloc(size),
  noise: (size) => randomBytes(size),
  text: textBytes,
}
const opcodeOf = (kind) => (kind === 'noise' || kind === 'zeros' ? BINARY : TEXT)

// --- sizes and windows: what a client sends deflated, and what it is sent ---

const SIZES = [1, 2, 15, 16, 17, 32, 64, 125, 126, 127, 200, 255, 256, 257, 511, 512, 513, 1000, 1024, 1025, 2048, 4096, 4097, 8192, 16384, 16385, 32768, 32769, 65535, 65536, 131072]

/** How many of these messages the hub should deflate: what shrinks and fits into the window. */
const fits = (kind, size, bits) => kind !== 'noise' && size >= 64 && (bits === 15 || size <= 2 ** bits)

const sized = Object.keys(KINDS).flatMap((kind) => SIZES.map((size) => ({
  name: `${kind} of ${size} bytes, deflated both ways`,
  run(rig) {
    const plain = KINDS[kind](size)
    const opcode = opcodeOf(kind)
    return rig.echoes({ ...offer(), frames: packed(opcode, plain), messages: [[opcode, plain]],
      check: (peer) => { if (size >= 64 || kind === 'noise') assert.equal(peer.deflated, Number(fits(kind, size, 15))) } })
  },
})))

const windows = [8, 9, 10, 11, 12, 13, 14, 15].flatMap((bits) => Object.keys(KINDS).map((kind) => ({
  name: `${kind} of all sizes for a window of ${bits} bits`,
  run(rig) {
    const messages = SIZES.map((size) => [opcodeOf(kind), KINDS[kind](size)])
    const sure = messages.filter(([, plain]) => plain.length >= 64 || kind === 'noise' || plain.length < 16)
    return rig.echoes({ ...offer(`; server_max_window_bits=${bits}`), messages, service: 'raw',
      frames: messages.map(([opcode, plain]) => packed(opcode, plain, { windowBits: Math.max(9, bits) })),
      check(peer) {
        const most = messages.filter(([, plain]) => kind !== 'noise' && plain.length >= 16 && (bits === 15 || plain.length <= 2 ** bits)).length
        const least = sure.filter(([, plain]) => fits(kind, plain.length, bits)).length
        assert.ok(peer.deflated >= least && peer.deflated <= most, `${peer.deflated} of ${least} to ${most}`)
      } })
  },
})))

/** The check itself must be able to fail: it notices a distance beyond the window. */
const strict = {
  name: 'a distance beyond the window would be noticed',
  async run() {
    const unique = randomBytes(600)
    const stream = deflate(Buffer.concat([unique, unique]))
    assert.equal(inflate(stream, 15).length, 1200)
    assert.throws(() => inflate(stream, 9), /too far back/)
    assert.throws(() => inflate(deflate(Buffer.concat([unique.subarray(0, 300), unique.subarray(0, 300)])), 8), /too far back/)
  },
}

// --- ways to deflate ---

const WAYS = [
  ...[0, 1, 6, 9].map((level) => [`level ${level}`, { level }]),
  ...[9, 10, 12, 14, 15].map((windowBits) => [`a window of ${windowBits} bits`, { windowBits }]),
  ...[1, 5, 9].map((memLevel) => [`memLevel ${memLevel}`, { memLevel }]),
  ['Huffman codes alone', { strategy: Z_HUFFMAN_ONLY }], ['runs alone', { strategy: Z_RLE }], ['fixed codes', { strategy: Z_FIXED }],
  ['filtered', { strategy: Z_FILTERED }], ['the default', { strategy: Z_DEFAULT_STRATEGY }],
]

const ways = WAYS.flatMap(([name, options]) => Object.keys(KINDS).map((kind) => ({
  name: `${kind} by ${name}`,
  run(rig) {
    const messages = [100, 5000, 100_000].map((size) => [opcodeOf(kind), KINDS[kind](size)])
    return rig.echoes({ ...offer(), messages, frames: messages.map(([opcode, plain]) => packed(opcode, plain, options)), size: kind === 'noise' ? undefined : 'random' })
  },
})))

const PACKED_HELLO = [
  ['one block', HELLO],
  ['a block without compression', [0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00]],
  ['a final block and an empty one', [0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00]],
  ['two blocks', [0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00]],
  ['a final block alone', [0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00]],
  ['an empty block before it', [0x00, 0x00, 0x00, 0xff, 0xff, ...HELLO]],
].flatMap(([name, bytes]) => [undefined, 1].map((size) => ({
  name: `Hello as ${name}${size ? ', byte by byte' : ''}`,
  run: (rig) => rig.echoes({ ...offer(), frames: frame(TEXT, bytes, { rsv: RSV1 }), messages: [[TEXT, 'Hello']], size }),
})))

const EMPTY = [['one zero byte', [0]], ['no byte', []], ['a final empty block', [0x03, 0x00]], ['an empty block of fixed codes', [0x02, 0x00]],
  ['three empty blocks', [0x00, 0x00, 0x00, 0xff, 0xff, 0x00, 0x00, 0x00, 0xff, 0xff, 0x00]]]
const empty = EMPTY.flatMap(([name, bytes]) => [TEXT, BINARY].map((opcode) => ({
  name: `an empty ${opcode === TEXT ? 'text' : 'binary'} as ${name}`,
  run: (rig) => rig.echoes({ ...offer(), frames: [frame(opcode, bytes, { rsv: RSV1 }), frame(TEXT, 'on')], messages: [[opcode, ''], [TEXT, 'on']] }),
})))

// --- fragments, mixtures, streams ---

const inFragments = [1, 2, 3, 10, 100].flatMap((count) => ['JSON', 'noise'].flatMap((kind) => [false, true].map((pings) => ({
  name: `${kind} in ${count} deflated fragments${pings ? ' with PINGs and PONGs in between' : ''}`,
  run(rig) {
    const plain = KINDS[kind](3000)
    const bytes = deflate(plain)
    const parts = chop(bytes, Math.max(1, Math.ceil(bytes.length / count)))
    const frames = fragments(opcodeOf(kind), parts, { rsv: RSV1 })
    return rig.echoes({ ...offer(), messages: [[opcodeOf(kind), plain]],
      frames: pings ? frames.flatMap((one) => [frame(PING, 'p'), frame(PONG, 'q'), one]) : frames, pongs: pings ? frames.map(() => 'p') : [] })
  },
}))))
inFragments.push({
  name: 'a deflated message between empty fragments',
  run: (rig) => rig.echoes({ ...offer(), frames: fragments(TEXT, ['', HELLO.subarray(0, 3), '', HELLO.subarray(3), ''], { rsv: RSV1 }), messages: [[TEXT, 'Hello']] }),
})

const mixtures = [
  { name: 'deflated and plain messages by turns',
    run(rig) {
      const messages = Array.from({ length: 200 }, (_, at) => [at % 3 ? TEXT : BINARY, KINDS.JSON(20 + at * 7)])
      return rig.echoes({ ...offer(), messages, frames: messages.map(([opcode, plain], at) => (at % 2 ? packed(opcode, plain) : frame(opcode, plain))) })
    } },
  { name: 'plain messages alone, though deflating was agreed',
    run(rig) {
      const messages = SIZES.map((size) => [BINARY, KINDS.noise(size)])
      return rig.echoes({ ...offer(), messages, frames: messages.map(([opcode, plain]) => frame(opcode, plain)) })
    } },
  { name: '1,000 deflated messages in a row',
    run(rig) {
      const messages = Array.from({ length: 1000 }, (_, at) => [TEXT, Buffer.from(`number ${at} `.repeat(10))])
      return rig.echoes({ ...offer(), messages, frames: messages.map(([opcode, plain]) => packed(opcode, plain)) })
    } },
  ...['fragments', 'trickle'].map((user) => ({ name: `what a backend sends as ${user} comes deflated`,
    run(rig) {
      const messages = [500, 5000].map((size) => [TEXT, KINDS.JSON(size)])
      return rig.echoes({ ...offer(), service: 'raw', user, messages: messages.slice(0, 1), frames: frame(...messages[0]), check: (peer) => assert.equal(peer.deflated, 1) })
    } })),
]

/** Clients of one session with different parameters get the same messages, each in its own form. */
const together = {
  name: 'clients with all windows and without any watch the same session',
  async run(rig) {
    const path = `/u/${rig.vin()}?echo`
    const peers = await Promise.all([undefined, 8, 9, 10, 12, 15].map((bits) =>
      rig.open(path, bits === undefined ? {} : offer(`; server_max_window_bits=${bits}`))))
    const plain = await rig.open(path, { hub: 'deflating' })
    const messages = [100, 300, 600, 3000, 40_000].map((size) => [TEXT, KINDS.JSON(size)])
    for (const peer of peers.slice(1)) assert.ok(peer.field('sec-websocket-extensions'))
    await plain.send(messages.map(([opcode, bytes]) => frame(opcode, bytes)))
    for (const [peer, deflated] of [[plain, 0], [peers[1], 1], [peers[2], 2], [peers[3], 3], [peers[4], 4], [peers[5], 5]]) {
      await peer.got(messages.length)
      assert.deepEqual(peer.messages.map(([, bytes]) => String(bytes)), messages.map(([, bytes]) => String(bytes)))
      assert.equal(peer.deflated, deflated)
      await rig.farewell(peer)
    }
    peers[0].destroy()
  },
}

// --- limits ---

const limits = [
  ['zeros', Buffer.alloc(MAX_MESSAGE)], ['noise', randomBytes(MAX_MESSAGE)],
].flatMap(([kind, plain]) => [1, 6].map((level) => ({
  name: `${kind} of the largest size at level ${level}`,
  run: (rig) => rig.echoes({ ...offer(), frames: packed(BINARY, plain, { level }), messages: [[BINARY, plain]] }),
})))
limits.push({
  name: 'noise of the largest size in stored blocks of 100 bytes, longer than it is plain',
  run(rig) {
    const plain = randomBytes(MAX_MESSAGE)
    const blocks = chop(plain, 100).flatMap((part) => [Buffer.from([0, part.length, 0, part.length ^ 255, 255]), part])
    return rig.echoes({ ...offer(), frames: frame(BINARY, Buffer.concat([...blocks, Buffer.from([0])]), { rsv: RSV1 }), messages: [[BINARY, plain]] })
  },
})

const tooLarge = [
  ['one byte above the limit', () => packed(BINARY, Buffer.alloc(MAX_MESSAGE + 1))],
  ['a bomb of 64 MiB', () => packed(BINARY, Buffer.alloc(64 * MAX_MESSAGE))],
  ['a bomb of 64 MiB in fragments', () => fragments(BINARY, chop(deflate(Buffer.alloc(64 * MAX_MESSAGE)), 1000), { rsv: RSV1 })],
  ['a text bomb', () => packed(TEXT, Buffer.alloc(8 * MAX_MESSAGE, 'x'))],
  ['a plain message above the limit', () => frame(BINARY, Buffer.alloc(MAX_MESSAGE + 1))],
  ['a deflated frame that claims twice the limit', () => frame(BINARY, '', { rsv: RSV1, size: 2 * MAX_MESSAGE })],
  ['endless blocks without a byte', () => frame(BINARY, Buffer.alloc(MAX_MESSAGE * 2), { rsv: RSV1 })],
].map(([name, frames]) => ({ name: `${name} is too large`, run: (rig) => rig.refuses({ ...offer(), code: 4003, frames: frames(), open: true }) }))

const noBytes = {
  name: 'a mebibyte of empty blocks is an empty message',
  run(rig) {
    const block = Buffer.from([0, 0, 0, 255, 255])
    return rig.echoes({ ...offer(), frames: frame(BINARY, Buffer.concat([Buffer.alloc(5 * 200_000, block), Buffer.from([0])]), { rsv: RSV1 }), messages: [[BINARY, '']] })
  },
}

// --- what is against the rules ---

const taken = Buffer.from('a sentence that is long enough to be referred to from the next message')

/** A stream of two messages, the second of which needs the first's window: [first, second]. */
async function contextStream() {
  const stream = zlib.createDeflateRaw({ flush: Z_SYNC_FLUSH })
  const packs = []
  for (const text of [taken, taken]) {
    const parts = []
    const keep = (part) => parts.push(part)
    stream.on('data', keep)
    stream.write(text)
    await new Promise((resolve) => { stream.flush(Z_SYNC_FLUSH, resolve) })
    stream.off('data', keep)
    const bytes = Buffer.concat(parts)
    packs.push(bytes.subarray(0, bytes.length - TAIL_BYTES))
  }
  stream.close()
  return packs
}

const takeover = [
  { name: 'a message that refers to the one before, though that was not agreed',
    async run(rig) {
      const [first, second] = await contextStream()
      assert.ok(second.length < first.length / 2, 'it does refer to it')
      await rig.refuses({ ...offer(), code: 1007, first: [frame(TEXT, first, { rsv: RSV1 })], good: [[TEXT, taken]], frames: frame(TEXT, second, { rsv: RSV1 }) })
    } },
  { name: 'a message that refers to another client\'s',
    async run(rig) {
      const [first, second] = await contextStream()
      const other = await rig.open(`/u/${rig.vin()}?echo`, offer())
      await other.send(frame(TEXT, first, { rsv: RSV1 }))
      await other.got(1)
      await rig.refuses({ ...offer(), code: 1007, frames: frame(TEXT, second, { rsv: RSV1 }) })
      await rig.farewell(other)
    } },
]

const JSON_BYTES = deflate(KINDS.JSON(500))
const BAD_DATA = [
  ['a block of the reserved kind', [0x07]], ['a reserved block after a good one', [...HELLO.subarray(0, 6), 0xff, 0xff]],
  ['a stored block whose length is not confirmed', [0x00, 0x05, 0x00, 0x00, 0x00, 1, 2, 3, 4, 5]],
  ['a stored block that is cut off', [0x00, 0x20, 0x00, 0xdf, 0xff, 1, 2, 3]],
  ['a distance before the start', [0x4b, 0x04, 0x82, 0x00]],
  ['too many codes', [0xed, 0xfd, 0xff, 0xff, 0xff, 0xff, 0xff]],
  ['bytes of 255', Buffer.alloc(100, 255)],
  ['gzip\'s header', zlib.gzipSync('text')], ['zlib\'s header', zlib.deflateSync('text'.repeat(50))],
  ['plain text', Buffer.from('this was never deflated')],
  ['a message without its last byte', JSON_BYTES.subarray(0, -1)],
  ['half a message', JSON_BYTES.subarray(0, JSON_BYTES.length / 2)],
  ['a message with garbage behind it', Buffer.concat([JSON_BYTES, Buffer.from([0xde, 0xad, 0xbe, 0xef])])],
].flatMap(([name, bytes]) => [['whole', 1], ['in fragments', 3]].map(([way, count]) => ({
  name: `${name}, ${way}, is refused`,
  run: (rig) => rig.refuses({ ...offer(), code: 1007, frames: fragments(BINARY, chop(Buffer.from(bytes), Math.ceil(bytes.length / count)), { rsv: RSV1 }) }),
})))

const BAD_TEXT = [[0xff], [0xc0, 0x80], [0xed, 0xa0, 0x80], [0xe2, 0x82], [0xf4, 0x90, 0x80, 0x80]].flatMap((bytes) => [0, 5000].map((before) => ({
  name: `${Buffer.from(bytes).toString('hex')} deflated in a text after ${before} bytes`,
  run: (rig) => rig.refuses({ ...offer(), code: 1007, frames: packed(TEXT, Buffer.concat([Buffer.alloc(before, 'x'), Buffer.from(bytes)])) }),
})))

const bits = [
  ['RSV1 on a continuation', [frame(TEXT, HELLO.subarray(0, 3), { rsv: RSV1, fin: false }), frame(CONTINUATION, HELLO.subarray(3), { rsv: RSV1 })]],
  ['RSV1 on the continuation of a plain message', [frame(TEXT, 'a', { fin: false }), frame(CONTINUATION, HELLO, { rsv: RSV1 })]],
  ['RSV1 on a PING', frame(PING, HELLO, { rsv: RSV1 })], ['RSV1 on a PONG', frame(PONG, HELLO, { rsv: RSV1 })],
  ['RSV1 on an empty PING', frame(PING, '', { rsv: RSV1 })], ['RSV1 on a close', frame(8, [3, 232], { rsv: RSV1 })],
  ['RSV2 with RSV1', frame(TEXT, HELLO, { rsv: 6 })], ['RSV3 with RSV1', frame(TEXT, HELLO, { rsv: 5 })], ['RSV2 alone', frame(TEXT, 'x', { rsv: 2 })],
  ['RSV1 on an unknown opcode', frame(3, HELLO, { rsv: RSV1 })],
].map(([name, frames]) => ({ name, run: (rig) => rig.refuses({ ...offer(), code: 1002, frames }) }))

const notAgreed = ['', '; unknown', '; server_max_window_bits=7'].map((parameters) => ({
  name: `a deflated message after ${parameters === '' ? 'no offer' : `the offer "${parameters.slice(2)}"`}`,
  run: (rig) => rig.refuses({ ...(parameters === '' ? { hub: 'deflating' } : offer(parameters)), code: 1002, frames: frame(TEXT, HELLO, { rsv: RSV1 }) }),
}))

const afterAll = {
  name: 'after many that were refused the next client deflates as ever',
  async run(rig) {
    for (let n = 0; n < 20; n++) {
      const peer = await rig.open(`/u/${rig.vin()}?echo`, offer())
      await peer.send([frame(BINARY, randomBytes(1 + random(300)), { rsv: RSV1 }), closeFrame(1000)])
      await peer.ended()
      peer.destroy()
    }
    await rig.echoes({ ...offer(), frames: frame(TEXT, HELLO, { rsv: RSV1 }), messages: [[TEXT, 'Hello']] })
  },
}

export const cases = [...sized, ...windows, strict, ...ways, ...PACKED_HELLO, ...empty, ...inFragments, ...mixtures, together, ...limits, ...tooLarge,
  noBytes, ...takeover, ...BAD_DATA, ...BAD_TEXT, ...bits, ...notAgreed, afterAll]
