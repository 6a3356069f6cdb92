// A real redis-server of the test's own: no persistence, own folder, own port.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import Redis from 'ioredis'
import { Child } from './process.mjs'
import { freePort } from './ports.mjs'
import { deadline } from './until.mjs'

const START_MS = 10_000
// The server program: Redis, or another one such as Valkey or an older Redis.
export const PROGRAM = process.env.VINHUB_REDIS_SERVER || 'redis-server'

export class RedisServer {
  static async start(t) {
    const server = new RedisServer(await freePort())
    t.defer(() => server.discard())
    await server.restart()
    return server
  }

  constructor(port) {
    this.port = port
    this.url = `redis://127.0.0.1:${port}/0`
    this.folder = mkdtempSync(join(tmpdir(), 'vinhub-redis-'))
    // One client for the whole life of the server: it connects by itself after each start, and a command
    // given while the server is away waits.
    this.client = new Redis(port, '127.0.0.1', { retryStrategy: () => 50, maxRetriesPerRequest: null })
    this.client.on('error', () => {})
  }

  /** Starts an empty server on the same port. */
  async restart() {
    this.child = new Child(PROGRAM, ['--port', String(this.port), '--bind', '127.0.0.1', '--dir', this.folder,
      '--save', '', '--appendonly', 'no', '--maxmemory-policy', 'noeviction'])
    await deadline(this.client.ping(), START_MS, `${PROGRAM} to answer: ${this.child.out}`)
  }

  /** Watches a channel: the function returned says whether a message holding `text` came since. */
  async watch(t, channel) {
    const client = this.client.duplicate()
    t.defer(() => client.disconnect())
    const seen = []
    client.on('messageBuffer', (_, message) => seen.push(message))
    await client.subscribe(channel)
    return (text) => seen.some((message) => message.includes(text))
  }

  async kill() { await this.child.stop('SIGKILL') }

  /** How many commands the server has run so far, those of the asking client left out. */
  async commands() {
    const stats = await this.client.info('commandstats')
    const calls = [...stats.matchAll(/^cmdstat_(?!info|ping)\S+:calls=(\d+)/gm)].map((match) => Number(match[1]))
    return calls.reduce((sum, count) => sum + count, 0)
  }

  async discard() {
    this.client.disconnect()
    await this.child.stop('SIGKILL')
    rmSync(this.folder, { recursive: true, force: true })
  }
}
