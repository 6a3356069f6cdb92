// The front door: tokens, origins, limits, proxies, TLS on both sides, compression.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { generateKeyPairSync } from 'node:crypto'
import { copyFileSync, readFileSync, writeFileSync } from 'node:fs'
import https from 'node:https'
import net from 'node:net'
import { join } from 'node:path'
import tls from 'node:tls'
import { WebSocketServer } from 'ws'
import { test } from '../lib/runner.mjs'
import { Backend } from '../lib/backend.mjs'
import { Browser } from '../lib/browser.mjs'
import { countedMs, mark } from '../lib/busy.mjs'
import { Authority } from '../lib/certificates.mjs'
import { runVinhub, scratch, service, SLACK_MS, startHub } from '../lib/hub.mjs'
import { clientFrame, handshake, handshakeText, rawSocket } from '../lib/net.mjs'
import { freePort } from '../lib/ports.mjs'
import { inSeconds, token } from '../lib/tokens.mjs'
import { until } from '../lib/until.mjs'

const SECRET = '0123456789abcdef'.repeat(4)
const LEEWAY_S = 5
const PATH = '/admin/VIN1?remoteWs'

async function start(t, settings = {}, serviceSettings = {}) {
  const backend = await Backend.start(t)
  const hub = await startHub(t, { settings: { services: [service(backend, serviceSettings)], ...settings } })
  return { backend, hub }
}

/** Opens a client. Returns '4001 reason', or 'open' if it works. */
async function verdict(t, hub, path, options) {
  const browser = Browser.dial(t, hub.url(path), options)
  await browser.opened
  browser.send('ping')
  await until(() => browser.end || browser.received.length > 0, 5000, 'an end or an answer')
  browser.socket.terminate()
  return browser.end ? `${browser.end.code} ${browser.end.reason}` : 'open'
}

function withJwt(t, settings = {}) {
  const secretFile = join(scratch(t), 'secret')
  writeFileSync(secretFile, `${SECRET}\n`)
  return start(t, { auth: { mode: 'jwt', secret_file: secretFile, ...settings.auth }, ...settings.more }, { session: '{user}:{vin}' })
}

const claims = (over = {}) => ({ sub: 'admin', vins: ['VIN*'], exp: inSeconds(60), aud: ['x', 'hub'], iss: 'me', ...over })
const hs256 = (over) => token(claims(over), { key: SECRET })

test('a token must be whole, in time and cover what the URL names', async (t) => {
  const { hub } = await withJwt(t, { auth: { audience: 'hub', issuer: 'me' } })
  const cases = [
    ['a good one', hs256(), 'open'],
    ['expired within the leeway', hs256({ exp: inSeconds(-2) }), 'open'],
    ['expired', hs256({ exp: inSeconds(-LEEWAY_S - 1) }), /expired/],
    ['without exp', hs256({ exp: undefined }), /exp/],
    ['valid in a moment', hs256({ nbf: inSeconds(3) }), 'open'],
    ['valid later', hs256({ nbf: inSeconds(LEEWAY_S + 5) }), /not valid yet/],
    ['one audience', hs256({ aud: 'hub' }), 'open'],
    ['another audience', hs256({ aud: 'other' }), /audience/],
    ['another issuer', hs256({ iss: 'you' }), /issuer/],
    ['another user', hs256({ sub: 'bob' }), /user/],
    ['no user', hs256({ sub: undefined }), /user/],
    ['this vin', hs256({ vins: ['VIN1'] }), 'open'],
    ['all vins', hs256({ vins: ['*'] }), 'open'],
    ['other vins', hs256({ vins: ['VIN', 'X*'] }), /vin/],
    ['no vins', hs256({ vins: undefined }), /vin/],
    ['this service', hs256({ services: ['a', 'remoteWs'] }), 'open'],
    ['other services', hs256({ services: ['a'] }), /service/],
    ['unsigned', token(claims(), { alg: 'none' }), /invalid/],
    ['another algorithm', token(claims(), { alg: 'HS512', key: SECRET }), /invalid/],
    ['another secret', token(claims(), { key: 'f'.repeat(64) }), /invalid/],
    ['something critical', token(claims(), { key: SECRET, head: { crit: ['b64'], b64: false } }), /invalid/],
    ['no token at all', 'a.b.c', /invalid/],
    ['one part', 'abc', /invalid/],
    ['four parts', `${hs256()}.x`, /invalid/],
    ['padded parts', hs256().replace('.', '=.'), /invalid/],
    ...['jwt', 'at+jwt', 'AT+JWT', 'application/at+jwt', 'Application/Jwt', undefined].map((typ) =>
      [`typ ${typ}`, token(claims(), { key: SECRET, head: { typ } }), 'open']),
    ...['JWE', 'jwt2', '', 'text/jwt', 'application/', null, 1].map((typ) =>
      [`typ ${typ}`, token(claims(), { key: SECRET, head: { typ } }), /typ/]),
  ]
  for (const [name, value, expected] of cases) {
    const got = await verdict(t, hub, `${PATH}&token=${value}`)
    if (expected === 'open') assert.equal(got, 'open', name)
    else assert.match(got, new RegExp(`^4001 .*${expected.source}`), name)
  }
  assert.equal(await verdict(t, hub, PATH), '4001 token missing')
  assert.ok(!hub.lines.some((line) => line.includes(SECRET) || /eyJ[\w-]+\.eyJ/.test(line)), 'no token in the log')
})

