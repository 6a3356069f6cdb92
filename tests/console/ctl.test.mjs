// vinhubctl, through the admin port and through Redis alone: the same answers from both.
import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { Backend } from '../lib/backend.mjs'
import { Browser } from '../lib/browser.mjs'
import { Authority } from '../lib/certificates.mjs'
import { scratch, service, startCluster, startHub, VINHUB } from '../lib/hub.mjs'
import { freePort } from '../lib/ports.mjs'
import { Child, run } from '../lib/process.mjs'
import { RedisServer } from '../lib/redis.mjs'
import { test } from '../lib/runner.mjs'
import { inSeconds, token } from '../lib/tokens.mjs'
import { until } from '../lib/until.mjs'

const CTL = join(dirname(VINHUB), 'vinhubctl')
const UPSTREAM = '/base/admin/VIN1'
const PAGE = '/admin/VIN1?remoteWs'
const ID = 'remoteWs:VIN1'
const SOON_MS = 10_000

/** Two nodes on one Redis with one session, owned by a; and the ways to ask: [name, flags]. */
async function startTwo(t, settings = {}) {
  const [redis, backend] = await Promise.all([RedisServer.start(t), Backend.start(t)])
  const hubs = await startCluster(t, { redis, nodes: 2, settings: { node: { lease: '1s' }, services: [service(backend, settings)] } })
  const browser = await Browser.open(t, hubs[0].url(PAGE))
  await backend.one(UPSTREAM)
  const ways = [['admin port of the owner', ['--admin', `http://127.0.0.1:${hubs[0].adminPort}`]],
    ['admin port of the other', ['--admin', `http://127.0.0.1:${hubs[1].adminPort}/`]], ['Redis', ['--redis', redis.url]]]
  const connected = async () => JSON.parse((await run(CTL, [...ways[2][1], '--json', 'session', ID])).out).state === 'connected'
  await until(connected, SOON_MS, 'the record of the session')
  return { redis, backend, hubs, browser, ways }
}

/** What the command wrote to stdout; it must have ended with 0. */
async function ctl(...args) {
  const { code, out, err } = await run(CTL, args)
  assert.equal(code, 0, `${args.join(' ')}: ${err}`)
  return out
}

/** Runs it until the test ends; text() is what it wrote so far. */
function follow(t, ...args) {
  const child = new Child(CTL, args)
  t.defer(() => child.stop('SIGTERM'))
  return child
}

test('nodes, sessions and session: the same from each node and from Redis', async (t) => {
  const { ways, hubs } = await startTwo(t)
  await Browser.open(t, hubs[1].url('/admin/VIN2?remoteWs'))
  await until(async () => JSON.parse(await ctl(...ways[2][1], '--json', 'sessions')).sessions.length === 2, SOON_MS, 'both sessions')
  for (const [way, flags] of ways) {
    const { nodes } = JSON.parse(await ctl(...flags, '--json', 'nodes'))
    assert.deepEqual(nodes.map(({ id }) => id).sort(), ['a', 'b'], way)
    assert.equal(typeof nodes[0].clients, 'number', way)
    const { sessions } = JSON.parse(await ctl(...flags, '--json', 'sessions'))
    assert.deepEqual(sessions.map(({ id, owner }) => [id, owner]), [[ID, 'a'], ['remoteWs:VIN2', 'b']], way)
    const session = JSON.parse(await ctl(...flags, '--json', 'session', ID))
    assert.deepEqual([session.id, session.owner, session.clients, typeof session.epoch], [ID, 'a', 1, 'number'], way)
    const [head, ...rows] = (await ctl(...flags, 'nodes')).trimEnd().split('\n')
    assert.match(head, /^NODE +STATE +CLIENTS/, way)
    assert.equal(rows.length, 2, way)
    assert.equal(head.indexOf('STATE'), rows[0].indexOf('up'), `${way}: columns are aligned`)
    assert.match(await ctl(...flags, 'session', ID), /^owner +a$/m, way)
  }
})

