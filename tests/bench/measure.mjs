// One run of the load tool against one broker, and several such runs in turns.
import { LOAD_CORE, runToEnd } from './processes.mjs'
import { paths } from './servers.mjs'

const BOUND_S = 120

const flag = (name) => name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)

function args(broker, options) {
  const list = ['--connect', broker.targets.join(','), ...broker.backend]
  if (broker.manyUpstreams) list.push('--many-upstreams')
  list.push('--watch', Object.entries(broker.watched).map(([name, pid]) => `${name}=${pid}`).join(','))
  for (const [name, value] of Object.entries(options)) {
    if (value === true) list.push(`--${flag(name)}`)
    else if (value !== undefined && value !== false) list.push(`--${flag(name)}`, String(value))
  }
  return list
}

/** What must not happen in a run, in words; the list is empty when all is well. */
function faultsOf(report, mayLose) {
  const names = ['failed', 'doubles', 'wrong', 'malformed', 'behind', 'backend_two_at_once', 'backend_malformed', 'backend_out_of_order',
    ...(mayLose ? [] : ['gaps', 'closed'])]
  const faults = names.filter((name) => report[name] > 0).map((name) => `${report[name]} ${name.replaceAll('_', ' ')}`)
  return report.missing ? [`waited in vain for ${report.missing}`, ...faults] : faults
}

/** Processor time of all watched processes but Redis, in ns. */
function cpuOf(report, field = 'cpu_ns') {
  return report.watched.filter(({ name }) => name !== 'redis').reduce((sum, each) => sum + each[field], 0)
}

/** Starts a broker, loads it, stops it. `mayLose`: a kill or a slow-client policy is part of the shape. `during` runs
 * beside the load, and gets a promise for the moment from which on the load measures. */
export async function measure(start, options, { mayLose = false, during } = {}) {
  const broker = await start()
  try {
    const extra = typeof options === 'function' ? options(broker) : options
    let begin
    const watched = during?.(broker, new Promise((resolve) => { begin = resolve }))
    const { code, signal, out, err } = await runToEnd(LOAD_CORE, paths.load(), args(broker, extra), BOUND_S,
      (text) => { if (text.includes('measuring')) begin?.() })
    begin?.() // a load that failed earlier is reported as a fault
    let report
    try { report = JSON.parse(out) } catch { throw new Error(`load ended with ${code ?? signal}: ${err.trim() || 'no report'}`) }
    const redis = report.watched.find(({ name }) => name === 'redis')
    return {
      ...report,
      during: await watched,
      faults: faultsOf(report, mayLose),
      cpuPerDelivery: report.delivered > 0 ? cpuOf(report) / report.delivered : NaN,
      redisPerDelivery: redis && report.delivered > 0 ? redis.cpu_ns / report.delivered : undefined,
      cpuShare: cpuOf(report) / report.window_ns,
      cpuPerConnect: cpuOf(report, 'connect_cpu_ns') / report.opened,
      rate: report.delivered / report.window_ns * 1e9,
    }
  } finally { await broker.stop() }
}

export const cpu = (result) => result.cpuPerDelivery

/** All contenders with the same load. */
export const withLoad = (contenders, options) =>
  Object.fromEntries(Object.entries(contenders).map(([name, each]) => [name, { options, ...each }]))

export function median(values) {
  const sorted = values.filter(Number.isFinite).sort((a, b) => a - b)
  if (sorted.length === 0) return NaN
  const middle = sorted.length >> 1
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
}

/**
 * Runs each contender once, then each once more, and so on: what the machine does meanwhile hits all
 * of them alike. contenders: {name: {start, options, turns, …}}, turns where fewer will do. Returns {name: [result…]}; one that cannot run
 * is reported to `missing` and left out.
 */
export async function interleave(bench, contenders, runs = bench.runs) {
  const results = {}
  const out = new Set()
  for (let run = 0; run < runs; run++) {
    for (const [name, { start, options, turns = runs, ...how }] of Object.entries(contenders)) {
      if (out.has(name) || run >= turns) continue
      try {
        const result = await measure(start, options, how)
        for (const fault of result.faults) bench.fault(`${name}: ${fault}`)
        ;(results[name] ??= []).push(result)
      } catch (error) {
        out.add(name)
        bench.missing(`${name}: ${error.message}`)
      }
    }
  }
  return results
}

/** The median over the runs of what `pick` takes from each. */
export const middle = (results, pick) => median((results ?? []).map(pick))
/** The median of the ratios within each turn, which is what a busy machine disturbs least. */
export function ratio(results, base, pick) {
  return median((results ?? []).map((result, i) => (base?.[i] ? pick(result) / pick(base[i]) : NaN)))
}
