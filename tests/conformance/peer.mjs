// A browser made of bytes: a TCP connection, a handshake by hand, and each frame of the hub looked at as it comes.
import { createHash } from 'node:crypto'
import net from 'node:net'
import zlib from 'node:zlib'
import { BINARY, CLOSE, FrameReader, PING, PONG, RSV1, TEXT, chop } from './wire.mjs'

// A deadline only against a hang: the machine may be busy with other suites.
const WAIT_MS = 60_000
const GUID = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11'
const TAIL = Buffer.from([0, 0, 255, 255])
export const KEY = 'dGhlIHNhbXBsZSBub25jZQ=='

export const acceptOf = (key) => createHash('sha1').update(key + GUID).digest('base64')

/** A request; fields are [name, value] pairs, so that one may come twice. */
export function requestText(path, fields = [], { method = 'GET', version = 'HTTP/1.1', without = [] } = {}) {
  const usual = [['Host', '127.0.0.1'], ['Connection', 'Upgrade'], ['Upgrade', 'websocket'],
    ['Sec-WebSocket-Version', '13'], ['Sec-WebSocket-Key', KEY]]
  const lines = [...usual.filter(([name]) => !without.includes(name)), ...fields].map(([name, value]) => `${name}: ${value}\r\n`)
  return `${method} ${path}${version && ` ${version}`}\r\n${lines.join('')}\r\n`
}

/**
 * Inflates what the hub sent into a window of 2^bits bytes. The small chunks are the point: zlib looks into the
 * window only for what is no longer in its output, and that is where a distance beyond it is found out.
 */
export function inflate(payload, bits = 15) {
  return zlib.inflateRawSync(Buffer.concat([payload, TAIL]), { windowBits: bits, chunkSize: 64, finishFlush: zlib.constants.Z_SYNC_FLUSH })
}

export class Peer {
  /** before: a text that this client ignores where it comes as the first message. */
  constructor(port, bytes, before) {
    this.before = before
    this.head = null // {status, fields, text} of the answer
    this.messages = [] // [opcode, payload]
    this.deflated = 0 // how many of them came deflated
    this.pongs = []
    this.pings = 0
    this.close = null // {code, reason} of the hub's close frame
    this.end = null // 'fin', 'reset' once the hub has ended the connection
    this.fault = null // a rule that the hub broke
    this.bits = 15
    this.raw = Buffer.alloc(0)
    this.reader = new FrameReader({ masked: false })
    this.watchers = new Set()
    this.socket = net.connect({ port, host: '127.0.0.1', allowHalfOpen: true, noDelay: true })
    this.socket.on('connect', () => { if (bytes !== undefined) this.socket.write(bytes) })
    this.socket.on('data', (part) => this.onData(part))
    this.socket.on('end', () => this.onEnd('fin'))
    this.socket.on('error', (error) => this.onEnd(error.code === 'ECONNRESET' ? 'reset' : error.code))
    this.socket.on('close', () => this.onEnd('fin'))
  }

  onData(part) {
    try { this.read(part) } catch (error) { this.fault ??= error.message }
    this.changed()
  }

  onEnd(how) {
    if (this.end !== null && how !== 'reset') return
    if (this.end === null) {
      this.end = how
      if (this.reader.rest.length > 0) this.fault ??= 'half a frame at the end'
      this.socket.end()
    }
    this.changed()
  }

  read(part) {
    if (this.head === null) {
      this.raw = Buffer.concat([this.raw, part])
      const end = this.raw.indexOf('\r\n\r\n')
      if (end < 0) return
      this.head = parseHead(this.raw.subarray(0, end).toString('latin1'))
      part = this.raw.subarray(end + 4)
      this.bits = Number(/server_max_window_bits=(\d+)/.exec(this.field('sec-websocket-extensions') ?? '')?.[1] ?? 15)
    }
    if (this.head.status !== 101) { this.head.text += part.toString('latin1'); return }
    for (const one of this.reader.take(part)) this.onFrame(one)
  }

