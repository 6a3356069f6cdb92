// The library with one hub: which events it emits, when it reconnects, and when it must not.
import assert from 'node:assert/strict'
import { createHmac } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Backend } from '../lib/backend.mjs'
import { scratch, service, startHub } from '../lib/hub.mjs'
import { TcpProxy } from '../lib/tcp-proxy.mjs'
import { test } from '../lib/runner.mjs'
import { quiet, until } from '../lib/until.mjs'
import { openPage, seen, startClient } from './page.mjs'

const UPSTREAM = '/base/admin/VIN1'
const PATH = '/admin/VIN1?remoteWs'
const SOON_MS = 20_000
const PING_BYTES = 10 // the frame of a page's text `ping`
const PACE_MS = 4000 // three heartbeats of 300 ms, on a busy machine, and less than three of their timeouts
const NEVER_MS = 600_000 // a back-off that no case waits for: an earlier reconnect has another reason

async function startOne(t, settings = {}) {
  const backend = await Backend.start(t)
  const hub = await startHub(t, { id: 'a', settings: { services: [service(backend)], ...settings } })
  return { backend, hub }
}

const stateIs = (page, state) =>
  until(() => page.evaluate((wanted) => window.client.state === wanted, state), SOON_MS, `the client to be ${state}`)
const upstreamIs = (page, upstream) =>
  until(() => page.evaluate((wanted) => window.client.upstream === wanted, upstream), SOON_MS, `the upstream to be ${upstream}`)
const got = (page, count) =>
  until(async () => (await seen(page)).messages.length >= count, SOON_MS, `${count} messages`)
const opens = async (page) => (await seen(page)).states.filter(({ state }, at, all) => state === 'open' && all[at - 1]?.state !== 'open').length

test('v1: text and bytes come with their positions, sends are acknowledged, the state of the upstream is reported', { timeout: 120_000 }, async (t) => {
  const { backend, hub } = await startOne(t)
  const page = await openPage(t)
  await startClient(page, hub.url(PATH))
  await upstreamIs(page, 'connected')
  await backend.one(UPSTREAM)
  backend.push(UPSTREAM, 'Türe offen 车门 "{}"')
  backend.push(UPSTREAM, Buffer.from([0, 255, 128]), { binary: true })
  backend.push(UPSTREAM, '')
  await got(page, 3)
  const { messages, metas, states } = await seen(page)
  assert.deepEqual(messages, ['Türe offen 车门 "{}"', [0, 255, 128], ''])
  assert.deepEqual(metas.map(({ offset }) => offset), [1, 2, 3])
  assert.equal(await page.evaluate(() => window.client.position), `${metas[2].epoch}.3`)
  assert.equal(states.find(({ state }) => state === 'open').node, 'a')

  await page.evaluate(async () => {
    await window.client.send('{"functionID":"123"}')
    await window.client.send(new Uint8Array([1, 2, 254]))
    await window.client.send('half a pair \ud83d')
  })
  assert.deepEqual(backend.messages.map(({ text, data }) => text ?? [...data]), ['{"functionID":"123"}', [1, 2, 254], 'half a pair \ufffd'])
  assert.equal(await page.evaluate(() => window.client.pending), 0)

  await backend.kill()
  await until(() => page.evaluate(() => window.client.upstream !== 'connected'), SOON_MS, 'the page to be told of the upstream')
  assert.equal(await opens(page), 1)
})

test('raw: payloads as they are, text heartbeats, and a message given too early waits', { timeout: 120_000 }, async (t) => {
  const { backend, hub } = await startOne(t)
  const proxy = await TcpProxy.start(t, hub.port)
  const page = await openPage(t)
  await page.evaluate((url) => {
    window.startClient(url, { mode: 'raw', heartbeat: { every: 300, timeout: 4000 }, reconnect: { min: 50, max: 200 } })
    window.send('before it is open')
  }, `ws://127.0.0.1:${proxy.port}${PATH}`)
  await until(() => backend.texts().includes('before it is open'), SOON_MS, 'the early message')
  const before = proxyBytes(proxy)
  await until(() => proxyBytes(proxy) >= before + 3 * PING_BYTES, PACE_MS, 'three pings at the pace of 300 ms')
  backend.push(UPSTREAM, '{"a":1}')
  backend.push(UPSTREAM, Buffer.from([7]), { binary: true })
  await got(page, 2)
  assert.deepEqual((await seen(page)).messages, ['{"a":1}', [7]], 'no pong among them')
  assert.deepEqual(backend.texts(), ['before it is open'], 'no ping among them')

  proxy.silence() // no end closes: only the heartbeat can notice
  await until(async () => (await seen(page)).closes.some(({ reason }) => reason === 'no heartbeat'), SOON_MS, 'the silence to be noticed')
  proxy.heal()
  await stateIs(page, 'open')
  backend.push(UPSTREAM, 'back')
  await until(async () => (await seen(page)).messages.includes('back'), SOON_MS, 'pushes again')
})