test('tail follows a session from any node and over Redis, text and binary', async (t) => {
  const { ways, backend } = await startTwo(t)
  const tails = ways.map(([way, flags]) => ({ way, child: follow(t, ...flags, '--json', 'tail', ID) }))
  const lines = (child) => child.out.split('\n').filter(Boolean).map((line) => JSON.parse(line))
  let n = 0
  const pushing = setInterval(() => backend.push(UPSTREAM, `push ${n++}`), 20)
  t.defer(() => clearInterval(pushing))
  await Promise.all(tails.map(({ way, child }) => until(() => lines(child).length >= 20, SOON_MS, `20 messages by ${way}`)))
  clearInterval(pushing)
  backend.push(UPSTREAM, Buffer.from([0, 255]))
  for (const { way, child } of tails) {
    await until(() => lines(child).at(-1).encoding === 'base64', SOON_MS, `the binary one by ${way}`)
    const got = lines(child)
    assert.equal(got.at(-1).payload, 'AP8=', way)
    got.slice(1).forEach((message, i) => assert.equal(message.offset, got[i].offset + 1, `${way}: in order, none left out`))
    assert.match(got[0].payload, /^push \d+$/, way)
  }
})

test('tail follows the event stream of a traffic port: messages, state and gaps, on after the node was restarted', { timeout: 90_000 }, async (t) => {
  const { backend, hubs: [, hub] } = await startTwo(t, { history: { size: 3 } })
  const url = `http://127.0.0.1:${hub.port}${PAGE}`
  const [json, text] = [follow(t, '--json', 'tail', url), follow(t, 'tail', url)]
  const lines = () => json.out.split('\n').filter(Boolean).map((line) => JSON.parse(line))
  const messages = () => lines().filter(({ payload }) => payload !== undefined)
  await until(async () => await hub.metric('vinhub_clients') === 2, SOON_MS, 'both')
  for (const data of ['first', 'two\nlines', 'a\0b']) backend.push(UPSTREAM, data)
  backend.push(UPSTREAM, Buffer.from([0, 255]))
  await until(() => messages().length === 4, SOON_MS, 'four messages')
  assert.deepEqual(messages().map(({ encoding, payload }) => [encoding, payload]),
    [['text', 'first'], ['text', 'two\nlines'], ['text', 'a\0b'], ['base64', 'AP8=']])
  messages().slice(1).forEach((message, i) => assert.equal(message.offset, messages()[i].offset + 1))
  const { epoch, offset } = messages().at(-1)
  await until(() => text.out.includes(`${epoch}.${offset}  base64:AP8=\n`), SOON_MS, 'as text')
  await hub.stop()
  for (let n = 0; n < 8; n++) backend.push(UPSTREAM, `away ${n}`)
  await hub.restart()
  await until(() => messages().at(-1).payload === 'away 7', SOON_MS, 'what it missed')
  const gap = lines().find((line) => line.gap)?.gap
  assert.deepEqual([gap?.epoch, gap?.from], [epoch, offset + 1], 'of which the oldest are no longer kept')
  await until(() => text.out.includes(`(lost: ${epoch}.${offset + 1} to `), SOON_MS, 'the same as text')
  await backend.kill()
  await until(() => lines().some(({ status }) => status && status.upstream !== 'connected'), SOON_MS, 'the state')
  await until(() => /^\(upstream \w+: .+\)$/m.test(text.out), SOON_MS, 'the state as text')
})

test('tail of a traffic port: what is refused says why', async (t) => {
  const secretFile = join(scratch(t), 'secret')
  const secret = 'a secret of at least thirty-two bytes, as it should be'
  writeFileSync(secretFile, secret)
  const authority = new Authority(t)
  const { cert, key } = authority.issue('hub')
  const backend = await Backend.start(t)
  const port = await freePort()
  await startHub(t, { settings: { listen: { address: `127.0.0.1:${port}`, tls_cert: cert, tls_key: key },
    services: [service(backend)], auth: { mode: 'jwt', secret_file: secretFile } } })
  const caFile = join(authority.folder, 'tail-ca.pem')
  writeFileSync(caFile, authority.ca)
  const url = `https://localhost:${port}`
  const tail = (...args) => run(CTL, args, { env: { VINHUB_ADMIN_TOKEN: 'for the admin port alone' } })
  const refusals = [[[`${url}${PAGE}`], 1, /certificate/], [['--ca', caFile, `${url}${PAGE}`], 1, /token missing \(HTTP 401\)/],
    [['--ca', caFile, `${url}/admin/VIN1?nope`], 1, /HTTP 404/], [[`http://127.0.0.1:${port}${PAGE}`], 1, /plain HTTP on a TLS port \(HTTP 400\)/],
    [[`http://127.0.0.1:${await freePort()}${PAGE}`], 1, /refused/], [['http://127.0.0.1'], 2, /expected http:\/\/host:port/]]
  for (const [args, code, why] of refusals) {
    const { code: got, err } = await tail(...args.slice(0, -1), 'tail', args.at(-1))
    assert.deepEqual([got, why.test(err)], [code, true], `${args}: ${got} ${err}`)
  }
  const tokenFile = join(authority.folder, 'token')
  writeFileSync(tokenFile, `${token({ sub: 'admin', vins: ['*'], exp: inSeconds(600) }, { key: secret })}\n`)
  const good = follow(t, '--ca', caFile, '--token-file', tokenFile, 'tail', `${url}${PAGE}`)
  await backend.one(UPSTREAM)
  backend.push(UPSTREAM, 'over TLS')
  await until(() => good.out.includes('  over TLS\n'), SOON_MS, 'the push')
})

