// Calls of an operator to a cluster with very many clients: list a page of them, close one user.
import { once } from 'node:events'
import { readdirSync, readFileSync } from 'node:fs'
import { WebSocket } from 'ws'
import { count } from './format.mjs'
import { interleave, median } from './measure.mjs'
import { hub } from './servers.mjs'

const NODES = 6
const ROUNDS = 10
const PAGE = 100
const few = 1000

const ask = async (node, path, body) => {
  const answer = await fetch(`http://127.0.0.1:${node.adminPort}${path}`, body && { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) })
  if (answer.status !== 200) throw new Error(`${path}: ${answer.status} ${await answer.text()}`)
  return answer.json()
}

/** Processor time of a process so far, in ns. */
const cpuOf = (pid) => readdirSync(`/proc/${pid}/task`).reduce((sum, thread) => sum + Number(readFileSync(`/proc/${pid}/task/${thread}/schedstat`, 'utf8').split(' ')[0]), 0)
const cpuOfAll = (hubs) => hubs.reduce((sum, { pid }) => sum + cpuOf(pid), 0)

/** A user connects to one node and is closed through another; the ms until its socket is closed. */
async function kick(hubs, round) {
  const socket = new WebSocket(`ws://${hubs[round % NODES].target}/kicked/V00000001?remoteWs`)
  await once(socket, 'open')
  const from = performance.now()
  const closed = once(socket, 'close').then(([code]) => ({ code, ms: performance.now() - from }))
  const { closed: n } = await ask(hubs[(round + 1) % NODES], '/api/clients/close', { user: 'kicked', reason: 'bench' })
  const { code, ms } = await closed
  if (n !== 1 || code !== 4006) throw new Error(`closed ${n} clients, code ${code}`)
  return ms
}

async function timed(hubs, path) {
  const [from, before] = [performance.now(), cpuOfAll(hubs)]
  const { clients } = await ask(hubs[0], path)
  return { ms: performance.now() - from, cpuMs: (cpuOfAll(hubs) - before) / 1e6, rows: clients.length }
}

async function operate({ hubs }, measuring) {
  await measuring
  const [kicks, pages, users] = [[], [], []]
  for (let round = 0; round < ROUNDS; round++) {
    kicks.push(await kick(hubs, round))
    pages.push(await timed(hubs, `/api/clients?limit=${PAGE}`))
    users.push(await timed(hubs, '/api/clients?user=nobody'))
  }
  return { kicks, pages, users }
}

export async function operators(bench) {
  const load = { vins: 100, inStages: true, warmMs: 0, measureMs: 8000, connectS: 90, connecting: 64 }
  const start = () => hub({ nodes: NODES, cluster: true, lease: '10s' })
  const results = await interleave(bench, {
    [count(few * NODES)]: { start, options: { ...load, clients: few * NODES }, during: operate },
    [count(100_000)]: { start, options: { ...load, clients: 100_000 }, during: operate },
  }, 1)
  const ms = (value) => value.toFixed(1)
  const [small, large] = Object.values(results).map((list) => list[0].during)
  const of = (from, pick) => median(from.map(pick))
  return {
    title: `${NODES} nodes: one user closed from another node, and lists over all nodes (limit ${PAGE}, and a user whom nobody has)`,
    columns: ['clients', 'close, median ms', 'longest ms', 'page, ms', 'CPU of all nodes, ms', 'user, ms', 'CPU, ms'],
    rows: Object.entries(results).map(([name, [{ during }]]) => [name, ms(median(during.kicks)), ms(Math.max(...during.kicks)),
      ...[during.pages, during.users].flatMap((from) => [ms(of(from, (r) => r.ms)), ms(of(from, (r) => r.cpuMs))])]),
    figures: [
      { figure: 'one user of 100,000 clients closed, longest of 10', value: large ? Math.max(...large.kicks) : NaN, goal: 200, unit: 'ms' },
      { figure: 'a page of 100,000 clients / of 6,000: CPU of all nodes', value: large ? of(large.pages, (r) => r.cpuMs) / of(small.pages, (r) => r.cpuMs) : NaN, unit: '' },
      { figure: 'a user whom nobody has, the same', value: large ? of(large.users, (r) => r.cpuMs) / of(small.users, (r) => r.cpuMs) : NaN, unit: '' },
    ],
    results,
  }
}
