// A well-behaved browser of vinhub.v1: it remembers its position and its unacknowledged SENDs, and when its socket ends it
// reconnects to any node and resumes. It records all messages for checker.mjs. Every second one speaks JSON, the others
// msgpack.
import { decode, encode } from '@msgpack/msgpack'
import WebSocket from 'ws'

const FORMS = [
  { protocol: 'vinhub.v1', decode: JSON.parse, encode: JSON.stringify },
  { protocol: 'vinhub.v1.msgpack', decode, encode },
]
let clients = 0

const BACK_MS = 30 // doubled with each try that fails
const BACK_MAX_MS = 480
const BACK_JITTER_MS = 40
const OPEN_MS = 5000

export class ResumeClient {
  /** hubs: all nodes; home: the one it prefers while it answers. path: with the service, e.g. /u/V1?remoteWs */
  constructor(t, hubs, path, home = 0) {
    this.form = FORMS[clients++ % FORMS.length]
    this.hubs = hubs
    this.path = path
    this.home = home
    this.log = [] // {kind: 'welcome' | 'message' | 'gap' | 'ack' | 'error' | 'end', …, at}
    this.position = null
    this.id = null
    this.lastNumber = -1
    this.sends = 0
    this.unacknowledged = new Map()
    this.tries = 0
    this.failures = 0
    this.stopped = false
    this.joined = false
    t.defer(() => this.stop())
    this.connect()
  }

  get hub() { return this.hubs[(this.home + this.tries) % this.hubs.length] }

  connect() {
    const token = this.id === null ? '' : `&resume=${this.position.epoch}.${this.position.offset}.${this.id}`
    this.asked = token ? { ...this.position } : null
    this.node = this.hub
    const socket = new WebSocket(this.node.url(this.path + token), [this.form.protocol], {
      perMessageDeflate: false, maxPayload: 0, handshakeTimeout: OPEN_MS,
    })
    this.socket = socket
    socket.on('error', () => {})
    socket.on('message', (data) => this.onMessage(socket, this.form.decode(data)))
    socket.once('close', (code) => this.onEnd(socket, code))
  }

  onEnd(socket, code) {
    if (socket !== this.socket) return
    this.tries++
    this.leave(code)
  }

  /** The socket is over; the next one is dialled after a moment. */
  leave(code) {
    if (this.joined) this.log.push({ kind: 'end', code, at: performance.now() })
    this.failures = this.joined ? 0 : this.failures + 1
    this.joined = false
    clearTimeout(this.retry)
    if (!this.stopped) this.retry = setTimeout(() => this.connect(), this.backMs() + Math.random() * BACK_JITTER_MS)
  }

  backMs() { return Math.min(BACK_MAX_MS, BACK_MS * 2 ** this.failures) }

  onMessage(socket, { type, payload, epoch, offset }) {
    if (socket !== this.socket) return
    const at = performance.now()
    if (type === 'MESSAGE') this.onPush(payload, { epoch, offset }, at)
    else if (type === 'WELCOME') this.onWelcome(payload, at)
    else if (type === 'GAP') this.onGap(payload, at)
    else if (type === 'ACK') {
      this.log.push({ kind: 'ack', id: payload.id, at })
      this.unacknowledged.delete(payload.id)
    } else if (type === 'ERROR') this.log.push({ kind: 'error', ...payload, at })
    else if (type === 'STATUS') this.upstream = payload.upstream
  }

  onWelcome({ epoch, offset, client, resumed, upstream, node }, at) {
    this.log.push({ kind: 'welcome', epoch, offset, resumed, node, asked: this.asked, at })
    this.id = client
    this.joined = true
    this.upstream = upstream
    if (!resumed) this.position = { epoch, offset }
    for (const [id, payload] of this.unacknowledged) this.transmit(id, payload)
  }

  onPush(text, position, at) {
    const number = Number(text.slice(text.indexOf('#') + 1).split(' ')[0])
    this.log.push({ kind: 'message', ...position, number, text, node: this.node.id, at })
    this.position = position
    this.lastNumber = Math.max(this.lastNumber, number)
  }

  onGap({ epoch, from, to }, at) {
    this.log.push({ kind: 'gap', epoch, from, to, at })
    if (to > 0) this.position = { epoch, offset: to }
  }

  /** A SEND that is repeated until it is acknowledged. */
  send(payload) {
    const id = ++this.sends
    this.unacknowledged.set(id, payload)
    if (this.joined) this.transmit(id, payload)
    return id
  }

  transmit(id, payload) { this.socket.send(this.form.encode({ type: 'SEND', id, payload, encoding: 'text' })) }

  /** Drops the socket and comes back at its home. */
  goHome() { this.drop(0) }

  /** Drops the socket and comes back on the next node. */
  moveOn() { this.drop(this.tries + 1) }

  drop(tries) {
    this.tries = tries
    const { socket } = this
    this.socket = null
    socket?.terminate()
    this.leave(null)
  }

  /** Leaves; comeBack() resumes later at its last position, on the node counted from its home. */
  pause() {
    this.stopped = true
    this.drop(this.tries)
  }

  comeBack(tries) {
    this.stopped = false
    this.tries = tries
    this.connect()
  }

  stop() {
    this.stopped = true
    clearTimeout(this.retry)
    this.socket?.terminate()
  }

  /** The ends that it did not cause itself. */
  ends() { return this.log.filter(({ kind, code }) => kind === 'end' && code !== null) }
}