  /** What comes must be whole messages and lawful control frames, and nothing after a close frame. */
  onFrame({ fin, rsv, opcode, payload }) {
    if (this.close !== null) throw new Error('a frame after the close frame')
    if (!fin) throw new Error('a fragment')
    if (opcode === TEXT || opcode === BINARY) return this.onMessage(opcode, rsv, payload)
    if (rsv !== 0) throw new Error(`reserved bits ${rsv}`)
    if (payload.length > 125) throw new Error('a control frame that is too long')
    if (opcode === PONG) this.pongs.push(payload)
    else if (opcode === PING) this.pings++
    else if (opcode !== CLOSE) throw new Error(`opcode ${opcode}`)
    else this.close = readClose(payload)
  }

  onMessage(opcode, rsv, payload) {
    const agreed = this.field('sec-websocket-extensions') !== undefined
    if (rsv !== 0 && !(agreed && rsv === RSV1)) throw new Error(`reserved bits ${rsv}`)
    if (rsv === RSV1) {
      this.deflated++
      payload = inflate(payload, this.bits)
    }
    if (opcode === TEXT && !payload.equals(Buffer.from(payload.toString()))) throw new Error('a text that is not UTF-8')
    const ignored = this.messages.length === 0 && opcode === TEXT && String(payload) === this.before
    this.before = undefined
    if (!ignored) this.messages.push([opcode, payload])
  }

  field(name) { return this.head?.fields.get(name)?.join(', ') }

  changed() { for (const watcher of this.watchers) watcher() }

  /** Waits until condition() holds; fails at once where the connection has ended without. */
  when(condition, what, ms = WAIT_MS) {
    return new Promise((resolve, reject) => {
      const done = (settle, value) => {
        clearTimeout(timer)
        this.watchers.delete(check)
        settle(value)
      }
      const check = () => {
        if (this.fault) done(reject, new Error(`the hub sent ${this.fault}`))
        else if (condition()) done(resolve)
        else if (this.end !== null) done(reject, new Error(`the end (${this.end}) before ${what}: ${this}`))
      }
      const timer = setTimeout(() => done(reject, new Error(`no ${what} within ${ms} ms: ${this}`)), ms)
      this.watchers.add(check)
      check()
    })
  }

  answered() { return this.when(() => this.head !== null, 'an answer') }
  ended() { return this.when(() => this.end !== null, 'end') }
  /** The hub has ended the connection and so has this side, all its bytes sent: a reset would have shown by now. */
  closed() { return new Promise((resolve) => { if (this.socket.closed) resolve(); else this.socket.once('close', resolve) }) }
  got(count) { return this.when(() => this.messages.length >= count, `${count} messages`) }

  /** Writes frames in one piece, or cut into pieces of `size` bytes each of which has a read of its own. */
  async send(frames, size) {
    const bytes = Array.isArray(frames) ? Buffer.concat(frames) : Buffer.from(frames)
    const pieces = size === undefined ? [bytes] : chop(bytes, size)
    for (const piece of pieces) {
      if (this.socket.destroyed || this.socket.writableEnded) return
      this.socket.write(piece)
      if (pieces.length > 1) await new Promise(setImmediate)
    }
  }

  toString() {
    const texts = this.messages.slice(-4).map(([opcode, payload]) => `${opcode}:${payload.subarray(0, 40).toString('latin1')}(${payload.length})`)
    return `status ${this.head?.status}, ${this.messages.length} messages [${texts}], ${this.pongs.length} pongs, ` +
      `close ${JSON.stringify(this.close)}, end ${this.end}`
  }

  destroy() { this.socket.destroy() }
}

function parseHead(text) {
  const [start, ...lines] = text.split('\r\n')
  const status = Number(/^HTTP\/1\.1 (\d{3}) /.exec(start)?.[1] ?? NaN)
  const fields = new Map()
  for (const line of lines) {
    const colon = line.indexOf(':')
    const name = line.slice(0, colon).toLowerCase()
    fields.set(name, [...fields.get(name) ?? [], line.slice(colon + 1).trim()])
  }
  return { status, fields, text: '' }
}

function readClose(payload) {
  if (payload.length === 0) return { code: null, reason: '' }
  if (payload.length === 1) throw new Error('a close frame of one byte')
  const reason = payload.subarray(2).toString()
  if (!Buffer.from(reason).equals(payload.subarray(2))) throw new Error('a close reason that is not UTF-8')
  return { code: payload.readUInt16BE(0), reason }
}
