// Large messages: up to the limit they pass, above it they are refused as soon as their headers say so.
import assert from 'node:assert/strict'
import { BINARY, CONTINUATION, TEXT, fragments, frame, randomBytes } from '../wire.mjs'
import { MAX_MESSAGE } from '../rig.mjs'

const KINDS = [['text', TEXT], ['binary', BINARY]]
const bytesOf = (opcode, size) => (opcode === TEXT ? Buffer.alloc(size, 'large ') : Buffer.alloc(size, 'large'))

const passes = [65536, 131071, 262144, 524288, MAX_MESSAGE - 1, MAX_MESSAGE].flatMap((size) => KINDS.flatMap(([kind, opcode]) =>
  [['whole', undefined], ['cut at random', 'random']].map(([way, piece]) => ({
    name: `a ${kind} of ${size} bytes, ${way}`,
    run: (rig) => rig.echoes({ frames: frame(opcode, bytesOf(opcode, size)), messages: [[opcode, bytesOf(opcode, size)]], size: piece }),
  }))))

const inFragments = [1000, 4096, 65536, 524288].flatMap((n) => KINDS.map(([kind, opcode]) => ({
  name: `a ${kind} of the largest size in fragments of ${n}`,
  run(rig) {
    const payload = bytesOf(opcode, MAX_MESSAGE)
    const parts = []
    for (let at = 0; at < payload.length; at += n) parts.push(payload.subarray(at, at + n))
    return rig.echoes({ frames: fragments(opcode, parts), messages: [[opcode, payload]] })
  },
})))

const tooLarge = [MAX_MESSAGE + 1, 2 * MAX_MESSAGE, 2 ** 31, 2 ** 32, 2 ** 40].flatMap((size) => KINDS.map(([kind, opcode]) => ({
  name: `a ${kind} of ${size} bytes is refused by its header`,
  run: (rig) => rig.refuses({ code: 4003, frames: frame(opcode, '', { size }), open: true }),
})))
tooLarge.push({ name: `a binary of ${2n ** 63n - 1n} bytes is refused by its header`,
  run: (rig) => rig.refuses({ code: 4003, frames: frame(BINARY, '', { size: 2n ** 63n - 1n, form: 64 }), open: true }) })

const sums = [
  ['the last fragment makes it too large', [MAX_MESSAGE - 1, 2]],
  ['a fragment of one byte makes it too large', [MAX_MESSAGE, 1]],
  ['the second of three is too large by itself', [1, MAX_MESSAGE, 1]],
].map(([name, parts]) => ({
  name,
  run: (rig) => rig.refuses({ code: 4003, frames: parts.map((size, at) => frame(at === 0 ? BINARY : CONTINUATION, Buffer.alloc(size), { fin: at === parts.length - 1 })) }),
}))

const wraps = {
  name: 'a continuation whose length would wrap the sum around',
  run: (rig) => rig.refuses({ code: 4003, frames: [frame(BINARY, 'x', { fin: false }), frame(CONTINUATION, '', { size: 2n ** 63n - 1n, form: 64 })], open: true }),
}

/** Throughput, as order under load: every message comes back once and in its place. */
const floods = [[5000, 16], [2000, 256], [500, 4096], [60, 65536]].flatMap(([count, size]) => KINDS.map(([kind, opcode]) => ({
  name: `${count} ${kind}s of ${size} bytes at once`,
  run(rig) {
    const messages = Array.from({ length: count }, (_, at) => [opcode, Buffer.alloc(size, `${kind} ${at} `)])
    return rig.echoes({ frames: messages.map(([, payload]) => frame(opcode, payload)), messages })
  },
})))

const fromBackend = {
  name: 'a message larger than a client may send passes from the backend',
  async run(rig) {
    const vin = rig.vin()
    const payload = randomBytes(MAX_MESSAGE + 4321)
    rig.raw.scripts.set(vin, { onOpen: (upstream) => upstream.send(BINARY, payload) })
    const peer = await rig.open(`/u/${vin}?raw`)
    await peer.got(1)
    assert.ok(peer.messages[0][1].equals(payload))
    await rig.farewell(peer)
  },
}

export const cases = [...passes, ...inFragments, ...tooLarge, ...sums, wraps, ...floods, fromBackend]
