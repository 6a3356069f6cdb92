// Tokens of open connections are replaced in time on the same connection: with a real hub, and with a scripted server for rare answers.
import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import WebSocket, { WebSocketServer } from 'ws'
import { VinhubClient } from '../../hub/web/client/vinhub.js'
import { Backend } from '../lib/backend.mjs'
import { countedMs, mark } from '../lib/busy.mjs'
import { scratch, service, startHub } from '../lib/hub.mjs'
import { freePort } from '../lib/ports.mjs'
import { test } from '../lib/runner.mjs'
import { inSeconds, token } from '../lib/tokens.mjs'
import { quiet, until } from '../lib/until.mjs'

const SECRET = 'a secret of more than thirty-two bytes, for tests'
const SOON_MS = 10_000
const FAST = { min: 50, max: 100 }

/** A token of that many seconds; `name` tells it from others. */
const tokenOf = (seconds, name, more = {}) =>
  token({ sub: 'admin', vins: ['V1'], iat: inSeconds(0), exp: inSeconds(seconds), jti: name, ...more }, { key: SECRET })
const nameOf = (value) => JSON.parse(Buffer.from(value.split('.')[1], 'base64url')).jti

/** The library in node, with a memory; provide(context, number) gives the tokens. */
function connect(t, url, provide, options = {}) {
  const asked = []
  const client = new VinhubClient(url, {
    WebSocket, reconnect: FAST,
    token: (context) => { asked.push({ ...context, at: performance.now() }); return provide(context, asked.length) },
    ...options,
  })
  const seen = { asked, closes: [], errors: [], messages: [], client }
  client.on('close', (end) => seen.closes.push(end))
  client.on('error', (error) => seen.errors.push(error))
  client.on('message', (data) => seen.messages.push(data))
  t.defer(() => client.close())
  client.connect()
  return seen
}

/** A server that welcomes and hands each REFRESH to onRefresh(say, message, number). */
async function scripted(t, onRefresh) {
  const port = await freePort()
  const server = new WebSocketServer({ port, host: '127.0.0.1', handleProtocols: () => 'vinhub.v1' })
  await new Promise((resolve) => { server.once('listening', resolve) })
  t.defer(() => { for (const socket of server.clients) socket.terminate(); server.close() })
  const hub = { url: `ws://127.0.0.1:${port}/admin/V1?remoteWs`, refreshes: [], sends: [], connections: 0 }
  server.on('connection', (socket) => {
    hub.connections++
    hub.socket = socket
    const say = (type, payload) => socket.send(JSON.stringify({ timestamp: 1, version: '1.0', type, payload }))
    socket.on('message', (data) => {
      const message = JSON.parse(data)
      if (message.type === 'SEND') { hub.sends.push(message.id); say('ACK', { id: message.id }) }
      if (message.type !== 'REFRESH') return
      hub.refreshes.push({ ...message, at: performance.now() })
      onRefresh(say, message, hub.refreshes.length)
    })
    say('WELCOME', { node: 'x', session: 's', client: 'c', epoch: 1, offset: 0, resumed: false, upstream: 'connected' })
  })
  return hub
}

const acknowledge = (say, { id }) => say('ACK', { id })
const refuse = (say, { id }) => say('ERROR', { id, code: 'unauthorized', message: 'not this one' })

test('a connection outlives its tokens, and no push is missed', { timeout: 120_000 }, async (t) => {
  const file = join(scratch(t), 'secret')
  writeFileSync(file, SECRET)
  const backend = await Backend.start(t)
  const hub = await startHub(t, { settings: {
    services: [service(backend, { session: '{user}:{vin}' })], auth: { mode: 'jwt', secret_file: file },
  } })
  const seen = connect(t, hub.url('/admin/V1?remoteWs'), (context, n) => tokenOf(4, `t${n}`))
  const { url } = await until(() => [...backend.upstreams][0], SOON_MS, 'the upstream')
  await until(() => seen.client.upstream === 'connected', SOON_MS, 'the upstream to be told')
  let sent = 0
  const timer = setInterval(() => backend.push(url, `p${sent++}`), 20)
  t.defer(() => clearInterval(timer))
  await until(() => seen.asked.length >= 4, 20_000, 'three more tokens')
  clearInterval(timer)
  await until(() => seen.messages.length === sent, SOON_MS, 'every push')
  assert.deepEqual(seen.messages, Array.from({ length: sent }, (_, i) => `p${i}`))
  assert.deepEqual(seen.closes, [])
  assert.equal(seen.asked[0].refused, false)
  assert.ok(seen.asked.slice(1).every(({ refused, reason }) => refused && reason === 'the token ends soon'))
})

