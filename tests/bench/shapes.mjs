// The shapes that are measured. Each takes the bench ({runs, missing(), fault(), say()}) and returns
// {title, columns, rows, figures}: rows for people, figures to be held against the goals.
import { crossNode, redisCommands, redisCost, takeover } from './cluster.mjs'
import { count, kib, percent, times, us } from './format.mjs'
import { trackedRoom } from './network.mjs'
import { cpu, interleave, median, middle, ratio, withLoad } from './measure.mjs'
import { dashboards, subscriptionMemory } from './fleet.mjs'
import { operators } from './operators.mjs'
import { floor, floorAcross, hub, nchan, otherBuild, relay, wsFanout } from './servers.mjs'

const PEERS = { 'nginx, nchan': { start: nchan }, 'ws, one upstream a vin': { start: wsFanout }, 'today\'s relay': { start: relay } }

const WINDOW_MS = 750 // five of them make a median

async function againstPeers(bench, title, options, figure, goal) {
  const results = await interleave(bench, withLoad({ floor: { start: floor }, vinhub: { start: hub }, ...otherBuild(), ...PEERS }, options))
  const rows = Object.entries(results).map(([name, list]) => [name, us(middle(list, cpu)), times(ratio(list, results.floor, cpu)),
    count(middle(list, (r) => r.rate)), percent(middle(list, (r) => r.cpuShare)), us(middle(list, (r) => r.latency.p50)), us(middle(list, (r) => r.latency.p99))])
  const peers = Object.keys(PEERS).map((name) => ratio(results[name], results.floor, cpu)).filter(Number.isFinite)
  return {
    title, rows, columns: ['', 'CPU us a delivery', 'of the floor', 'deliveries/s', 'of a core', 'p50 us', 'p99 us'],
    figures: [{ figure, value: ratio(results.vinhub, results.floor, cpu), goal, peer: Math.min(...peers), unit: '' }],
    results,
  }
}

const fanout = (bench) => againstPeers(bench, 'Fan-out, 1 vin x 1,000 clients, 200 bytes, 20 pushes/s',
  { clients: 1000, vins: 1, rate: 20, prime: true, measureMs: WINDOW_MS }, 'CPU per delivery / floor: 1 x 1,000, fixed rate', 1.10)

const fullSpeed = (bench) => againstPeers(bench, 'Full speed, 1 vin x 1,000 clients, closed loop, 32 pushes in flight',
  { clients: 1000, vins: 1, inFlight: 32, prime: true, measureMs: WINDOW_MS }, 'the same in closed loop, 32 in flight', 0.10)

const sessions = (bench) => againstPeers(bench, '1,000 vins x 2 clients, 20,000 deliveries/s',
  { clients: 2000, vins: 1000, rate: 10000, prime: true, measureMs: WINDOW_MS }, 'CPU per delivery / floor: 1,000 x 2', 1.5)

const bursts = (bench) => againstPeers(bench, 'Bursts of 10, 1 vin x 1,000 clients, 50 pushes/s',
  { clients: 1000, vins: 1, rate: 50, burst: 10, prime: true, measureMs: WINDOW_MS }, 'CPU per delivery / floor: bursts of 10')

async function memory(bench) {
  const load = { clients: 15000, vins: 100, prime: true, rate: 2000, burst: 10, measureMs: 1500, afterMs: 1500, connectS: 60 }
  const results = await interleave(bench, {
    vinhub: { start: hub, options: load },
    ...withLoad(otherBuild(), load),
    'nginx, nchan': { start: nchan, options: load },
    'ws, one upstream a vin (5,000)': { start: wsFanout, options: { ...load, clients: 5000, rate: 200 } },
    'today\'s relay (5,000)': { start: relay, options: { ...load, clients: 5000, rate: 200 } },
  }, 1)
  const perClient = (at) => (result) => (result.watched.reduce((sum, each) => sum + each.rss[at] - each.rss[0], 0)) / result.opened
  return {
    title: 'Memory of 15,000 clients on 100 vins: resident KiB a client',
    columns: ['', 'idle', 'after bursts of 10 to all', 'CPU us a delivery'],
    rows: Object.entries(results).map(([name, list]) => [name, kib(middle(list, perClient(1))), kib(middle(list, perClient(3))), us(middle(list, cpu))]),
    figures: [
      { figure: 'resident memory per idle client', value: middle(results.vinhub, perClient(1)) / 1024, goal: 1.9, unit: 'KiB',
        peer: Math.min(...Object.entries(results).filter(([name]) => !name.startsWith('vinhub')).map(([, list]) => middle(list, perClient(1)) / 1024)) },
      { figure: 'the same, after bursts', value: middle(results.vinhub, perClient(3)) / 1024, unit: 'KiB' },
    ],
    results,
  }
}

