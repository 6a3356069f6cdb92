// Revoked tokens (contract sections 8, 10 and 11): closed on every node within a second and refused from then on, by nodes
// that were cut off or start later as well.
import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from '../lib/runner.mjs'
import { Backend } from '../lib/backend.mjs'
import { Browser } from '../lib/browser.mjs'
import { countedMs, mark } from '../lib/busy.mjs'
import { scratch, service, SLACK_MS, startHub } from '../lib/hub.mjs'
import { RedisServer } from '../lib/redis.mjs'
import { TcpProxy } from '../lib/tcp-proxy.mjs'
import { inSeconds, token } from '../lib/tokens.mjs'
import { until } from '../lib/until.mjs'

const SECRET = 'a secret of more than thirty-two bytes'
const REVOKED = 'vinhub:revoked'
const KNOWN_MS = 1000 + SLACK_MS // the promise, and a slow machine
const BACK_MS = 5000 // until a node that was cut off has found Redis again

const make = (claims = {}) => token({ sub: 'u', vins: ['*'], exp: inSeconds(3600), ...claims }, { key: SECRET })
const path = (value) => `/u/V1?remoteWs&token=${value}`

function settingsOf(t, backend, more = {}) {
  const file = join(scratch(t), 'secret')
  writeFileSync(file, SECRET)
  return { services: [service(backend, { session: '{user}:{vin}' })], auth: { mode: 'jwt', secret_file: file }, ...more }
}

/** One node in memory, or with ids as many on one Redis. */
async function start(t, { ids = [], more } = {}) {
  const [redis, backend] = await Promise.all([ids.length > 0 ? RedisServer.start(t) : null, Backend.start(t)])
  const settings = settingsOf(t, backend, { node: { lease: '2s' }, ...more })
  const hubs = await Promise.all((ids.length > 0 ? ids : [undefined]).map((id) => startHub(t, { id, redis, settings })))
  return { redis, backend, settings, hubs }
}

const post = (hub, body, at = '/api/revoke') => hub.admin(at, { method: 'POST', headers: { 'Content-Type': 'application/json' },
  body: JSON.stringify(body) })

async function revoke(hub, body) {
  const answer = await post(hub, body)
  assert.equal(answer.status, 200, answer.body)
  return answer.json()
}

const open = (t, hub, value, options) => Browser.open(t, hub.url(path(value)), options)

/** 'open', or '4001 reason'. */
async function verdict(t, hub, value) {
  const browser = await open(t, hub, value)
  browser.send('ping')
  await until(() => browser.end || browser.received.length > 0, 5000, 'an end or an answer')
  browser.socket.terminate()
  return browser.end ? `${browser.end.code} ${browser.end.reason}` : 'open'
}

const REFUSED = { code: 4001, reason: 'token revoked' }

test('a jti: its clients on all nodes are closed, it is refused, others stay; later nodes know it', async (t) => {
  const { redis, settings, hubs: [a, b] } = await start(t, { ids: ['a', 'b'] })
  const [bad, good] = [make({ jti: 'bad' }), make({ jti: 'good' })]
  const victims = await Promise.all([open(t, a, bad), open(t, a, bad), open(t, b, bad)])
  const stays = await Promise.all([open(t, a, good), open(t, b, good), open(t, b, make())])
  const began = mark()
  assert.deepEqual(await revoke(a, { jti: 'bad' }), { closed: 3 })
  for (const victim of victims) assert.deepEqual(await victim.ended(KNOWN_MS), REFUSED)
  assert.ok(countedMs(began) < KNOWN_MS + SLACK_MS)
  for (const hub of [a, b]) assert.equal(await verdict(t, hub, bad), '4001 token revoked')
  assert.ok(stays.every(({ end }) => end === null))
  const until_s = Number(await redis.client.hget(REVOKED, 'jti:bad'))
  assert.ok(Math.abs(until_s - inSeconds(30 * 24 * 3600)) < 60, `30 days: ${until_s}`)

  const late = await startHub(t, { id: 'c', redis, settings })
  assert.equal(await verdict(t, late, bad), '4001 token revoked')
  assert.equal(await verdict(t, late, good), 'open')
  await b.stop()
  await b.restart()
  assert.equal(await verdict(t, b, bad), '4001 token revoked')
  assert.deepEqual(await revoke(late, { jti: 'good' }), { closed: 1 }, 'who is left of them')
})