test('the token comes from the subprotocol, the Authorization header, the query or the cookie, in this order', async (t) => {
  const { hub, backend } = await withJwt(t, { more: { origins: ['app.example'] } })
  const foreign = hs256({ sub: 'bob' })
  const cookie = (value) => ({ headers: { Cookie: `a=b; token=${value}; c=d` } })
  assert.equal(await verdict(t, hub, PATH, { protocols: ['bearer', hs256()] }), 'open')
  assert.equal(await verdict(t, hub, PATH, { protocols: ['Bearer', hs256()] }), 'open')
  assert.equal(await verdict(t, hub, PATH, { protocols: ['vinhub.v1', 'bearer', foreign] }), '4001 token of another user')
  assert.equal(await verdict(t, hub, `${PATH}&token=${hs256()}`, { protocols: ['bearer', foreign] }), '4001 token of another user')
  assert.equal(await verdict(t, hub, PATH, cookie(hs256())), 'open')
  const bearer = (value, more = {}) => ({ headers: { Authorization: value, ...more } })
  assert.equal(await verdict(t, hub, PATH, bearer(`Bearer ${hs256()}`)), 'open')
  assert.equal(await verdict(t, hub, PATH, bearer(`bearer  ${hs256()}`)), 'open')
  assert.equal(await verdict(t, hub, `${PATH}&token=${hs256()}`, bearer(`Bearer ${foreign}`)), '4001 token of another user')
  assert.equal(await verdict(t, hub, PATH, { ...bearer(`Bearer ${foreign}`), protocols: ['bearer', hs256()] }), 'open')
  for (const nothing of ['Basic YTpi', 'Bearer', 'Bearer '])
    assert.equal(await verdict(t, hub, PATH, bearer(nothing, { Cookie: `token=; token="${hs256()}"` })), 'open', nothing)
  assert.equal(await verdict(t, hub, `${PATH}&token=`, cookie(hs256())), 'open', 'an empty one is none')
  assert.equal(await verdict(t, hub, `${PATH}&token&token=${hs256()}`), 'open')
  assert.equal(await verdict(t, hub, `${PATH}&token=${hs256()}&token=${hs256()}`), '4001 token is given twice')
  assert.equal(await verdict(t, hub, `${PATH}&token=%zz`, cookie(hs256())), '4001 token has a bad escape')
  assert.equal(await verdict(t, hub, `${PATH}&token=${foreign}`, cookie(hs256())), '4001 token of another user')
  assert.ok(backend.upgrades.every(({ url }) => !url.includes('token')), 'no token reaches the backend')
})

test('a cookie counts only where origins are checked', async (t) => {
  const { hub } = await withJwt(t)
  assert.equal(await verdict(t, hub, PATH, { headers: { Cookie: `token=${hs256()}` } }), '4001 token missing')
})

test('the client is closed when its token expires', async (t) => {
  const { hub } = await withJwt(t)
  const lives = 2
  for (const exp of [lives, lives - LEEWAY_S]) { // the second one is accepted only within the leeway, and ends with it
    const opened = performance.now()
    const browser = await Browser.open(t, hub.url(`${PATH}&token=${hs256({ exp: inSeconds(exp) })}`))
    assert.equal((await browser.ended(lives * 1000 + 1000 + SLACK_MS)).code, 4001)
    assert.ok(performance.now() - opened > (lives - 1) * 1000 - 50, 'not before')
  }
})

