// What commands of the documents run against: a Redis, a backend, one node and a page, at the addresses that are written there.
import { spawn } from 'node:child_process'
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { Backend } from '../lib/backend.mjs'
import { Browser } from '../lib/browser.mjs'
import { scratch, startHubByFlags, VINHUB } from '../lib/hub.mjs'
import { Child } from '../lib/process.mjs'
import { until } from '../lib/until.mjs'
import { ROOT, blocksIn } from './blocks.mjs'

const UPSTREAM = '/carmonitor/remotews/admin/VIN123'
const COMMAND_MS = 60_000

export async function startRedis(t, options = []) {
  const redis = new Child('redis-server', ['--port', '6379', '--bind', '127.0.0.1', '--save', '', '--dir', scratch(t), ...options])
  t.defer(() => redis.stop('SIGKILL'))
  await until(async () => /^(PONG|NOAUTH)/.test((await runCommand(t, 'redis-cli ping')).out), 10_000, 'Redis to answer')
}

/** The node `node1` of the documents, with a page that watches VIN123 and a backend that pushes twenty times a second. */
export async function startNode(t, { redis = 'redis://127.0.0.1:6379/0' } = {}) {
  const backend = await Backend.start(t, { port: 28088 })
  const hub = await startHubByFlags(t, ['--service', 'remoteWs=127.0.0.1:28088/carmonitor/remotews', '--redis', redis, '--node-id', 'node1'],
    { port: 8080, adminPort: 9600 })
  const page = await Browser.open(t, 'ws://127.0.0.1:8080/admin/VIN123?remoteWs')
  await backend.one(UPSTREAM)
  const flow = setInterval(() => backend.push(UPSTREAM, '{"speed":42.5}'), 50)
  t.defer(() => clearInterval(flow))
  await page.got(1)
  // what is in Redis may be a lease old
  await until(async () => {
    const [{ nodes }, { sessions }] = await Promise.all([hub.json('/api/nodes'), hub.json('/api/sessions')])
    return nodes[0]?.upstreams === 1 && sessions[0]?.state === 'connected' && sessions[0].clients === 1
  }, 10_000, 'the lists of nodes and sessions')
  return { hub, page, backend }
}

/** A folder as it is after a build, with the configuration that the manual shows. */
export function folder(t) {
  const place = scratch(t)
  mkdirSync(join(place, 'build'))
  for (const program of ['vinhub', 'vinhubctl']) symlinkSync(join(dirname(VINHUB), program), join(place, 'build', program))
  const [shown] = blocksIn('yaml').filter(({ file }) => file === 'hub/docs/configuration.md')
  writeFileSync(join(place, 'vinhub.yaml'), shown.text)
  return place
}

/** {code, out, err} of a shell command. */
export function runCommand(t, command, { cwd = ROOT, env = {} } = {}) {
  return new Promise((resolve) => {
    const child = spawn('setpriv', ['--pdeathsig', 'KILL', 'timeout', String(COMMAND_MS / 1000), 'bash', '-c', command],
      { cwd, env: { ...process.env, PATH: `${dirname(VINHUB)}:${process.env.PATH}`, ...env }, stdio: ['ignore', 'pipe', 'pipe'] })
    const [out, err] = [[], []]
    child.stdout.on('data', (part) => out.push(part))
    child.stderr.on('data', (part) => err.push(part))
    child.once('close', (code) => resolve({ code, out: String(Buffer.concat(out)), err: String(Buffer.concat(err)) }))
  })
}

export const read = (file) => readFileSync(join(ROOT, file), 'utf8')