test('publish takes its place in the owner\'s order, and prints that place', async (t) => {
  const { ways, browser } = await startTwo(t)
  for (const [i, [way, flags]] of ways.entries()) {
    const { epoch, offset } = JSON.parse(await ctl(...flags, '--json', 'publish', ID, `from ${way}`))
    assert.ok(epoch > 0, way)
    assert.equal(offset, i + 1, way)
    await browser.got(i + 1)
    assert.equal(browser.received[i].text, `from ${way}`)
  }
})

test('close and drain reach any node', { timeout: 90_000 }, async (t) => {
  const { ways, hubs } = await startTwo(t)
  for (const [way, flags] of ways) {
    const browser = await Browser.open(t, hubs[1].url(PAGE))
    const joined = async () => JSON.parse(await ctl(...ways[2][1], '--json', 'session', ID)).clients >= 1
    await until(joined, SOON_MS, 'the session to be there')
    await ctl(...flags, 'close', ID)
    assert.equal((await browser.ended()).code, 4006, way)
  }
  hubs[1].mayEnd = hubs[0].mayEnd = true
  await ctl('--admin', `http://127.0.0.1:${hubs[0].adminPort}`, 'drain', 'b')
  assert.equal((await hubs[1].child.exited).code, 0)
  await ctl(...ways[2][1], 'drain', 'a')
  assert.equal((await hubs[0].child.exited).code, 0)
})

test('what is not there or wrong ends with 1 or 2, and says why', async (t) => {
  const { ways } = await startTwo(t)
  for (const [way, flags] of ways) {
    for (const args of [['session', 'remoteWs:NONE'], ['close', 'remoteWs:NONE'], ['publish', 'remoteWs:NONE', 'x'], ['drain', 'nobody']]) {
      const { code, err } = await run(CTL, [...flags, ...args])
      assert.equal(code, 1, `${way}: ${args.join(' ')}`)
      assert.match(err, /^vinhubctl: .+\n$/, `${way}: ${args.join(' ')}`)
    }
  }
  const free = await freePort()
  for (const flags of [['--admin', `http://127.0.0.1:${free}`], ['--redis', `redis://127.0.0.1:${free}`]]) {
    const { code, err } = await run(CTL, [...flags, 'nodes'])
    assert.equal(code, 1, flags.join(' '))
    assert.match(err, /refused/, flags.join(' '))
  }
  for (const args of [[], ['nope'], ['session'], ['nodes', 'more'], ['--nope', 'nodes'], ['--admin'], ['--admin', 'ftp://x', 'nodes'],
    ['--redis', 'nowhere', 'nodes'], ['--redis', 'redis://127.0.0.1', 'drain'], ['--admin', 'http://a', '--redis', 'redis://b', 'nodes']]) {
    const { code, err } = await run(CTL, args)
    assert.equal(code, 2, args.join(' '))
    assert.match(err, /^vinhubctl: /, args.join(' '))
  }
})

test('a token comes from the environment or a file', async (t) => {
  const backend = await Backend.start(t)
  const hub = await startHub(t, { settings: { services: [service(backend)] }, env: { VINHUB_ADMIN_TOKEN: 'open-sesame' } })
  const flags = ['--admin', `http://127.0.0.1:${hub.adminPort}`, 'nodes']
  assert.equal((await run(CTL, flags)).code, 1)
  assert.equal((await run(CTL, flags, { env: { VINHUB_ADMIN_TOKEN: 'open-sesame' } })).code, 0)
})

test('top refreshes', async (t) => {
  const { ways } = await startTwo(t)
  for (const [way, flags] of [ways[0], ways[2]]) {
    const child = follow(t, ...flags, 'top')
    await until(() => child.out.split('2 nodes').length >= 4, SOON_MS, `three screens by ${way}`)
  }
})