test('without PINGs the kernel looks for clients that vanished, with them the hub does', async (t) => {
  const timers = async (settings) => {
    const { hub } = await start(t, settings)
    await Browser.open(t, hub.url(PATH))
    return execFileSync('ss', ['-Htno', 'state', 'established', `( sport = :${hub.port} )`], { encoding: 'utf8' })
  }
  assert.match(await timers({ clients: { ping: { every: '0s' } } }), /timer:\(keepalive,/)
  assert.doesNotMatch(await timers({}), /timer:\(keepalive,/)
})

test('a token expires where no PINGs are sent, and while its client is not read', async (t) => {
  const { hub, backend } = await withJwt(t, { more: { clients: { ping: { every: '0s' } } } })
  const open = (vin, protocols) => Browser.open(t, hub.url(`/admin/${vin}?remoteWs&token=${hs256({ exp: inSeconds(2) })}`), { protocols })
  const [quiet, paused] = [await open('VIN1'), await open('VIN2')]
  const upstream = await backend.one('/base/admin/VIN2')
  upstream.socket.pause()
  const filling = setInterval(() => { if (paused.socket.bufferedAmount === 0) paused.send(Buffer.alloc(100_000)) }, 1)
  t.defer(() => clearInterval(filling))
  for (const browser of [quiet, paused]) assert.equal((await browser.ended(3000 + SLACK_MS)).code, 4001)
})

for (const alg of ['RS256', 'ES256', 'EdDSA']) {
  test(`${alg}: the public key verifies, and is no shared secret`, async (t) => {
    const make = () => ({
      RS256: () => generateKeyPairSync('rsa', { modulusLength: 2048 }),
      ES256: () => generateKeyPairSync('ec', { namedCurve: 'P-256' }),
      EdDSA: () => generateKeyPairSync('ed25519'),
    })[alg]()
    const { publicKey, privateKey } = make()
    const file = join(scratch(t), 'public.pem')
    const pem = publicKey.export({ type: 'spki', format: 'pem' })
    writeFileSync(file, pem)
    const { hub } = await start(t, { auth: { mode: 'jwt', algorithm: alg, public_key_file: file } }, { session: '{user}:{vin}' })
    const good = token(claims(), { alg, key: privateKey })
    assert.equal(await verdict(t, hub, `${PATH}&token=${good}`), 'open')
    assert.match(await verdict(t, hub, `${PATH}&token=${token(claims(), { alg, key: make().privateKey })}`), /^4001/)
    assert.match(await verdict(t, hub, `${PATH}&token=${token(claims(), { key: pem })}`), /^4001/)
    assert.match(await verdict(t, hub, `${PATH}&token=${good.slice(0, -8)}AAAAAAAA`), /^4001/)
    for (const broken of [good.slice(0, -4), `${good}AAAA`, `${good}=`, good.replace(/\.[^.]*$/, '.')])
      assert.match(await verdict(t, hub, `${PATH}&token=${broken}`), /^4001/, broken.slice(-12))
  })
}

test('origins: hosts, schemes, ports and hosts below', async (t) => {
  const { hub } = await start(t, { origins: ['https://app.example', 'plain.example', '*.below.example', 'http://port.example:8080'] })
  const cases = {
    'https://app.example': 101, 'https://APP.example:443': 101, 'https://app.example:8443': 403, 'http://app.example': 403,
    'http://plain.example:1': 101, 'https://x.below.example': 101, 'https://below.example': 403, 'https://evilbelow.example': 403,
    'http://port.example:8080': 101, 'http://port.example': 403, null: 403, 'https://other.example': 403,
  }
  for (const [Origin, status] of Object.entries(cases)) assert.equal((await handshake(hub.port, PATH, { Origin })).status, status, Origin)
  assert.equal((await handshake(hub.port, PATH)).status, 101, 'no Origin header')
  assert.match((await handshake(hub.port, PATH, { Origin: 'null' })).body, /^.+\n$/, 'a line that says why')
  const twice = rawSocket(t, hub.port, handshakeText(PATH, 'Origin: https://app.example\r\nOrigin: https://other.example\r\n'))
  await until(() => twice.text().includes('\r\n\r\n'), 5000, 'an answer')
  assert.match(twice.text(), /^HTTP\/1.1 403 /, 'two Origin headers')
})

test('what an app sends as its origin can be listed as it stands', async (t) => {
  const origins = ['null', 'file://', 'capacitor://localhost', 'app://obsidian.md', 'chrome-extension://abc']
  const { hub } = await start(t, { origins })
  for (const Origin of origins) assert.equal((await handshake(hub.port, PATH, { Origin })).status, 101, Origin)
  for (const Origin of ['file:///', 'capacitor://localhost2', 'https://localhost', 'chrome-extension://abd'])
    assert.equal((await handshake(hub.port, PATH, { Origin })).status, 403, Origin)
})

test('health checks of balancers on the traffic port: 200 or 503, no line, no count', async (t) => {
  const backend = await Backend.start(t)
  const hub = await startHub(t, { settings: { services: [service(backend)], node: { drain: '5s' } } })
  const ask = async (text) => {
    const peer = rawSocket(t, hub.port, text)
    await until(() => peer.closed, 5000, 'an end')
    return peer.text()
  }
  for (const path of ['/healthz', '/readyz', '/readyz?x=1']) {
    assert.match(await ask(`GET ${path} HTTP/1.1\r\nHost: a\r\n\r\n`), /^HTTP\/1.1 200 [^]*\r\n\r\nok\n$/)
    assert.match(await ask(`GET ${path} HTTP/1.0\r\n\r\n`), /^HTTP\/1.1 200 /)
    assert.match(await ask(`HEAD ${path} HTTP/1.1\r\nHost: a\r\n\r\n`), /^HTTP\/1.1 200 [^]*\r\n\r\n$/)
  }
  assert.ok(!hub.lines.some((line) => line.includes('client_refused')))
  assert.ok(!(await hub.admin('/metrics')).body.match(/vinhub_refused_total\{[^}]*\} [1-9]/))
  assert.match(await ask('GET /healthzz HTTP/1.1\r\nHost: a\r\n\r\n'), /^HTTP\/1.1 426 /)
  assert.equal((await handshake(hub.port, '/healthz?remoteWs')).status, 101, 'a user of that name')
  await Browser.open(t, hub.url(PATH))
  await hub.admin('/api/drain', { method: 'POST', headers: { 'Content-Type': 'application/json' } })
  await until(async () => /^HTTP\/1.1 503 [^]*not ready: .*draining\n$/.test(await ask('GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n')), 3000, 'not ready')
})

/** Sends bytes; what came back until the connection ended. */
async function answerTo(t, hub, bytes, ms = 3000) {
  const peer = rawSocket(t, hub.port, bytes)
  await until(() => peer.closed, ms, 'an end')
  return peer.text()
}

test('a peer that speaks something else gets an answer or is dropped at once, with a reason in log and metrics', async (t) => {
  const { hub } = await start(t)
  const hello = Buffer.from('16030100c8010000c40303', 'hex')
  assert.equal(await answerTo(t, hub, hello), '')
  assert.equal(await hub.metric('vinhub_refused_total', 'tls'), 1)
  await until(() => hub.lines.some((line) => /client_refused .*TLS hello on a port without TLS/.test(line)), 2000, 'a line')
  for (const bytes of [Buffer.from([0, 1, 2]), '\r\n\r\nGET', '{"jsonrpc":1}']) assert.match(await answerTo(t, hub, bytes), /^HTTP\/1.1 400 /)
  assert.equal(await hub.metric('vinhub_refused_total', 'not_http'), 3)
  for (const bytes of ['SSH-2.0-x\r\n', 'PING\r\n', handshakeText(PATH).replaceAll('\r\n', '\n'), `GET ${PATH} HTTP/1.1\r\nHost: a\n`])
    assert.match(await answerTo(t, hub, bytes), /^HTTP\/1.1 400 /, bytes.slice(0, 20))
  assert.match(await answerTo(t, hub, 'PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n'), /PROXY header, but listen.proxy_protocol is off\n$/)
  assert.match(await answerTo(t, hub, Buffer.from('0d0a0d0a000d0a515549540a20000000', 'hex')), /PROXY header, but listen.proxy_protocol is off\n$/)
  const leaving = rawSocket(t, hub.port, 'GET /half')
  await until(() => leaving.socket.bytesWritten > 0, 2000, 'half a request')
  leaving.socket.end()
  await until(async () => await hub.metric('vinhub_refused_total', 'aborted') === 1, 3000, 'a count')
  for (let n = 0; n < 20; n++) await answerTo(t, hub, hello)
  assert.equal(await hub.metric('vinhub_refused_total', 'tls'), 21)
  assert.equal(hub.lines.filter((line) => line.includes('TLS hello on a port')).length, 1, 'the same check leaves one line')
})

test('a handshake has ten seconds, whatever the settings, and leaves a reason', async (t) => {
  const authority = new Authority(t)
  const { cert, key } = authority.issue('hub')
  const clients = { ping: { every: '0s' } }
  const hubs = [[{ clients }, 'GET /half'], [{ clients, listen: { tls_cert: cert, tls_key: key } }, Buffer.from('160301', 'hex')],
    [{ clients, listen: { proxy_protocol: true } }, 'PROXY TCP4 192.0']]
  await Promise.all(hubs.map(async ([settings, bytes]) => {
    const { hub } = await start(t, settings)
    const [half, silent] = [rawSocket(t, hub.port, bytes), rawSocket(t, hub.port)]
    await until(() => half.closed && silent.closed, 10_000 + SLACK_MS, 'an end')
    assert.equal(await hub.metric('vinhub_refused_total', 'timeout'), 1, 'who sent nothing is not counted')
    assert.ok(hub.lines.some((line) => /client_refused .*no whole request within 10 s/.test(line)))
  }))
})

test('plain HTTP on a TLS port gets an answer that says so, and a failed handshake has a reason', async (t) => {
  const authority = new Authority(t)
  const { cert, key } = authority.issue('hub')
  const { hub } = await start(t, { listen: { tls_cert: cert, tls_key: key } })
  assert.match(await answerTo(t, hub, handshakeText(PATH)), /^HTTP\/1.1 400 [^]*\r\n\r\nplain HTTP on a TLS port\n$/)
  assert.equal(await answerTo(t, hub, Buffer.from([0x80, 0x2e, 1])), '')
  await answerTo(t, hub, Buffer.from('160301000501000001ff', 'hex'))
  assert.equal(await hub.metric('vinhub_refused_total', 'tls'), 3)
  await until(() => hub.lines.some((line) => /client_refused .*TLS handshake failed: /.test(line)), 2000, 'a line')
})

test('max and max_per_ip: 503 with Retry-After, and room again after one left', async (t) => {
  const { hub } = await start(t, {
    clients: { max: 3, max_per_ip: 2 }, listen: { trusted_proxies: ['127.0.0.0/8'] },
  })
  const from = (address) => ({ headers: { 'X-Forwarded-For': `203.0.113.99, ${address}` } })
  const first = await Browser.open(t, hub.url(PATH), from('198.51.100.1'))
  await Browser.open(t, hub.url(PATH), from('198.51.100.1'))
  const refused = await handshake(hub.port, PATH, from('198.51.100.1').headers)
  assert.equal(refused.status, 503)
  assert.ok(Number(refused.headers['retry-after']) > 0)
  await Browser.open(t, hub.url(PATH), from('198.51.100.2'))
  assert.equal((await handshake(hub.port, PATH, from('198.51.100.3').headers)).status, 503, 'three are the most')
  await first.close()
  await until(async () => (await handshake(hub.port, PATH, from('198.51.100.1').headers)).status === 101, 3000, 'room again')
  assert.ok(await hub.metric('vinhub_refused_total', 'per_ip') >= 1)
  assert.ok(await hub.metric('vinhub_refused_total', 'full') >= 1)
})

test('a burst of any size that may be configured lets messages through', async (t) => {
  for (const burst of [4_294_968, 1_000_000_000]) { // 2^32 thousandths, and the most
    const { hub, backend } = await start(t, { clients: { rate: { messages: 1, per: '1h', burst } } })
    const browser = await Browser.open(t, hub.url(PATH))
    for (let n = 0; n < 10; n++) browser.send('one of ten')
    await until(() => backend.messages.length === 10 || browser.end, 5000, 'ten messages')
    assert.equal(browser.end, null)
  }
})

test('a descriptor is left for the upstream of each client that is let in', async (t) => {
  const backend = await Backend.start(t)
  const hub = await startHub(t, { settings: { services: [service(backend)] }, through: ['prlimit', '--nofile=400'] })
  const knock = async (vin) => {
    const browser = Browser.dial(t, hub.url(`/admin/${vin}?remoteWs`))
    return browser.opened.then(() => true, (error) => assert.match(error.message, /503/))
  }
  let clients = 0
  while (await knock(`VIN${clients}`)) clients++
  assert.ok(clients > 100, `${clients} clients with an upstream each`)
  await until(() => backend.upstreams.size === clients, 5000, () => `an upstream for each of ${clients} (have ${backend.upstreams.size})`)
  assert.ok(!hub.lines.some((line) => line.includes('upstream_lost')))

  const shared = await startHub(t, { settings: { services: [service(backend)] }, through: ['prlimit', '--nofile=400'] })
  let sharing = 0
  while (sharing < 1.5 * clients && await Browser.dial(t, shared.url(PATH)).opened.then(() => true, () => false)) sharing++
  assert.equal(sharing, Math.ceil(1.5 * clients), 'who shares an upstream needs one descriptor')
})

test('a client that sends more than the rate allows is closed with 4002; clients.replies do not count', async (t) => {
  const { hub, backend } = await start(t, { clients: { rate: { messages: 10, per: '1s', burst: 20 } } })
  const browser = await Browser.open(t, hub.url(PATH))
  const other = await Browser.open(t, hub.url(PATH))
  for (let i = 0; i < 50; i++) browser.send('ping')
  for (let i = 0; i < 20; i++) browser.send(`m${i}`)
  await until(() => backend.messages.length === 20, 5000, 'the burst')
  await browser.got(50)
  const emptied = performance.now()
  await until(() => performance.now() - emptied > 1000, 3000, 'ten more to be allowed')
  for (let i = 20; i < 30; i++) browser.send(`m${i}`)
  await until(() => backend.messages.length === 30, 5000, 'ten more')
  assert.equal(browser.end, null)
  for (let i = 0; i < 100; i++) browser.send('too many')
  assert.deepEqual(await browser.ended(), { code: 4002, reason: 'rate limit exceeded' })
  assert.ok(backend.messages.length < 100)
  assert.ok(await hub.metric('vinhub_dropped_total', 'rate') >= 1)
  assert.equal(other.end, null)
  await until(() => hub.lines.some((line) => /client_closed .*code=4002 reason="rate limit exceeded"/.test(line)), 2000, 'a line with the reason')
})

test('the end of a client names its user and its address, without a port', async (t) => {
  const { hub } = await start(t, { listen: { trusted_proxies: ['127.0.0.1'] } })
  const ended = (session) => hub.lines.find((line) => line.includes('client_closed') && line.includes(session))
  for (const [path, session, forwarded, user, address] of [
    ['/admin/A1?remoteWs', 'remoteWs:A1', null, 'admin', '127.0.0.1'],
    ['/d%C3%BCse%20x/A2?remoteWs', 'remoteWs:A2', '198.51.100.7:4711', '"düse x"', '198.51.100.7'],
    ['/t;solo?remoteWs', 'remoteWs:/t', '192.0.2.1, 2001:db8::1', 'solo', '2001:db8::1'],
    ['/ws?remoteWs&vin=A4', 'remoteWs:A4', '[2001:db8::2]:99', null, '2001:db8::2'],
  ]) {
    const page = await Browser.open(t, hub.url(path), forwarded ? { headers: { 'X-Forwarded-For': forwarded } } : {})
    page.socket.close(1000)
    await until(() => ended(session), 2000, `the end of ${path}`)
    assert.ok(ended(session).includes(` address=${address} `), ended(session))
    if (user) assert.ok(ended(session).includes(` user=${user} `), ended(session))
    else assert.ok(!ended(session).includes(' user='), ended(session))
    assert.match(ended(session), / code=1000 .*duration_ms=\d+ received=0 sent=0/)
  }
})

test('the PROXY header is required, and says where a client comes from', async (t) => {
  const { hub } = await start(t, { listen: { proxy_protocol: true }, clients: { max_per_ip: 1 } })
  const v2 = (command, family, body) => Buffer.concat([Buffer.from('0d0a0d0a000d0a515549540a', 'hex'),
    Buffer.from([0x20 | command, family, body.length >> 8, body.length & 255]), body])
  const answerTo = async (header) => {
    const peer = rawSocket(t, hub.port, Buffer.concat([Buffer.from(header), Buffer.from(handshakeText(PATH))]))
    await until(() => peer.closed || peer.text().includes('\r\n\r\n'), 5000, 'an answer or an end')
    return peer.text().slice(9, 12) || 'dropped'
  }
  assert.equal(await answerTo('PROXY TCP4 198.51.100.1 192.0.2.1 4711 443\r\n'), '101')
  assert.equal(await answerTo('PROXY TCP4 198.51.100.1 192.0.2.1 4712 443\r\n'), '503', 'one of an address')
  assert.equal(await answerTo(v2(1, 0x11, Buffer.from([198, 51, 100, 1, 192, 0, 2, 1, 1, 2, 3, 4]))), '503', 'version 2')
  assert.equal(await answerTo('PROXY TCP6 2001:db8::1 2001:db8::2 1 2\r\n'), '101')
  assert.equal(await answerTo(v2(1, 0x21, Buffer.alloc(36, 7))), '101')
  assert.equal(await answerTo('PROXY UNKNOWN\r\n'), '101', 'the socket\'s own address')
  assert.equal(await answerTo(v2(0, 0, Buffer.alloc(0))), '503', 'the socket\'s own address, again')
  assert.equal(await answerTo(v2(1, 0, Buffer.alloc(9))), '503', 'an unspecified family: the socket\'s own address')
  assert.equal(await answerTo(v2(1, 0x31, Buffer.alloc(216, 1))), '503', 'a Unix socket')
  for (const [at, size] of [3, 4096, 40_960, 65_523].entries()) {
    const from = Buffer.from([198, 51, 100, 50 + at, 192, 0, 2, 1, 1, 2, 3, 4])
    assert.equal(await answerTo(v2(1, 0x11, Buffer.concat([from, Buffer.alloc(size, 0x47)]))), '101', `${size} bytes of TLVs`)
    assert.equal(await answerTo(v2(1, 0x11, from)), '503', 'its address was read')
  }
  const wrong = [['', /no PROXY header/], ['PROXY TCP4 nonsense\r\n', /expected .*PROXY TCP4/], [v2(2, 0x11, Buffer.alloc(12)), /unknown command/], [v2(1, 0x11, Buffer.alloc(5)), /too short/]]
  for (const [header, reason] of wrong) {
    assert.equal(await answerTo(header), 'dropped')
    await until(() => hub.lines.some((line) => line.includes('client_refused') && reason.test(line)), 2000, `a line with ${reason}`)
  }
  assert.match(await answerTo('PROXY UNKNOWN\r\nPROXY UNKNOWN\r\n'), /400/)
  await until(() => hub.lines.some((line) => line.includes('a second PROXY header')), 2000, 'a line that says so')
  assert.equal(await hub.metric('vinhub_refused_total', 'proxy_header'), wrong.length + 1)
})

test('health checks of a balancer with PROXY headers: a LOCAL one with what a Network Load Balancer adds, or nothing at all', async (t) => {
  const { hub } = await start(t, { listen: { proxy_protocol: true } })
  const local = Buffer.concat([Buffer.from('0d0a0d0a000d0a515549540a20110054030004bce5951f04004a', 'hex'), Buffer.alloc(74)])
  const asking = rawSocket(t, hub.port, Buffer.concat([local, Buffer.from('GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n')]))
  await until(() => asking.closed, 3000, 'an answer')
  assert.match(asking.text(), /^HTTP\/1.1 200 /)
  const empty = rawSocket(t, hub.port)
  await until(() => empty.socket.readyState === 'open', 2000, 'a connection')
  empty.socket.end()
  await until(() => empty.closed, 3000, 'an end')
  assert.ok(!(await hub.admin('/metrics')).body.match(/vinhub_refused_total\{[^}]*\} [1-9]/))
  assert.ok(!hub.lines.some((line) => line.includes('client_refused')))
})

