// Contract section 6, "Rate": how many messages come, which and when; in each protocol, and in a resume.
import assert from 'node:assert/strict'
import { decode } from '@msgpack/msgpack'
import { test } from '../lib/runner.mjs'
import { Backend } from '../lib/backend.mjs'
import { Browser } from '../lib/browser.mjs'
import { countedMs, mark } from '../lib/busy.mjs'
import { EventStream } from '../lib/event-stream.mjs'
import { service, SLACK_MS, startHub } from '../lib/hub.mjs'
import { until } from '../lib/until.mjs'

const UPSTREAM = '/base/admin/VIN1'
const PAGE = '/admin/VIN1?remoteWs'

async function start(t, serviceSettings = {}) {
  const backend = await Backend.start(t)
  const hub = await startHub(t, { settings: { services: [service(backend, serviceSettings)] } })
  return { backend, hub }
}

/** A client of each protocol: {messages()} -> [{epoch, offset, payload}], {gaps()}. */
const PROTOCOLS = {
  'vinhub.v1': (t, hub, path) => protocolClient(t, hub, path, 'vinhub.v1', JSON.parse),
  'vinhub.v1.msgpack': (t, hub, path) => protocolClient(t, hub, path, 'vinhub.v1.msgpack', decode),
  async 'event stream'(t, hub, path) {
    const stream = await EventStream.open(t, hub.port, path)
    await stream.welcomed()
    return {
      messages: () => stream.of('message').map(({ id, data }) => ({ epoch: Number(id.split('.')[0]), offset: Number(id.split('.')[1]), payload: data })),
      gaps: () => stream.of('gap'),
    }
  },
}

async function protocolClient(t, hub, path, protocol, read) {
  const browser = await Browser.open(t, hub.url(path), { protocols: [protocol] })
  const seen = () => browser.received.map(({ data }) => read(data))
  await until(() => seen().some(({ type }) => type === 'WELCOME'), 5000, 'WELCOME')
  return { messages: () => seen().filter(({ type }) => type === 'MESSAGE'), gaps: () => seen().filter(({ type }) => type === 'GAP') }
}

/** Pushes n messages, one each `every` ms. */
async function pushEach(backend, n, every) {
  const began = performance.now()
  for (let k = 0; k < n; k++) {
    await until(() => performance.now() - began >= k * every, every * n + 5000, 'the time of the next')
    backend.push(UPSTREAM, `m${k}`)
  }
}

test('rate=2 at 20 pushes a second: two a second, the newest, the last one always; others get all', async (t) => {
  const { backend, hub } = await start(t)
  const all = await PROTOCOLS['vinhub.v1'](t, hub, PAGE)
  const clients = await Promise.all(Object.values(PROTOCOLS).map((open) => open(t, hub, `${PAGE}&rate=2`)))
  await backend.one(UPSTREAM)
  await pushEach(backend, 60, 50)
  const pushed = mark()
  for (const client of clients) await until(() => client.messages().at(-1)?.payload === 'm59', 550 + SLACK_MS, 'the last one')
  assert.ok(countedMs(pushed) <= 550 + SLACK_MS)
  await until(() => all.messages().length === 60, 2000, 'all of them')
  for (const client of clients) {
    const messages = client.messages()
    // 3 s of pushes: the first at once, then each half second, then the last.
    assert.ok(messages.length >= 5 && messages.length <= 8, `${messages.length} messages in three seconds`)
    assert.equal(messages[0].payload, 'm0', 'the first waits for nothing')
    const offsets = messages.map(({ offset }) => offset)
    assert.deepEqual(offsets, [...offsets].sort((a, b) => a - b))
    assert.equal(client.gaps().length, 0, 'what was replaced is no loss')
    const given = new Map(all.messages().map(({ offset, payload }) => [offset, payload]))
    for (const { offset, payload } of messages) assert.equal(payload, given.get(offset))
  }
  const sent = clients.reduce((sum, client) => sum + client.messages().length, 60)
  assert.equal(await hub.metric('vinhub_messages_out_total'), sent)
  assert.equal(await hub.metric('vinhub_conflated_total'), 4 * 60 - sent)
  assert.equal(await hub.metric('vinhub_dropped_total'), 0)
})