async function latency(bench) {
  const load = { vins: 100, rate: 1000, prime: true }
  const results = await interleave(bench, {
    floor: { start: floor, options: { ...load, clients: 100 } },
    vinhub: { start: hub, options: { ...load, clients: 100 } },
    'nginx, nchan': { start: nchan, options: { ...load, clients: 100 } },
    'ws, one upstream a vin': { start: wsFanout, options: { ...load, clients: 100 }, turns: 2 },
    'floor across nodes': { start: floorAcross, options: { ...load, clients: 200, inStages: true } },
    'floor across nodes, saving': { start: () => floorAcross({ script: true }), options: { ...load, clients: 200, inStages: true } },
    'vinhub across nodes': { start: () => hub({ nodes: 2, cluster: true }), options: { ...load, clients: 200, inStages: true } },
  })
  const of = (name) => (result) => (name.includes('across nodes') ? result.latency_others : result.latency)
  const added = (name, which, base = 'floor') => median((results[name] ?? []).map((result, i) => of(name)(result)[which] - of(base)(results[base][i])[which]))
  return {
    title: 'Latency at low load, 100 vins, 1,000 pushes/s: from the backend\'s send to the client\'s read',
    columns: ['', 'p50 us', 'p99 us', 'p99.9 us', 'added p50', 'added p99'],
    rows: Object.entries(results).map(([name, list]) => [name, us(middle(list, (r) => of(name)(r).p50)), us(middle(list, (r) => of(name)(r).p99)),
      us(middle(list, (r) => of(name)(r).p999)), us(added(name, 'p50')), us(added(name, 'p99'))]),
    figures: [
      { figure: 'latency added, p50, local', value: added('vinhub', 'p50') / 1000, goal: 20, unit: 'us',
        peer: Math.min(added('nginx, nchan', 'p50'), added('ws, one upstream a vin', 'p50')) / 1000 },
      { figure: 'latency added, p50, across nodes', value: added('vinhub across nodes', 'p50') / 1000, goal: 80, unit: 'us' },
      { figure: 'the same / that of two floors with the hub\'s script', value: added('vinhub across nodes', 'p50') / added('floor across nodes, saving', 'p50'), goal: 1.1, unit: '' },
      { figure: 'the same, of two floors with a bare PUBLISH between', value: added('floor across nodes', 'p50') / 1000, unit: 'us' },
      { figure: 'the same, of two floors that save and publish in one script', value: added('floor across nodes, saving', 'p50') / 1000, unit: 'us' },
    ],
    results,
  }
}

async function storm(bench) {
  const load = { clients: 10000, vins: 1, connecting: 1000, warmMs: 0, measureMs: 10, upstreams: 0 }
  const results = await interleave(bench, withLoad({
    'bare epoll server': { start: () => floor({ upstream: false }) }, vinhub: { start: hub }, 'nginx, nchan': { start: nchan }, 'ws, one upstream a vin': { start: wsFanout, turns: 2 },
  }, load))
  const perConnect = (result) => result.cpuPerConnect
  const base = results['bare epoll server']
  return {
    title: 'Connect storm, 10,000 clients at once',
    columns: ['', 'CPU us a connection', 'of bare epoll', 'connections/s', 'tried again'],
    rows: Object.entries(results).map(([name, list]) => [name, us(middle(list, perConnect)), times(ratio(list, base, perConnect)),
      count(middle(list, (r) => r.opened / r.connect_ns * 1e9)), count(middle(list, (r) => r.retried))]),
    figures: [{ figure: 'CPU per accepted connection / bare epoll', value: ratio(results.vinhub, base, perConnect), goal: 1.5, unit: '',
      peer: Math.min(...['nginx, nchan', 'ws, one upstream a vin'].map((name) => ratio(results[name], base, perConnect)).filter(Number.isFinite)) }],
    results,
  }
}

/** How much more the largest costs than the smallest size, at worst. */
function spread(values) {
  const good = values.filter(Number.isFinite)
  return Math.max(...good) / good[0] - 1
}