test('a proxy that drops Upgrade or Connection, or speaks HTTP/1.0, is named in the answer', async (t) => {
  const { hub } = await start(t)
  const lines = [
    [handshakeText(PATH).replace('Connection: Upgrade\r\n', 'Connection: close\r\n'), /^HTTP\/1.1 426 [^]*expected Connection: Upgrade/],
    [handshakeText(PATH).replace('Upgrade: websocket\r\n', ''), /^HTTP\/1.1 426 [^]*expected Upgrade: websocket/],
    [handshakeText(PATH).replace('HTTP/1.1', 'HTTP/1.0'), /^HTTP\/1.1 400 [^]*proxy_http_version 1.1/],
  ]
  for (const [text, expected] of lines) assert.match(await answerTo(t, hub, text), expected)
})

test('the PROXY header comes byte by byte or with what follows, and ahead of TLS', async (t) => {
  const authority = new Authority(t)
  const { cert, key } = authority.issue('hub')
  const { hub } = await start(t, { listen: { proxy_protocol: true, tls_cert: cert, tls_key: key }, clients: { max_per_ip: 1 } })
  const answerTo = async (header, whole) => {
    const socket = net.connect({ port: hub.port, host: '127.0.0.1', noDelay: true })
    t.defer(() => socket.destroy())
    await new Promise((resolve) => { socket.once('connect', resolve) })
    if (whole) socket.cork()
    for (const byte of Buffer.from(header)) {
      const written = new Promise((resolve) => { socket.write(Buffer.from([byte]), resolve) })
      if (!whole) await written
    }
    let text = ''
    const secure = tls.connect({ socket, servername: 'localhost', ca: authority.ca }, () => secure.write(handshakeText(PATH)))
    secure.on('data', (part) => { text += part.toString('latin1') }).on('error', () => {})
    if (whole) setImmediate(() => socket.uncork())
    await until(() => text.includes('\r\n\r\n') || socket.destroyed, 5000, 'an answer')
    return text.slice(9, 12)
  }
  assert.equal(await answerTo('PROXY TCP4 198.51.100.1 192.0.2.1 4711 443\r\n', false), '101')
  assert.equal(await answerTo('PROXY TCP4 198.51.100.1 192.0.2.1 4712 443\r\n', true), '503', 'one of an address')
  assert.equal(await answerTo('PROXY TCP4 198.51.100.2 192.0.2.1 4711 443\r\n', true), '101')
  const none = tls.connect({ port: hub.port, host: '127.0.0.1', servername: 'localhost', ca: authority.ca }).on('error', () => {})
  await until(() => none.destroyed, 5000, 'TLS without the header to be dropped')
})

