// Child processes that never outlive the test: each dies with this process (parent death signal), is
// killed by its pid on exit, and keeps what it wrote to stderr and stdout as lines.
import { spawn } from 'node:child_process'
import { countWaitsOf, stopCounting } from './busy.mjs'
import { deadline } from './until.mjs'

const children = new Set()
const KEPT_LINES = 5000

export class Child {
  /** counted: whether its waits for a processor count as the case's (busy.mjs); false for a process that only makes load. */
  constructor(command, args, { env = {}, cwd, counted = true } = {}) {
    this.command = command
    this.lines = []
    this.out = ''
    this.err = ''
    this.exit = null
    this.process = spawn('setpriv', ['--pdeathsig', 'KILL', command, ...args], {
      cwd, env: { ...process.env, ...env }, stdio: ['ignore', 'pipe', 'pipe'],
    })
    this.pid = this.process.pid
    children.add(this)
    if (counted) countWaitsOf(this.pid)
    this.process.stdout.setEncoding('utf8').on('data', (text) => { this.out += text })
    this.process.stderr.setEncoding('utf8').on('data', (text) => this.keep(text))
    this.exited = new Promise((resolve) => {
      this.process.once('error', (error) => resolve({ code: null, signal: null, error }))
      this.process.once('close', (code, signal) => resolve({ code, signal }))
    }).then((exit) => {
      this.exit = exit
      children.delete(this)
      stopCounting(this.pid)
      return exit
    })
  }

  keep(text) {
    this.err = (this.err + text).slice(-1_000_000)
    this.partial = (this.partial ?? '') + text
    const lines = this.partial.split('\n')
    this.partial = lines.pop()
    this.lines.push(...lines)
    if (this.lines.length > KEPT_LINES) this.lines.splice(0, this.lines.length - KEPT_LINES)
  }

  signal(name) { if (!this.exit) this.process.kill(name) }

  /** Sends the signal and waits for the end; SIGKILL follows after `ms` and is reported as a failure. */
  async stop(name = 'SIGTERM', ms = 5000) {
    this.signal(name)
    try {
      return await deadline(this.exited, ms, `${this.command} to end on ${name}`)
    } catch (error) {
      this.signal('SIGKILL')
      await this.exited
      throw error
    }
  }
}

/** Runs a command to its end: {code, signal, out, err}. */
export async function run(command, args, { timeout = 20_000, ...options } = {}) {
  const child = new Child(command, args, options)
  try {
    const { code, signal, error } = await deadline(child.exited, timeout, `${command} ${args.join(' ')} to end`)
    if (error) throw error
    return { code, signal, out: child.out, err: child.err }
  } finally { child.signal('SIGKILL') }
}

export function killChildren() {
  for (const child of children) child.signal('SIGKILL')
}

process.on('exit', killChildren)
for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(name, () => process.exit(1))