test('a resume with a rate gives the newest, and no gap', async (t) => {
  const { backend, hub } = await start(t)
  const watcher = await PROTOCOLS['vinhub.v1'](t, hub, PAGE)
  await backend.one(UPSTREAM)
  await pushEach(backend, 20, 1)
  await until(() => watcher.messages().length === 20, 5000, 'all of them')
  const { epoch, offset } = watcher.messages()[4]
  for (const open of Object.values(PROTOCOLS)) {
    const client = await open(t, hub, `${PAGE}&rate=1&resume=${epoch}.${offset}`)
    await until(() => client.messages().length > 0, 5000, 'the newest')
    assert.deepEqual(client.messages().map(({ payload }) => payload), ['m19'])
    assert.equal(client.gaps().length, 0)
  }
})

test('each subscription of a connection has a rate of its own', async (t) => {
  const { backend, hub } = await start(t)
  const browser = await Browser.open(t, hub.url('/admin?subscribe'), { protocols: ['vinhub.v1'] })
  const urls = ['/admin/V1?remoteWs&rate=1', '/admin/V2?remoteWs&rate=5', '/admin/V3?remoteWs']
  browser.send(JSON.stringify({ type: 'SUBSCRIBE', id: 1, urls }))
  const seen = (type) => browser.texts().map((text) => JSON.parse(text)).filter((message) => message.type === type)
  await until(() => seen('WELCOME').filter(({ url }) => url).length === 3, 5000, 'three answers')
  for (const vin of ['V1', 'V2', 'V3']) await backend.one(`/base/admin/${vin}`)
  const began = performance.now()
  for (let n = 0; n < 40; n++) {
    await until(() => performance.now() - began >= n * 50, 10_000, 'the time of the next')
    for (const vin of ['V1', 'V2', 'V3']) backend.push(`/base/admin/${vin}`, `m${n}`)
  }
  const of = (vin) => seen('MESSAGE').filter(({ session }) => session === `remoteWs:${vin}`).map(({ payload }) => payload)
  for (const vin of ['V1', 'V2', 'V3']) await until(() => of(vin).at(-1) === 'm39', 1050 + SLACK_MS, `the last of ${vin}`)
  assert.equal(of('V3').length, 40)
  assert.ok(of('V1').length >= 3 && of('V1').length <= 4, `${of('V1').length} of V1 in two seconds`)
  assert.ok(of('V2').length >= 8 && of('V2').length <= 13, `${of('V2').length} of V2 in two seconds`)
  assert.equal(seen('GAP').length, 0)
})

test('a rate that is none is malformed; of a raw client it is the backend\'s parameter', async (t) => {
  const { backend, hub } = await start(t)
  for (const rate of ['0', '0.09', '100.1', '-1', 'x', '', '1e1', '1&rate=1']) {
    await assert.rejects(Browser.open(t, hub.url(`${PAGE}&rate=${rate}`), { protocols: ['vinhub.v1'] }), /400/, `rate=${rate}`)
    assert.equal((await EventStream.open(t, hub.port, `${PAGE}&rate=${rate}`)).status, 400, `rate=${rate}`)
  }
  const raw = await Browser.open(t, hub.url(`${PAGE}&rate=1`))
  await backend.one(`${UPSTREAM}?rate=1`)
  for (let k = 0; k < 10; k++) backend.push(`${UPSTREAM}?rate=1`, `m${k}`)
  await raw.got(10)
})

test('a client with a rate that does not read gets the newest when it reads on, whatever the policy', { timeout: 90_000 }, async (t) => {
  const { backend, hub } = await start(t, { slow_client: { queue: '64KiB', policy: 'close' } })
  const reader = await Browser.open(t, hub.url(PAGE))
  const sleeper = await EventStream.open(t, hub.port, `${PAGE}&rate=100`)
  await sleeper.welcomed()
  await backend.one(UPSTREAM)
  sleeper.response.pause()
  const count = 300
  for (let n = 0; n < count; n++) { // far more than the kernel keeps for it
    backend.push(UPSTREAM, `${n}:`.padEnd(128 * 1024, '.'))
    await until(() => reader.received.length > n - 2, 5000, () => `the reader to keep up at ${n}`)
  }
  await reader.got(count)
  sleeper.response.resume()
  await until(() => sleeper.messages().at(-1)?.startsWith(`${count - 1}:`), 15_000, 'the newest')
  const numbers = sleeper.messages().map((data) => parseInt(data, 10))
  assert.ok(numbers.length < count)
  assert.ok(numbers.every((n, k) => k === 0 || n > numbers[k - 1]), 'in order')
  assert.equal(sleeper.of('gap').length, 0)
  assert.ok(!sleeper.ended)
  assert.equal(await hub.metric('vinhub_dropped_total'), 0)
})