test('a sub: its tokens issued before the time, and those without iat; later ones and other users stay', async (t) => {
  const { redis, hubs: [a, b] } = await start(t, { ids: ['a', 'b'] })
  const now = inSeconds(0)
  const tokens = { old: { iat: now - 100 }, at: { iat: now - 50 }, none: {}, part: { iat: now - 50.5 } }
  const browsers = Object.fromEntries(await Promise.all(Object.entries(tokens).map(async ([name, claims], index) =>
    [name, await open(t, index % 2 ? a : b, make(claims))])))
  const other = await Browser.open(t, a.url(`/v/V1?remoteWs&token=${make({ sub: 'v' })}`))
  assert.deepEqual(await revoke(b, { sub: 'u', before: now - 50 }), { closed: 3 })
  for (const name of ['old', 'none', 'part']) assert.deepEqual(await browsers[name].ended(KNOWN_MS), REFUSED, name)
  assert.equal(browsers.at.end, null, 'issued at that very second is not before it')
  assert.match(await redis.client.hget(REVOKED, 'sub:u'), new RegExp(`^\\d+ ${now - 50}$`))
  assert.equal(await verdict(t, a, make({ iat: now })), 'open')

  assert.deepEqual(await revoke(a, { sub: 'u', before: now - 200 }), { closed: 0 }, 'an earlier time takes nothing back')
  assert.match(await redis.client.hget(REVOKED, 'sub:u'), new RegExp(` ${now - 50}$`))
  assert.equal(await verdict(t, b, make({ iat: now - 60 })), '4001 token revoked')

  await revoke(a, { sub: 'u' }) // by default all that there are now
  assert.deepEqual(await browsers.at.ended(KNOWN_MS), REFUSED)
  assert.equal(await verdict(t, b, make({ iat: inSeconds(0) - 1 })), '4001 token revoked')
  assert.equal(await verdict(t, b, make({ iat: inSeconds(10) })), 'open')
  assert.equal(other.end, null)
})

test('without Redis it holds on the one node; REFRESH with a revoked token is refused, the new one is what counts', async (t) => {
  const { hubs: [hub] } = await start(t)
  const browser = await open(t, hub, make({ jti: 'first' }), { protocols: ['vinhub.v1'] })
  const answers = () => browser.received.map(({ data }) => JSON.parse(data)).filter(({ type }) => type === 'ACK' || type === 'ERROR')
  let id = 0
  const refresh = async (value) => {
    browser.send(JSON.stringify({ type: 'REFRESH', id: ++id, token: value }))
    return until(() => answers().find((answer) => answer.payload.id === id), 5000, 'an answer')
  }
  assert.deepEqual(await revoke(hub, { jti: 'second' }), { closed: 0 })
  const refused = await refresh(make({ jti: 'second' }))
  assert.equal(refused.type, 'ERROR')
  assert.equal(refused.payload.code, 'unauthorized')
  assert.equal((await refresh(make({ jti: 'third' }))).type, 'ACK')
  assert.deepEqual(await revoke(hub, { jti: 'first' }), { closed: 0 }, 'the old token is no longer its own')
  assert.equal(browser.end, null)
  assert.deepEqual(await revoke(hub, { jti: 'third' }), { closed: 1 })
  assert.deepEqual(await browser.ended(KNOWN_MS), REFUSED)
  assert.ok(hub.lines.some((line) => / audit .*action=revoke address=127\.0\.0\.1 .*third/.test(line)))
})

