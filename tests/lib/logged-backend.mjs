// A vehicle backend that numbers its pushes and records when and on which connection each left, when connections opened
// and closed, and all that clients sent. The other end of checker.mjs.
import { Backend } from './backend.mjs'
import { mark } from './busy.mjs'
import { freePort } from './ports.mjs'

const OPEN = 1
const TICK_MS = 10

export class LoggedBackend extends Backend {
  static async start(t) {
    const backend = new LoggedBackend(await freePort())
    await backend.restart()
    t.defer(async () => { backend.stopLoad(); await backend.kill() })
    return backend
  }

  constructor(port) {
    super(port)
    this.urls = new Map() // url -> {open: Set of upstreams, all: [upstream], sent: [{number, upstream, at}]}
    this.load = null
  }

  of(url) {
    let entry = this.urls.get(url)
    if (!entry) this.urls.set(url, entry = { open: new Set(), all: [], sent: [] })
    return entry
  }

  onOpen(url, socket) {
    super.onOpen(url, socket)
    const upstream = [...this.upstreams].at(-1)
    const entry = this.of(url)
    upstream.closedAt = null
    entry.open.add(upstream)
    entry.all.push(upstream)
    socket.once('close', () => {
      const { at, held } = mark()
      Object.assign(upstream, { closedAt: at, closedHeld: held })
      entry.open.delete(upstream)
    })
  }

  open(url) { return [...this.of(url).open] }

  /** Pushes the next number on each open upstream of the URL, a number of its own on each. */
  pushNext(url, padding = '') {
    const { open, sent } = this.of(url)
    for (const upstream of open) {
      if (upstream.socket.readyState !== OPEN) continue
      const number = sent.length
      sent.push({ number, upstream, at: performance.now() })
      upstream.socket.send(`${url}#${number}${padding}`)
    }
    return sent.length - 1
  }

  /** Pushes on the URLs in turn, `rate` a second over all of them, until stopLoad(). */
  startLoad(urls, rate) {
    let [turn, due, before] = [0, 0, performance.now()]
    this.load = setInterval(() => {
      const now = performance.now()
      due += (now - before) * rate / 1000
      before = now
      for (due = Math.min(due, rate); due >= 1; due--) this.pushNext(urls[turn++ % urls.length])
    }, TICK_MS)
  }

  stopLoad() {
    clearInterval(this.load)
    this.load = null
  }
}
