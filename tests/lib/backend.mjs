// A vehicle backend that records: npm `ws` behind an HTTP server whose handshake can misbehave. It
// knows at each moment which upstreams are open, for each URL, and how many were open at once at most.
import http from 'node:http'
import { WebSocketServer } from 'ws'
import { countedMs, mark } from './busy.mjs'
import { freePort } from './ports.mjs'
import { until } from './until.mjs'

export class Backend {
  static async start(t, { port } = {}) {
    const backend = new Backend(port ?? await freePort())
    await backend.restart()
    t.defer(() => backend.kill())
    return backend
  }

  constructor(port) {
    this.port = port
    // How it behaves towards new connections; a test changes it at any time.
    // handshake: 'accept', 'mute' (no answer), 'reset', 'garbage', 'half' (of the answer), or an HTTP status to refuse with; 'leave' and
    // 'dismiss': accepts and ends at once, by FIN or with 1008; 'hints': accepts after interim answers, byte by byte.
    // Or a function of the request that returns one of these.
    // pong: what each text `ping` is answered with, or null. reads: whether new upstreams are read.
    this.handshake = 'accept'
    this.pong = 'pong'
    this.reads = true
    this.upgrades = [] // {url, headers, at, held} of each handshake, accepted or not; at and held are a mark of busy.mjs
    this.messages = [] // {url, data, binary, text, at, upstream}
    this.pings = [] // {url, at, held} of text heartbeats
    this.upstreams = new Set() // open ones: {url, socket, openedAt}
    this.peaks = new Map() // url -> the most that were open at once
    this.counts = new Map() // url -> open now
    this.sockets = new Set()
  }

  /** The backend's ws:// address with this path. */
  url(path = '') { return `ws://127.0.0.1:${this.port}${path}` }

  /** Listens (again) on the same port. */
  async restart() {
    this.wss = new WebSocketServer({ noServer: true, perMessageDeflate: false, maxPayload: 0, clientTracking: false })
    this.server = http.createServer((req, res) => res.writeHead(426).end('a WebSocket is expected\n'))
    this.server.on('connection', (socket) => {
      this.sockets.add(socket)
      socket.on('error', () => {})
      socket.once('close', () => this.sockets.delete(socket))
    })
    this.server.on('upgrade', (req, socket, head) => this.onUpgrade(req, socket, head))
    await new Promise((resolve, reject) => {
      this.server.once('error', reject)
      this.server.listen({ port: this.port, host: '127.0.0.1', backlog: 4096 }, resolve)
    })
  }

  /** Stops listening and cuts all connections, as a killed process does. */
  async kill() {
    const closed = new Promise((resolve) => { this.server.close(resolve) })
    for (const socket of this.sockets) socket.resetAndDestroy()
    await closed
    await until(() => this.upstreams.size === 0, 5000, 'upstreams of a killed backend to be gone')
  }

  onUpgrade(req, socket, head) {
    this.upgrades.push({ url: req.url, headers: req.headers, ...mark() })
    const kind = typeof this.handshake === 'function' ? this.handshake(req) : this.handshake
    const accept = (then = () => {}) => this.wss.handleUpgrade(req, socket, head, (ws) => { this.onOpen(req.url, ws); then(ws) })
    if (kind === 'accept') { accept(); return }
    if (kind === 'leave') { accept(() => socket.end()); return }
    if (kind === 'dismiss') { accept((ws) => ws.close(1008)); return }
    if (kind === 'hints') { this.hint(socket, accept); return }
    socket.on('end', () => socket.destroy()).resume() // to see it give up
    if (kind === 'mute') return
    if (kind === 'reset') { socket.resetAndDestroy(); return }
    if (kind === 'half') { socket.write('HTTP/1.1 101 Switching'); return }
    if (kind === 'garbage') { socket.write(Buffer.alloc(4096, 0xa5)); return }
    socket.end(`HTTP/1.1 ${kind} Refused\r\nContent-Length: 0\r\nConnection: close\r\n\r\n`)
  }

  /** Interim answers, each byte in a packet of its own, then the real one. */
  hint(socket, accept) {
    socket.setNoDelay(true)
    const bytes = [...Buffer.from('HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\n')]
    const next = () => {
      if (bytes.length === 0) { accept(); return }
      socket.write(Buffer.from([bytes.shift()]), () => setImmediate(next))
    }
    next()
  }

  onOpen(url, socket) {
    const upstream = { url, socket, openedAt: performance.now(), end: null }
    this.upstreams.add(upstream)
    const count = (this.counts.get(url) ?? 0) + 1
    this.counts.set(url, count)
    this.peaks.set(url, Math.max(count, this.peaks.get(url) ?? 0))
    if (!this.reads) socket.pause()
    socket.on('error', () => {})
    socket.on('message', (data, binary) => this.onMessage(upstream, data, binary))
    socket.once('close', (code, reason) => {
      upstream.end = { code, reason: reason.toString() }
      this.upstreams.delete(upstream)
      this.counts.set(url, this.counts.get(url) - 1)
    })
  }

  onMessage(upstream, data, binary) {
    const entry = { url: upstream.url, upstream, data, binary, text: binary ? null : data.toString(), at: performance.now() }
    if (entry.text === 'ping') {
      this.pings.push({ url: entry.url, ...mark() })
      if (this.pong !== null) upstream.socket.send(this.pong)
      return
    }
    this.messages.push(entry)
  }

  /** The open upstreams of a URL. */
  open(url) { return [...this.upstreams].filter((upstream) => upstream.url === url) }

  /** Waits until the URL has exactly one upstream and returns it. */
  one(url, ms = 10_000) {
    return until(() => this.counts.get(url) === 1 && this.open(url)[0], ms,
      () => `one upstream of ${url} (have ${JSON.stringify([...this.counts])})`)
  }

  /** Sends a message on each open upstream of the URL; returns how many there were. */
  push(url, data, options = {}) {
    const open = this.open(url)
    for (const { socket } of open) socket.send(data, options)
    return open.length
  }

  /** Sends one message as several frames. */
  pushFragments(url, parts, { binary = false } = {}) {
    for (const { socket } of this.open(url)) {
      parts.forEach((part, index) => socket.send(part, { binary, fin: index === parts.length - 1 }))
    }
  }

  /** Writes bytes that are no WebSocket frame of this library's making. */
  pushBytes(url, bytes) {
    for (const { socket } of this.open(url)) socket._socket.write(bytes)
  }

  texts() { return this.messages.map(({ text }) => text) }

  /**
   * The times between the handshakes of a URL (of all if none is given), from number `from` on, as {least, most}. A rule "not
   * before" is broken if `most` is less, a rule "within" if `least` is more. They differ by the time for which a busy machine
   * kept the processes waiting; on a quiet machine they are the same.
   */
  gaps({ url, from = 0 } = {}) {
    const seen = this.upgrades.filter((upgrade) => url === undefined || upgrade.url === url)
    return seen.slice(from + 1).map((upgrade, n) => {
      const [before, last] = [seen[from + n - 1] ?? { held: 0 }, seen[from + n]]
      return { least: countedMs(last, upgrade), most: upgrade.at - last.at + (last.held - before.held) }
    })
  }
}
