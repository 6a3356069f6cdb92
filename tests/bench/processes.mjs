// Processes of the bench: pinned to a core, dead with the bench, ended by pid.
import { spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import net from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'

export const SERVER_CORE = 0
export const LOAD_CORE = 1
const START_MS = 10_000
const STOP_MS = 5_000
const OUTPUT_KEPT = 20_000

const running = new Set()
let realtime = false

/** Processes started from now on have priority over everything else on the machine. */
export function useRealtime() { realtime = true }

export class Process {
  constructor(core, command, args, { env = {} } = {}) {
    const urgent = realtime ? ['chrt', '--fifo', '10'] : []
    const line = ['--pdeathsig', 'KILL', ...urgent, 'taskset', '-c', String(core), command, ...args.map(String)]
    this.name = command.split('/').pop()
    this.out = ''
    this.err = ''
    this.child = spawn('setpriv', line, { env: { ...process.env, ...env }, stdio: ['ignore', 'pipe', 'pipe'] })
    this.pid = this.child.pid
    running.add(this)
    this.child.stdout.setEncoding('utf8').on('data', (text) => { this.out = (this.out + text).slice(-1_000_000) })
    this.child.stderr.setEncoding('utf8').on('data', (text) => { this.err = (this.err + text).slice(-OUTPUT_KEPT) })
    this.exited = new Promise((resolve) => {
      this.child.once('error', (error) => resolve({ code: null, error }))
      this.child.once('close', (code, signal) => resolve({ code, signal }))
    }).then((exit) => {
      running.delete(this)
      this.exit = exit
      return exit
    })
  }

  /** Ends it; SIGKILL follows where it takes too long. */
  async stop(signal = 'SIGTERM') {
    if (this.exit) return
    this.child.kill(signal)
    const timer = setTimeout(() => this.child.kill('SIGKILL'), STOP_MS)
    await this.exited
    clearTimeout(timer)
  }
}

/** Runs a command to its end, at most `seconds`; `hear` gets its stderr meanwhile. */
export async function runToEnd(core, command, args, seconds, hear = () => {}) {
  const child = new Process(core, command, args)
  child.child.stderr.on('data', hear)
  const timer = setTimeout(() => child.child.kill('SIGKILL'), seconds * 1000)
  const { code, signal, error } = await child.exited
  clearTimeout(timer)
  if (error) throw new Error(`${command}: ${error.message}`)
  return { code, signal, out: child.out, err: child.err }
}

const folders = new Set()

/** A folder that is gone at the latest when the bench ends. */
export function scratch() {
  const folder = mkdtempSync(join(tmpdir(), 'vinhub-bench-'))
  folders.add(folder)
  return folder
}

export function discard(folder) {
  rmSync(folder, { recursive: true, force: true })
  folders.delete(folder)
}

/** Ends all that is left, as when the bench is interrupted. */
function endAll() {
  for (const child of running) child.child.kill('SIGKILL')
  for (const folder of folders) discard(folder)
}

process.on('exit', endAll)
for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(name, () => process.exit(1))

/** pids of the direct children of a process */
export function childrenOf(pid) {
  try {
    return readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(/\s+/).filter(Boolean).map(Number)
  } catch { return [] }
}

/** The same once there is one: a server may listen before it has its workers. */
export async function workersOf(child) {
  const limit = performance.now() + START_MS
  for (;;) {
    const pids = childrenOf(child.pid)
    if (pids.length > 0) return pids
    if (child.exit || performance.now() > limit) throw new Error(`${child.name} starts no worker`)
    await sleep(10)
  }
}

function answers(port) {
  return new Promise((resolve) => {
    const socket = net.connect(port, '127.0.0.1')
    socket.once('connect', () => { socket.destroy(); resolve(true) })
    socket.once('error', () => resolve(false))
  })
}

/** Waits until the port is listened on by the process just started. */
export async function listening(child, port) {
  const limit = performance.now() + START_MS
  while (!await answers(port)) {
    if (child.exit) throw new Error(`${child.name} ended at once: ${child.err.trim().split('\n').pop()}`)
    if (performance.now() > limit) throw new Error(`${child.name} does not listen on ${port}`)
    await sleep(10)
  }
}

/** Ports of the bench below the ephemeral ones, each used again only after all the others. */
const [first, last] = (process.env.BENCH_PORTS ?? '32000-32599').split('-').map(Number)
let next = first

export async function freePort() {
  for (let tried = 0; tried <= last - first; tried++) {
    const port = next
    next = next === last ? first : next + 1
    if (!await answers(port)) return port
  }
  throw new Error(`no free port in ${first}-${last}`)
}
