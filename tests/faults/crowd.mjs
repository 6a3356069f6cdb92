// Thousands of clients and the backend of service `bulk`, in a process of their own: leads tests/bench/crowd.c.
import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { deadline, until } from '../lib/until.mjs'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const PROGRAM = join(resolve(ROOT, process.env.BUILD_DIR ?? 'build/dev'), 'bench/crowd')
const ANSWER_MS = 30_000
const OPEN_MS = 30_000

export class Crowd {
  /** port: of the backend, 0: clients alone; hubs: targets, by their number; nice: 0 to 19. */
  static async start(t, { port, vehicles, hubs, nice = 0 }) {
    if (!existsSync(PROGRAM)) throw new Error(`there is no ${PROGRAM}: build the target bench_crowd`)
    const crowd = new Crowd()
    crowd.vehicles = vehicles
    crowd.child = spawn('setpriv', ['--pdeathsig', 'KILL', 'nice', '-n', String(nice), PROGRAM, String(port), String(vehicles),
      ...hubs.map((hub) => `127.0.0.1:${hub.port}`)], { stdio: ['pipe', 'pipe', 'inherit'] })
    crowd.answers = createInterface(crowd.child.stdout)[Symbol.asyncIterator]()
    crowd.turn = Promise.resolve()
    crowd.exited = new Promise((done) => { crowd.child.once('close', done) })
    crowd.child.stdin.on('error', () => {})
    t.defer(() => { crowd.child.kill('SIGKILL'); return crowd.exited })
    await crowd.stat()
    return crowd
  }

  /** Commands are answered in order, one at a time. */
  ask(line) {
    const answer = this.turn.then(async () => {
      this.child.stdin.write(`${line}\n`)
      const { value, done } = await deadline(this.answers.next(), ANSWER_MS, `the crowd to answer "${line}"`)
      if (done) throw new Error(`the crowd ended at "${line}"`)
      return JSON.parse(value)
    })
    this.turn = answer.catch(() => {})
    return answer
  }

  stat() { return this.ask('stat') }
  mark() { return this.ask('mark') }
  /** Pushes a second over `vins` vehicles from the first one on (all without), in turn; 0 ends them. */
  rate(perSecond, bytes = 1000, first = 1, vins = this.vehicles) { return this.ask(`rate ${perSecond} ${bytes} ${first} ${vins}`) }
  pushEach(bytes = 200) { return this.ask(`push ${bytes}`) }
  backend(on) { return this.ask(`backend ${on ? 'on' : 'off'}`) }
  send(group, count, bytes) { return this.ask(`send ${group} ${count} ${bytes}`) }
  leave(group, how = 'reset') { return this.ask(`leave ${group} ${how}`) }

  /** Begins to open a group: clients of target that watch `vins` vehicles from the first one on, in turn. Returns its number. */
  async begin({ target = 0, count, first = 1, vins = count, connecting = 256, form = '-', path = '/u/*?bulk' }) {
    return (await this.ask(`open ${target} ${count} ${first} ${vins} ${connecting} ${form} ${path}`)).group
  }

  /** Opens a group and waits until all are in. */
  async open(options, ms = OPEN_MS) {
    const group = await this.begin(options)
    await this.until(({ groups }) => groups[group].open === options.count, ms, 'clients to open')
    return group
  }

  /** Polls what the crowd counts until condition(stat) holds; returns that stat. */
  async until(condition, ms, what) {
    let stat
    await until(async () => condition(stat = await this.stat()), ms, () => `${typeof what === 'function' ? what(stat) : what}: ${brief(stat)}`)
    return stat
  }
}

/** A stat without its histograms, for messages. */
export function brief({ backend, groups }) {
  const plain = (counts) => Object.fromEntries(Object.entries(counts).filter(([, value]) => value !== 0 && (typeof value !== 'object' || !('p99' in value))))
  return JSON.stringify({ backend: plain(backend), groups: groups.map(plain) })
}

/** The sum of a count over all groups. */
export const sum = ({ groups }, name) => groups.reduce((total, group) => total + group[name], 0)
export const ms = (ns) => Math.round(ns / 1e5) / 10