test('a node that was cut off goes on with what it knows, and learns the rest when it is back', async (t) => {
  const { redis, backend, hubs: [a] } = await start(t, { ids: ['a'] })
  const way = await TcpProxy.start(t, redis.port)
  const settings = settingsOf(t, backend, { node: { lease: '2s' }, redis: { url: way.url, on_loss: 'serve' } })
  const b = await startHub(t, { id: 'b', settings })
  const [early, bad] = [make({ jti: 'early' }), make({ jti: 'bad' })]
  assert.deepEqual(await revoke(a, { jti: 'early' }), { closed: 0 })
  await until(async () => await verdict(t, b, early) === '4001 token revoked', KNOWN_MS, 'the early one to be known')
  const victim = await open(t, b, bad)
  way.cut()
  await until(() => b.metric('vinhub_bus_connected').then((value) => value === 0), 5000, 'the link to be lost')
  const answer = await revoke(a, { jti: 'bad' })
  assert.equal(answer.closed, 0)
  assert.equal(await verdict(t, b, early), '4001 token revoked')
  assert.equal(victim.end, null)
  way.heal()
  assert.deepEqual(await victim.ended(BACK_MS), REFUSED)
  assert.equal(await verdict(t, b, bad), '4001 token revoked')
})

test('a message that was missed costs nothing: the store is looked at all the time', async (t) => {
  const { redis, hubs: [a] } = await start(t, { ids: ['a'] })
  const victim = await open(t, a, make({ jti: 'by-hand' }))
  await redis.client.hset(REVOKED, 'jti:by-hand', inSeconds(600), 'sub:gone', `${inSeconds(-10)} 5`, 'other', 'x', 'jti:', 'x')
  assert.deepEqual(await victim.ended(KNOWN_MS), REFUSED)
  await until(async () => !await redis.client.hexists(REVOKED, 'sub:gone'), KNOWN_MS, 'what is over to be removed')
  assert.equal(await redis.client.hlen(REVOKED), 3, 'what is not understood stays')
})

test('what Redis has lost is written back, and what could not be written is', async (t) => {
  const { redis, hubs: [a, b] } = await start(t, { ids: ['a', 'b'], more: { redis: { on_loss: 'serve' } } })
  const [first, second] = [make({ jti: 'first' }), make({ jti: 'second' })]
  await revoke(a, { jti: 'first' })
  await redis.client.del(REVOKED)
  await until(() => redis.client.hexists(REVOKED, 'jti:first'), 5000, 'it to be written back')
  await redis.kill()
  const victim = await open(t, a, second)
  const answer = await post(a, { jti: 'second' })
  assert.equal(answer.status, 503)
  assert.deepEqual(await victim.ended(KNOWN_MS), REFUSED, 'on this node it holds all the same')
  await redis.restart() // empty
  await until(async () => (await redis.client.hkeys(REVOKED)).sort().join() === 'jti:first,jti:second', 15_000, 'both to be there')
  await until(async () => await verdict(t, b, second) === '4001 token revoked', 5000, 'the other node to know')
  assert.equal(await verdict(t, b, first), '4001 token revoked')
})

test('ten thousand that came before are known to a node that starts', async (t) => {
  const { redis, settings, hubs: [a] } = await start(t, { ids: ['a'] })
  const all = redis.client.pipeline()
  for (let n = 0; n < 10_000; n++) all.hset(REVOKED, `jti:number-${n}`, inSeconds(600))
  await all.exec()
  const late = await startHub(t, { id: 'z', redis, settings })
  for (const n of [0, 4711, 9999]) {
    await until(async () => await verdict(t, late, make({ jti: `number-${n}` })) === '4001 token revoked', KNOWN_MS, `number ${n}`)
  }
  assert.equal(await verdict(t, a, make({ jti: 'number-10000' })), 'open')
})

test('what is malformed is 400 and revokes nobody', async (t) => {
  const { hubs: [hub] } = await start(t)
  const browser = await open(t, hub, make({ jti: 'j' }))
  for (const body of [{}, { jti: 'j', sub: 'u' }, { jti: '' }, { jti: 7 }, { jti: 'j', before: 1 }, { sub: 'u', before: '1' }, [],
    { sub: 'u', before: -1 }, { sub: 'u', before: Date.now() }, { jti: 'j', user: 'u' }, { sub: 'u\u0000' }, { jti: 'j'.repeat(1025) }]) {
    assert.equal((await post(hub, body)).status, 400, JSON.stringify(body))
  }
  assert.equal((await hub.admin('/api/revoke')).status, 405)
  assert.equal((await post(hub, { jti: 'j' }, '/api/revoke/')).status, 404)
  assert.equal(browser.end, null)
  assert.equal(await verdict(t, hub, make({ jti: 'j' })), 'open')
})
