// vinhubctl over Redis alone, whatever shape it has: Sentinel, Cluster, TLS with a user of few rights.
import assert from 'node:assert/strict'
import { dirname, join } from 'node:path'
import { Backend } from '../lib/backend.mjs'
import { Browser } from '../lib/browser.mjs'
import { service, startCluster, VINHUB } from '../lib/hub.mjs'
import { Child, run } from '../lib/process.mjs'
import { RedisCluster, RedisSecured, RedisSentinel } from '../lib/redis-shapes.mjs'
import { test } from '../lib/runner.mjs'
import { until } from '../lib/until.mjs'

const CTL = join(dirname(VINHUB), 'vinhubctl')
const UPSTREAM = '/base/admin/VIN1'
const ID = 'remoteWs:VIN1'
const SOON_MS = 15_000
const RIGHTS = ['resetkeys', '~vinhub:*', 'resetchannels', '&vinhub:*', '+@all', '-@dangerous', '+info']

const shapes = [
  ['Sentinel', (t) => RedisSentinel.start(t)],
  ['Cluster', (t) => RedisCluster.start(t)],
  ['TLS and a user', (t) => RedisSecured.start(t, RIGHTS)],
]

for (const [shape, start] of shapes) {
  test(`${shape}: all that vinhubctl does`, { timeout: 90_000 }, async (t) => {
    const [redis, backend] = await Promise.all([start(t), Backend.start(t)])
    const settings = { node: { lease: '3s' }, redis: redis.tlsCa ? { tls_ca: redis.tlsCa } : {}, services: [service(backend)] }
    const hubs = await startCluster(t, { redis, nodes: 2, settings })
    const browsers = [await Browser.open(t, hubs[0].url('/admin/VIN1?remoteWs')), await Browser.open(t, hubs[1].url('/admin/VIN1?remoteWs'))]
    await backend.one(UPSTREAM)
    const flags = ['--redis', redis.url, ...(redis.tlsCa ? ['--ca', redis.tlsCa] : [])]
    const ctl = async (...args) => {
      const { code, out, err } = await run(CTL, [...flags, '--json', ...args])
      assert.equal(code, 0, `${args.join(' ')}: ${err}`)
      return JSON.parse(out)
    }
    assert.deepEqual((await ctl('nodes')).nodes.map(({ id }) => id).sort(), ['a', 'b'])
    await until(async () => (await ctl('session', ID)).members === 2, SOON_MS, 'the record of the session')
    assert.deepEqual((await ctl('sessions')).sessions.map(({ id, clients }) => [id, clients]), [[ID, 2]])
    const tail = new Child(CTL, [...flags, 'tail', ID])
    t.defer(() => tail.stop('SIGTERM'))
    await until(async () => {
      await ctl('publish', ID, 'from afar')
      return tail.out.includes('from afar')
    }, SOON_MS, 'a publish in the tail')
    assert.ok(browsers.every((browser) => browser.texts().includes('from afar')))
    await ctl('close', ID)
    assert.deepEqual(await Promise.all(browsers.map(async (browser) => (await browser.ended()).code)), [4006, 4006])
    hubs[1].mayEnd = true
    await ctl('drain', 'b')
    assert.equal((await hubs[1].child.exited).code, 0, 'the node drained and stopped')
    const missing = await run(CTL, [...flags, 'session', 'remoteWs:NOPE'])
    assert.equal(missing.code, 1)
  })
}
