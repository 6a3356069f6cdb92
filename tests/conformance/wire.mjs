// Frames of RFC 6455 by hand: built as a case wants them, however wrong, and read back so strictly that
// every byte of the other side has been looked at.

export const [CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG] = [0, 1, 2, 8, 9, 10]
export const RSV1 = 4

/** Random numbers from a seed: CONFORMANCE_SEED replays a run. */
export const SEED = Number(process.env.CONFORMANCE_SEED ?? Date.now() % 1_000_000_000)
let state = SEED ^ 0x9e3779b9

export function random(below) {
  state = (state + 0x6d2b79f5) | 0
  let mixed = Math.imul(state ^ state >>> 15, 1 | state)
  mixed = mixed + Math.imul(mixed ^ mixed >>> 7, 61 | mixed) ^ mixed
  return ((mixed ^ mixed >>> 14) >>> 0) % below
}

export function randomBytes(length) {
  return Buffer.from(Uint8Array.from({ length }, () => random(256)))
}

const WORDS = 'Grüße ★ 𝄞 '
const WORDS_BYTES = Buffer.byteLength(WORDS)

/** A text of so many bytes with characters of one to four of them. */
export function textBytes(size) {
  return Buffer.from(WORDS.repeat(size / WORDS_BYTES) + 'x'.repeat(size % WORDS_BYTES))
}

function lengthBytes(size, form) {
  if (form === 0) return Buffer.from([size])
  const bytes = Buffer.alloc(form === 16 ? 3 : 9)
  bytes[0] = form === 16 ? 126 : 127
  if (form === 16) bytes.writeUInt16BE(Number(size), 1)
  else bytes.writeBigUInt64BE(BigInt(size), 1)
  return bytes
}

const shortestForm = (size) => (size < 126 ? 0 : size < 65536 ? 16 : 64)

/**
 * One frame. fin, rsv (4, 2, 1 for RSV1, 2, 3); mask: true for a random one, four bytes, or false for none;
 * size: the length its header claims; form: of the length, 0, 16 or 64 bits, the shortest by default.
 */
export function frame(opcode, payload = '', { fin = true, rsv = 0, mask = true, size, form } = {}) {
  const data = Buffer.from(payload)
  const claimed = size ?? data.length
  const length = lengthBytes(claimed, form ?? shortestForm(claimed))
  const head = Buffer.from([(fin ? 0x80 : 0) | rsv << 4 | opcode])
  if (!mask) return Buffer.concat([head, length, data])
  const key = mask === true ? randomBytes(4) : Buffer.from(mask)
  length[0] |= 0x80
  for (let at = 0; at < data.length; at++) data[at] ^= key[at & 3]
  return Buffer.concat([head, length, key, data])
}

/** The frames of one message cut into these parts. */
export function fragments(opcode, parts, options = {}) {
  return parts.map((part, at) => frame(at === 0 ? opcode : CONTINUATION, part,
    { ...options, fin: at === parts.length - 1, rsv: at === 0 ? options.rsv : 0 }))
}

export function closePayload(code, reason = '') {
  return Buffer.concat([Buffer.from([code >> 8, code & 255]), Buffer.from(reason)])
}

export const closeFrame = (code, reason, options) => frame(CLOSE, code === undefined ? '' : closePayload(code, reason), options)

/** Cuts bytes into pieces of n, or of random sizes. */
export function chop(bytes, size) {
  const pieces = []
  for (let at = 0; at < bytes.length;) {
    const n = size === 'random' ? 1 + random(Math.min(4096, Math.ceil(bytes.length / 4))) : size
    pieces.push(bytes.subarray(at, at += n))
  }
  return pieces
}

/** Reads frames; what is masked though it must not be, or longer than need be, is a fault. */
export class FrameReader {
  constructor({ masked }) {
    this.masked = masked
    this.rest = Buffer.alloc(0)
  }

  /** The complete frames that these bytes end: [{fin, rsv, opcode, payload, mask}]. */
  take(bytes) {
    this.rest = this.rest.length === 0 ? bytes : Buffer.concat([this.rest, bytes])
    const frames = []
    for (let one = this.next(); one !== null; one = this.next()) frames.push(one)
    return frames
  }

  next() {
    const bytes = this.rest
    if (bytes.length < 2) return null
    const short = bytes[1] & 0x7f
    const form = short === 126 ? 16 : short === 127 ? 64 : 0
    const head = 2 + form / 8 + (bytes[1] & 0x80 ? 4 : 0)
    if (bytes.length < head) return null
    const size = form === 16 ? bytes.readUInt16BE(2) : form === 64 ? Number(bytes.readBigUInt64BE(2)) : short
    if (shortestForm(size) !== form) throw new Error(`a length of ${size} in ${form} bits`)
    if (Boolean(bytes[1] & 0x80) !== this.masked) throw new Error(this.masked ? 'a frame without a mask' : 'a masked frame')
    if (bytes.length < head + size) return null
    const mask = this.masked ? bytes.subarray(head - 4, head) : null
    const payload = Buffer.from(bytes.subarray(head, head + size))
    if (mask) for (let at = 0; at < size; at++) payload[at] ^= mask[at & 3]
    this.rest = bytes.subarray(head + size)
    return { fin: Boolean(bytes[0] & 0x80), rsv: bytes[0] >> 4 & 7, opcode: bytes[0] & 15, payload, mask }
  }
}
