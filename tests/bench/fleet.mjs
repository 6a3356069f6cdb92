// Clients of vinhub.v1 that follow many vehicles on one connection: what a delivery costs, and what a subscription.
import { count, times, us } from './format.mjs'
import { cpu, interleave, middle, ratio } from './measure.mjs'
import { floor, hub } from './servers.mjs'

const PATH = '/u?subscribe'
const WINDOW_MS = 2000
const FLEET = { path: PATH, clients: 100, vins: 1000, subscriptions: 1000, connecting: 4, connectS: 60, prime: true, primeMs: 4000, settleS: 30, warmMs: 1000, measureMs: WINDOW_MS }
const EACH_S = 1 // pushes a second of each vehicle
const FAST_S = 10

/** 100 dashboards that follow 1,000 vehicles each. One floor does a send() for each delivery, the other one for each client and
 * epoll_wait. */
export async function dashboards(bench) {
  const at = (perVin, more = {}) => ({ ...FLEET, rate: FLEET.vins * perVin * bench.scale, ...more })
  const closed = at(0, { inFlight: 32, measureMs: 750 })
  const turn = () => floor({ aTurn: true })
  const results = await interleave(bench, {
    floor: { start: floor, options: at(EACH_S) },
    'floor, a send a turn': { start: turn, options: at(EACH_S) },
    vinhub: { start: hub, options: at(EACH_S) },
    'floor, closed loop': { start: floor, options: closed },
    'floor, closed loop, a send a turn': { start: turn, options: closed },
    'vinhub, closed loop': { start: hub, options: closed },
    'vinhub, rate=1': { start: hub, options: at(FAST_S, { rated: 1 }) },
  })
  const of = (name, base) => ratio(results[name], results[base], cpu)
  // CPU for each delivery that there would be without a rate
  const pushed = (r) => r.cpuPerDelivery * r.delivered / (r.pushes * FLEET.clients)
  const rated = results['vinhub, rate=1'] ?? []
  return {
    title: `100 dashboards x 1,000 subscriptions (vinhub.v1), 200 bytes, ${count(EACH_S * FLEET.vins * bench.scale)} pushes/s; rate=1: ${count(FAST_S * FLEET.vins * bench.scale)} pushes/s`,
    columns: ['', 'CPU us a delivery', 'of the floor', 'deliveries/s', 'pushes/s', 'p50 us', 'p99 us'],
    rows: Object.entries(results).map(([name, list]) => [name, us(middle(list, cpu)), times(ratio(list, results[name.includes('closed') ? 'floor, closed loop' : 'floor'], cpu)),
      count(middle(list, (r) => r.rate)), count(middle(list, (r) => r.pushes / r.window_ns * 1e9)), us(middle(list, (r) => r.latency.p50)), us(middle(list, (r) => r.latency.p99))]),
    figures: [
      { figure: 'CPU per delivery / floor: 100 dashboards x 1,000', value: of('vinhub', 'floor'), goal: 1.1, unit: '' },
      { figure: 'the same in closed loop, 32 in flight', value: of('vinhub, closed loop', 'floor, closed loop'), goal: 0.15, unit: '' },
      { figure: 'the same, floor with one send a client and turn', value: of('vinhub, closed loop', 'floor, closed loop, a send a turn'), unit: '' },
      { figure: 'with rate=1 and 10 pushes/s a vin: CPU per delivery that would have been / floor', value: ratio(rated, results.floor, (r) => (rated.includes(r) ? pushed(r) : cpu(r))), goal: 0.15, unit: '' },
      { figure: 'the same per MESSAGE given, of which each stands for ten pushes taken', value: of('vinhub, rate=1', 'floor'), unit: '' },
    ],
    results,
  }
}

/** The same clients and sessions with few and with many subscriptions: the difference is what those cost. */
export async function subscriptionMemory(bench) {
  const few = 100
  const load = { path: PATH, clients: 1000, vins: 1000, connecting: 8, connectS: 90, warmMs: 0, measureMs: 10, afterMs: 2000 }
  const results = await interleave(bench, {
    [`${few} each`]: { start: hub, options: { ...load, subscriptions: few } },
    '1,000 each': { start: hub, options: { ...load, subscriptions: 1000 } },
    '1,000 each, rate=1': { start: hub, options: { ...load, subscriptions: 1000, rated: 1 } },
  }, Math.min(bench.runs, 2))
  const grown = (r) => r.watched[0].rss[3] - r.watched[0].rss[0]
  const base = results[`${few} each`]
  const each = (list) => (middle(list, grown) - middle(base, grown)) / (load.clients * (1000 - few))
  return {
    title: '1,000 clients of vinhub.v1 on 1,000 sessions: resident memory of a further subscription',
    columns: ['', 'subscriptions', 'MiB', 'bytes a further subscription', 'CPU us to subscribe'],
    rows: Object.entries(results).map(([name, list]) => {
      const subscriptions = load.clients * (name.startsWith('1,000') ? 1000 : few)
      return [name, count(subscriptions), (middle(list, grown) / 2 ** 20).toFixed(1), list === base ? '' : count(each(list)),
        us(middle(list, (r) => r.watched[0].connect_cpu_ns / subscriptions))]
    }),
    figures: [{ figure: 'resident memory of a further subscription', value: each(results['1,000 each']), goal: 200, unit: 'bytes' },
      { figure: 'the same with a rate', value: each(results['1,000 each, rate=1']), unit: 'bytes' }],
    results,
  }
}