test('TLS: certificates change with SIGHUP while clients stay, and a bad one changes nothing', async (t) => {
  const authority = new Authority(t)
  const [one, two] = [authority.issue('one'), authority.issue('two')]
  const [cert, key] = [join(authority.folder, 'live.pem'), join(authority.folder, 'live.key')]
  const install = (pair) => { copyFileSync(pair.cert, cert); copyFileSync(pair.key, key) }
  install(one)
  const { hub, backend } = await start(t, { listen: { tls_cert: cert, tls_key: key } })
  const served = () => new Promise((resolve, reject) => {
    const socket = tls.connect({ port: hub.port, host: '127.0.0.1', servername: 'localhost', ca: authority.ca }, () => {
      resolve(socket.getPeerCertificate().subject.CN)
      socket.destroy()
    }).once('error', reject)
  })
  const browser = await Browser.open(t, `wss://localhost:${hub.port}${PATH}`, { ca: authority.ca })
  await backend.one('/base/admin/VIN1')
  const large = Buffer.alloc(1024 * 1024, 'tls')
  backend.push('/base/admin/VIN1', large)
  await browser.got(1)
  assert.ok(browser.received[0].data.equals(large))
  assert.equal(await served(), 'one')
  install(two)
  hub.child.signal('SIGHUP')
  await until(async () => await served() === 'two', 5000, 'the new certificate')
  writeFileSync(cert, 'no certificate')
  hub.child.signal('SIGHUP')
  await until(() => hub.lines.some((line) => line.includes('reload_refused')), 5000, 'a refusal')
  assert.equal(await served(), 'two')
  browser.send('ping')
  await browser.got(2)
  const plain = rawSocket(t, hub.port, handshakeText(PATH))
  await until(() => plain.closed, 5000, 'a plain client to be dropped')
  assert.doesNotMatch(plain.text(), /101/)
})

