// Redis in its other shapes, of real servers: behind three Sentinels, as a Cluster of three primaries with a replica each, and
// with TLS for a user of few rights. Each has `url` for the hub and `client` to look into it, as RedisServer has.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import calculateSlot from 'cluster-key-slot'
import Redis from 'ioredis'
import { Authority } from './certificates.mjs'
import { freePort } from './ports.mjs'
import { Child } from './process.mjs'
import { PROGRAM } from './redis.mjs'
import { until } from './until.mjs'

const START_MS = 20_000
const SLOTS = 16384
const HOST = '127.0.0.1'

/** One server; args as on its command line, tls for its own client. */
class Server {
  constructor(t, port, args, { tls, sentinel } = {}) {
    this.port = port
    this.address = `${HOST}:${port}`
    this.folder = mkdtempSync(join(tmpdir(), 'vinhub-shape-'))
    const common = ['--bind', HOST, '--dir', this.folder, ...(tls ? ['--port', '0', '--tls-port', String(port)] : ['--port', String(port)])]
    const file = join(this.folder, 'sentinel.conf') // a Sentinel keeps its state in it
    if (sentinel) writeFileSync(file, sentinel)
    this.child = new Child(PROGRAM, sentinel ? [file, '--sentinel', ...common] : [...common, '--save', '', '--appendonly', 'no', ...args])
    this.client = new Redis(port, HOST, { retryStrategy: () => 50, maxRetriesPerRequest: null, tls })
    this.client.on('error', () => {})
    t.defer(() => this.discard())
  }

  kill() { return this.child.stop('SIGKILL') }

  async discard() {
    this.client.disconnect()
    await this.child.stop('SIGKILL')
    rmSync(this.folder, { recursive: true, force: true })
  }
}

const REPLICATION = ['--repl-diskless-sync', 'yes', '--repl-diskless-sync-delay', '0', '--maxmemory-policy', 'noeviction']
const inSync = async ({ client }) => /master_link_status:up/.test(await client.info('replication'))

/** A primary with two replicas, watched by three Sentinels. */
export class RedisSentinel {
  static async start(t, { downAfterMs = 500 } = {}) {
    const set = new RedisSentinel()
    const ports = [await freePort(), await freePort(), await freePort()]
    set.servers = ports.map((port, n) => new Server(t, port, [...REPLICATION, ...(n > 0 ? ['--replicaof', `${HOST} ${ports[0]}`] : [])]))
    await until(async () => (await Promise.all(set.servers.slice(1).map(inSync))).every(Boolean), START_MS, 'the replicas to be in sync')
    const watch = `sentinel monitor cars ${HOST} ${ports[0]} 2\nsentinel down-after-milliseconds cars ${downAfterMs}\n` +
      'sentinel failover-timeout cars 4000\n'
    const guards = [await freePort(), await freePort(), await freePort()]
    set.sentinels = guards.map((port) => new Server(t, port, [], { sentinel: watch }))
    await until(async () => {
      const known = await Promise.all(set.sentinels.map(({ client }) => client.call('SENTINEL', 'SENTINELS', 'cars')))
      const replicas = await set.sentinels[0].client.call('SENTINEL', 'REPLICAS', 'cars')
      return known.every(({ length }) => length === 2) && replicas.length === 2
    }, START_MS, 'the Sentinels to know each other and the replicas')
    set.url = `redis-sentinel://${guards.map((port) => `${HOST}:${port}`).join()}/cars/0`
    set.client = new Redis({ sentinels: guards.map((port) => ({ host: HOST, port })), name: 'cars', maxRetriesPerRequest: null,
      sentinelRetryStrategy: () => 50, retryStrategy: () => 50 })
    set.client.on('error', () => {})
    t.defer(() => set.client.disconnect())
    return set
  }

  /** Kills the primary; returns when another one is. */
  async failOver() {
    const first = this.servers[0]
    await first.kill()
    await until(async () => {
      const [, port] = await this.sentinels[1].client.call('SENTINEL', 'GET-MASTER-ADDR-BY-NAME', 'cars')
      return Number(port) !== first.port
    }, START_MS, 'another primary')
  }
}

