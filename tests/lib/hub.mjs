// Hubs: starts build/…/vinhub with a configuration of the test's own, watches that it lives, stops it
// at the end and fails the case if it did not end cleanly or a sanitizer reported something.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Child, run } from './process.mjs'
import { freePort } from './ports.mjs'
import { request } from './net.mjs'
import { until } from './until.mjs'

const ROOT = resolve(dirname(fileURLToPath(import.meta.url)), '../..')
export const VINHUB = join(resolve(ROOT, process.env.BUILD_DIR ?? 'build/dev'), 'vinhub')
/**
 * Added to bounds on times, since other test files share the machine's two cores. Measured with sanitizers at a load
 * of 5 to 12: take-overs of 400 sessions came after 2.3 to 2.9 s, within the lease of 3 s and 1 s, so they needed none
 * of it; single answers were up to 0.6 s late.
 */
export const SANITIZED = (() => {
  try { return readFileSync(VINHUB).includes('__asan_init') } catch { return false }
})()
export const SLACK_MS = SANITIZED ? 1000 : 500

const READY_MS = 10_000
const STOP_MS = 10_000
const SANITIZER_EXIT = 86
// Freed memory in AddressSanitizer's quarantine counts as resident; tests that bound memory need it small.
const QUARANTINE_MB = 16
const SANITIZERS = {
  ASAN_OPTIONS: `exitcode=${SANITIZER_EXIT}:detect_leaks=1:quarantine_size_mb=${QUARANTINE_MB}`,
  LSAN_OPTIONS: `exitcode=${SANITIZER_EXIT}`,
  UBSAN_OPTIONS: `halt_on_error=1:print_stacktrace=1:exitcode=${SANITIZER_EXIT}`,
}
const REPORT = /ERROR: (Address|Leak)Sanitizer|runtime error:|SUMMARY: \w*Sanitizer/
const REPORT_SIZE = 4000
const LOG_TAIL = 40

/** A settings object as YAML, in the block style people write. */
export function yaml(value, indent = '') {
  return Object.entries(value).map(([key, entry]) => `${indent}${scalar(key)}:${yamlValue(entry, indent)}`).join('')
}

function yamlValue(value, indent) {
  if (Array.isArray(value)) {
    if (value.length === 0) return ' []\n'
    return '\n' + value.map((item) => (typeof item === 'object'
      ? `${indent}  - ${yaml(item, indent + '    ').trimStart()}`
      : `${indent}  - ${scalar(item)}\n`)).join('')
  }
  if (value !== null && typeof value === 'object') {
    return Object.keys(value).length === 0 ? ' {}\n' : '\n' + yaml(value, indent + '  ')
  }
  return ` ${scalar(value)}\n`
}

function scalar(value) {
  const plain = typeof value !== 'string' || /^[A-Za-z0-9/][\w.:/-]*$/.test(value)
  return plain ? String(value) : JSON.stringify(value)
}

/** Settings of `over` laid over those of `base`; lists are replaced. */
function merge(base, over) {
  if (over === undefined) return base
  if (Array.isArray(over) || typeof over !== 'object' || over === null || typeof base !== 'object') return over
  return Object.fromEntries([...new Set([...Object.keys(base), ...Object.keys(over)])]
    .map((key) => [key, merge(base[key], over[key])]))
}

/** The service `remoteWs` on this backend, as most tests use it; `settings` go over it. */
export function service(backend, settings = {}) {
  return { name: 'remoteWs', upstream: backend.url('/base'), ...settings }
}

/** A folder of the case's own that is gone after it. */
export function scratch(t) {
  const folder = mkdtempSync(join(tmpdir(), 'vinhub-e2e-'))
  t.defer(() => rmSync(folder, { recursive: true, force: true }))
  return folder
}

export function runVinhub(args, options = {}) {
  return run(VINHUB, args, { ...options, env: { ...SANITIZERS, ...options.env } })
}

export class Hub {
  constructor(port, adminPort) {
    this.port = port
    this.adminPort = adminPort
    this.mayEnd = false
    this.program = VINHUB // another one may be set before a restart
  }

  url(path) { return `ws://127.0.0.1:${this.port}${path}` }
  get pid() { return this.child.pid }
  get lines() { return this.child.lines }

  launch(t, args, env, through = []) {
    this.mayEnd = false
    const [command, ...rest] = [...through, this.program, ...args]
    const child = new Child(command, rest, { env: { ...SANITIZERS, ...env } })
    this.child = child
    this.relaunch = () => this.launch(t, args, env, through)
    child.exited.then((exit) => {
      const report = REPORT.exec(child.err)
      if (report) t.fail(new Error(`sanitizer report: ${child.err.slice(report.index, report.index + REPORT_SIZE)}`))
      if (!this.mayEnd) t.fail(new Error(`hub ${this.id} ended unexpectedly: ${JSON.stringify(exit)}`))
    })
  }