async function growthClients(bench) {
  const sizes = [100, 1000, 15000]
  const contenders = {}
  for (const clients of sizes) {
    const options = { clients, vins: 1, rate: 30000 / clients, prime: true, measureMs: 1500, connectS: 60 }
    contenders[`floor ${clients}`] = { start: floor, options }
    contenders[`vinhub ${clients}`] = { start: hub, options }
  }
  const results = await interleave(bench, contenders, Math.min(bench.runs, 2))
  const mine = sizes.map((size) => middle(results[`vinhub ${size}`], cpu))
  return {
    title: 'Growth: clients of 1 vin, 30,000 deliveries/s',
    columns: ['clients', 'CPU us a delivery', 'floor\'s', 'ratio'],
    rows: sizes.map((size, i) => [count(size), us(mine[i]), us(middle(results[`floor ${size}`], cpu)), times(ratio(results[`vinhub ${size}`], results[`floor ${size}`], cpu))]),
    figures: [{ figure: 'CPU per delivery, 100 -> 15,000 clients: growth', value: spread(mine) * 100, goal: 15, unit: '%' },
      { figure: 'the same, as a ratio to the floor\'s', value: spread(sizes.map((size) => ratio(results[`vinhub ${size}`], results[`floor ${size}`], cpu))) * 100, goal: 15, unit: '%' }],
    results,
  }
}

const PER_NODE = 9100

/** A process has 20,000 descriptors, a session takes two: more than 9,500 are several nodes, each for itself. */
async function growthSessions(bench) {
  const tracked = await trackedRoom()
  const room = Math.floor(tracked / 2.1 / PER_NODE)
  const nodes = Math.max(2, Math.min(11, room))
  if (room < 11) bench.missing(`100,100 sessions: the firewall's connection tracking has room for ${count(tracked)} connections; ${count(nodes * PER_NODE)} instead`)
  const sizes = [[10, 1], [1000, 1], [9500, 1], [nodes * PER_NODE, nodes]]
  const contenders = {}
  const rare = { lease: '30s', heartbeat: '{text: ping, reply: pong, every: 2m, timeout: 5m}', ping: '{every: 2m, timeout: 1m}' }
  for (const [vins, among] of sizes) {
    const options = { clients: vins, vins, rate: 10000, primeMs: Math.max(100, vins / 20), prime: true, group: 1, ownAddresses: among > 1, measureMs: 2000, connectS: 75, settleS: 20 }
    if (among === 1) contenders[`floor ${vins}`] = { start: floor, options }
    contenders[`vinhub ${vins}`] = { start: () => hub({ nodes: among, ...rare, backends: among }), options }
  }
  const largest = Object.fromEntries(Object.entries(contenders).filter(([name]) => name.endsWith(` ${nodes * PER_NODE}`)))
  for (const name of Object.keys(largest)) delete contenders[name]
  const results = { ...await interleave(bench, contenders, Math.min(bench.runs, 3)), ...await interleave(bench, largest, 1) }
  const mine = sizes.map(([vins]) => middle(results[`vinhub ${vins}`], cpu))
  const ratios = sizes.map(([vins]) => ratio(results[`vinhub ${vins}`], results[`floor ${vins}`], cpu))
  return {
    title: 'Growth: sessions with 1 client each, 10,000 deliveries/s',
    columns: ['sessions', 'nodes', 'CPU us a delivery', 'floor\'s', 'ratio'],
    rows: sizes.map(([vins, among], i) => [count(vins), among, us(mine[i]), us(middle(results[`floor ${vins}`], cpu)), times(ratios[i])]),
    figures: [{ figure: `CPU per delivery, 10 -> ${count(sizes.at(-1)[0])} sessions: growth`, value: spread(mine) * 100, goal: 15, unit: '%' },
      { figure: 'the same, as a ratio to the floor\'s (to 9,500 sessions)', value: spread(ratios) * 100, goal: 15, unit: '%' }],
    results,
  }
}

async function compression(bench) {
  const load = { clients: 1000, vins: 1, rate: 20, size: 500, prime: true }
  const results = await interleave(bench, {
    floor: { start: floor, options: load },
    'vinhub, off': { start: hub, options: load },
    'vinhub, on': { start: () => hub({ deflate: true }), options: { ...load, deflate: true } },
  }, Math.min(bench.runs, 3))
  return {
    title: 'Compression, 1 vin x 1,000 clients, 500 bytes, 20 pushes/s',
    columns: ['', 'CPU us a delivery', 'of the floor'],
    rows: Object.entries(results).map(([name, list]) => [name, us(middle(list, cpu)), times(ratio(list, results.floor, cpu))]),
    figures: [{ figure: 'CPU per delivery with compression / without', value: ratio(results['vinhub, on'], results['vinhub, off'], cpu), unit: '' }],
    results,
  }
}

