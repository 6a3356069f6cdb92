// What attacks cost others: each runs for some seconds in processes of its own, while well-behaved clients send
// messages to the backend and get them back. The hub's memory and the clients' latency before, while and after it
// are bounded here. With ABUSE_README=1 what was measured becomes the table of hub/docs/security.md.
import assert from 'node:assert/strict'
import { generateKeyPairSync } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { test } from '../lib/runner.mjs'
import { Backend } from '../lib/backend.mjs'
import { Browser } from '../lib/browser.mjs'
import { countedMs, mark } from '../lib/busy.mjs'
import { Child } from '../lib/process.mjs'
import { SANITIZED, scratch, service, startHub } from '../lib/hub.mjs'
import { inSeconds, token } from '../lib/tokens.mjs'
import { until } from '../lib/until.mjs'

const DOCUMENT = fileURLToPath(new URL('../../hub/docs/security.md', import.meta.url))
const ATTACKER = fileURLToPath(new URL('attacker.mjs', import.meta.url))
const PAGES = 5
const PROBE_MS = 15
const PHASE_MS = Number(process.env.ABUSE_MS ?? 1000)
const MIB = 1024 * 1024
/**
 * Latency of the others that a person would not notice. Time in which hub and pages waited for a processor does not count, since the
 * attackers run on the same machine. Added to it is a multiple of the time of a message to the backend and back without a hub.
 */
const P99_MS = 250
const CONTROL_TIMES = 4
/** The longest turn of the hub, in processor time, which other processes do not change. */
const TURN_S = SANITIZED ? 0.25 : 0.05
/** Memory that AddressSanitizer adds: its quarantine, and red zones around each small object. */
const MEMORY_SCALE = SANITIZED ? 4 : 1
const MEMORY_SLACK = SANITIZED ? 32 * MIB : 4 * MIB
const rows = []

/** A message of a page goes to the backend and comes back: the time it takes, again and again. */
class Probe {
  constructor(pages) {
    this.pages = pages
    this.sent = new Map()
    this.count = 0
    this.times = [] // [ms, ms without waits for a processor]
    for (const page of pages) {
      page.socket.on('message', (data) => {
        const sent = this.sent.get(data.toString())
        if (sent === undefined) return
        this.sent.delete(data.toString())
        this.times.push([performance.now() - sent.at, countedMs(sent)])
      })
    }
    this.timer = setInterval(() => this.send(), PROBE_MS)
  }

  send() {
    const text = `probe ${++this.count}`
    this.sent.set(text, mark())
    this.pages[this.count % this.pages.length].send(text)
  }

  /** Percentiles of the probes sent within the next `ms`; every one must be answered. */
  async measure(ms, sample) {
    this.times = []
    const endsAt = performance.now() + ms
    await until(() => { sample?.(); return performance.now() > endsAt }, ms * 4 + 10_000, 'the end of the phase')
    const waiting = [...this.sent.keys()]
    await until(() => waiting.every((text) => !this.sent.has(text)), 15_000, () => `answers to ${waiting.filter((text) => this.sent.has(text)).length} probes`)
    const { times } = this
    const sorted = [0, 1].map((which) => times.map((pair) => pair[which]).sort((a, b) => a - b))
    const at = (share, which = 0) => sorted[which][Math.min(times.length - 1, Math.floor(share * times.length))]
    assert.ok(times.length * PROBE_MS > ms / 10, `${times.length} probes in ${ms} ms`)
    return { p50: at(0.5), p99: at(0.99), max: at(1), counted: at(0.99, 1) }
  }

  stop() { clearInterval(this.timer) }
}

const EMPTY = { open: 0, opened: 0, ended: 0, sent: 0, answers: {} }

function attack(t, options) {
  const child = new Child(process.execPath, [ATTACKER, JSON.stringify(options)], { counted: false })
  t.defer(() => child.stop('SIGKILL'))
  const last = () => child.out.slice(child.out.lastIndexOf('\n', child.out.length - 2) + 1, -1)
  return { seen: () => (child.out.endsWith('\n') ? JSON.parse(last()) : EMPTY), stop: () => child.stop('SIGKILL') }
}

