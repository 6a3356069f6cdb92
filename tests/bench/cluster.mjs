// The shapes that need several nodes: the cost of crossing nodes, the commands it sends to Redis, and how long the
// vehicles of a killed node have no upstream.
import { setTimeout as sleep } from 'node:timers/promises'
import { count, ms, times, us } from './format.mjs'
import { cpu, interleave, median, middle, ratio, withLoad } from './measure.mjs'
import { callsBetween, commandStats, countLife } from './life.mjs'
import { floor, hub } from './servers.mjs'

export async function crossNode(bench) {
  const options = { clients: 1000, vins: 1, rate: 20, inStages: true, prime: true }
  const results = await interleave(bench, withLoad({
    floor: { start: floor },
    '2 nodes': { start: () => hub({ nodes: 2, cluster: true }) },
  }, options))
  return {
    title: 'Across nodes, 1 vin, 2 nodes x 500 clients, 20 pushes/s (both nodes counted; Redis apart)',
    columns: ['', 'CPU us a delivery', 'of the floor', 'Redis us a push', 'p50 us, owner', 'p50 us, member'],
    rows: Object.entries(results).map(([name, list]) => [name, us(middle(list, cpu)), times(ratio(list, results.floor, cpu)),
      us(middle(list, (r) => r.redisPerDelivery * r.delivered / r.pushes)), us(middle(list, (r) => r.latency.p50)), us(middle(list, (r) => r.latency_others.p50))]),
    figures: [{ figure: 'CPU per delivery / floor: 2 nodes x 500, both counted', value: ratio(results['2 nodes'], results.floor, cpu), goal: 1.3, unit: '' }],
    results,
  }
}

// For two leases a new owner publishes each push and writes its sessions' records: the load runs that long before it
// measures.
const LEASE = '500ms'
const WARM_MS = 2000
const COUNT_FOR_MS = 1000

/** Commands that Redis gets in a second, while the load measures. */
async function commandsPerSecond({ redisPort }, measuring) {
  await measuring
  const [from, before] = [performance.now(), await commandStats(redisPort)]
  await sleep(COUNT_FOR_MS)
  const after = await commandStats(redisPort)
  const seconds = (performance.now() - from) / 1000
  return callsBetween(before, after).map(([name, calls]) => [name, calls / seconds])
}

const inWords = (calls) => calls.filter(([, n]) => n >= 0.005).sort((a, b) => b[1] - a[1])
  .map(([command, n]) => `${command} ${n.toFixed(2)}`).join(', ') || 'none'

export async function redisCommands(bench) {
  const load = { vins: 100, rate: 1000, prime: true, inStages: true, warmMs: WARM_MS, measureMs: 1.5 * COUNT_FOR_MS }
  const cluster = (nodes, history) => ({ start: () => hub({ nodes, cluster: true, lease: LEASE, ...(history ? {} : { history: '{size: 0}' }) }), during: commandsPerSecond })
  const results = await interleave(bench, {
    'nothing pushed, 2 nodes': { ...cluster(2, true), options: { ...load, rate: 0, clients: 200 } },
    'watched on 1 node, no history': { ...cluster(1, false), options: { ...load, clients: 100 } },
    'watched on 1 node': { ...cluster(1, true), options: { ...load, clients: 100 } },
    'watched on 2 nodes, no history': { ...cluster(2, false), options: { ...load, clients: 200 } },
    'watched on 2 nodes': { ...cluster(2, true), options: { ...load, clients: 200 } },
    'full speed, 2 nodes': { ...cluster(2, true), options: { ...load, vins: 1, clients: 200, rate: 0, inFlight: 32 } },
    'messages to another node': { ...cluster(2, true), options: { ...load, rate: 0, sendRate: 2000, clients: 200 } },
  }, 1)
  const idle = Object.fromEntries(results['nothing pushed, 2 nodes']?.[0].during ?? [])
  const rows = Object.entries(results).map(([name, [result]]) => {
    const events = name.startsWith('messages') ? result.latency_sent.count : result.pushes
    const perSecond = events / result.window_ns * 1e9
    const calls = perSecond > 0 ? result.during.map(([command, rate]) => [command, Math.max(0, rate - (idle[command] ?? 0)) / perSecond]) : result.during
    const redis = result.watched.find((each) => each.name === 'redis')
    return [name, perSecond > 0 ? count(perSecond) : '-', inWords(calls),
      perSecond > 0 ? us(redis.cpu_ns / events) : `${us(redis.cpu_ns / result.window_ns * 1e9)} a second`]
  })
  try {
    for (const [step, calls] of await countLife()) rows.push([step, '-', inWords(calls), ''])
  } catch (error) { bench.missing(`the life of a session: ${error.message}`) }
  return {
    title: 'What Redis is asked, those within scripts included: per push (or client message), then per session and step of its life; first line: per second, 2 nodes, lease 500 ms',
    columns: ['', 'a second', 'commands', 'Redis CPU us'], rows, figures: [], results,
  }
}

