// Contract sections 2 and 3: flags, configuration mistakes, precedence and exit codes.
import assert from 'node:assert/strict'
import net from 'node:net'
import { chmodSync, copyFileSync, readdirSync, readFileSync, readlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from '../lib/runner.mjs'
import { Backend } from '../lib/backend.mjs'
import { Browser } from '../lib/browser.mjs'
import { runVinhub, scratch, startHub, startHubByFlags, VINHUB, yaml } from '../lib/hub.mjs'
import { freePort } from '../lib/ports.mjs'

const SERVICE = 'remoteWs=127.0.0.1:28088/base'

function writeConfig(t, text) {
  const file = join(scratch(t), 'vinhub.yaml')
  writeFileSync(file, text)
  return file
}

const GOOD = `
node: {id: n1, lease: 2s, drain: 5s}
listen: {address: "127.0.0.1:18080"}
admin:
  address: "127.0.0.1:19600"
redis: {url: "redis://127.0.0.1:6379/3", prefix: cars, on_loss: serve}
services:
  - name: remoteWs
    upstream: ws://car:28088/carmonitor/remotews{path}
    session: "{user}:{vin}"
    headers: {X-Fleet: north}
    heartbeat: {text: ping, reply: pong, every: 4s, timeout: 12s}
    reconnect: {min: 250ms, max: 5s, timeout: 3s}
    linger: 1m
    history: {size: 0, ttl: 1h}
    to_upstream: {queue: 64KiB, wait: 10s}
    slow_client: {queue: 2MiB, policy: drop_oldest}
    upstream_max_message: 1MiB
  - name: other.Ws-2
    upstream: wss://car.example:443/other
default_service: remoteWs
clients:
  replies: {ping: pong, '{"type":"PING"}': '{"type":"PONG"}'}
  ping: {every: 10s, timeout: 5s}
  max_message: 2MiB
  rate: {messages: 0, per: 1s, burst: 10}
log: {level: warn, format: json}
`

test('--version and --help', async () => {
  const version = await runVinhub(['--version'])
  assert.equal(version.code, 0)
  assert.match(version.out, /^vinhub \d+\.\d+\.\d+( \(commit [0-9a-f]{12}(-modified)?\))?\n$/)
  const help = await runVinhub(['--help'])
  assert.equal(help.code, 0)
  for (const flag of ['-c', '--service', '--listen', '--admin', '--redis', '--node-id', '--log-level', '--check', '--print-config', '--version', '--help']) {
    assert.ok(help.out.includes(flag), `--help names ${flag}`)
  }
})

test('wrong usage exits 2 and names what is wrong', async () => {
  const usages = [['--nope'], ['--listen'], ['-c'], ['--service', 'remoteWs'], ['--service', '=ws://a/b'], ['stray'],
    ['--log-level', 'loud', '--check'], ['--listen', 'nowhere', '--check'], ['-c', '/nowhere/vinhub.yaml', '--check']]
  for (const args of usages) {
    const { code, err } = await runVinhub(args)
    assert.equal(code, 2, `${args.join(' ')}: ${err}`)
    const named = args.find((arg) => arg !== '-c' && arg !== '--check')
    assert.ok(err.trim().length > 0, `${args.join(' ')} says why`)
    if (named) assert.ok(err.includes(named), `${args.join(' ')}: ${err.trim()} does not name ${named}`)
  }
})

test('--check accepts the settings of the contract', async (t) => {
  const { code, err } = await runVinhub(['-c', writeConfig(t, GOOD), '--check'])
  assert.equal(code, 0, err)
})

const service = (line) => `services:\n  - name: remoteWs\n    upstream: ws://127.0.0.1:1/base\n    ${line}\n`

/** [configuration, line, key, what is allowed or wrong] */
const MISTAKES = [
  ['node:\n  leese: 3s\n', 2, 'leese', /lease/],
  ['nodes: {id: a}\n', 1, 'nodes', /node/],
  ['node:\n  id: x\n  lease: soon\n', 3, 'lease', /ms|duration/],
  ['node:\n  lease: 3\n', 2, 'lease', /ms|duration/],
  ['node:\n  lease: -1s\n', 2, 'lease', /ms|duration/],
  ['node:\n  lease: 499ms\n', 2, 'lease', /500ms/],
  ['node:\n  id: "a b"\n', 2, 'id', /A-Z ?a-z ?0-9/],
  [`node:\n  id: ${'a'.repeat(65)}\n`, 2, 'id', /64/],
  ['listen:\n  address: "127.0.0.1"\n', 2, 'address', /port/i],
  ['listen:\n  address: "127.0.0.1:99999"\n', 2, 'address', /port|65535/i],
  ['redis:\n  url: "http://127.0.0.1"\n', 2, 'url', /redis:\/\//],
  ['redis:\n  on_loss: panic\n', 2, 'on_loss', /fence.*serve/],
  ['log:\n  level: loud\n', 2, 'level', /debug.*info.*warn.*error/],
  ['log:\n  format: xml\n', 2, 'format', /text.*json/],
  [service('linger: 5'), 4, 'linger', /ms|duration/],
  [service('slow_client: {queue: 1MiB, policy: wait}'), 4, 'policy', /close.*drop_oldest.*latest/],
  [service('upstream_max_message: 4MB'), 4, 'upstream_max_message', /KiB|MiB/],
  [service('to_upstream: {queue: lots}'), 4, 'queue', /KiB|MiB/],
  [service('heartbeat: {evry: 5s}'), 4, 'evry', /every/],
  [service('history: {size: many}'), 4, 'size', /number|integer|0/],
  ['services:\n  - name: remoteWs\n    upstream: http://127.0.0.1/base\n', 3, 'upstream', /ws:\/\//],
  ['services:\n  - name: remoteWs\n    upstream: ws://h/{nope}\n', 3, 'upstream', /\{path\}|nope/],
  ['services:\n  - name: "remote ws"\n    upstream: ws://h/b\n', 2, 'name', /A-Z ?a-z ?0-9/],
  ['services:\n  - name: remoteWs\n', 2, 'upstream', /needs/],
  ['services:\n  - {name: a, upstream: "ws://h/b"}\n  - {name: a, upstream: "ws://h/c"}\n', 3, 'name', /twice|once/],
  ['services:\n  - {name: a, upstream: "ws://h/b"}\ndefault_service: b\n', 3, 'default_service', /b/],
  ['clients:\n  max_message: 1 MiB of it\n', 2, 'max_message', /KiB|MiB/],
  ['clients:\n  compression: maybe\n', 2, 'compression', /true.*false|boolean/],
  ['node:\n  lease: 3s\n  lease: 4s\n', 3, 'lease', /twice|already|duplicate/i],
  ['node: [1, 2\n', null, null, /line|column|expected|parse/i],
]

test('--check names file, line, key and what is allowed, and exits 2', async (t) => {
  const wrong = []
  for (const [text, line, key, allowed] of MISTAKES) {
    const file = writeConfig(t, text)
    const { code, err } = await runVinhub(['-c', file, '--service', 'flagWs=127.0.0.1:1/base', '--check'])
    const said = err.trim()
    const missing = [
      code !== 2 && `exit ${code}`,
      !said.includes(file) && 'the file',
      line !== null && !new RegExp(`[:\\s]${line}\\b`).test(said.replaceAll(file, '')) && `line ${line}`,
      key !== null && !said.includes(key) && `the key ${key}`,
      !allowed.test(said.replaceAll(file, '')) && `what is allowed (${allowed})`,
    ].filter(Boolean)
    if (missing.length > 0) wrong.push(`${JSON.stringify(text)} -> ${said}: misses ${missing.join(', ')}`)
  }
  assert.deepEqual(wrong, [])
})

test('--check and the daemon refuse a variable that is no key, and name what is allowed', async () => {
  const args = ['--service', 'remoteWs=127.0.0.1:1/base']
  const cases = [['VINHUB__NODE__LAESE', '5s', /node\.laese.*lease/], ['VINHUB__NODE__LEASE', '100ms', /node\.lease.*500ms/],
    ['VINHUB__SERVICES__OTHER__LINGER', '1s', /REMOTEWS for remoteWs/]]
  for (const [name, value, allowed] of cases) {
    for (const more of [['--check'], ['--print-config'], []]) {
      const { code, err } = await runVinhub([...args, ...more], { env: { [name]: value } })
      assert.equal(code, 2, err)
      assert.match(err, new RegExp(`${name}: `))
      assert.match(err, allowed)
    }
  }
  const { code, out } = await runVinhub([...args, '--print-config'], { env: { VINHUB__SERVICES__REMOTEWS__LINGER: '7s', VINHUB__ORIGINS: 'a.example,b.example' } })
  assert.equal(code, 0)
  assert.match(out, /linger: 7s/)
  assert.match(out, /origins: \["a\.example", "b\.example"\]/)
})

test('a daemon with a bad file exits 2 before it listens', async (t) => {
  const { code, err } = await runVinhub(['-c', writeConfig(t, 'node:\n  lease: soon\n')])
  assert.equal(code, 2)
  assert.match(err, /lease/)
})

test('--print-config prints a file that means the same', async (t) => {
  const first = await runVinhub(['-c', writeConfig(t, GOOD), '--print-config'])
  assert.equal(first.code, 0, first.err)
  const second = await runVinhub(['-c', writeConfig(t, first.out), '--print-config'])
  assert.equal(second.code, 0, second.err)
  assert.equal(second.out, first.out)
  for (const part of ['cars', '250ms', '64KiB', 'drop_oldest', 'other.Ws-2', 'serve', 'X-Fleet']) {
    assert.ok(first.out.includes(part), `${part} is in what it prints:\n${first.out}`)
  }
  const defaults = await runVinhub(['--service', SERVICE, '--print-config'])
  assert.equal(defaults.code, 0, defaults.err)
  for (const part of ['0.0.0.0:8080', '127.0.0.1:9600', 'heartbeat-ack', '256KiB', 'upstream_max_message', 'vinhub', 'close']) {
    assert.ok(defaults.out.includes(part), `the default ${part} is in what it prints:\n${defaults.out}`)
  }
})

test('defaults < file < environment < command line', async (t) => {
  const file = writeConfig(t, yaml({
    node: { id: 'from-file' }, listen: { address: '127.0.0.1:1001' }, admin: { address: '127.0.0.1:1002' }, log: { level: 'warn' },
    redis: { url: 'redis://127.0.0.1:1003/0' }, services: [{ name: 'fileWs', upstream: 'ws://127.0.0.1:1/file' }],
  }))
  const shown = async (args, env) => (await runVinhub([...args, '--print-config'], { env })).out
  const byFile = await shown(['-c', file], {})
  for (const part of ['from-file', '127.0.0.1:1001', '127.0.0.1:1002', '127.0.0.1:1003', 'level: warn', 'fileWs']) assert.ok(byFile.includes(part), `${part}\n${byFile}`)
  const env = { VINHUB_NODE_ID: 'from-env', VINHUB_LISTEN: '127.0.0.1:2001', VINHUB_ADMIN: '127.0.0.1:2002',
    VINHUB_REDIS_URL: 'redis://127.0.0.1:2003/0', VINHUB_LOG_LEVEL: 'error', VINHUB_SERVICES: 'envWs=127.0.0.1:2/env,fileWs=127.0.0.1:2/changed' }
  const byEnv = await shown(['-c', file], env)
  for (const part of ['from-env', '127.0.0.1:2001', '127.0.0.1:2002', '127.0.0.1:2003', 'level: error', 'envWs', '/changed']) assert.ok(byEnv.includes(part), `${part}\n${byEnv}`)
  const byFlag = await shown(['-c', file, '--node-id', 'from-flag', '--listen', '127.0.0.1:3001', '--admin', '127.0.0.1:3002',
    '--redis', 'redis://127.0.0.1:3003/0', '--log-level', 'debug', '--service', 'envWs=127.0.0.1:3/flag'], env)
  for (const part of ['from-flag', '127.0.0.1:3001', '127.0.0.1:3002', '127.0.0.1:3003', 'level: debug', '/flag']) assert.ok(byFlag.includes(part), `${part}\n${byFlag}`)
})

test('a taken port exits 1 and is named', async (t) => {
  for (const flag of ['--listen', '--admin']) {
    const port = await freePort()
    const taken = net.createServer().listen(port, '127.0.0.1')
    t.defer(() => taken.close())
    const other = flag === '--listen' ? '--admin' : '--listen'
    const { code, err } = await runVinhub(['--service', SERVICE, flag, `127.0.0.1:${port}`, other, `127.0.0.1:${await freePort()}`])
    assert.equal(code, 1, err)
    assert.ok(err.includes(String(port)), `the port is named: ${err}`)
  }
})

test('an admin port off loopback needs a token', async (t) => {
  const port = await freePort()
  const args = ['--service', SERVICE, '--listen', `127.0.0.1:${await freePort()}`, '--admin', `0.0.0.0:${port}`]
  const refused = await runVinhub(args)
  assert.equal(refused.code, 2, refused.err)
  assert.match(refused.err, /token|allow_open/)
  const allowed = await runVinhub([...args, '--check'], { env: { VINHUB_ADMIN_TOKEN: 'secret' } })
  assert.equal(allowed.code, 0, allowed.err)
  const open = await runVinhub(['-c', writeConfig(t, yaml({ admin: { allow_open: true } })), ...args, '--check'])
  assert.equal(open.code, 0, open.err)
})

test('SIGTERM and SIGINT end an idle hub with 0', async (t) => {
  for (const signal of ['SIGTERM', 'SIGINT']) {
    const hub = await startHub(t, { args: ['--service', SERVICE] })
    hub.mayEnd = true
    const { code } = await hub.child.stop(signal, 5000)
    assert.equal(code, 0, signal)
  }
})

// Everything that is mounted becomes read-only, then the program becomes nobody without a capability.
const SHUT_IN = `
  mount --make-rprivate /
  while read -r _ place _; do mount -o remount,bind,ro "$place" 2>/dev/null; done < /proc/self/mounts
  touch "$0" 2>/dev/null && exit 77
  shift
  exec setpriv --reuid 65534 --regid 65534 --clear-groups --no-new-privs --bounding-set=-all --inh-caps=-all --ambient-caps=-all "$0" "$@"`

test('an unprivileged user and a read-only file system are enough: it serves and writes nowhere', async (t) => {
  const backend = await Backend.start(t)
  const folder = scratch(t)
  const program = join(folder, 'vinhub') // every user may run it there
  copyFileSync(VINHUB, program)
  for (const path of [folder, program]) chmodSync(path, 0o755)
  const [port, adminPort] = [await freePort(), await freePort()]
  const hub = await startHubByFlags(t,
    ['--service', `remoteWs=127.0.0.1:${backend.port}/base`, '--listen', `127.0.0.1:${port}`, '--admin', `127.0.0.1:${adminPort}`],
    { port, adminPort, through: ['unshare', '--mount', 'sh', '-c', SHUT_IN, program] })
  const status = readFileSync(`/proc/${hub.pid}/status`, 'utf8')
  assert.match(status, /^Uid:\t65534\t65534\t65534\t65534$/m)
  assert.match(status, /^CapEff:\t0+$/m)
  const browser = await Browser.open(t, hub.url('/admin/VIN1?remoteWs'))
  await backend.one('/base/admin/VIN1')
  backend.push('/base/admin/VIN1', 'all the same')
  await browser.got(1)
  const open = readdirSync(`/proc/${hub.pid}/fd`).flatMap((fd) => {
    try { return [readlinkSync(`/proc/${hub.pid}/fd/${fd}`)] } catch { return [] } // closed meanwhile
  })
  assert.deepEqual(open.filter((target) => target.startsWith('/') && !target.startsWith('/dev/')), [], 'no file stays open')
})