/** All attackers' counts together. */
function together(attackers) {
  const sum = { open: 0, opened: 0, ended: 0, sent: 0, answers: {} }
  for (const one of attackers.map(({ seen }) => seen())) {
    for (const key of ['open', 'opened', 'ended', 'sent']) sum[key] += one[key]
    for (const [key, value] of Object.entries(one.answers)) sum.answers[key] = (sum.answers[key] ?? 0) + value
  }
  return sum
}

class EchoBackend extends Backend {
  static async start(t) {
    const other = await Backend.start(t)
    other.onMessage = (upstream, data, binary) => {
      if (data.length > 30) return
      if (data.toString() === 'ping') upstream.socket.send('pong')
      else if (data.toString().startsWith('probe')) upstream.socket.send(data, { binary })
    }
    return other
  }
}

/** Tokens of ES256, whose signatures are expensive to check. */
function guard(t) {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const file = join(scratch(t), 'key.pem')
  writeFileSync(file, publicKey.export({ type: 'spki', format: 'pem' }))
  return { auth: { mode: 'jwt', algorithm: 'ES256', public_key_file: file },
    pass: (sub) => `&token=${token({ sub, vins: ['*'], exp: inSeconds(600) }, { alg: 'ES256', key: privateKey })}` }
}

/**
 * name, bound: for the table. kind, count, processes, texts: of attackers. settings: of the hub. memory: what the hub may
 * grow by, in MiB. happened(counts, hub): true once the attack is known to take place. admin: they come to the admin port. tokens: they and the
 * others bring one. crowd: how many more clients there are, which are quiet.
 */
function measured({ name, bound, kind, count, processes = 1, settings = {}, memory, happened, path = '/evil/VIN9?remoteWs', from, whilst, ms = PHASE_MS, texts, admin = false, tokens = false, crowd = 0 }) {
  test(`attack: ${name}`, { timeout: 120_000 }, async (t) => {
    const backend = await EchoBackend.start(t)
    const { clients, ...more } = settings
    const { auth = {}, pass = () => '' } = tokens ? guard(t) : {}
    const hub = await startHub(t, { settings: { services: [service(backend, { linger: '200ms' })], clients: { ...clients }, log: { level: 'error' }, auth, ...more } })
    const pages = await Promise.all(Array.from({ length: PAGES }, (_, n) => Browser.open(t, hub.url(`/admin/VIN${n}?remoteWs${pass('admin')}`))))
    await Promise.all(pages.map((_, n) => backend.one(`/base/admin/VIN${n}`)))
    const control = new Probe([await Browser.open(t, backend.url('/control'))])
    const quiet = crowd > 0 ? [attack(t, { kind: 'upgrades', port: hub.port, path: '/quiet/VIN8?remoteWs', count: crowd })] : []
    await until(async () => await hub.metric('vinhub_clients') === PAGES + crowd, 30_000, 'the quiet ones to be there')
    const probe = new Probe(pages)
    t.defer(() => { probe.stop(); control.stop() })
    await until(() => probe.times.length > 10, 15_000, 'the first answers')
    const measure = (ms, sample) => Promise.all([probe.measure(ms, sample), control.measure(ms)])
    const [before] = await measure(PHASE_MS / 2)
    const rss = hub.rss()

    const attackers = Array.from({ length: processes }, () => attack(t, { kind, port: admin ? hub.adminPort : hub.port, path: path + pass('evil'), count: Math.ceil(count / processes), from, texts }))
    let peak = rss
    const sample = () => { peak = Math.max(peak, hub.rss()); whilst?.({ backend, hub }) }
    const beganAt = performance.now()
    await until(async () => { sample(); return happened(together(attackers), hub) }, 45_000, () => `the attack to take place: ${JSON.stringify(together(attackers))}`)
    const setUp = performance.now() - beganAt
    const [during, busy] = await measure(ms, sample)
    const counts = together(attackers)
    for (const one of [...attackers, ...quiet]) await one.stop()
    await until(async () => await hub.metric('vinhub_clients') === PAGES, 20_000, 'the attackers to be gone')
    const [after, quieter] = await measure(PHASE_MS / 2)
    const long = await hub.turnsOver(TURN_S)

    rows.push({ name, bound, grown: peak - rss, before, during, after, counts, setUp })
    console.log(`# ${name}: memory +${((peak - rss) / MIB).toFixed(1)} MiB, p99 ${[before, during, after].map(({ p99 }) => p99.toFixed(1)).join(' / ')} ms (without a hub ${busy.p99.toFixed(1)}), ${long} long turns, ${JSON.stringify(counts)}`)
    const allowed = memory * MIB * MEMORY_SCALE + MEMORY_SLACK
    assert.ok(peak - rss < allowed, `memory grew by ${peak - rss}, ${allowed} are allowed`)
    assert.equal(long, 0, `no turn takes over ${TURN_S} s`)
    assert.ok(during.counted < P99_MS + CONTROL_TIMES * busy.p99, `p99 ${during.counted} ms while it lasted, without a hub ${busy.p99}`)
    assert.ok(after.counted < P99_MS + CONTROL_TIMES * quieter.p99, `p99 ${after.counted} ms after it, without a hub ${quieter.p99}`)
    for (const page of pages) assert.equal(page.end, null)
    probe.stop()
  })
}