test('it asks when most of the time is over, by chance, and ids go on', async (t) => {
  const hub = await scripted(t, acknowledge)
  const pages = Array.from({ length: 12 }, () => connect(t, hub.url, (context, n) => tokenOf(n === 1 ? 4 : 600, `t${n}`)))
  const started = mark()
  await until(() => hub.refreshes.length === 12, SOON_MS, 'twelve new tokens')
  const waits = pages.map(({ asked }) => asked[1].at - asked[0].at)
  // A token's second is cut off: 4 s are 3 to 4, of which 0.7 to 0.85 are waited for.
  assert.ok(waits.every((ms) => ms > 0.7 * 3000 - 50), waits.join())
  assert.ok(Math.max(...waits) - Math.min(...waits) > 50, `not all at once: ${waits.join()}`)
  assert.ok(countedMs(started) < 4000 + 2000)
  await pages[0].client.send('x')
  assert.deepEqual([hub.refreshes[0].id, hub.sends], [1, [2]])
  assert.equal(hub.connections, 12)
})

test('a token that is refused, the same again, or a provider that throws: asked again, and the connection stays', async (t) => {
  const first = tokenOf(3, 'first')
  const hub = await scripted(t, (say, message, n) => (n === 1 ? refuse : acknowledge)(say, message))
  const seen = connect(t, hub.url, (context, n) => {
    if (n === 1 || n === 3) return first // 3: as from a stale cache
    if (n === 4) throw new Error('no network')
    return tokenOf(600, `t${n}`)
  })
  await until(() => hub.refreshes.length === 2, SOON_MS, 'the second new token')
  assert.deepEqual(hub.refreshes.map((message) => nameOf(message.token)), ['t2', 't5'])
  assert.deepEqual(seen.asked.map(({ refusals }) => refusals), [0, 0, 1, 1, 1])
  assert.deepEqual(seen.errors.map(({ code }) => code), ['unauthorized', 'provider'])
  const gaps = seen.asked.slice(2).map(({ at }, i) => at - seen.asked[i + 1].at)
  assert.ok(gaps.every((ms) => ms > FAST.min / 2 - 5), `with back-off: ${gaps.join()}`)
  assert.equal(hub.connections, 1)
  assert.deepEqual(seen.closes, [])
})

test('a hub that does not know REFRESH is asked once', async (t) => {
  const hub = await scripted(t, (say, { id }) => say('ERROR', { id, code: 'unknown_type', message: 'type is "SEND" or "PING"' }))
  connect(t, hub.url, (context, n) => tokenOf(2, `t${n}`))
  await until(() => hub.refreshes.length === 1, SOON_MS, 'the new token')
  await quiet(() => hub.refreshes.length > 1, 1000, 'another one')
})

test('nothing is asked of a token without a readable end, a fixed one, or after the connection is gone', async (t) => {
  const hub = await scripted(t, acknowledge)
  const part = (value) => Buffer.from(JSON.stringify(value)).toString('base64url')
  const opaque = [null, 'opaque', 'a.b.c', `a.${part({ exp: 'soon' })}.c`, `a.${part({})}.c`, tokenOf(-3, 'over', { iat: undefined })]
  const pages = opaque.map((value) => connect(t, hub.url, () => value))
  const fixed = new VinhubClient(hub.url, { WebSocket, token: tokenOf(1, 'fixed') }).connect()
  t.defer(() => fixed.close())
  const closed = connect(t, hub.url, (context, n) => tokenOf(2, `t${n}`))
  await until(() => [...pages, closed].every(({ client }) => client.state === 'open'), SOON_MS, 'all to be open')
  closed.client.close()
  await quiet(() => hub.refreshes.length > 0 || [...pages, closed].some(({ asked }) => asked.length > 1), 3000, 'an ask')
})

test('a clock that is wrong does not keep it from asking in time', async (t) => {
  const hub = await scripted(t, acknowledge)
  for (const shift of [-100_000, 100_000]) {
    const before = hub.refreshes.length
    const life = { iat: inSeconds(shift), exp: inSeconds(shift + 2) }
    connect(t, hub.url, (context, n) => tokenOf(0, `t${n}`, n === 1 ? life : { exp: inSeconds(600) }))
    await until(() => hub.refreshes.length > before, SOON_MS, 'the new token')
  }
})