/** Bytes that came from the page over all connections there are. */
const proxyBytes = (proxy) => [...proxy.links].reduce((sum, { client }) => sum + client.bytesRead, 0)

test('the network goes and comes back: resumed at once, nothing missing, nothing twice', { timeout: 120_000 }, async (t) => {
  const { backend, hub } = await startOne(t)
  const proxy = await TcpProxy.start(t, hub.port)
  const page = await openPage(t)
  const context = page.context()
  await startClient(page, `ws://127.0.0.1:${proxy.port}${PATH}`, {
    heartbeat: { every: 60_000, timeout: 60_000, probe: 500 }, reconnect: { min: NEVER_MS, max: NEVER_MS },
  })
  await upstreamIs(page, 'connected')
  await backend.one(UPSTREAM)
  for (let n = 0; n < 10; n++) backend.push(UPSTREAM, `#${n}`)
  await got(page, 10)

  proxy.silence() // just after a push: a recent message must not delay it
  await context.setOffline(true)
  await context.setOffline(false)
  await until(async () => (await seen(page)).closes.length > 0, SOON_MS, 'the probe to find the network gone')
  assert.equal((await seen(page)).states.find(({ state }) => state === 'waiting').retryIn, 0)
  await context.setOffline(true)
  for (let n = 10; n < 50; n++) backend.push(UPSTREAM, `#${n}`)
  proxy.reset()
  proxy.heal()
  await context.setOffline(false)
  await got(page, 50)
  const { messages, gaps, states } = await seen(page)
  assert.deepEqual(messages, Array.from({ length: 50 }, (_, n) => `#${n}`))
  assert.deepEqual(gaps, [])
  assert.equal(states.findLast(({ state }) => state === 'open').resumed, true)
})

test('a send whose acknowledgement is lost reaches the backend once', { timeout: 120_000 }, async (t) => {
  const { backend, hub } = await startOne(t)
  const proxy = await TcpProxy.start(t, hub.port)
  const page = await openPage(t)
  await startClient(page, `ws://127.0.0.1:${proxy.port}${PATH}`, { reconnect: { min: 50, max: 200 } })
  await upstreamIs(page, 'connected')
  const all = Array.from({ length: 40 }, (_, n) => `command ${n}`)
  for (let round = 0; round < 4; round++) {
    const part = all.slice(round * 10, round * 10 + 10)
    for (const { server } of proxy.links) server.pause() // nothing of the hub arrives any more
    await page.evaluate((texts) => texts.slice(0, 5).forEach((text) => window.send(text)), part)
    await until(() => backend.texts().includes(part[4]), SOON_MS, 'the commands at the backend')
    proxy.cut()
    await page.evaluate((texts) => texts.slice(5).forEach((text) => window.send(text)), part)
    proxy.heal()
    await until(() => page.evaluate(() => window.client.pending === 0), SOON_MS, 'all to be acknowledged')
  }
  const { acks, refused } = await seen(page)
  assert.deepEqual(acks, all)
  assert.deepEqual(refused, [])
  assert.deepEqual(backend.texts(), all, 'each once, in order')
  const sends = (await page.evaluate(() => window.written)).filter((text) => text.includes('SEND'))
  assert.ok(sends.length > all.length, 'some were repeated')
  assert.equal(new Set(sends).size, sends.length, 'none on the same connection')
})

test('a message that is too large is refused alone', { timeout: 120_000 }, async (t) => {
  const { backend, hub } = await startOne(t, { clients: { max_message: '10KiB' } })
  const page = await openPage(t)
  await startClient(page, hub.url(PATH), { reconnect: { min: 50, max: 200 } })
  await upstreamIs(page, 'connected')
  await page.evaluate(() => {
    window.send('small one')
    window.send('x'.repeat(20_000))
    window.send('small two')
  })
  await until(() => page.evaluate(() => window.client.pending === 0), SOON_MS, 'nothing to be pending')
  const { acks, refused, closes } = await seen(page)
  assert.deepEqual(acks, ['small one', 'small two'])
  assert.deepEqual(refused, [{ code: 'too_large', sent: true }])
  assert.equal(closes[0].code, 4003)
  assert.deepEqual(backend.texts(), ['small one', 'small two'])
})

