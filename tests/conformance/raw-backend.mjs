// A backend made of bytes. It reads the hub's frames as strictly as RFC 6455 lets a server be, and answers as the
// session's script says: by default each message comes back as it was; else with whatever bytes a case wants.
import net from 'node:net'
import { acceptOf } from './peer.mjs'
import { BINARY, CLOSE, CONTINUATION, FrameReader, PING, PONG, TEXT, chop, closeFrame, frame } from './wire.mjs'

/** One connection of the hub: what came on it, and means to answer. */
export class Upstream {
  constructor(backend, socket) {
    this.backend = backend
    this.socket = socket
    this.head = null
    this.url = null
    this.messages = []
    this.pongs = []
    this.pings = []
    this.close = null // the code of the hub's close frame; null: without one so far
    this.ended = false
    this.fault = null
    this.masks = new Set()
    this.text = Buffer.alloc(0)
    this.reader = new FrameReader({ masked: true })
    socket.setNoDelay(true)
    socket.on('error', () => {})
    socket.on('data', (part) => { try { this.onData(part) } catch (error) { this.fault ??= error.message } })
    socket.on('close', () => { this.ended = true })
  }

  onData(part) {
    if (this.head !== null) return this.onFrames(part)
    this.text = Buffer.concat([this.text, part])
    const end = this.text.indexOf('\r\n\r\n')
    if (end < 0) return
    this.head = this.text.subarray(0, end).toString('latin1')
    this.url = this.head.split(' ')[1]
    this.backend.onUpgrade(this)
    this.onFrames(this.text.subarray(end + 4))
  }

  onFrames(part) {
    for (const { fin, rsv, opcode, payload, mask } of this.reader.take(part)) {
      if (this.close !== null) throw new Error('a frame after the close frame')
      if (!fin || rsv !== 0) throw new Error('a fragment, or reserved bits')
      if (opcode > BINARY && payload.length > 125) throw new Error('a control frame that is too long')
      this.masks.add(mask.toString('hex'))
      if (opcode === TEXT || opcode === BINARY) this.onMessage(opcode, payload)
      else if (opcode === PONG) this.pongs.push(payload)
      else if (opcode === PING) this.pings.push(payload)
      else if (opcode === CLOSE) this.onClose(payload)
      else throw new Error(`opcode ${opcode}`)
    }
  }

  onMessage(opcode, payload) {
    this.messages.push([opcode, payload])
    this.script.onMessage?.(this, opcode, payload)
  }

  onClose(payload) {
    this.close = payload.length < 2 ? 0 : payload.readUInt16BE(0)
    if (this.script.onClose) return this.script.onClose(this)
    this.socket.end(this.closing ? undefined : closeFrame(this.close || undefined, '', { mask: false }))
  }

  accept(fields = '') {
    const key = /sec-websocket-key: *(\S+)/i.exec(this.head)[1]
    return `HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${acceptOf(key)}\r\n${fields}\r\n`
  }

  write(...parts) { this.socket.write(Buffer.concat(parts.map((part) => Buffer.from(part)))) }
  send(opcode, payload) { this.write(frame(opcode, payload, { mask: false })) }

  /** Bytes with a packet for each piece. */
  async trickle(bytes, size) {
    for (const piece of chop(bytes, size)) {
      if (this.socket.destroyed) return
      this.socket.write(piece)
      await new Promise(setImmediate)
    }
  }
}

const ECHO = { onMessage: (upstream, opcode, payload) => upstream.send(opcode, payload) }

/** Scripts for sessions that echo in other ways: by the user's name in the URL. */
const STYLES = {
  fragments: { onMessage(upstream, opcode, payload) {
    const parts = chop(payload, Math.max(1, Math.ceil(payload.length / 7)))
    if (parts.length === 0) parts.push(Buffer.alloc(0))
    upstream.write(...parts.flatMap((part, at) => [frame(PING, `p${at}`, { mask: false }), frame(PONG, 'unasked', { mask: false }),
      frame(at === 0 ? opcode : CONTINUATION, part, { mask: false, fin: at === parts.length - 1 })]))
  } },
  trickle: { onMessage: (upstream, opcode, payload) => upstream.trickle(frame(opcode, payload, { mask: false }), payload.length < 300 ? 1 : 'random') },
}

export class RawBackend {
  constructor() {
    this.scripts = new Map() // vin -> script, or a list of which each connection takes the next
    this.connections = new Map() // vin -> [Upstream]
    this.sockets = new Set()
    this.server = net.createServer((socket) => {
      this.sockets.add(socket)
      socket.on('close', () => this.sockets.delete(socket))
      new Upstream(this, socket)
    })
  }

  async listen(port) {
    this.port = port
    await new Promise((resolve, reject) => this.server.once('error', reject).listen(port, '127.0.0.1', resolve))
  }

  async stop() {
    for (const socket of this.sockets) socket.destroy()
    await new Promise((resolve) => { this.server.close(resolve) })
  }

  of(vin) {
    if (!this.connections.has(vin)) this.connections.set(vin, [])
    return this.connections.get(vin)
  }

  onUpgrade(upstream) {
    const [, user, vin] = upstream.url.split('?')[0].split('/').slice(-3)
    const list = this.of(vin)
    const script = this.scripts.get(vin) ?? STYLES[user] ?? ECHO
    upstream.script = Array.isArray(script) ? script[list.length] ?? ECHO : script
    list.push(upstream)
    if (upstream.script.onUpgrade) return upstream.script.onUpgrade(upstream)
    upstream.write(upstream.accept())
    upstream.script.onOpen?.(upstream)
  }
}
