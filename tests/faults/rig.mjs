// What the fault cases share: nodes on one Redis (through a proxy each, where asked for), a backend that
// numbers its pushes, sessions with resuming clients on all nodes, and the judgement over their logs.
import assert from 'node:assert/strict'
import { checkAll, mostAtOnce } from '../lib/checker.mjs'
import { service, SLACK_MS, startCluster, startHub } from '../lib/hub.mjs'
import { LoggedBackend } from '../lib/logged-backend.mjs'
import { RedisServer } from '../lib/redis.mjs'
import { ResumeClient } from '../lib/resume-client.mjs'
import { TcpProxy } from '../lib/tcp-proxy.mjs'
import { until } from '../lib/until.mjs'

export const FULL = process.env.FAULTS_FULL === '1'
export const range = (count) => Array.from({ length: count }, (_, n) => n)
export const note = (text) => console.log(`#   ${text}`)
export const pageOf = (vin) => `/u/${vin}?remoteWs`
export const upstreamOf = (vin) => `/base/u/${vin}`
const LATE_MS = 20_000
const SHOWN = 8
const RETOLD = 400

export class Rig {
  static async start(t, { nodes = 3, leaseMs = 1000, proxied = false, settings = {}, services = {}, moreServices = [], atEnd = 'kill', program,
    redis = RedisServer.start(t) } = {}) {
    const rig = new Rig()
    rig.t = t
    rig.leaseMs = leaseMs
    ;[rig.redis, rig.backend] = await Promise.all([redis, LoggedBackend.start(t)])
    const all = {
      log: { level: 'warn' }, // VINHUB_LOG_LEVEL tells more
      ...settings,
      node: { lease: `${leaseMs}ms`, ...settings.node },
      services: [service(rig.backend, { reconnect: { min: '50ms', max: '1s', timeout: '2s' }, ...services }), ...moreServices],
    }
    rig.proxies = proxied ? await Promise.all(range(nodes).map(() => TcpProxy.start(t, rig.redis.port))) : []
    rig.hubs = proxied
      ? await Promise.all(rig.proxies.map((proxy, n) => startHub(t, { id: 'abc'[n], redis: proxy, settings: all, atEnd, program })))
      : await startCluster(t, { redis: rig.redis, nodes, settings: all, atEnd, program })
    rig.sessions = []
    return rig
  }

  /** Opens sessions with clients on the nodes of these numbers, and waits until all are joined and connected. */
  async openSessions(count, { homes = [0, 1, 2], first = 0 } = {}) {
    const opened = range(count).map((n) => ({ vin: `V${first + n}`, url: upstreamOf(`V${first + n}`), clients: [] }))
    this.sessions.push(...opened)
    // A Redis younger than the lease grants nothing.
    const late = LATE_MS + this.leaseMs
    // The first clients open the sessions, each on the next node, so that owners are spread.
    for (const k of range(homes.length)) {
      opened.forEach((session, n) => this.addClient(session, homes[(n + k) % homes.length]))
      await this.whole(late)
    }
    await this.untilHeard('all clients to be joined')
    return opened
  }

  addClient(session, home) { session.clients.push(new ResumeClient(this.t, this.hubs, pageOf(session.vin), home)) }

  get clients() { return this.sessions.flatMap(({ clients }) => clients) }
  get urls() { return this.sessions.map(({ url }) => url) }

  /** Waits until each session has one upstream and each client is in. */
  async whole(ms = LATE_MS) {
    await until(() => this.urls.every((url) => this.backend.counts.get(url) === 1), ms, () => {
      const wrong = this.urls.filter((url) => this.backend.counts.get(url) !== 1)
      return `one upstream each; ${wrong.length} are without, e.g. ${wrong.slice(0, 5)}`
    })
    await until(() => this.clients.every(({ joined }) => joined), ms, () => `all clients to be in; ${
      this.clients.filter(({ joined }) => !joined).length} are not`)
  }

  /** Pushes on each session until each client has got a push that was made after this call. */
  async untilHeard(what, ms = LATE_MS) {
    const marks = new Map(this.urls.map((url) => [url, this.backend.of(url).sent.length]))
    const behind = () => this.sessions.flatMap(({ url, clients }) => clients.filter(({ lastNumber }) => lastNumber < marks.get(url)))
    let pushedAt = -Infinity
    await until(() => {
      if (performance.now() - pushedAt > 100 && this.backend.load === null) {
        for (const url of this.urls) this.backend.pushNext(url)
        pushedAt = performance.now()
      }
      return behind().length === 0
    }, ms, () => `${what}: ${behind().length} clients got nothing new, e.g. ${behind().slice(0, 3).map(({ path, node }) => `${path} on ${node.id}`)}`)
  }

  startLoad(rate) { this.backend.startLoad(this.urls, rate) }

  /** Stops the pushes and waits until all that was pushed last has arrived everywhere. */
  async settle(ms = LATE_MS) {
    this.backend.stopLoad()
    await this.whole(ms)
    await this.untilHeard('the end of the run', ms)
    const last = new Map(this.urls.map((url) => [url, this.backend.of(url).sent.length - 1]))
    await until(() => this.sessions.every(({ url, clients }) => clients.every(({ lastNumber }) => lastNumber >= last.get(url))), ms,
      'the last pushes to arrive')
  }

