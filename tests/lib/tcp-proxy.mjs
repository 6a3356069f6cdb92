// A TCP proxy between one process and a server, whose link can break: cut (both ends notice), silent (no end notices; data
// wait and may arrive much later), or without messages to the process on connections that have subscribed in Redis.
import net from 'node:net'
import { freePort } from './ports.mjs'

const SUBSCRIBES = /\r\nS?SUBSCRIBE\r\n/i

export class TcpProxy {
  static async start(t, targetPort) {
    const proxy = new TcpProxy(await freePort(), targetPort)
    await new Promise((resolve, reject) => {
      proxy.server.once('error', reject)
      proxy.server.listen(proxy.port, '127.0.0.1', resolve)
    })
    t.defer(() => proxy.stop())
    return proxy
  }

  constructor(port, targetPort) {
    this.port = port
    this.targetPort = targetPort
    this.url = `redis://127.0.0.1:${port}/0`
    this.mode = 'pass'
    this.links = new Set()
    this.accepted = 0
    this.server = net.createServer((client) => this.onConnection(client))
  }

  onConnection(client) {
    this.accepted++
    if (this.mode === 'cut') { client.resetAndDestroy(); return }
    const link = { client, server: net.connect(this.targetPort, '127.0.0.1'), subscribed: false }
    this.links.add(link)
    forward(client, link.server, (data) => { link.subscribed ||= SUBSCRIBES.test(data.toString('latin1')) })
    forward(link.server, client)
    for (const socket of [client, link.server]) {
      socket.on('error', () => {})
      socket.once('close', () => { if (client.destroyed && link.server.destroyed) this.links.delete(link) })
    }
    if (this.mode === 'silent') hold(link)
  }

  /** Resets all connections and those that come, until heal(). */
  cut() {
    this.mode = 'cut'
    this.reset()
  }

  /** Resets the connections there are; new ones pass. */
  reset() {
    for (const { client, server } of this.links) {
      client.resetAndDestroy()
      server.resetAndDestroy()
    }
  }

  /** Nothing passes any more, in either direction, and nothing is closed. What is sent waits. */
  silence() {
    this.mode = 'silent'
    for (const link of this.links) hold(link)
  }

  /** Present subscriptions get nothing any more; data of the process still arrive. Returns how many there are. */
  deafen() {
    const deaf = [...this.links].filter(({ subscribed }) => subscribed)
    for (const { server } of deaf) server.pause()
    return deaf.length
  }

  /** All passes again, first what has waited. */
  heal() {
    this.mode = 'pass'
    for (const { client, server } of this.links) {
      client.resume()
      server.resume()
    }
  }

  async stop() {
    this.reset()
    await new Promise((resolve) => { this.server.close(resolve) })
  }
}

function forward(from, to, look) {
  from.on('data', (data) => {
    look?.(data)
    if (!to.destroyed) to.write(data)
  })
  from.once('end', () => to.end())
  from.once('close', (failed) => { if (failed) to.resetAndDestroy() })
}

function hold({ client, server }) {
  client.pause()
  server.pause()
}