const LEASE_S = 2 // a new owner writes its history with each push for two leases

const redisPerPush = (result) => result.redisPerDelivery * result.delivered / result.pushes

/** What a fleet costs Redis, with the settings that come with the hub: each vin watched on one node, and on two. */
export async function redisCost(bench) {
  const load = { vins: 1000, clients: 2000, rate: 10000, prime: true, warmMs: 12000, measureMs: 2000 } // the histories are full then, and have to be trimmed
  const results = await interleave(bench, {
    floor: { start: floor, options: { ...load, warmMs: 500 } },
    'watched on 1 node': { start: () => hub({ cluster: true, lease: `${LEASE_S}s` }), options: load },
    'watched on 1 node, no history': { start: () => hub({ cluster: true, lease: `${LEASE_S}s`, history: '{size: 0}' }), options: load },
    'watched on 2 nodes': { start: () => hub({ nodes: 2, cluster: true, lease: `${LEASE_S}s` }), options: { ...load, inStages: true } },
  }, Math.min(bench.runs, 3))
  const [one, two] = [results['watched on 1 node'], results['watched on 2 nodes']]
  const pushes = (result) => result.pushes / result.window_ns * 1e9
  return {
    title: '1,000 vins x 2 clients, 10,000 pushes/s, default settings: what it costs Redis and the nodes',
    columns: ['', 'pushes/s', 'Redis us a push', 'one Redis, pushes/s a core', 'CPU us a delivery', 'of the floor'],
    rows: Object.entries(results).map(([name, list]) => [name, count(middle(list, pushes)), us(middle(list, redisPerPush)),
      count(1e9 / middle(list, redisPerPush)), us(middle(list, cpu)), times(ratio(list, results.floor, cpu))]),
    figures: [
      { figure: 'Redis CPU a push, 1,000 x 2, watched on 1 node', value: middle(one, redisPerPush) / 1000, goal: 6, unit: 'us' },
      { figure: 'the same, CPU per delivery / floor', value: ratio(one, results.floor, cpu), goal: 1.3, unit: '' },
      { figure: 'Redis CPU a push, 1,000 x 2, watched on 2 nodes', value: middle(two, redisPerPush) / 1000, goal: 15, unit: 'us' },
    ],
    results,
  }
}

export async function takeover(bench) {
  const kills = 10
  const rows = []
  const figures = []
  const all = {}
  for (const [lease, vins, goal] of [['3s', 200, 4000], ['500ms', 200, 1000], ['500ms', 2000, 1000]]) {
    const many = vins > 200 ? Math.min(kills, 3) : kills
    const start = () => hub({ nodes: 2, cluster: true, lease, history: '{size: 0}', heartbeat: '{text: ping, reply: pong, every: 5s, timeout: 15s}' })
    const options = (broker) => ({ clients: 2 * vins, vins, rate: 10 * vins, inStages: true, prime: true, measureMs: 300, settleS: 15, kill: broker.hubs[0].pid, killTarget: 0 })
    const results = []
    for (let i = 0; i < many; i += 5) {
      const turn = await Promise.all(Array.from({ length: Math.min(vins > 200 ? 1 : 5, many - i) }, () =>
        interleave(bench, { takeover: { start, options, mayLose: true } }, 1)))
      results.push(...turn.flatMap((each) => each.takeover ?? []))
      if (vins > 200) i -= 4
    }
    const worst = Math.max(...results.map((r) => r.reopened.p99))
    rows.push([lease, count(vins), results.length, ms(Math.min(...results.map((r) => r.reopened.p50))), ms(median(results.map((r) => r.reopened.p50))),
      ms(median(results.map((r) => r.reopened.p99))), ms(worst), ms(Math.max(...results.map((r) => r.resumed.max)))])
    figures.push({ figure: `take-over after SIGKILL, lease ${lease}, ${count(vins)} sessions, worst p99`, value: worst / 1e6, goal, unit: 'ms' })
    all[`${lease} ${vins}`] = results
  }
  return {
    title: 'Take-over after SIGKILL of the owner: from the kill to the new upstream, ms',
    columns: ['lease', 'sessions', 'kills', 'best p50', 'median p50', 'median p99', 'worst p99', 'worst first push'],
    rows, figures, results: all,
  }
}