  /** Waits until each SEND is acknowledged, which says that the upstream's socket took it, and the backend has read it, which comes later. */
  async untilSent(ms = 10_000) {
    await until(() => this.clients.every(({ unacknowledged }) => unacknowledged.size === 0), ms, () => `all SENDs to be acknowledged; ${
      this.clients.filter(({ unacknowledged }) => unacknowledged.size > 0).length} clients wait`)
    const sends = this.clients.reduce((sum, client) => sum + client.sends, 0)
    const read = () => new Set(this.backend.messages.map(({ text }) => text)).size
    await until(() => read() >= sends, ms, () => `the backend to read ${sends} SENDs; it has ${read()}`)
  }

  /** Judges both ends' logs. lost: how many pushes may be missing at a client; peak: upstreams a vin at once; ownerLost, dataLost: see checker.mjs. */
  judge({ lost = 0, gaps = Infinity, peak = 1, unresumed = 0, ownerLost = false, dataLost = false } = {}) {
    const result = checkAll(this.sessions, this.backend, { ownerLost, dataLost })
    const pushes = this.urls.reduce((sum, url) => sum + this.backend.of(url).sent.length, 0)
    note(`${pushes} pushes, ${result.messages} deliveries, ${result.lost.length} missing, ${result.gaps} gaps announced, ${
      result.resumes} resumes${ownerLost ? `, ${result.torn.size} positions gone with their owner` : ''}`)
    if (result.problems.length > 0) this.t.explain(() => this.retell(result.problems[0].split(' ')[0]))
    assert.equal(result.problems.length, 0, `${result.problems.length} problems:\n${result.problems.slice(0, SHOWN).join('\n')}`)
    assert.ok(result.lost.length <= lost, `${result.lost.length} pushes missing at a client: ${JSON.stringify(result.lost.slice(0, SHOWN))}`)
    assert.ok(result.unresumed.length <= unresumed, `${result.unresumed.length} not resumed:\n${result.unresumed.slice(0, SHOWN).join('\n')}`)
    assert.ok(result.gaps <= gaps, `${result.gaps} gaps, e.g. ${JSON.stringify(result.announced.slice(0, SHOWN))}`)
    assert.ok(mostAtOnce(this.backend).most <= peak, `two upstreams at once: ${JSON.stringify(mostAtOnce(this.backend))}`)
    return result
  }

  /** The logs of a session's clients, a line for each entry, without most of the pushes in between. */
  retell(url) {
    const { clients } = this.sessions.find((session) => session.url === url)
    const line = (entry) => {
      const where = entry.epoch ? ` ${entry.epoch}.${entry.offset ?? `${entry.from}-${entry.to}`}` : ''
      const asked = entry.kind === 'welcome' ? ` resumed ${entry.resumed} asked ${entry.asked && `${entry.asked.epoch}.${entry.asked.offset}`}` : ''
      return `  ${Math.round(entry.at)} ${entry.node ?? ''} ${entry.kind}${where}${entry.number === undefined ? '' : ` #${entry.number}`}${asked}`
    }
    const told = clients.flatMap(({ log }, n) => [`client ${n} of ${url}:`, ...log.filter(({ kind }) => kind !== 'ack').map(line)])
    const upstreams = this.backend.of(url).all.map(({ openedAt, closedAt }) => `  ${Math.round(openedAt)} to ${closedAt && Math.round(closedAt)}`)
    return [...told.slice(-RETOLD), 'upstreams:', ...upstreams]
  }

  /** How many clients did not close by themselves. */
  closedClients() { return this.clients.filter((client) => client.ends().length > 0).length }

  async owners() {
    const names = await Promise.all(this.sessions.map(({ vin }) => this.redis.client.hget(`vinhub:session:{remoteWs:${vin}}`, 'owner')))
    return this.sessions.map((session, n) => ({ session, owner: this.hubs.find(({ id }) => id === names[n]) }))
  }

  /** The node that owns most sessions, and which these are. */
  async busiest() {
    const owners = await this.owners()
    const owned = this.hubs.map((hub) => ({ hub, sessions: owners.filter(({ owner }) => owner === hub).map(({ session }) => session) }))
    return owned.reduce((most, entry) => (entry.sessions.length > most.sessions.length ? entry : most))
  }

  /** When the first upstream of each URL after `since` opened, as ms after it. */
  takeOverTimes(urls, since) {
    return urls.map((url) => (this.backend.of(url).all.find(({ openedAt }) => openedAt > since)?.openedAt ?? Infinity) - since)
  }

  /** How long after `since` each client got the first push that was made after that upstream had opened. */
  recoveryTimes(sessions, since) {
    return sessions.flatMap(({ url, clients }) => {
      const { all, sent } = this.backend.of(url)
      const next = all.find(({ openedAt }) => openedAt > since)
      const first = sent.find(({ upstream }) => upstream === next)?.number ?? Infinity
      return clients.map(({ log }) => (log.find(({ kind, number }) => kind === 'message' && number >= first)?.at ?? Infinity) - since)
    })
  }
}

export { SLACK_MS }