/** Three primaries, each with a replica. */
export class RedisCluster {
  static async start(t, { nodeTimeoutMs = 500 } = {}) {
    const set = new RedisCluster()
    const start = async () => new Server(t, await freePort(), [...REPLICATION, '--cluster-enabled', 'yes', '--cluster-port', String(await freePort()),
      '--cluster-node-timeout', String(nodeTimeoutMs), '--cluster-allow-replica-migration', 'no', '--cluster-replica-validity-factor', '0'])
    set.primaries = [await start(), await start(), await start()]
    set.replicas = [await start(), await start(), await start()]
    const all = [...set.primaries, ...set.replicas]
    // As redis-cli --cluster create does: of two servers with one epoch gossip may give a slot back to the wrong one.
    await Promise.all(all.map(({ client }, n) => client.call('CLUSTER', 'SET-CONFIG-EPOCH', n + 1)))
    for (const server of all) {
      const id = await server.client.call('CLUSTER', 'MYID')
      server.id = id
      const own = await server.client.config('GET', 'cluster-port')
      for (const other of all) await other.client.call('CLUSTER', 'MEET', HOST, server.port, own[1])
    }
    const bounds = [0, 5461, 10923, SLOTS]
    await Promise.all(set.primaries.map(({ client }, n) => client.call('CLUSTER', 'ADDSLOTSRANGE', bounds[n], bounds[n + 1] - 1)))
    await until(async () => (await Promise.all(all.map(async ({ client }) => (await client.call('CLUSTER', 'NODES')).trim().split('\n').length === 6)))
      .every(Boolean), START_MS, 'the nodes to know each other')
    await Promise.all(set.replicas.map(({ client }, n) => until(() => client.call('CLUSTER', 'REPLICATE', set.primaries[n].id).then(() => true, () => false),
      START_MS, 'a replica to know its primary')))
    await until(async () => (await Promise.all(all.map(async ({ client }) => /cluster_state:ok/.test(await client.call('CLUSTER', 'INFO'))))).every(Boolean) &&
      (await Promise.all(set.replicas.map(inSync))).every(Boolean), START_MS, 'the cluster to be whole')
    set.url = `redis-cluster://${set.primaries.map(({ address }) => address).join()}`
    set.client = new Redis.Cluster(all.map(({ port }) => ({ host: HOST, port })), { clusterRetryStrategy: () => 50, slotsRefreshTimeout: 2000,
      redisOptions: { maxRetriesPerRequest: null } })
    set.client.on('error', () => {})
    t.defer(() => set.client.disconnect())
    return set
  }

  /** Which of the first three primaries holds a key. */
  homeOf(key) { return Math.floor(calculateSlot(key) * 3 / SLOTS) }

  /** Kills a primary; returns when its replica has taken its place. */
  async failOver(n) {
    await this.primaries[n].kill()
    const { client } = this.replicas[n]
    await until(async () => /role:master/.test(await client.info('replication')), START_MS, 'the replica to be the primary')
  }

  /** Moves the slot of a key to another primary, its keys with it, as redis-cli --cluster reshard does. */
  async moveSlot(key, to) {
    const slot = calculateSlot(key)
    const [source, target] = [this.primaries[this.homeOf(key)], this.primaries[to]]
    await target.client.call('CLUSTER', 'SETSLOT', slot, 'IMPORTING', source.id)
    await source.client.call('CLUSTER', 'SETSLOT', slot, 'MIGRATING', target.id)
    for (;;) {
      const keys = await source.client.call('CLUSTER', 'GETKEYSINSLOT', slot, 100)
      if (keys.length === 0) break
      await source.client.call('MIGRATE', HOST, target.port, '', 0, 5000, 'REPLACE', 'KEYS', ...keys)
    }
    for (const server of [target, source, ...this.primaries.filter((other) => other !== target && other !== source)]) await server.client.call('CLUSTER', 'SETSLOT', slot, 'NODE', target.id)
    await until(async () => {
      const views = await Promise.all(this.primaries.map(({ client }) => client.call('CLUSTER', 'SLOTS')))
      if (views.every((rows) => rows.find(([first, last]) => first <= slot && slot <= last)?.[2][1] === target.port)) return true
      // Old gossip can give the slot back: a higher epoch prevents that, as redis-cli --cluster fix does.
      await target.client.call('CLUSTER', 'BUMPEPOCH')
      await target.client.call('CLUSTER', 'SETSLOT', slot, 'NODE', target.id)
      return false
    }, START_MS, `slot ${slot} to be with its new primary for all`)
  }
}

/** One server with TLS only, and a user with exactly the rights in the hub's manual. */
export class RedisSecured {
  static async start(t, rights) {
    const set = new RedisSecured()
    const authority = new Authority(t)
    const { cert, key } = authority.issue('redis')
    set.tlsCa = authority.file
    const args = ['--tls-cert-file', cert, '--tls-key-file', key, '--tls-ca-cert-file', authority.file, '--tls-auth-clients', 'no',
      '--maxmemory-policy', 'noeviction']
    set.server = new Server(t, await freePort(), args, { tls: { ca: readFileSync(authority.file) } })
    set.client = set.server.client
    await set.client.call('ACL', 'SETUSER', 'hub', 'on', '>se:cret', ...rights)
    set.url = `rediss://hub:se%3Acret@${HOST}:${set.server.port}/0`
    return set
  }
}
