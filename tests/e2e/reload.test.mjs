// SIGHUP: which changes it applies to which clients, which it leaves for a restart, and what it logs of both.
import assert from 'node:assert/strict'
import { copyFileSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import https from 'node:https'
import { join } from 'node:path'
import { WebSocketServer } from 'ws'
import { test } from '../lib/runner.mjs'
import { Backend } from '../lib/backend.mjs'
import { Browser } from '../lib/browser.mjs'
import { Authority } from '../lib/certificates.mjs'
import { scratch, service, startHub, yaml } from '../lib/hub.mjs'
import { clientFrame, closeCodeOf, handshake, handshakeText, rawSocket } from '../lib/net.mjs'
import { freePort } from '../lib/ports.mjs'
import { inSeconds, token } from '../lib/tokens.mjs'
import { until } from '../lib/until.mjs'

/** Sends SIGHUP and returns the lines it led to, up to the one that says how it ended. */
async function reload(hub) {
  const from = hub.lines.length
  const ended = () => hub.lines.slice(from).some((line) => / (reloaded|reload_refused) /.test(line))
  hub.child.signal('SIGHUP')
  await until(ended, 5000, 'the reload')
  return hub.lines.slice(from).join('\n')
}

/** Gives a hub another file, with its own ports, and reloads it. */
function reloadWith(hub, settings) {
  writeFileSync(hub.file, yaml({
    node: { drain: '500ms' }, listen: { address: `127.0.0.1:${hub.port}` }, admin: { address: `127.0.0.1:${hub.adminPort}` }, ...settings,
  }))
  return reload(hub)
}

test('services come, go and change; what runs keeps what it was opened with', async (t) => {
  const [backend, other] = [await Backend.start(t), await Backend.start(t)]
  const at = (name, of, path) => service(of, { name, upstream: of.url(path), linger: '0s' })
  const hub = await startHub(t, { settings: { services: [at('stays', backend, '/a'), at('goes', backend, '/b')] } })
  const stays = await Browser.open(t, hub.url('/u/V?stays'))
  const goes = await Browser.open(t, hub.url('/u/V?goes'))
  const speaks = await Browser.open(t, hub.url('/u/V?goes'), { protocols: ['vinhub.v1'] })
  await backend.one('/b/u/V')

  const said = await reloadWith(hub, { services: [at('stays', other, '/moved'), at('comes', backend, '/c')] })
  assert.match(said, /services\.goes: removed/)
  assert.match(said, /services\.comes: added/)
  assert.match(said, /services\.stays\.upstream: .*\/a.* -> .*\/moved/)
  assert.deepEqual(await goes.ended(), { code: 1001, reason: 'service removed' })
  assert.equal((await speaks.ended()).code, 1001)
  await until(() => backend.open('/b/u/V').length === 0, 5000, 'the upstream of the removed service to close')
  assert.equal((await handshake(hub.port, '/u/V?goes')).status, 404)
  await until(() => hub.lines.some((line) => /client_closed .*code=1001 reason="service removed"/.test(line)), 2000, 'a line with the reason')

  await Browser.open(t, hub.url('/u/V?comes'))
  await backend.one('/c/u/V')
  await Browser.open(t, hub.url('/u/V?stays'))
  await Browser.open(t, hub.url('/u/NEW?stays'))
  await other.one('/moved/u/NEW')
  assert.equal(other.upgrades.length, 1, 'a session that is open stays where it is')
  assert.equal(stays.end, null)
  backend.push('/a/u/V', 'still here')
  await stays.got(1)
})

test('many clients of a removed service are all closed with 1001', async (t) => {
  const backend = await Backend.start(t)
  const hub = await startHub(t, { settings: { services: [service(backend, { name: 'stays' }), service(backend, { name: 'goes' })] } })
  const stays = await Browser.open(t, hub.url('/u/V?stays'))
  const go = []
  for (let n = 0; n < 1300; n += 100) { // more than are closed in one turn
    go.push(...await Promise.all(Array.from({ length: 100 }, (_, i) => Browser.open(t, hub.url(`/u/V${i % 10}?goes`)))))
  }
  await reloadWith(hub, { services: [service(backend, { name: 'stays' })] })
  const ends = await Promise.all(go.map((browser) => browser.ended(10_000)))
  assert.deepEqual([...new Set(ends.map(({ code, reason }) => `${code} ${reason}`))], ['1001 service removed'])
  assert.equal(stays.end, null)
})

test('limits, origins, replies and the log level count at once, for open clients too', async (t) => {
  const backend = await Backend.start(t)
  const services = [service(backend)]
  const hub = await startHub(t, { settings: { services } })
  const large = await Browser.open(t, hub.url('/u/V?remoteWs'))
  const quick = await Browser.open(t, hub.url('/u/V?remoteWs'))
  const said = await reloadWith(hub, {
    services, origins: ['app.example'], default_service: 'remoteWs', log: { level: 'error' },
    clients: { max: 2, max_message: '10', rate: { messages: 1, per: '1h', burst: 1 }, replies: { hello: 'you too' } },
  })
  for (const key of ['origins', 'default_service', 'log.level', 'clients.max', 'clients.max_message', 'clients.rate.burst', 'clients.replies']) {
    assert.ok(said.includes(`${key}: `), `${key} in ${said}`)
  }
  const quietFrom = hub.lines.length
  assert.equal((await handshake(hub.port, '/u/V')).status, 503, 'full')
  assert.equal((await handshake(hub.port, '/u/V', { Origin: 'https://other.example' })).status, 403)
  quick.send('hello')
  await quick.got(1)
  assert.equal(quick.received[0].text, 'you too')
  for (const text of ['one', 'two', 'three']) quick.send(text)
  assert.deepEqual(await quick.ended(), { code: 4002, reason: 'rate limit exceeded' })
  large.send('elf bytes..')
  assert.equal((await large.ended()).code, 4003)
  assert.deepEqual(hub.lines.slice(quietFrom), [])
})

test('a limit for each address counts clients that came before it', async (t) => {
  const services = [service(await Backend.start(t))]
  const hub = await startHub(t, { settings: { services } })
  const early = await Promise.all([1, 2, 3].map(() => Browser.open(t, hub.url('/u/V?remoteWs'))))
  await reloadWith(hub, { services, clients: { max_per_ip: 2 } })
  assert.equal((await handshake(hub.port, '/u/V?remoteWs')).status, 503)
  await Promise.all(early.slice(1).map((browser) => browser.close()))
  await until(async () => (await handshake(hub.port, '/u/V?remoteWs')).status === 101, 3000, 'room for one more')
})

test('PINGs go on whatever their times become, stop at 0 and start again', async (t) => {
  const backend = await Backend.start(t)
  const services = [service(backend)]
  const ping = (every, timeout) => ({ services, clients: { ping: { every, timeout } } })
  const hub = await startHub(t, { settings: ping('1s', '700ms') })
  const browser = await Browser.open(t, hub.url('/u/V?remoteWs'))
  const more = (count) => {
    const from = browser.pings
    return until(() => browser.pings >= from + count, 6000, `${count} more PINGs`)
  }
  const passed = (ms) => {
    const from = performance.now()
    return until(() => performance.now() - from > ms, ms + 2000, 'the time to pass')
  }
  await more(1)
  await passed(200) // answered, and waiting for the next
  await reloadWith(hub, ping('800ms', '5s'))
  await more(3)
  await reloadWith(hub, ping('0', '5s'))
  const before = browser.pings
  await passed(1500)
  assert.ok(browser.pings <= before + 1, 'none without `every`')
  await reloadWith(hub, ping('800ms', '600ms'))
  await more(3)
  assert.equal(browser.end, null)
})

test('a file that is wrong or gone changes nothing and says so', async (t) => {
  const backend = await Backend.start(t)
  const hub = await startHub(t, { settings: { services: [service(backend)] } })
  const browser = await Browser.open(t, hub.url('/u/V?remoteWs'))
  const cases = [
    [() => reloadWith(hub, { services: [] }), /reload_refused .*services: expected at least one/],
    [() => reloadWith(hub, { services: [service(backend, { name: 'other' })], clients: { max: 'many' } }), /reload_refused .*:\d+: clients\.max: expected a whole number/],
    [() => { writeFileSync(hub.file, 'services: [\n'); return reload(hub) }, /reload_refused .*invalid YAML/],
    [() => { rmSync(hub.file); return reload(hub) }, /reload_refused .*can't be read/],
  ]
  for (const [attempt, expected] of cases) {
    assert.match(await attempt(), expected)
    assert.equal((await handshake(hub.port, '/u/V?remoteWs')).status, 101)
    assert.equal((await handshake(hub.port, '/u/V?other')).status, 404)
  }
  assert.equal(browser.end, null)
})

test('a change that needs a restart is logged and not applied, and is no change once it is undone', async (t) => {
  const backend = await Backend.start(t)
  const services = [service(backend)]
  const hub = await startHub(t, { settings: { services } })
  const said = await reloadWith(hub, { services, node: { lease: '9s', drain: '1m' }, log: { format: 'json' } })
  assert.match(said, /node\.lease: 3s -> 9s \(needs a restart\)/)
  assert.match(said, /log\.format: text -> json \(needs a restart\)/)
  assert.doesNotMatch(said, /^\{/m)
  assert.match(await reloadWith(hub, { services }), / reloaded .*changes=0/)
  await hub.stop(5000) // with the drain of 500 ms it was started with
})

test('auth: another key counts for new clients, open ones stay until their tokens expire', async (t) => {
  const backend = await Backend.start(t)
  const secret = join(scratch(t), 'secret')
  const [old, fresh] = ['o'.repeat(40), 'f'.repeat(40)]
  writeFileSync(secret, old)
  const settings = { services: [service(backend, { session: '{user}:{vin}' })], auth: { mode: 'jwt', secret_file: secret } }
  const hub = await startHub(t, { settings })
  const path = (key, exp = 60) => `/u/V?remoteWs&token=${token({ sub: 'u', vins: ['V'], exp: inSeconds(exp) }, { key })}`
  const early = await Browser.open(t, hub.url(path(old, -2)))
  writeFileSync(secret, fresh)
  const said = await reload(hub)
  assert.match(said, /auth: the secret changed/)
  assert.ok(!said.includes(old) && !said.includes(fresh))
  assert.equal(early.end, null)
  assert.equal((await (await Browser.open(t, hub.url(path(old)))).ended()).code, 4001)
  const late = await Browser.open(t, hub.url(path(fresh)))
  assert.deepEqual(await early.ended(8000), { code: 4001, reason: 'token expired' })

  writeFileSync(secret, '')
  assert.match(await reload(hub), /reload_refused .*auth\.secret_file: expected a secret/)
  assert.equal(late.end, null)
  late.send('ping')
  await late.got(1)
})

test('an exchanged certificate is named, with what is wrong with it, and other authorities count for the next upstream', async (t) => {
  const [mine, theirs] = [new Authority(t), new Authority(t)]
  const folder = scratch(t)
  const [cert, key, ca] = ['cert.pem', 'key.pem', 'ca.pem'].map((name) => join(folder, name))
  const install = (pair) => { copyFileSync(pair.cert, cert); copyFileSync(pair.key, key) }
  install(mine.issue('one'))
  copyFileSync(theirs.file, ca)
  const pair = mine.issue('backend')
  const server = https.createServer({ cert: readFileSync(pair.cert), key: readFileSync(pair.key) }).on('tlsClientError', () => {})
  new WebSocketServer({ server }).on('connection', (socket) => socket.send('trusted'))
  const port = await freePort()
  await new Promise((resolve) => { server.listen(port, '127.0.0.1', resolve) })
  t.defer(() => { server.closeAllConnections(); server.close() })
  const hub = await startHub(t, { settings: {
    listen: { tls_cert: cert, tls_key: key },
    services: [{ name: 'tls', upstream: `wss://localhost:${port}/`, tls_ca: ca, reconnect: { min: '100ms', max: '200ms' }, replay: 1 }],
  } })
  const browser = await Browser.open(t, `wss://localhost:${hub.port}/u/V?tls`, { ca: mine.ca })
  await until(() => hub.lines.some((line) => /upstream_lost .*is signed by/.test(line)), 5000, 'the backend to be refused')
  assert.equal(browser.received.length, 0)

  install(mine.issue('two'))
  copyFileSync(mine.file, ca)
  const said = await reload(hub)
  assert.match(said, /listen\.tls_cert: the certificate or its key changed/)
  assert.match(said, /services\.tls\.tls_ca: the authorities changed/)
  await browser.got(1)

  install(mine.issue('over', { over: true }))
  assert.match(await reload(hub), /reload_warning .*listen\.tls_cert: warning: the certificate has expired/)
  writeFileSync(cert, `${readFileSync(cert)}-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n`)
  assert.match(await reload(hub), /reload_refused .*listen\.tls_cert: .*one of them can't be read/)
})

test('a lowered max_message holds for a message under way', async (t) => {
  const backend = await Backend.start(t)
  const settings = (max) => ({ services: [service(backend)], clients: { max_message: max } })
  const hub = await startHub(t, { settings: settings('1MiB') })
  const start = async (pieces) => {
    const peer = rawSocket(t, hub.port, Buffer.concat([Buffer.from(handshakeText('/u/V?remoteWs')), ...pieces]))
    await until(() => peer.text().includes('\r\n\r\n'), 5000, 'the upgrade')
    return peer
  }
  const fragmented = await start([clientFrame(2, Buffer.alloc(900_000), { fin: false })])
  const half = await start([clientFrame(2, Buffer.alloc(300_000), { length: 900_000 })])
  const small = await start([clientFrame(2, 'small', { fin: false })])
  await until(async () => await hub.metric('vinhub_clients') === 3, 5000, 'three clients')
  await reloadWith(hub, settings('512KiB'))
  fragmented.socket.write(clientFrame(0, Buffer.alloc(1000), { fin: false }))
  half.socket.write(Buffer.alloc(1000))
  for (const peer of [fragmented, half]) {
    await until(() => closeCodeOf(peer) !== null, 5000, 'a close frame')
    assert.equal(closeCodeOf(peer), 4003)
  }
  small.socket.write(clientFrame(0, ' and whole'))
  await until(() => backend.messages.length === 1, 5000, 'the small one')
  assert.equal(closeCodeOf(small), null)
})

test('a reload in the middle of messages, of both directions, leaves them whole, in order and the connections open', async (t) => {
  const backend = await Backend.start(t)
  const settings = (n) => ({ services: [service(backend, { heartbeat: { every: `${n}s`, timeout: '60s' }, headers: { 'X-Generation': `${n}` } })],
    clients: { max_message: `${n}MiB`, compression: n % 2 === 0, replies: { [`hello ${n}`]: 'hello' } } })
  const hub = await startHub(t, { settings: settings(3) })
  const page = await Browser.open(t, hub.url('/u/V?remoteWs'))
  const upstream = await backend.one('/base/u/V')
  const peer = rawSocket(t, hub.port, Buffer.from(handshakeText('/u/V?remoteWs')))
  await until(() => peer.text().includes('\r\n\r\n'), 5000, 'the upgrade')
  // An answered PING behind a part shows that the hub has read the part.
  let pongs = 0
  upstream.socket.on('pong', () => { pongs++ })
  const pieces = ['the begin', 'ning, the mid', 'dle, and the end']
  for (const [n, piece] of pieces.entries()) {
    const fin = n === pieces.length - 1
    peer.socket.write(Buffer.concat([clientFrame(n === 0 ? 1 : 0, piece, { fin }), clientFrame(9, `read ${n}`)]))
    upstream.socket.send(piece, { fin })
    upstream.socket.ping()
    await until(() => peer.text().includes(`read ${n}`) && pongs > n, 5000, `part ${n} to be read`)
    if (!fin) assert.match(await reloadWith(hub, settings(4 + n)), / reloaded /)
  }
  const whole = pieces.join('')
  await page.got(1)
  await until(() => backend.texts().length === 1, 5000, 'the message of the client')
  assert.deepEqual([page.texts(), backend.texts()], [[whole], [whole]])
  assert.deepEqual([page.end, upstream.end, closeCodeOf(peer), backend.upgrades.length], [null, null, null, 1])
  page.send('hello 5') // the last value counts
  await page.got(2)
  assert.equal(page.texts()[1], 'hello')
})

test('a variable goes before the file on SIGHUP, too, also for a service that comes with it', async (t) => {
  const backend = await Backend.start(t)
  const at = (name, linger) => service(backend, { name, upstream: backend.url('/a'), linger })
  const env = { VINHUB__SERVICES__STAYS__LINGER: '7s', VINHUB__LOG__LEVEL: 'debug' }
  const hub = await startHub(t, { settings: { services: [at('stays', '1s')] }, env })
  const said = await reloadWith(hub, { services: [at('stays', '2s')], log: { level: 'error' } })
  assert.match(said, /reloaded .*changes=0/)
  const refused = await reloadWith(hub, { services: [at('other', '2s')] })
  assert.match(refused, /reload_refused .*VINHUB__SERVICES__STAYS__LINGER: services: /)
})

test('the admin token changes: the old one is refused, streams it opened end; without one a port off loopback stays as it is', async (t) => {
  const backend = await Backend.start(t)
  const services = [service(backend)]
  const hub = await startHub(t, { settings: { services, admin: { token: 'one' } } })
  const asked = async (token) => (await hub.admin('/api/nodes', { headers: { authorization: `Bearer ${token}` } })).status
  const stream = await fetch(`http://127.0.0.1:${hub.adminPort}/api/events`, { headers: { authorization: 'Bearer one' } })
  assert.equal(stream.status, 200)
  const said = await reloadWith(hub, { services, admin: { address: `127.0.0.1:${hub.adminPort}`, token: 'two' } })
  assert.match(said, /admin\.token: changed"/)
  assert.deepEqual([await asked('one'), await asked('two')], [401, 200])
  await stream.text() // it ends

  const open = await startHub(t, { settings: { services, admin: { address: '0.0.0.0:0', token: 'one' } }, ready: false })
  await until(() => open.lines.some((line) => / started /.test(line)), 5000, 'the start')
  assert.match(await reloadWith(open, { services }), /reload_refused .*admin port is off loopback/)
})