  ready(ms = READY_MS) {
    return until(async () => (await this.admin('/readyz')).status === 200, ms, `hub ${this.id} to be ready`)
  }

  /** SIGTERM; fails when the end is not a clean one. Returns how long it took, in ms. */
  async stop(ms = STOP_MS) {
    if (this.child.exit) return 0
    const began = performance.now()
    this.mayEnd = true
    const { code, signal } = await this.child.stop('SIGTERM', ms)
    if (code !== 0) throw new Error(`hub ${this.id} ended with ${code ?? signal} on SIGTERM`)
    return performance.now() - began
  }

  /** kill -9 */
  async kill() {
    this.mayEnd = true
    await this.child.stop('SIGKILL')
  }

  /** Runs work() while the process is stopped; it must be shorter than the lease allows. */
  async whilePaused(work) {
    this.child.signal('SIGSTOP')
    try { return await work() } finally { this.child.signal('SIGCONT') }
  }

  /** Starts it again with the same settings. */
  async restart() {
    this.relaunch()
    await this.ready()
  }

  admin(path, options = {}) { return request(this.adminPort, path, options) }
  async json(path, options) { return (await this.admin(path, options)).json() }

  /** The sum of a metric over all its label sets that contain `label` (all without). */
  async metric(name, label = '') {
    const { body } = await this.admin('/metrics')
    return body.split('\n').filter((line) => line.startsWith(name) && /^[ {]/.test(line.slice(name.length)) && line.includes(label))
      .reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(' '))), 0)
  }

  /** How many turns of the event loop took more than so many seconds of processor time; one of the histogram's bounds. */
  async turnsOver(seconds) {
    const { body } = await this.admin('/metrics')
    const sample = (name) => Number(body.split('\n').find((line) => line.startsWith(`vinhub_turn_seconds_${name} `)).split(' ')[1])
    return sample('count') - sample(`bucket{le="${seconds}"}`)
  }

  /** Resident memory in bytes. */
  rss() {
    return Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${this.pid}/status`, 'utf8'))[1]) * 1024
  }
}

/**
 * Starts a hub and waits until it is ready.
 * options: settings (laid over the tests' own: loopback ports, a short drain), id, redis (a
 * RedisServer), args, env, through (a command that becomes the hub, as `prlimit --nofile=400`), program (another vinhub
 * than that of BUILD_DIR), ready: false (do not wait), atEnd: 'kill' (do not judge the stop).
 */
export async function startHub(t, { settings = {}, id, redis, args = [], env, through, program = VINHUB, ready = true, atEnd = 'stop' } = {}) {
  const [port, adminPort] = [await freePort(), await freePort()]
  const hub = new Hub(port, adminPort)
  hub.id = id ?? 'hub'
  hub.program = program
  const folder = scratch(t)
  hub.file = join(folder, 'vinhub.yaml')
  writeFileSync(hub.file, yaml(merge({
    node: { id: id ?? '', drain: '500ms' },
    listen: { address: `127.0.0.1:${port}` },
    admin: { address: `127.0.0.1:${adminPort}` },
    ...(redis ? { redis: { url: redis.url } } : {}),
  }, settings)))
  hub.launch(t, ['-c', hub.file, ...args], env, through)
  watch(t, hub, atEnd)
  if (ready) await hub.ready()
  return hub
}

/** A hub from flags alone, as in the README. The caller names the ports the flags lead to. */
export async function startHubByFlags(t, args, { port, adminPort, env, through }) {
  const hub = new Hub(port, adminPort)
  hub.id = 'hub'
  hub.launch(t, args, env, through)
  watch(t, hub, 'stop')
  await hub.ready()
  return hub
}

function watch(t, hub, atEnd) {
  t.defer(() => (atEnd === 'kill' ? hub.kill() : hub.stop()))
  t.explain(() => [`last log lines of hub ${hub.id}:`, ...hub.lines.slice(-LOG_TAIL).map((line) => `  ${line}`)])
}

/** Nodes a, b, c, … on one Redis with the same settings. */
export async function startCluster(t, { nodes = 3, redis, settings, ...options }) {
  const ids = Array.from({ length: nodes }, (_, index) => String.fromCharCode(97 + index))
  const hubs = await Promise.all(ids.map((id) => startHub(t, { id, redis, settings, ready: false, ...options })))
  await Promise.all(hubs.map((hub) => hub.ready()))
  return hubs
}