const kib = (bytes) => bytes / 1024

/** With sanitizers an accept takes ten times as long, and the first are over before the last have come. */
const IDLE = SANITIZED ? 4000 : 20_000
measured({ name: `${IDLE.toLocaleString('en')} handshakes that never begin`, bound: '10 s each; where descriptors run out the oldest make room', kind: 'idle', count: IDLE, processes: 4,
  memory: kib(IDLE * 2.5), happened: ({ opened }) => opened >= IDLE })
measured({ name: '1,000 handshakes of a byte each 100 ms', bound: '10 s each', kind: 'slow-handshake', count: 1000, memory: 4, happened: ({ opened }) => opened >= 1000 })
measured({ name: 'headers without an end, 50 at a time', bound: '16 KiB, 128 fields, then 431', kind: 'header-bomb', count: 50, memory: 8, happened: ({ answers }) => answers['431'] >= 50 })
measured({ name: '1,000 frames of 1 MB, a byte each 100 ms', bound: 'memory only for what has come', kind: 'slow-frame', count: 1000, memory: 12, happened: ({ answers }) => answers['101'] >= 1000 })
measured({ name: '50 messages whose last byte never comes', bound: '`clients.max_message` each', kind: 'large-frame', count: 50, memory: 64, happened: ({ answers }) => answers['101'] >= 50 })
measured({ name: 'fragments of one byte at full speed, 10 clients', bound: '`clients.max_message` in all (4003); each client a read a turn', kind: 'fragments', count: 10, memory: 24,
  happened: ({ answers }) => answers['4003'] >= 10 })
measured({ name: 'empty fragments at full speed, 10 clients', bound: 'no memory; each client a read a turn', kind: 'empty-fragments', count: 10, memory: 8, happened: ({ sent }) => sent > 20 * MIB })
measured({ name: 'PINGs at full speed, 10 clients', bound: 'one write of PONGs a read', kind: 'pings', count: 10, memory: 8, happened: ({ sent }) => sent > 20 * MIB })
measured({ name: 'PINGs from 50 clients that do not read', bound: 'nothing is read while PONGs wait', kind: 'deaf-pings', count: 50, memory: 16, happened: ({ answers }) => answers['101'] >= 50 })
measured({ name: 'heartbeats from 50 clients that do not read', bound: 'nothing is read while answers wait', kind: 'deaf-heartbeats', count: 50, memory: 16, happened: ({ answers }) => answers['101'] >= 50 })
/** The ring of the session holds 100 publications of 200 KB; each client's socket may be in the middle of one more. */
measured({ name: '100 clients that do not read, 20 MB/s pushed to them', bound: '`slow_client.queue`, shared by all of a session; then 4005', kind: 'deaf', count: 100, memory: 48,
  happened: async (_, hub) => await hub.metric('vinhub_dropped_total', 'slow_client') >= 100, whilst: ({ backend }) => backend.push('/base/evil/VIN9', Buffer.alloc(200_000)) })
