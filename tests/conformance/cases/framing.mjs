// Messages of all sizes around the borders of the length's forms, in one piece and cut up by TCP.
import { BINARY, PING, TEXT, chop, closeFrame, frame, random, randomBytes, textBytes } from '../wire.mjs'

const SIZES = [0, 1, 2, 3, 124, 125, 126, 127, 128, 255, 256, 4096, 32767, 32768, 65534, 65535, 65536, 65537, 131072]
const WAYS = [['whole', undefined], ['byte by byte', 1], ['cut at random', 'random'], ['in pieces of 997', 997]]
const SLOW = 300 // no more bytes one by one than this, and the header of larger frames
const KINDS = [['text', TEXT], ['binary', BINARY]]

const payloadOf = (opcode, size) => (opcode === BINARY ? randomBytes(size) : textBytes(size))

const sized = SIZES.flatMap((size) => KINDS.flatMap(([kind, opcode]) => WAYS
  .filter(([, piece]) => (piece === 1 ? size <= SLOW : piece === undefined || size > 2))
  .map(([way, piece]) => ({
    name: `a ${kind} of ${size} bytes, ${way}`,
    run(rig) {
      const payload = payloadOf(opcode, size)
      return rig.echoes({ frames: frame(opcode, payload), messages: [[opcode, payload]], size: piece, service: piece === 997 ? 'raw' : 'echo' })
    },
  }))))

/** The header's bytes in packets of their own, the payload at once. */
const headers = SIZES.filter((size) => size > SLOW).map((size) => ({
  name: `a header byte by byte, then ${size} bytes`,
  async run(rig) {
    const payload = randomBytes(size)
    const bytes = frame(BINARY, payload)
    const peer = await rig.open(`/u/${rig.vin()}?raw`)
    const head = bytes.length - size
    await peer.send(bytes.subarray(0, head), 1)
    await peer.send(bytes.subarray(head))
    await peer.got(1)
    await rig.farewell(peer)
  },
}))

/** The way back: a backend that cuts what it sends, and one that fragments it. */
const back = ['fragments', 'trickle'].flatMap((user) => SIZES.flatMap((size) => KINDS.map(([kind, opcode]) => ({
  name: `a ${kind} of ${size} bytes from a backend that ${user === 'fragments' ? 'sends fragments' : 'trickles'}`,
  run(rig) {
    const payload = payloadOf(opcode, size)
    return rig.echoes({ frames: frame(opcode, payload), messages: [[opcode, payload]], service: 'raw', user })
  },
}))))

const masks = [[0, 0, 0, 0], [255, 255, 255, 255], [1, 0, 0, 0], [0, 0, 0, 1], [0x80, 0, 0x80, 0]].map((mask) => ({
  name: `a mask of ${mask.join(' ')}`,
  run(rig) {
    const payload = randomBytes(1 + random(2000))
    return rig.echoes({ frames: frame(BINARY, payload, { mask }), messages: [[BINARY, payload]] })
  },
}))

/** Many frames in few packets, cut where no frame ends. */
const trains = [1, 7, 'random', 1460, undefined].map((size) => ({
  name: `100 messages in a row, ${size === undefined ? 'in one packet' : `in pieces of ${size}`}`,
  run(rig) {
    const messages = Array.from({ length: size === 1 ? 20 : 100 }, (_, at) => (at % 2 ? [BINARY, randomBytes(random(size === 1 ? 20 : 300))] : [TEXT, `number ${at}`]))
    return rig.echoes({ frames: Buffer.concat(messages.map(([opcode, payload]) => frame(opcode, payload))), messages, size })
  },
}))

const pipelined = [
  { name: 'a message in the same packet as the handshake', frames: [frame(TEXT, 'early')], messages: [[TEXT, 'early']] },
  { name: 'many messages in the same packet as the handshake', frames: Array.from({ length: 50 }, (_, at) => frame(TEXT, `early ${at}`)),
    messages: Array.from({ length: 50 }, (_, at) => [TEXT, `early ${at}`]) },
  { name: 'a PING in the same packet as the handshake', frames: [frame(PING, 'early')], pongs: ['early'] },
  { name: '64 KiB in the same packet as the handshake', frames: [frame(BINARY, Buffer.alloc(65536, 7))], messages: [[BINARY, Buffer.alloc(65536, 7)]] },
].map(({ name, ...what }) => ({ name, run: (rig) => rig.echoes({ ...what, inHandshake: true }) }))

const splitHandshake = {
  name: 'half a frame in the same packet as the handshake, the rest later',
  async run(rig) {
    const bytes = frame(TEXT, 'one message in two packets')
    for (const at of [1, 2, 5, 6, 7, 20]) {
      const peer = await rig.open(`/u/${rig.vin()}?echo`, { first: [bytes.subarray(0, at)] })
      await peer.send(bytes.subarray(at))
      await peer.got(1)
      await rig.farewell(peer)
    }
  },
}

const closeInHandshake = {
  name: 'a close frame in the same packet as the handshake',
  async run(rig) {
    const peer = await rig.open(`/u/${rig.vin()}?echo`, { first: [closeFrame(1001, 'at once')] })
    await peer.ended()
    if (peer.close?.code !== 1001) throw new Error(`${peer}`)
  },
}

const chopped = chop(Buffer.alloc(10), 3)
if (chopped.map(({ length }) => length).join() !== '3,3,3,1') throw new Error('chop')

export const cases = [...sized, ...headers, ...back, ...masks, ...trains, ...pipelined, splitHandshake, closeInHandshake]
