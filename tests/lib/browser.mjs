// A browser: npm `ws` with a memory. Keeps every message in the order of arrival, with its kind, and
// how the socket ended.
import WebSocket from 'ws'
import { deadline, until } from './until.mjs'

const OPEN_MS = 15_000

/** Sends on a socket of `ws` and lets it read what came meanwhile. Returns whether it is still open. */
export async function writeAndRead(socket, data, options = {}) {
  if (socket.readyState !== WebSocket.OPEN) return false
  const written = await new Promise((resolve) => { socket.send(data, options, (error) => setImmediate(resolve, !error)) })
  return written && socket.readyState === WebSocket.OPEN
}

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

  /**
   * Sends message(n) for each n below `count`, each once the one before is written, until the socket closes. It reads in
   * between, so that it gets a close frame before the hub resets the connection. Returns how many were written.
   */
  async flood(count, message) {
    for (let n = 0; n < count; n++)
      if (!await writeAndRead(this.socket, message(n))) return n
    return count
  }

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