measured({ name: 'messages at full speed, 10 clients', bound: '`clients.rate` (4002)', kind: 'messages', count: 10, memory: 8, happened: ({ answers }) => answers['4002'] >= 10 })
measured({ name: 'deflated bombs of 256 MiB, 10 clients', bound: '`clients.max_message` while inflating (4003)', kind: 'bomb', count: 10, memory: 12, settings: { clients: { compression: true } },
  happened: ({ answers }) => answers['4003'] >= 20 })
measured({ name: 'deflated PINGs of vinhub.v1 of 250 KB each, 10 clients', bound: 'one message a turn, in turns; who sends little does not wait', kind: 'deflated-pings', count: 10, memory: 32,
  settings: { clients: { compression: true } }, happened: ({ answers, sent }) => answers['101'] >= 10 && sent > MIB })
measured({ name: '200 clients that break a rule and never close', bound: '1 s, then a reset', kind: 'never-close', count: 200, memory: 12, happened: ({ ended, answers }) => answers['1002'] >= 200 && ended >= 200 })
measured({ name: 'random bytes instead of handshakes, 50 at a time', bound: '16 KiB, or the first line', kind: 'garbage', count: 50, memory: 8, happened: ({ ended }) => ended >= 50 })
measured({ name: 'random bytes after the handshake, 50 at a time', bound: 'the first wrong bit (1002)', kind: 'garbage-frames', count: 50, memory: 8, happened: ({ ended }) => ended >= 100 })
measured({ name: '200 half-closed connections', bound: 'ended with the peer\'s end', kind: 'half-closed', count: 200, memory: 8, happened: ({ ended }) => ended >= 400 })
measured({ name: 'upgrades from one address, 500 at a time', bound: '`clients.max_per_ip` 50, then 503', kind: 'upgrades', count: 500, memory: 8, from: '127.0.0.2', settings: { clients: { max_per_ip: 50 } },
  happened: ({ answers }) => answers['503'] >= 1000 && answers['101'] >= 50 })
measured({ name: 'upgrades beyond what the node takes, 500 at a time', bound: '`clients.max` 105, then 503', kind: 'upgrades', count: 500, memory: 8, settings: { clients: { max: 105 } },
  happened: ({ answers }) => answers['503'] >= 1000 && answers['101'] >= 90 })

// --- subscriptions, event streams, tokens, and what operators are told ------------------------

const over = (name, reason, least = 1) => async (hub) => await hub.metric(name, `reason="${reason}"`) >= least
const rated = over('vinhub_dropped_total', 'rate', 10)
const refused = (reason) => `\`vinhub_refused_total{reason="${reason}"}\``
const RATE = '`clients.rate` (4002), `vinhub_dropped_total{reason="rate"}`'
const subscribe = (id, urls) => JSON.stringify({ type: 'SUBSCRIBE', id, urls })
const unsubscribe = (id, sessions) => JSON.stringify({ type: 'UNSUBSCRIBE', id, sessions })
const LOBBY = '/evil?subscribe'

measured({ name: 'SUBSCRIBE and UNSUBSCRIBE at full speed, 10 clients', bound: RATE, kind: 'requests', count: 10, memory: 24, path: LOBBY,
  texts: [subscribe(1, ['/evil/VIN9?remoteWs']), unsubscribe(2, ['remoteWs:VIN9'])], happened: (_, hub) => rated(hub) })
