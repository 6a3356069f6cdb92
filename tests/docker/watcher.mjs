// A vinhub.v1 client that never gives up: it reconnects with its position and keeps account of what it got, so that
// duplicates, disorder and losses without a GAP are noticed.
import WebSocket from 'ws'

const RECONNECT_MS = 100
const SILENT_MS = 60_000 // like the load balancer: a connection without a sign of life is over

export class Watcher {
  constructor(url) {
    this.url = url
    this.position = null // {epoch, offset} of the last message, or of WELCOME
    this.client = null
    this.node = null
    this.messages = 0
    this.lastAt = 0
    this.faults = [] // what must not happen
    this.gaps = [] // announced losses
    this.closes = []
    this.connect()
  }

  connect() {
    const resume = this.position ? `&resume=${this.position.epoch}.${this.position.offset}.${this.client}` : ''
    const socket = new WebSocket(this.url + resume, 'vinhub.v1', { perMessageDeflate: false, handshakeTimeout: 10_000 })
    this.socket = socket
    let silence
    const alive = () => {
      clearTimeout(silence)
      silence = setTimeout(() => socket.terminate(), SILENT_MS)
    }
    alive()
    socket.on('ping', alive)
    socket.on('error', (error) => { this.lastError = error.message })
    socket.on('message', (data) => {
      alive()
      this.receive(JSON.parse(data.toString()))
    })
    socket.on('close', (code, reason) => {
      clearTimeout(silence)
      this.node = null
      if (this.stopped) return
      this.closes.push(`${code} ${reason}`)
      setTimeout(() => this.connect(), RECONNECT_MS)
    })
  }

  receive(message) {
    if (message.type === 'WELCOME') this.welcome(message.payload)
    else if (message.type === 'MESSAGE') this.message(message)
    else if (message.type === 'GAP') this.gap(message.payload)
    else if (message.type === 'ERROR') this.faults.push(`ERROR ${JSON.stringify(message.payload)}`)
  }

  welcome({ node, client, epoch, offset, resumed }) {
    this.node = node
    this.client = client
    const before = this.position
    if (before && resumed && (before.epoch !== epoch || before.offset !== offset)) {
      this.faults.push(`resumed at ${epoch}.${offset} in place of ${before.epoch}.${before.offset}`)
    }
    if (before && !resumed) this.faults.push(`not resumed at ${before.epoch}.${before.offset}`)
    this.position = epoch > 0 ? { epoch, offset } : null
  }

  message({ epoch, offset }) {
    const last = this.position
    this.messages++
    this.lastAt = performance.now()
    this.position = { epoch, offset }
    if (!last) return
    if (epoch < last.epoch || (epoch === last.epoch && offset <= last.offset)) {
      this.faults.push(`${epoch}.${offset} after ${last.epoch}.${last.offset}`)
    } else if (offset !== (epoch === last.epoch ? last.offset + 1 : 1)) {
      this.faults.push(`silent gap from ${last.epoch}.${last.offset} to ${epoch}.${offset}`)
    }
  }

  gap({ epoch, from, to }) {
    this.gaps.push(`${epoch} ${from}-${to}`)
    if (to > 0) this.position = { epoch, offset: to }
  }

  stop() {
    this.stopped = true
    this.socket.terminate()
  }
}
