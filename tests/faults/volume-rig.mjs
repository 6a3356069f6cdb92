// What the cases of volume.solo.test.mjs share: nodes between a crowd (the service `bulk`) and a few sessions that are
// checked push by push (`remoteWs`, rig.mjs), what a case costs each node, and the table of hub/docs/promises.md.
import assert from 'node:assert/strict'
import { readFileSync, writeFileSync } from 'node:fs'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { fileURLToPath } from 'node:url'
import { mark } from '../lib/busy.mjs'
import { SANITIZED } from '../lib/hub.mjs'
import { freePort } from '../lib/ports.mjs'
import { RedisServer } from '../lib/redis.mjs'
import { Crowd, ms } from './crowd.mjs'
import { note, Rig } from './rig.mjs'

export const MIB = 1024 * 1024
/** Contract section 9: the longest turn, in processor time, which other processes do not change. */
export const TURN_S = SANITIZED ? 0.25 : 0.05
const DOCUMENT = fileURLToPath(new URL('../../hub/docs/promises.md', import.meta.url))
const MARKS = ['<!-- volume: begin -->\n', '<!-- volume: end -->']
const rows = []

/** From now on the kernel notes the highest resident size anew. */
const resetPeak = (hub) => writeFileSync(`/proc/${hub.pid}/clear_refs`, '5')
const peak = (hub) => Number(/VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${hub.pid}/status`, 'utf8'))[1]) * 1024

/** {drops: by reason, turns: [[bound in s, how many took at most that]]} of one look at the metrics. */
async function counts(hub) {
  const { body } = await hub.admin('/metrics')
  const all = (pattern) => [...body.matchAll(pattern)].map(([, key, count]) => [key === '+Inf' ? Infinity : key, Number(count)])
  return {
    drops: new Map(all(/^vinhub_dropped_total\{reason="([^"]+)"\} (\d+)/gm)),
    turns: all(/^vinhub_turn_seconds_bucket\{le="([^"]+)"\} (\d+)/gm).map(([bound, count]) => [Number(bound), count]),
  }
}

/** What a part of a case costs the nodes: long turns, memory, drops by reason; and how long this process waited for a processor. */
export class Costs {
  static async begin(hubs) {
    const costs = new Costs()
    costs.hubs = hubs
    costs.waiting = monitorEventLoopDelay({ resolution: 5 })
    costs.waiting.enable()
    costs.before = await Promise.all(hubs.map(async (hub) => {
      resetPeak(hub)
      return { rss: hub.rss(), ...await counts(hub) }
    }))
    return costs
  }

  async end() {
    const nodes = await Promise.all(this.hubs.map(async (hub, n) => {
      const [before, after] = [this.before[n], await counts(hub)]
      const turns = after.turns.map(([bound, count], row) => [bound, count - before.turns[row][1]])
      const all = turns.at(-1)[1]
      const dropped = [...after.drops].map(([reason, count]) => [reason, count - (before.drops.get(reason) ?? 0)]).filter(([, count]) => count > 0)
      return {
        id: hub.id, dropped,
        grown: peak(hub) - before.rss,
        longTurns: all - turns.find(([bound]) => bound === TURN_S)[1],
        // The longest turn is at most the first bound that holds all of them.
        longest: turns.find(([, count]) => count === all)[0],
      }
    }))
    this.waiting.disable()
    for (const { id, grown, longest, longTurns, dropped } of nodes) {
      note(`node ${id}: memory +${(grown / MIB).toFixed(1)} MiB, longest turn up to ${longest * 1000} ms, ${longTurns} over ${TURN_S * 1000} ms, dropped ${
        JSON.stringify(Object.fromEntries(dropped))}`)
    }
    return {
      longTurns: nodes.reduce((sum, node) => sum + node.longTurns, 0),
      longest: Math.max(...nodes.map(({ longest }) => longest)),
      grown: Math.max(...nodes.map(({ grown }) => grown)),
      dropped: nodes.reduce((sum, node) => sum + node.dropped.reduce((part, [, count]) => part + count, 0), 0),
      waitMs: Math.round(this.waiting.percentile(99.9) / 1e6),
    }
  }
}

const STEADY_LEASE_MS = 10_000
const forTheFile = () => RedisServer.start({ defer: (discard) => process.on('exit', discard) })
let prefixes = 0

/**
 * Two servers as old as the file's run, since a Redis younger than a lease grants nothing: one for all cases that do
 * nothing to it, with a lease that no busy machine lets run out, and one for the case with a long lease that stops it.
 */
const [steady, aged] = [forTheFile(), forTheFile()]

async function redisFor(t, { leaseMs, old }) {
  if (old) return { redis: await aged, leaseMs, prefix: `aged${++prefixes}` }
  if (leaseMs) return { redis: await RedisServer.start(t), leaseMs, prefix: 'vinhub' }
  return { redis: await steady, leaseMs: STEADY_LEASE_MS, prefix: `steady${++prefixes}` }
}

/**
 * A cluster with both services. vehicles: of the crowd. bulk: settings of the service. leaseMs: with a Redis of its
 * own, or (old) one that was there before. More as for Rig.start().
 */
export async function startVolume(t, { vehicles, bulk = {}, leaseMs, old = false, settings = {}, ...options }) {
  const port = await freePort()
  const { redis, leaseMs: lease, prefix } = await redisFor(t, { leaseMs, old })
  const rig = await Rig.start(t, {
    ...options,
    redis,
    leaseMs: lease,
    settings: { ...settings, redis: { prefix, ...settings.redis } },
    moreServices: [{ name: 'bulk', upstream: `ws://127.0.0.1:${port}/base`, reconnect: { min: '50ms', max: '1s', timeout: '5s' }, ...bulk }],
  })
  rig.crowd = await Crowd.start(t, { port, vehicles, hubs: rig.hubs })
  return rig
}