measured({ name: 'SUBSCRIBE to 10,000 urls a second that are refused, 10 clients', bound: `worked off in turns, not read meanwhile; ${refused('unknown_service')}`, kind: 'requests', count: 10, memory: 24, path: LOBBY,
  texts: [subscribe(1, Array.from({ length: 100 }, (_, n) => `/evil/V${n}?none`))], happened: (_, hub) => over('vinhub_refused_total', 'unknown_service', 10_000)(hub) })
measured({ name: 'SUBSCRIBE to urls of 8 KiB, a thousand in 8 messages, again and again, 5 clients', bound: `\`clients.max_message\` each; worked off in turns, not read meanwhile; ${refused('unknown_service')}`, kind: 'large-request', count: 5,
  memory: 48, path: LOBBY,
  happened: (_, hub) => over('vinhub_refused_total', 'unknown_service', 5000)(hub) })
measured({ name: 'REFRESH with signatures that do not fit at full speed, 10 clients', bound: `${RATE}; ${refused('unauthorized')}`, kind: 'requests', count: 10, memory: 16, tokens: true,
  texts: [JSON.stringify({ type: 'REFRESH', id: 1, token: token({ sub: 'evil', vins: ['*'], exp: inSeconds(600) }, { alg: 'ES256', key: generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey }) })],
  happened: (_, hub) => rated(hub) })
/** One after the other: a busy machine gives a sanitizer build no time for more. */
const STREAMS = SANITIZED ? 2000 : 10_000
measured({ name: `${STREAMS.toLocaleString('en')} event streams that do not read`, bound: 'as a WebSocket that does not read: `clients.max`, `clients.max_per_ip`', kind: 'deaf-streams', count: STREAMS, processes: 4,
  memory: kib(STREAMS * 8), happened: (_, hub) => hub.metric('vinhub_clients').then((clients) => clients >= STREAMS) })
measured({ name: '100 event streams that do not read, 20 MB/s pushed to them', bound: '`slow_client.queue`, shared by all of a session; then the end, `vinhub_dropped_total{reason="slow_client"}`', kind: 'deaf-streams', count: 100,
  memory: 64, happened: (_, hub) => over('vinhub_dropped_total', 'slow_client', 100)(hub), whilst: ({ backend }) => backend.push('/base/evil/VIN9', 'x'.repeat(200_000)) })
const CROWD = SANITIZED ? 500 : 5000
measured({ name: `/api/clients with filters that fit nobody, 10 askers, ${CROWD.toLocaleString('en')} clients`, bound: 'a portion of the clients a turn; who asks waits', kind: 'http', count: 10, memory: 16, admin: true, crowd: CROWD,
  texts: ['vin=NONE&limit=1000', 'user=nobody', 'address=::1&vin=VIN8&service=remoteWs', `session=${encodeURIComponent('remoteWs:VIN8')}&user=${'x'.repeat(1000)}`]
    .map((query) => `GET /api/clients?${query} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n`), happened: ({ answers }) => answers['200'] >= 10 })

const MARKS = ['<!-- attacks: begin -->\n', '<!-- attacks: end -->']

test('attack: the table', async () => {
  assert.ok(rows.length > 0, 'something was measured')
  const ms = ({ p99 }) => (p99 < 10 ? p99.toFixed(1) : p99.toFixed(0))
  const table = ['| attack | bound | memory | p99 of others before / while / after, ms |', '| --- | --- | ---: | ---: |',
    ...rows.map(({ name, bound, grown, before, during, after }) =>
      `| ${name} | ${bound} | +${(grown / MIB).toFixed(1)} MiB | ${ms(before)} / ${ms(during)} / ${ms(after)} |`), ''].join('\n')
  const text = readFileSync(DOCUMENT, 'utf8')
  const [begin, end] = [text.indexOf(MARKS[0]) + MARKS[0].length, text.indexOf(MARKS[1])]
  assert.ok(begin >= MARKS[0].length && begin <= end, 'security.md has a place for the table')
  if (process.env.ABUSE_README) writeFileSync(DOCUMENT, text.slice(0, begin) + table + text.slice(end))
})