async function slowClients(bench) {
  // First the kernel's buffers of slow clients are filled, then their queues.
  const fast = { clients: 1000, vins: 1, rate: 30, size: 500, prime: true, warmRate: 200, warmBurst: 20, warmMs: 3000, measureMs: 1500, settleS: 20 }
  const mixed = { ...fast, clients: 2000, slow: 1000 }
  const results = await interleave(bench, {
    'fast alone': { start: hub, options: { ...fast, warmMs: 500 } },
    'with slow, drop_oldest': { start: () => hub({ slowClient: '{queue: 64KiB, policy: drop_oldest}' }), options: mixed },
  })
  const base = results['fast alone']
  return {
    title: '1,000 slow clients among 1,000 fast ones, 500 bytes, 30 pushes/s (CPU of all over deliveries to the fast)',
    columns: ['', 'CPU us a fast delivery', 'of fast alone', 'p50 us', 'p99 us', 'rate'],
    rows: Object.entries(results).map(([name, list]) => [name, us(middle(list, cpu)), times(ratio(list, base, cpu)),
      us(middle(list, (r) => r.latency.p50)), us(middle(list, (r) => r.latency.p99)), count(middle(list, (r) => r.rate))]),
    figures: [{ figure: 'cost of 1,000 slow clients to 1,000 fast ones', value: (ratio(results['with slow, drop_oldest'], base, cpu) - 1) * 100, goal: 5, unit: '%' }],
    results,
  }
}

async function heartbeats(bench) {
  const results = await interleave(bench, {
    vinhub: { start: hub, options: { clients: 15000, vins: 100, heartbeatMs: 5000, warmMs: 500, measureMs: 5000, connectS: 60 } },
    floor: { start: floor, options: { clients: 15000, vins: 100, heartbeatMs: 5000, warmMs: 500, measureMs: 5000, connectS: 60 } },
  }, Math.min(bench.runs, 3))
  const share = (result) => result.cpuShare
  return {
    title: 'Heartbeats of 15,000 clients, each every 5 s',
    columns: ['', 'of a core', 'answered'],
    rows: Object.entries(results).map(([name, list]) => [name, percent(middle(list, share)), percent(middle(list, (r) => r.beats_answered / r.beats_sent))]),
    figures: [{ figure: 'heartbeats of 15,000 clients each 5 s, share of a core', value: middle(results.vinhub, share) * 100, goal: 5, unit: '%' },
      { figure: 'the same / floor', value: ratio(results.vinhub, results.floor, share), unit: '' }],
    results,
  }
}

async function commands(bench) {
  const load = { clients: 1000, vins: 100, sendRate: 10000, prime: true }
  const perMessage = (result) => (result.cpuShare * result.window_ns) / result.latency_sent.count
  const results = await interleave(bench, withLoad({ floor: { start: floor }, vinhub: { start: hub },
    'ws, one upstream a vin': { start: wsFanout }, 'today\'s relay': { start: relay } }, load))
  const cluster = await interleave(bench, { 'member of 2 nodes': { start: () => hub({ nodes: 2, cluster: true }), options: { ...load, inStages: true } } }, Math.min(bench.runs, 2))
  Object.assign(results, cluster)
  return {
    title: 'Messages from 1,000 clients to the backend, 100 vins, 10,000/s',
    columns: ['', 'CPU us a message', 'of the floor', 'p50 us', 'p99 us', 'lost'],
    rows: Object.entries(results).map(([name, list]) => [name, us(middle(list, perMessage)), times(ratio(list, results.floor, perMessage)),
      us(middle(list, (r) => r.latency_sent.p50)), us(middle(list, (r) => r.latency_sent.p99)), count(middle(list, (r) => r.sent - r.backend_received))]),
    figures: [{ figure: 'CPU per client message / floor', value: ratio(results.vinhub, results.floor, perMessage), unit: '',
      peer: Math.min(...['ws, one upstream a vin', 'today\'s relay'].map((name) => ratio(results[name], results.floor, perMessage)).filter(Number.isFinite)) }],
    results,
  }
}

export const shapes = {
  fanout, 'full-speed': fullSpeed, sessions, bursts, 'cross-node': crossNode, redis: redisCommands, 'redis-cost': redisCost, latency, storm, compression,
  dashboards, 'subscription-memory': subscriptionMemory, operators, slow: slowClients, heartbeats, commands, memory, 'growth-clients': growthClients, 'growth-sessions': growthSessions, takeover,
}
