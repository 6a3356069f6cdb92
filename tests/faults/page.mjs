// Watchers that follow vehicles in other ways than a socket each, for the fault cases: a page with many subscriptions
// on one connection, and an event stream. Both come back on the next node when theirs is gone, and go on where they
// left off. Each vehicle of theirs has a log of its own, as resume-client.mjs writes it, for checker.mjs.
import { decode, encode } from '@msgpack/msgpack'
import WebSocket from 'ws'
import { EventStream } from '../lib/event-stream.mjs'

const FORMS = {
  'vinhub.v1': { decode: (data) => JSON.parse(data), encode: JSON.stringify },
  'vinhub.v1.msgpack': { decode: (data) => decode(data), encode },
}
const BACK_MS = 50
const OPEN_MS = 5000

const numberOf = (text) => Number(text.slice(text.indexOf('#') + 1).split(' ')[0])

/** One vehicle, as a watcher sees it. */
class View {
  constructor(vin, path) {
    Object.assign(this, { vin, path, log: [], position: null, lastNumber: -1, joined: false, upstream: null, sends: 0, unacknowledged: new Map() })
  }

  /** The url to come back with. */
  get url() { return this.position ? `${this.path}&resume=${this.position.epoch}.${this.position.offset}` : this.path }

  note(entry) { this.log.push({ ...entry, at: performance.now() }) }

  welcome({ epoch, offset, resumed, node, upstream }) {
    this.note({ kind: 'welcome', epoch, offset, resumed, node, asked: this.asked })
    this.joined = true
    this.upstream = upstream
    if (!resumed) this.position = { epoch, offset }
  }

  message(text, position, node) {
    this.note({ kind: 'message', ...position, number: numberOf(text), text, node: node.id })
    this.position = position
    this.lastNumber = Math.max(this.lastNumber, numberOf(text))
  }

  gap({ epoch, from, to }) {
    this.note({ kind: 'gap', epoch, from, to })
    if (to > 0) this.position = { epoch, offset: to }
  }

  leave() {
    if (this.joined) this.note({ kind: 'end', code: 1006 })
    this.joined = false
  }

  ends() { return this.log.filter(({ kind }) => kind === 'end') }
  numbers() { return this.log.filter(({ kind }) => kind === 'message').map(({ number }) => number) }
}

/** The common part: a home node, a view of each vehicle, and reconnecting. */
class Watcher {
  constructor(t, hubs, home) {
    Object.assign(this, { t, hubs, home, tries: 0, ends: 0, stopped: false })
    this.views = new Map() // by session id
    t.defer(() => { this.stopped = true; clearTimeout(this.retry); this.drop() })
  }

  get node() { return this.hubs[(this.home + this.tries) % this.hubs.length] }

  back() {
    for (const view of this.views.values()) view.leave()
    if (this.stopped) return
    this.ends++
    this.tries++
    this.retry = setTimeout(() => this.connect(), BACK_MS)
  }

  view(vin, path) {
    const view = new View(vin, path)
    Object.defineProperty(view, 'node', { get: () => this.node })
    this.views.set(`remoteWs:${vin}`, view)
    return view
  }
}

/** A page: all its vehicles on one connection of vinhub.v1. */
export class Page extends Watcher {
  constructor(t, hubs, home = 0, protocol = 'vinhub.v1') {
    super(t, hubs, home)
    Object.assign(this, { protocol, form: FORMS[protocol], requests: 0, client: null, open: false })
    this.told = [] // everything but MESSAGEs, with the session it concerns
    this.connect()
  }

  connect() {
    const resume = this.client === null ? '' : `&resume=0.0.${this.client}`
    const socket = new WebSocket(this.node.url(`/u?subscribe${resume}`), [this.protocol], { perMessageDeflate: false, maxPayload: 0, handshakeTimeout: OPEN_MS })
    this.socket = socket
    socket.on('error', () => {})
    socket.on('message', (data) => this.take(this.form.decode(data)))
    socket.once('close', () => { this.open = false; this.back() })
  }

  drop() { this.socket.terminate() }

  say(message) { this.socket.send(this.form.encode(message)) }

  /** Follows these; query: further parameters, "&rate=1". Returns the views. */
  follow(vins, query = '') {
    const views = vins.map((vin) => this.view(vin, `/u/${vin}?remoteWs${query}`))
    if (this.open) this.ask(views)
    return views
  }

  ask(views) {
    for (const view of views) view.asked = view.position ? { ...view.position } : null
    if (views.length > 0) this.say({ type: 'SUBSCRIBE', id: ++this.requests, urls: views.map(({ url }) => url) })
  }

  take(event) {
    const { type, session, epoch, offset, payload } = event
    if (type === 'WELCOME' && event.url === undefined) {
      this.client = payload.client
      this.open = true
      this.ask([...this.views.values()])
      return
    }
    const view = this.views.get(session ?? payload.session)
    if (type === 'MESSAGE') { view.message(payload, { epoch, offset }, this.node); return }
    this.told.push({ type, session: session ?? payload.session, payload, at: performance.now() })
    if (type === 'WELCOME') view.welcome(payload)
    else if (type === 'GAP') view.gap(payload)
    else if (type === 'STATUS') view.upstream = payload.upstream
  }
}

/** A page whose network lets no WebSocket through: an event stream of one vehicle. */
export class Stream extends Watcher {
  constructor(t, hubs, vin, home = 0) {
    super(t, hubs, home)
    this.one = this.view(vin, `/u/${vin}?remoteWs`)
    this.connect()
  }

  connect() {
    const { node, one } = this
    const reader = new EventStream()
    this.reader = reader
    one.asked = one.position ? { ...one.position } : null
    const headers = { Accept: 'text/event-stream', ...(one.position ? { 'Last-Event-ID': `${one.position.epoch}.${one.position.offset}` } : {}) }
    // The reader dispatches no lone id: it is the position, and first.
    const line = reader.line.bind(reader)
    reader.line = (text) => { line(text); this.look(node) }
    reader.connect(node.port, one.path, { headers, method: 'GET' }).then(
      () => { reader.response.once('close', () => this.back()) }, () => this.back())
  }

  drop() { this.reader.close() }

  look(node) {
    const { one, reader } = this
    if (!one.joined && reader.id) {
      const [epoch, offset] = reader.id.split('.').map(Number)
      const resumed = one.asked !== null && one.asked.epoch === epoch && one.asked.offset === offset
      one.welcome({ epoch, offset, resumed, node: node.id })
    }
    for (const event of reader.events.splice(0)) {
      const [epoch, offset] = event.id.split('.').map(Number)
      if (event.type === 'message') one.message(event.data, { epoch, offset }, node)
      else if (event.type === 'gap') one.gap(JSON.parse(event.data))
      else if (event.type === 'status') one.upstream = JSON.parse(event.data).upstream
    }
  }
}
