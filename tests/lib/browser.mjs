// A browser: npm `ws` with a memory. Keeps every message in the order of arrival, with its kind, and
// how the socket ended.
import WebSocket from 'ws'
import { deadline, until } from './until.mjs'

const OPEN_MS = 15_000

export class Browser {
  /** Connects without waiting; options go to `ws`, protocols are the subprotocols offered. */
  static dial(t, url, { protocols = [], ...options } = {}) {
    const browser = new Browser(new WebSocket(url, protocols, { perMessageDeflate: false, maxPayload: 0, ...options }))
    t.defer(() => browser.socket.terminate())
    return browser
  }

  /** Connects and waits until it is open. */
  static async open(t, url, options) {
    const browser = Browser.dial(t, url, options)
    await deadline(browser.opened, OPEN_MS, `${url} to open`)
    return browser
  }

  constructor(socket) {
    this.socket = socket
    this.received = []
    this.pings = 0
    this.end = null
    this.opened = new Promise((resolve, reject) => {
      socket.once('open', resolve)
      socket.once('error', (error) => reject(new Error(`${socket.url}: ${error.message}`)))
    })
    this.opened.catch(() => {})
    socket.on('error', () => {})
    socket.on('ping', () => { this.pings++ })
    socket.on('message', (data, binary) => { this.received.push({ data, binary, text: binary ? null : data.toString() }) })
    this.closed = new Promise((resolve) => {
      socket.once('close', (code, reason) => {
        this.end = { code, reason: reason.toString() }
        resolve(this.end)
      })
    })
  }

  texts() { return this.received.map(({ text }) => text) }
  send(data, options) { this.socket.send(data, options) }

  /** Waits until `count` messages are there. */
  got(count, ms = 5000) {
    return until(() => this.received.length >= count, ms, () => `${count} messages (have ${this.received.length}, ` +
      `end ${JSON.stringify(this.end)})`)
  }

  /** Waits for the end: {code, reason}. */
  ended(ms = 5000) { return deadline(this.closed, ms, 'the browser to be closed') }

  async close() {
    this.socket.close(1000)
    return this.ended()
  }

  stopReading() { this.socket.pause() }
  readOn() { this.socket.resume() }
}