test('TLS: what comes in one go is taken whole and in order, also while the backend does not read', async (t) => {
  const authority = new Authority(t)
  const { cert, key } = authority.issue('hub')
  const { hub, backend } = await start(t, { listen: { tls_cert: cert, tls_key: key }, clients: { rate: { messages: 0 } } })
  const browser = await Browser.open(t, `wss://localhost:${hub.port}${PATH}`, { ca: authority.ca })
  const upstream = await backend.one('/base/admin/VIN1')
  const [small, large] = [3000, 3000]
  const text = (n) => `message ${n} ${'x'.repeat(n < small ? 10 : 3000)}`
  browser.socket._socket.write(Buffer.concat(Array.from({ length: small }, (_, n) => clientFrame(1, text(n)))))
  await until(() => backend.messages.length === small || browser.end, 10_000, 'the small ones')
  upstream.socket.pause()
  for (let n = small; n < small + large; n++) browser.send(text(n))
  let [seen, since] = [0, 0]
  await until(() => {
    const { bytesWritten } = browser.socket._socket
    if (bytesWritten !== seen) [seen, since] = [bytesWritten, performance.now()]
    return performance.now() - since > 200
  }, 10_000, 'the client to be read no more')
  upstream.socket.resume()
  await until(() => backend.messages.length === small + large || browser.end, 20_000, () => `all (have ${backend.messages.length})`)
  assert.equal(browser.end, null)
  assert.equal(backend.texts().findIndex((got, n) => got !== text(n)), -1)
})

