// Contract section 11: how long keys of a node live in Redis, and the warning about a Redis that evicts keys.
import assert from 'node:assert/strict'
import { test } from '../lib/runner.mjs'
import { Backend } from '../lib/backend.mjs'
import { Browser } from '../lib/browser.mjs'
import { service, startHub } from '../lib/hub.mjs'
import { RedisServer } from '../lib/redis.mjs'
import { until } from '../lib/until.mjs'

const UPSTREAM = '/base/admin/VIN1'
const PAGE = '/admin/VIN1?remoteWs'
const SESSION = 'remoteWs:VIN1'
const RECORD = `vinhub:session:{${SESSION}}`
const HISTORY = `vinhub:history:{${SESSION}}`
const INDEX = 'vinhub:sessions'
const MINUTE_MS = 60_000
// A key's time runs from its write; this much may have passed when the test looks.
const LOOKED_MS = 30_000

async function start(t, settings = {}) {
  const [redis, backend] = await Promise.all([RedisServer.start(t), Backend.start(t)])
  const hub = await startHub(t, { id: 'a', redis, settings: { node: { lease: '1s' }, services: [service(backend, { linger: '100ms', ...settings })] } })
  return { redis, backend, hub }
}

async function assertLives(redis, key, ms) {
  const left = await redis.client.pttl(key)
  assert.ok(left <= ms && left > ms - LOOKED_MS, `${key} lives ${left} ms on, expected ${ms}`)
}

test('a record lives 30 minutes, and its time begins again with each write', async (t) => {
  const { redis, backend, hub } = await start(t)
  await Browser.open(t, hub.url(PAGE))
  await backend.one(UPSTREAM)
  await until(async () => await redis.client.hget(RECORD, 'clients') === '1', 5000, 'the record to be written')
  await assertLives(redis, RECORD, 30 * MINUTE_MS)
  await redis.client.pexpire(RECORD, 5 * MINUTE_MS)
  await Browser.open(t, hub.url(PAGE))
  await until(async () => await redis.client.hget(RECORD, 'clients') === '2', 5000, 'the record to be written again')
  await assertLives(redis, RECORD, 30 * MINUTE_MS)
})

for (const [ttl, minutes] of [['5m', 10], ['25m', 25]]) {
  test(`with history.ttl ${ttl} the history lives as long, and a released record ${minutes} minutes`, async (t) => {
    const { redis, backend, hub } = await start(t, { history: { ttl } })
    const page = await Browser.open(t, hub.url(PAGE))
    await backend.one(UPSTREAM)
    backend.push(UPSTREAM, 'kept')
    await page.got(1)
    await until(async () => await redis.client.xlen(HISTORY) === 1, 5000, 'the history')
    await assertLives(redis, HISTORY, parseInt(ttl) * MINUTE_MS)
    await page.close()
    await until(async () => await redis.client.hget(RECORD, 'owner') === '', 5000, 'the release')
    await assertLives(redis, RECORD, minutes * MINUTE_MS)
    await assertLives(redis, HISTORY, parseInt(ttl) * MINUTE_MS)
  })
}

test('the index of sessions loses what was not written for an hour, and nothing else', async (t) => {
  const { redis, backend, hub } = await start(t)
  const now = Date.now()
  await redis.client.zadd(INDEX, now - 61 * MINUTE_MS, 'remoteWs:OLD', now - 600 * MINUTE_MS, 'remoteWs:OLDER', now - 59 * MINUTE_MS, 'remoteWs:YOUNG')
  await Browser.open(t, hub.url(PAGE))
  await backend.one(UPSTREAM)
  await until(async () => await redis.client.zscore(INDEX, SESSION) !== null, 5000, 'the session to be listed')
  await until(async () => await redis.client.zscore(INDEX, 'remoteWs:OLD') === null, 5000, 'the old one to be taken out')
  assert.deepEqual(await redis.client.zrange(INDEX, 0, -1), ['remoteWs:YOUNG', SESSION])
  assert.ok(Math.abs(Number(await redis.client.zscore(INDEX, SESSION)) - Date.now()) < LOOKED_MS, 'the time of its writing')
})

for (const policy of ['allkeys-lru', 'volatile-ttl', 'noeviction']) {
  test(`maxmemory-policy ${policy} is ${policy === 'noeviction' ? 'not ' : ''}warned of, once`, async (t) => {
    const [redis, backend] = await Promise.all([RedisServer.start(t), Backend.start(t)])
    await redis.client.config('SET', 'maxmemory-policy', policy)
    const hub = await startHub(t, { redis, settings: { node: { lease: '1s' }, services: [service(backend)] } })
    await Browser.open(t, hub.url(PAGE))
    await backend.one(UPSTREAM)
    // Each new connection asks for it, so this one is killed.
    await redis.client.client('KILL', 'TYPE', 'normal', 'SKIPME', 'yes')
    await until(async () => await hub.metric('vinhub_bus_connected') === 1 && (await redis.client.client('LIST', 'TYPE', 'normal')).split('\n').length > 2,
      5000, 'another connection')
    const warnings = () => hub.lines.filter((line) => line.includes('maxmemory'))
    if (policy === 'noeviction') {
      await hub.stop() // its log is complete then
      assert.deepEqual(warnings(), [])
      return
    }
    await until(() => warnings().length > 0, 5000, 'the warning')
    assert.match(warnings()[0], new RegExp(` warn .*${policy}.*noeviction`))
    await hub.stop()
    assert.equal(warnings().length, 1, warnings().join('\n'))
  })
}
