// What attacks cost others: each runs for some seconds in processes of its own, while well-behaved clients send
// messages to the backend and get them back. The hub's memory and the clients' latency before, while and after it
// are bounded here. With ABUSE_README=1 what was measured becomes the table of hub/docs/security.md.
import assert from 'node:assert/strict'
import { readFileSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { test } from '../lib/runner.mjs'
import { Backend } from '../lib/backend.mjs'
import { Browser } from '../lib/browser.mjs'
import { countedMs, mark } from '../lib/busy.mjs'
import { Child } from '../lib/process.mjs'
import { SANITIZED, service, startHub } from '../lib/hub.mjs'
import { until } from '../lib/until.mjs'

const DOCUMENT = fileURLToPath(new URL('../../hub/docs/security.md', import.meta.url))
const ATTACKER = fileURLToPath(new URL('attacker.mjs', import.meta.url))
const PAGES = 5
const PROBE_MS = 15
const PHASE_MS = Number(process.env.ABUSE_MS ?? 1000)
const MIB = 1024 * 1024
/**
 * Latency of the others: what a person would not notice. What hub and pages waited for a processor does not count, the attackers
 * being on the same machine; on top comes what a message to the backend and back takes without a hub at the same time, some times over.
 */
const P99_MS = 250
const CONTROL_TIMES = 4
/** No turn of the hub takes longer, in processor time, which other processes do not add to. */
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
    this.times = [] // [ms, of that not the machine's]
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

/**
 * name, bound: for the table. kind, count, processes: of attackers. settings: of the hub. memory: what the hub may
 * grow by, in MiB. happened(counts): true once the attack is known to take place. after: what must hold at the end.
 */
function measured({ name, bound, kind, count, processes = 1, settings = {}, memory, happened, path = '/evil/VIN9?remoteWs', from, whilst, ms = PHASE_MS }) {
  test(`attack: ${name}`, { timeout: 120_000 }, async (t) => {
    const backend = await EchoBackend.start(t)
    const { clients, ...more } = settings
    const hub = await startHub(t, { settings: { services: [service(backend, { linger: '200ms' })], clients: { ...clients }, log: { level: 'error' }, ...more } })
    const pages = await Promise.all(Array.from({ length: PAGES }, (_, n) => Browser.open(t, hub.url(`/admin/VIN${n}?remoteWs`))))
    await Promise.all(pages.map((_, n) => backend.one(`/base/admin/VIN${n}`)))
    const control = new Probe([await Browser.open(t, backend.url('/control'))])
    const probe = new Probe(pages)
    t.defer(() => { probe.stop(); control.stop() })
    await until(() => probe.times.length > 10, 15_000, 'the first answers')
    const measure = (ms, sample) => Promise.all([probe.measure(ms, sample), control.measure(ms)])
    const [before] = await measure(PHASE_MS / 2)
    const rss = hub.rss()

    const attackers = Array.from({ length: processes }, () => attack(t, { kind, port: hub.port, path, count: Math.ceil(count / processes), from }))
    let peak = rss
    const sample = () => { peak = Math.max(peak, hub.rss()); whilst?.({ backend, hub }) }
    const beganAt = performance.now()
    await until(() => { sample(); return happened(together(attackers), hub) }, 45_000, () => `the attack to take place: ${JSON.stringify(together(attackers))}`)
    const setUp = performance.now() - beganAt
    const [during, busy] = await measure(ms, sample)
    const counts = together(attackers)
    for (const one of attackers) await one.stop()
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