test('clients, kick and revoke: the same from each node and from Redis', async (t) => {
  const { ways, hubs, backend, redis } = await startTwo(t)
  const open = (n, path) => Browser.open(t, hubs[n].url(path))
  await Promise.all(Array.from({ length: 5 }, (_, n) => open(n % 2, `/crowd/VIN${n}?remoteWs`)))
  for (const [way, flags] of ways) {
    const { clients, missing } = JSON.parse(await ctl(...flags, '--json', 'clients'))
    assert.deepEqual([clients.length, missing], [6, []], way)
    assert.deepEqual(Object.keys(clients[0]).sort(), ['address', 'id', 'node', 'protocol', 'queued', 'received', 'sent', 'session', 'since',
      'subscriptions', 'user'], way)
    const some = JSON.parse(await ctl(...flags, '--json', 'clients', 'user=crowd', 'node=b'))
    assert.deepEqual(some.clients.map(({ session, node }) => [session, node]), [['remoteWs:VIN1', 'b'], ['remoteWs:VIN3', 'b']], way)
    const [head, row, ...rest] = (await ctl(...flags, 'clients', 'vin=VIN4')).trimEnd().split('\n')
    assert.match(head, /^USER +SESSION +NODE +ADDRESS +PROTOCOL/, way)
    assert.match(row, /^crowd +remoteWs:VIN4 +a +127\.0\.0\.1 +raw /, way)
    assert.equal(rest.length, 0, way)

    const victims = await Promise.all([open(0, '/victim/VIN8?remoteWs'), open(1, '/victim/VIN9?remoteWs')])
    assert.equal(await ctl(...flags, 'kick', 'user=victim', 'vin=VIN8', 'reason=stolen laptop'), 'closed 1\n', way)
    assert.deepEqual(await victims[0].ended(), { code: 4006, reason: 'stolen laptop' }, way)
    assert.deepEqual(JSON.parse(await ctl(...flags, '--json', 'kick', 'user=victim')).closed, 1, way)
    assert.deepEqual(await victims[1].ended(), { code: 4006, reason: 'closed by an operator' }, way)
    const nobody = await run(CTL, [...flags, 'kick', 'user=victim'])
    assert.deepEqual([nobody.code, nobody.out], [1, 'closed 0\n'], way)

    assert.equal(await ctl(...flags, 'revoke', `jti=${way}`), 'closed 0\n', way)
    assert.equal(JSON.parse(await ctl(...flags, '--json', 'revoke', 'sub=nobody', 'before=5')).closed, 0, way)
    assert.match(await redis.client.hget('vinhub:revoked', `jti:${way}`), /^\d+$/, way)
    assert.match(await redis.client.hget('vinhub:revoked', 'sub:nobody'), /^\d+ 5$/, way)
  }
  assert.ok(backend.port > 0)
})

test('arguments of clients, kick and revoke are checked before any node is asked', async (t) => {
  const port = await freePort() // nobody is there
  for (const args of [['clients', 'user'], ['clients', 'usr=x'], ['clients', 'user='], ['clients', 'user=a', 'user=b'], ['kick'], ['kick', 'reason=x'],
    ['kick', 'jti=x'], ['revoke'], ['revoke', 'user=x'], ['revoke', 'jti=a', 'sub=b'], ['revoke', 'jti=a', 'before=5'], ['revoke', 'before=5'],
    ['revoke', 'sub=u', 'before=now']]) {
    const { code, err } = await run(CTL, ['--admin', `http://127.0.0.1:${port}`, ...args])
    assert.equal(code, 2, `${args.join(' ')}: ${err}`)
  }
  assert.equal((await run(CTL, ['--admin', `http://127.0.0.1:${port}`, 'clients', 'user=x'])).code, 1)
})

test('a paused node is named by clients, whichever way', async (t) => {
  const { ways, hubs } = await startTwo(t)
  await hubs[1].whilePaused(async () => {
    for (const [, flags] of [ways[0], ways[2]]) {
      const { code, out, err } = await run(CTL, [...flags, '--json', 'clients'])
      assert.equal(code, 0)
      if (JSON.parse(out).clients.length === 1 && JSON.parse(out).missing.length === 0) continue // its description has expired by now
      assert.deepEqual(JSON.parse(out).missing, ['b'])
      assert.match(err, /node b did not answer/)
    }
  })
})