/** Waits until each client of the groups has got a push that was sent after the crowd's mark; the slowest, in ms. */
export async function heardAfterMark(crowd, groups, limitMs, what) {
  const from = mark()
  const stat = await crowd.until((now) => groups.every((n) => now.groups[n].heard.count >= now.groups[n].count), limitMs,
    (now) => `${what}: heard ${groups.map((n) => `${now?.groups[n].heard.count} of ${now?.groups[n].count}`)}`)
  const heard = Math.max(...groups.map((n) => ms(stat.groups[n].heard.max)))
  // By the crowd's clock: this process may have come to look late. Waits for a processor are left out (busy.mjs).
  const allowed = Math.round(limitMs + mark().held - from.held)
  assert.ok(heard <= allowed, `${what}: heard by all after ${heard} ms, allowed ${allowed}`)
  return heard
}

/** Checks what the crowd's clients got. torn: ends of epochs that may be lost with an owner. */
export function judgeCrowd(stat, { torn = 0, missing = Infinity, twoAtOnce = 0 } = {}) {
  const total = (name) => stat.groups.reduce((sum, group) => sum + group[name], 0)
  note(`crowd: ${stat.backend.pushes} pushes, ${total('delivered')} deliveries, ${total('missing')} missing, ${total('gaps')} gaps announced, ${
    total('torn')} ends of an epoch without a word, ${stat.backend.stalled} not taken by the upstream's socket`)
  assert.equal(total('doubles'), 0, 'pushes that came twice or out of order')
  assert.equal(total('wrong'), 0, 'pushes of another vehicle, or unreadable ones')
  assert.equal(total('unannounced'), 0, 'positions missing without a GAP')
  assert.ok(total('torn') <= torn, `${total('torn')} clients miss the end of an epoch without a GAP, ${torn} may`)
  assert.ok(total('missing') <= missing, `${total('missing')} pushes missing, ${missing} may be`)
  assert.ok(stat.backend.two_at_once <= twoAtOnce, `${stat.backend.two_at_once} times two upstreams of a vehicle`)
  return total('missing')
}

/** Asserts the costs of a case and keeps them for the table. memory: what a node may grow by, in MiB. */
export function judgeCosts(costs, { memory }) {
  assert.equal(costs.longTurns, 0, `${costs.longTurns} turns over ${TURN_S * 1000} ms`)
  if (!SANITIZED) assert.ok(costs.grown <= memory * MIB, `a node grew by ${(costs.grown / MIB).toFixed(1)} MiB, ${memory} are allowed`)
}

/** A row of the table: the event, the bound, the measurement. */
export function row(name, bound, seen, { grown, longest }) {
  note(`${name}: ${seen}`)
  rows.push(`| ${name} | ${bound} | ${seen} | ${longest * 1000} ms | +${(grown / MIB).toFixed(0)} MiB |`)
}

/** The table as it stands in the document, written there with VOLUME_README=1. */
export function writeTable() {
  assert.ok(rows.length > 0, 'something was measured')
  const table = ['| what happens | bound | measured | longest turn, up to | memory of a node |', '| --- | --- | --- | ---: | ---: |', ...rows, ''].join('\n')
  const text = readFileSync(DOCUMENT, 'utf8')
  const [begin, end] = [text.indexOf(MARKS[0]) + MARKS[0].length, text.indexOf(MARKS[1])]
  assert.ok(begin >= MARKS[0].length && begin <= end, 'promises.md has a place for the table')
  if (process.env.VOLUME_README === '1') writeFileSync(DOCUMENT, text.slice(0, begin) + table + text.slice(end))
}

/** Rewrites a hub's configuration file by change(text) and tells the hub. */
export async function reload(hub, change) {
  const text = readFileSync(hub.file, 'utf8')
  const changed = change(text)
  assert.notEqual(changed, text, 'the file has changed')
  writeFileSync(hub.file, changed)
  hub.child.signal('SIGHUP')
}
