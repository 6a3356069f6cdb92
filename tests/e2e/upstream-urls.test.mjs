// Contract section 5: which client's URL opens an upstream, which answers count as a refusal, and when the next attempt comes
// after a backend was away, came back or was configured differently.
import assert from 'node:assert/strict'
import { readFileSync, writeFileSync } from 'node:fs'
import { test } from '../lib/runner.mjs'
import { Backend } from '../lib/backend.mjs'
import { Browser } from '../lib/browser.mjs'
import { countedMs, mark } from '../lib/busy.mjs'
import { runVinhub, scratch, service, SLACK_MS, startCluster, startHub, yaml } from '../lib/hub.mjs'
import { RedisServer } from '../lib/redis.mjs'
import { quiet, until } from '../lib/until.mjs'

const FAST = { reconnect: { min: '100ms', max: '400ms', timeout: '1s' } }
const page = (user, more = '') => `/${user}/VIN1?remoteWs${more}`
const at = (user, more = '') => `/base/${user}/VIN1${more}`

async function start(t, settings = {}) {
  const backend = await Backend.start(t)
  const hub = await startHub(t, { settings: { services: [service(backend, { ...FAST, ...settings })] } })
  return { backend, hub }
}

async function startTwo(t, settings = {}) {
  const [redis, backend] = await Promise.all([RedisServer.start(t), Backend.start(t)])
  const hubs = await startCluster(t, { redis, nodes: 2, settings: { services: [service(backend, { ...FAST, ...settings })] } })
  return { backend, hubs }
}

const urls = (backend) => backend.upgrades.map(({ url }) => url)

/** A push over the upstream of that user's URL reaches each of them. */
async function served(backend, user, browsers) {
  await backend.one(at(user))
  backend.push(at(user), 'served')
  await Promise.all(browsers.map((browser) => until(() => browser.texts().includes('served'), 5000, 'the push')))
}

for (const how of [400, 401, 403, 404, 410, 302, 200, 'leave', 'dismiss', 'reset']) {
  test(`where the first client's URL is answered with ${how}, the second one's is taken`, async (t) => {
    const { backend, hub } = await start(t)
    backend.handshake = ({ url }) => (url.includes('bad') ? how : 'accept')
    const bad = await Browser.open(t, hub.url(page('bad')))
    await until(() => backend.upgrades.length >= 2, 5000, 'two tries with the only URL there is')
    const good = await Browser.open(t, hub.url(page('good')))
    await served(backend, 'good', [bad, good])
    assert.deepEqual([bad.end, good.end], [null, null])
    const from = urls(backend).indexOf(at('good'))
    backend.open(at('good'))[0].socket.close(1000)
    await until(() => backend.upgrades.length > from + 1, 5000, 'the next try')
    assert.equal(urls(backend)[from + 1], at('good'), 'what was good is used again')
  })
}

test('the second client is at another node: its URL is taken, in turn with others that are refused', async (t) => {
  const { backend, hubs } = await startTwo(t)
  backend.handshake = ({ url }) => (url.includes('good') ? 'accept' : 403)
  const [first, second] = [await Browser.open(t, hubs[0].url(page('bad1'))), await Browser.open(t, hubs[1].url(page('bad2')))]
  await until(() => [at('bad1'), at('bad2')].every((url) => urls(backend).filter((one) => one === url).length >= 2), 15_000,
    'each URL to be tried twice')
  const third = await Browser.open(t, hubs[1].url(page('good')))
  await served(backend, 'good', [first, second, third])
})

test('one-time tickets: after each loss the ticket of another client opens the upstream', async (t) => {
  const { backend, hub } = await start(t)
  const used = new Set()
  backend.handshake = ({ url }) => {
    if (used.has(url)) return 401
    used.add(url)
    return 'accept'
  }
  const pages = []
  for (const ticket of [1, 2, 3]) pages.push(await Browser.open(t, hub.url(page('admin', `&ticket=${ticket}`))))
  for (const ticket of [1, 2, 3]) {
    const upstream = await backend.one(at('admin', `?ticket=${ticket}`))
    upstream.socket.send('hello')
    await Promise.all(pages.map((one) => one.got(ticket)))
    upstream.socket.terminate()
  }
  pages.push(await Browser.open(t, hub.url(page('admin', '&ticket=4'))))
  await backend.one(at('admin', '?ticket=4'))
  assert.ok(pages.every(({ end }) => end === null))
})

test('whoever has left is not asked for again', async (t) => {
  const { backend, hub } = await start(t)
  const first = await Browser.open(t, hub.url(page('first')))
  await backend.one(at('first'))
  const second = await Browser.open(t, hub.url(page('second')))
  await first.close()
  await quiet(() => backend.upgrades.length > 1, 500, 'another upstream')
  backend.open(at('first'))[0].socket.terminate()
  await served(backend, 'second', [second])
  assert.deepEqual(urls(backend), [at('first'), at('second')])
})

for (const status of [500, 502, 503, 504]) {
  test(`${status} is a backend that is away: it is tried as often as one that refuses TCP`, async (t) => {
    const { backend, hub } = await start(t)
    backend.handshake = status
    const [one, two] = [await Browser.open(t, hub.url(page('one'))), await Browser.open(t, hub.url(page('two')))]
    await until(() => backend.upgrades.length >= 12, 20_000, 'a dozen tries')
    assert.ok(backend.gaps().every(({ least }) => least < 400 + SLACK_MS), `at most max apart: ${JSON.stringify(backend.gaps())}`)
    assert.deepEqual([...new Set(urls(backend))], [at('one')], 'and that says nothing of the URL')
    backend.handshake = 'accept'
    await served(backend, 'one', [one, two])
  })
}