/** Passes connections on to the hub; from gather() on what clients send waits, release() sends it in one piece and ends. */
async function gatherer(t, hub) {
  let kept = null
  let upstream
  const server = net.createServer({ allowHalfOpen: true }, (socket) => {
    upstream = net.connect({ port: hub.port, host: '127.0.0.1', allowHalfOpen: true })
    socket.on('data', (part) => (kept ? kept.push(part) : upstream.write(part)))
    upstream.on('data', (part) => socket.write(part)).on('end', () => socket.end())
    for (const end of [socket, upstream]) end.on('error', () => {})
    t.defer(() => { socket.destroy(); upstream.destroy() })
  })
  const port = await freePort()
  await new Promise((resolve) => { server.listen(port, '127.0.0.1', resolve) })
  t.defer(() => server.close())
  return { port, gather: () => { kept = [] }, size: () => kept.reduce((sum, part) => sum + part.length, 0), release: () => upstream.end(Buffer.concat(kept)) }
}

test('TLS: what was sent before an end in the same piece is taken', async (t) => {
  const authority = new Authority(t)
  const { cert, key } = authority.issue('hub')
  const { hub, backend } = await start(t, { listen: { tls_cert: cert, tls_key: key } })
  const through = await gatherer(t, hub)
  const browser = await Browser.open(t, `wss://localhost:${through.port}${PATH}`, { ca: authority.ca })
  await backend.one('/base/admin/VIN1')
  const frames = Buffer.concat(Array.from({ length: 900 }, (_, n) => clientFrame(1, `message ${n}`)))
  through.gather()
  browser.socket._socket.end(frames)
  await until(() => through.size() > frames.length + 40, 5000, 'a record, which adds 22 bytes, and the alert that ends TLS')
  through.release()
  await until(() => backend.messages.length === 900, 5000, () => `all (have ${backend.messages.length})`)
  await until(async () => await hub.metric('vinhub_clients') === 0, 3000, 'the client to be gone')
})

test('wss upstreams are verified: authority, name and dates are not to be talked out of', async (t) => {
  const authority = new Authority(t)
  const [servers, heard] = [[], new Set()] // heard: the servers that got anything
  const serve = async (pair) => {
    const server = https.createServer({ cert: readFileSync(pair.cert), key: readFileSync(pair.key) }).on('tlsClientError', () => {})
    server.on('secureConnection', (socket) => socket.on('data', () => { heard.add(server) }))
    new WebSocketServer({ server }).on('connection', (socket) => socket.on('message', (data, binary) => socket.send(data, { binary })))
    servers.push(server)
    const port = await freePort()
    await new Promise((resolve) => { server.listen(port, '127.0.0.1', resolve) })
    t.defer(() => { server.closeAllConnections(); server.close() })
    return port
  }
  const good = await serve(authority.issue('good'))
  const own = await serve(authority.issue('own', { signed: false }))
  const elsewhere = await serve(authority.issue('elsewhere', { names: 'DNS:other.example' }))
  const expired = await serve(authority.issue('expired', { over: true }))
  const at = (name, port, more = {}) => ({ name, upstream: `wss://localhost:${port}/x`, tls_ca: authority.file, ...more })
  const hub = await startHub(t, { settings: { services: [
    at('good', good), at('address', good, { upstream: `wss://127.0.0.1:${good}/x` }), at('system', good, { tls_ca: '' }),
    at('own', own), at('elsewhere', elsewhere), at('expired', expired),
  ] } })
  for (const name of ['good', 'address']) {
    const browser = await Browser.open(t, hub.url(`/u/V?${name}`))
    browser.send('through TLS')
    await browser.got(1)
  }
  for (const name of ['system', 'own', 'elsewhere', 'expired']) {
    const browser = await Browser.open(t, hub.url(`/u/V?${name}`))
    browser.send('not for them')
    await until(async () => /certificate|mismatch|expired/.test((await hub.json(`/api/sessions/${name}:V`)).reason ?? ''), 5000, `${name} to be refused`)
  }
  assert.deepEqual([...heard], [servers[0]], 'nothing was sent to whom the hub does not trust')
})