test('messages are given up in time, in number, and at the end', { timeout: 120_000 }, async (t) => {
  const page = await openPage(t)
  await startClient(page, 'ws://127.0.0.1:1/admin/VIN1?remoteWs', { maxPending: 2, reconnect: { min: NEVER_MS, max: NEVER_MS } })
  await page.evaluate(() => {
    window.send('short', { timeout: 50 })
    window.send('long')
    window.send('one too many')
  })
  await until(async () => (await seen(page)).refused.length === 2, SOON_MS, 'two refusals')
  await page.evaluate(() => window.client.close())
  await until(async () => (await seen(page)).refused.length === 3, SOON_MS, 'three refusals')
  const codes = (await seen(page)).refused
  assert.deepEqual(codes, [{ code: 'full', sent: false }, { code: 'timeout', sent: false }, { code: 'closed', sent: false }])
  await assert.rejects(page.evaluate(() => window.client.send('after the end')), /closed/)
  await assert.rejects(page.evaluate(() => window.client.send({ no: 'text' })), /expected a string, an ArrayBuffer/)
})

test('an operator\'s close is final until the page connects again; close() leaves nothing behind', { timeout: 120_000 }, async (t) => {
  const { backend, hub } = await startOne(t)
  const page = await openPage(t)
  await startClient(page, hub.url(PATH), { reconnect: { min: 20, max: 50 } })
  await upstreamIs(page, 'connected')
  const { status } = await hub.admin('/api/sessions/remoteWs%3AVIN1/close', { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: '{}' })
  assert.ok(status < 300, `close answered ${status}`)
  await stateIs(page, 'failed')
  assert.deepEqual((await seen(page)).closes.map(({ code }) => code), [4006])
  await quiet(() => page.evaluate(() => {
    document.dispatchEvent(new Event('visibilitychange'))
    window.dispatchEvent(new Event('online'))
    return window.client.state !== 'failed'
  }), 1000, 'a client that was sent away comes back')
  await page.evaluate(() => window.client.connect())
  await stateIs(page, 'open')
  await backend.one(UPSTREAM)

  await page.evaluate(() => { window.send('x'); window.client.close() })
  await until(async () => await hub.metric('vinhub_clients') === 0, SOON_MS, 'the hub to have no client')
  await quiet(async () => await hub.metric('vinhub_clients') !== 0 || await page.evaluate(() => window.client.state !== 'closed'), 1000,
    'a closed client comes back')
})

// --- tokens ---

const SECRET = 'a secret of more than thirty-two bytes, for tests'

function tokenFor(lifetime_s, claims = {}) {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString('base64url')
  const body = `${part({ alg: 'HS256', typ: 'JWT' })}.${part({ sub: 'admin', vins: ['VIN1'], exp: Date.now() / 1000 + lifetime_s, ...claims })}`
  return `${body}.${createHmac('sha256', SECRET).update(body).digest('base64url')}`
}

async function startGuarded(t) {
  const file = join(scratch(t), 'secret')
  writeFileSync(file, SECRET)
  return startOne(t, { auth: { mode: 'jwt', secret_file: file } })
}

for (const mode of ['v1', 'raw']) {
  test(`${mode}: a token that runs out is replaced at once, and a stream goes on`, { timeout: 120_000 }, async (t) => {
    const { backend, hub } = await startGuarded(t)
    const page = await openPage(t)
    // 5 s of leeway: the first token is good for 3 s more.
    await startClient(page, hub.url(PATH), { mode, tokens: [tokenFor(-2), tokenFor(600)], reconnect: { min: NEVER_MS, max: NEVER_MS } })
    await stateIs(page, 'open')
    await backend.one(UPSTREAM)
    backend.push(UPSTREAM, 'one')
    await got(page, 1)
    await until(async () => (await seen(page)).closes.length > 0, SOON_MS, 'the token to run out')
    backend.push(UPSTREAM, 'two')
    await stateIs(page, 'open')
    await until(async () => await hub.metric('vinhub_clients') === 1, SOON_MS, 'the hub to have the client again')
    backend.push(UPSTREAM, 'three')
    await until(async () => (await seen(page)).messages.includes('three'), SOON_MS, 'pushes again')
    assert.deepEqual((await seen(page)).closes.map(({ code }) => code), [4001])
    const asked = await page.evaluate(() => window.asked)
    assert.deepEqual(asked.map(({ refused }) => refused), [false, true])
    if (mode === 'v1') assert.deepEqual((await seen(page)).messages, ['one', 'two', 'three'])
  })

  test(`${mode}: tokens that are refused again and again are given up; connect() tries again`, { timeout: 120_000 }, async (t) => {
    const { hub } = await startGuarded(t)
    const page = await openPage(t)
    const foreign = tokenFor(600, { sub: 'somebody' })
    await startClient(page, hub.url(PATH), { mode, tokenIn: 'query', tokens: [foreign, foreign, foreign, tokenFor(600)], reconnect: { min: 20, max: 50 } })
    await stateIs(page, 'failed')
    assert.deepEqual(await page.evaluate(() => window.asked.map(({ refusals }) => refusals)), [0, 1, 2])
    assert.deepEqual((await seen(page)).closes.map(({ code }) => code), [4001, 4001, 4001])
    await page.evaluate(() => window.client.connect())
    await stateIs(page, 'open')
  })
}