test('a client that comes while the hub waits after refusals makes it try within a second', async (t) => {
  const { backend, hub } = await start(t)
  backend.handshake = 401
  await Browser.open(t, hub.url(page('one')))
  await until(() => backend.gaps().some(({ least }) => least > 2500), 60_000, 'a wait of more than 2.5 s')
  const before = backend.upgrades.length
  backend.handshake = 'accept'
  const came = mark()
  const two = await Browser.open(t, hub.url(page('two')))
  await until(() => backend.upgrades.length > before, 5000, 'a try')
  const after = countedMs(came, backend.upgrades[before])
  assert.ok(after < 1000 + SLACK_MS, `within a second, not ${Math.round(after)} ms`)
  await served(backend, 'two', [two])
})

test('interim answers before the 101 are passed over, however they are cut', async (t) => {
  const { backend, hub } = await start(t)
  backend.handshake = 'hints'
  const browser = await Browser.open(t, hub.url(page('one')))
  await served(backend, 'one', [browser])
  assert.equal(backend.upgrades.length, 1)
})

test('user and password in the URL are sent as Basic authorization, and shown nowhere', async (t) => {
  const backend = await Backend.start(t)
  const upstream = `ws://user:p%40ss@127.0.0.1:${backend.port}/base`
  const settings = { services: [{ name: 'remoteWs', upstream, ...FAST }], log: { level: 'debug' } }
  const hub = await startHub(t, { settings })
  const browser = await Browser.open(t, hub.url(page('one')))
  await served(backend, 'one', [browser])
  assert.equal(backend.upgrades[0].headers.authorization, `Basic ${Buffer.from('user:p@ss').toString('base64')}`)
  const file = `${scratch(t)}/c.yaml`
  writeFileSync(file, yaml(settings))
  const printed = await runVinhub(['-c', file, '--print-config'])
  writeFileSync(file, yaml({ services: [{ name: 'remoteWs', upstream: `${upstream}:{bad}` }] }))
  const refused = await runVinhub(['-c', file, '--check'])
  assert.equal(refused.code, 2)
  backend.handshake = 401
  backend.open(at('one'))[0].socket.terminate()
  await until(() => hub.lines.some((line) => /upstream_lost.*401/.test(line)), 5000, 'a refusal in the log')
  const session = await fetch(`http://127.0.0.1:${hub.adminPort}/api/sessions`).then((response) => response.text())
  for (const text of [...hub.lines, JSON.stringify(printed), JSON.stringify(refused), session]) {
    assert.doesNotMatch(text, /p%40ss|p@ss|dXNlcjpwQHNz/)
  }
})

test('headers and URL changed by SIGHUP hold for the next try of sessions that run', async (t) => {
  const [backend, other] = [await Backend.start(t), await Backend.start(t)]
  const headers = (secret) => ({ Authorization: `Bearer ${secret}` })
  const { hub } = { hub: await startHub(t, { settings: { services: [service(backend, { ...FAST, headers: headers('old') })] } }) }
  backend.handshake = ({ headers: sent }) => (sent.authorization === 'Bearer new' ? 'accept' : 401)
  const reload = (of, path, secret) => {
    writeFileSync(hub.file, yaml({
      listen: { address: `127.0.0.1:${hub.port}` }, admin: { address: `127.0.0.1:${hub.adminPort}` },
      services: [service(of, { ...FAST, upstream: of.url(path), headers: headers(secret) })],
    }))
    hub.child.signal('SIGHUP')
  }
  const browser = await Browser.open(t, hub.url(page('one')))
  await until(() => backend.upgrades.length >= 2, 10_000, 'refusals of the old credential')
  reload(backend, '/base', 'new')
  await served(backend, 'one', [browser])
  reload(other, '/moved', 'newer')
  await quiet(() => other.upgrades.length > 0, 500, 'an open upstream to be left')
  backend.open(at('one'))[0].socket.terminate()
  await other.one('/moved/one/VIN1')
  assert.equal(other.upgrades[0].headers.authorization, 'Bearer newer')
  assert.equal(browser.end, null)
})

/** Whether the kernel probes the connection to that port: column tr of /proc/net/tcp is 2 while its keepalive timer runs. */
function isProbed(port) {
  const hex = port.toString(16).toUpperCase().padStart(4, '0')
  return readFileSync('/proc/net/tcp', 'utf8').split('\n').some((line) => {
    const [, , remote, state, , timer] = line.trim().split(/\s+/)
    return remote?.endsWith(`:${hex}`) && state === '01' && timer.startsWith('02:')
  })
}

test('without a heartbeat the kernel watches over the connection to the backend', async (t) => {
  const { backend, hub } = await start(t, { heartbeat: { every: '0s' } })
  await Browser.open(t, hub.url(page('one')))
  await backend.one(at('one'))
  await until(() => isProbed(backend.port), 5000, 'a keepalive timer')
})

test('at most 256 handshakes are under way at once, and the rest have their turn', async (t) => {
  const { backend, hub } = await start(t, { reconnect: { min: '100ms', max: '400ms', timeout: '20s' } })
  backend.handshake = 'mute'
  const pages = Array.from({ length: 300 }, (_, n) => Browser.open(t, hub.url(`/u/V${n}?remoteWs`)))
  await Promise.all(pages)
  await until(() => backend.upgrades.length === 256, 15_000, () => `256 handshakes (have ${backend.upgrades.length})`)
  await quiet(() => backend.upgrades.length > 256, 500, 'another handshake')
  backend.handshake = 'accept'
  for (const socket of backend.sockets) socket.destroy()
  await until(() => backend.upstreams.size === 300, 20_000, () => `all upstreams (have ${backend.upstreams.size})`)
})