test('compression: agreed where wanted, both ways, and bounded after inflating', async (t) => {
  const { hub, backend } = await start(t, { clients: { compression: true } })
  const large = 'realistic JSON '.repeat(20_000)
  for (const perMessageDeflate of [true, { serverMaxWindowBits: 10 }, { clientMaxWindowBits: 9 }, false]) {
    const options = perMessageDeflate === true ? { threshold: 0 } : perMessageDeflate && { threshold: 0, ...perMessageDeflate }
    const browser = await Browser.open(t, hub.url(PATH), { perMessageDeflate: options })
    assert.equal(browser.socket.extensions.includes('deflate'), perMessageDeflate !== false)
    await backend.one('/base/admin/VIN1')
    backend.push('/base/admin/VIN1', large)
    backend.push('/base/admin/VIN1', 'small')
    await browser.got(2)
    assert.deepEqual(browser.texts(), [large, 'small'])
    // A message that does not fit into a smaller window is not compressed.
    assert.equal(browser.socket._socket.bytesRead < large.length / 10, perMessageDeflate !== false && !perMessageDeflate.serverMaxWindowBits)
    const count = backend.messages.length
    browser.send(large)
    browser.send('')
    browser.send('in two ', { fin: false })
    browser.send('parts', { fin: true })
    await until(() => backend.messages.length === count + 3, 5000, 'what was sent')
    assert.deepEqual(backend.texts().slice(count), [large, '', 'in two parts'])
    await browser.close()
  }
  const bomb = await Browser.open(t, hub.url(PATH), { perMessageDeflate: { threshold: 0 } })
  bomb.send(Buffer.alloc(64 * 1024 * 1024))
  assert.equal((await bomb.ended(10_000)).code, 4003)
})

test('a client that answers no PING is dropped, one that says anything is not', async (t) => {
  const { hub } = await start(t, { clients: { ping: { every: '500ms', timeout: '1500ms' } } })
  const answers = await Browser.open(t, hub.url(PATH))
  const talks = await Browser.open(t, hub.url(PATH), { autoPong: false })
  const began = performance.now() // before the handshake: when the page sees it, the hub's own time may have run for a while
  const silent = await Browser.open(t, hub.url(PATH), { autoPong: false })
  const talking = setInterval(() => talks.send('ping'), 200)
  t.defer(() => clearInterval(talking))
  await silent.ended(2000 + 1000 + SLACK_MS)
  assert.ok(performance.now() - began > 1900, 'not before every and timeout are over')
  await until(() => answers.pings >= 3, 5000, 'PINGs')
  assert.equal(answers.end, null)
  assert.equal(talks.end, null)
})

test('PINGs come each `every`, whether the answer may take shorter or longer', async (t) => {
  for (const timeout of ['700ms', '10s']) {
    const { hub } = await start(t, { clients: { ping: { every: '800ms', timeout } } })
    const from = mark()
    const browser = await Browser.open(t, hub.url(PATH))
    await until(() => browser.pings >= 3, 5000, `three PINGs with timeout ${timeout} (have ${browser.pings})`)
    assert.ok(performance.now() - from.at > 3 * 800 - 200, `not three PINGs in ${performance.now() - from.at} ms`)
    assert.ok(countedMs(from) < 3 * 900 + SLACK_MS, `three PINGs only in ${countedMs(from)} ms`)
  }
})

test('where an answer may take longer than the next PING, its time runs from the first', async (t) => {
  const { hub } = await start(t, { clients: { ping: { every: '200ms', timeout: '900ms' } } })
  const began = performance.now()
  const silent = await Browser.open(t, hub.url(PATH), { autoPong: false })
  await silent.ended(200 + 1000 + 500 + SLACK_MS)
  const took = performance.now() - began
  assert.ok(took > 200 + 900 - 50, `dropped after ${took} ms`)
  await until(() => hub.lines.some((line) => /client_closed .*code=1006 reason="ping timeout"/.test(line)), 2000, 'a line with the reason')
})

test('a node that was stopped when a PING was due waits for the answer as long as ever', async (t) => {
  const { hub } = await start(t, { clients: { ping: { every: '500ms', timeout: '1500ms' } } })
  const began = performance.now()
  const passed = (ms) => until(() => performance.now() - began > ms, ms + 1000, `${ms} ms to pass`)
  const silent = await Browser.open(t, hub.url(PATH), { autoPong: false })
  await hub.whilePaused(() => passed(900))
  await silent.ended(900 + 500 + 1500 + 500 + SLACK_MS)
  assert.ok(performance.now() - began > 2000 - 50, `dropped ${performance.now() - began} ms after it came`)
})

test('a port that is taken is named, and the exit code is 1', async (t) => {
  const taken = net.createServer()
  const port = await freePort()
  await new Promise((resolve) => { taken.listen(port, '127.0.0.1', resolve) })
  t.defer(() => taken.close())
  const { code, err } = await runVinhub(['--service', 'a=127.0.0.1:1/', '--listen', `127.0.0.1:${port}`, '--admin', `127.0.0.1:${await freePort()}`])
  assert.equal(code, 1)
  assert.match(err, new RegExp(`127.0.0.1:${port}.*in use`))
})
