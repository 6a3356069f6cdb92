// Contract section 12: a line for each end of a client and a session; a cause that stays is logged once, each new cause at once.
import assert from 'node:assert/strict'
import { test } from '../lib/runner.mjs'
import { Backend } from '../lib/backend.mjs'
import { Browser } from '../lib/browser.mjs'
import { service, startHub } from '../lib/hub.mjs'
import { handshake } from '../lib/net.mjs'
import { until } from '../lib/until.mjs'

const PAGE = '/admin/VIN1?remoteWs'
const UPSTREAM = '/base/admin/VIN1'

async function start(t, settings = {}) {
  const backend = await Backend.start(t)
  const services = [service(backend, { reconnect: { min: '50ms', max: '100ms' }, linger: '50ms' })]
  const hub = await startHub(t, { settings: { services, log: { format: 'json' }, ...settings } })
  const lines = (event) => hub.lines.map((line) => JSON.parse(line)).filter((line) => line.event === event)
  return { backend, hub, lines }
}

test('each end of a client and a session has its line, however alike they are', async (t) => {
  const { backend, hub, lines } = await start(t)
  const count = 50
  for (let round = 1; round <= 2; round++) {
    const pages = await Promise.all(Array.from({ length: count }, () => Browser.open(t, hub.url(PAGE))))
    await backend.one(UPSTREAM)
    await Promise.all(pages.map((page) => page.close()))
    await until(() => lines('session_closed').length >= round, 5000, 'the end of the session')
  }
  await until(() => lines('client_closed').length >= 2 * count, 5000, () => `${2 * count} lines (have ${lines('client_closed').length})`)
  await hub.stop()
  assert.equal(lines('client_closed').length, 2 * count)
  assert.equal(lines('session_closed').length, 2)
  for (const line of lines('client_closed')) {
    assert.deepEqual([line.user, line.address, line.code, line.session], ['admin', '127.0.0.1', 1000, 'remoteWs:VIN1'], JSON.stringify(line))
    assert.ok(line.duration_ms >= 0 && line.repeated === undefined, JSON.stringify(line))
  }
})

test('an upstream that fails again and again for one cause is logged once, for another cause again', async (t) => {
  const { backend, hub, lines } = await start(t)
  const fail = async (how) => {
    backend.handshake = how
    const before = backend.upgrades.length
    await until(() => backend.upgrades.length >= before + 6, 30_000, `six tries (${how})`)
  }
  await Promise.all([hub.url(PAGE), hub.url(PAGE)].map((url) => Browser.open(t, url)))
  await backend.one(UPSTREAM)
  backend.handshake = 503
  backend.open(UPSTREAM)[0].socket.terminate()
  for (const how of [503, 502, 503]) await fail(how)
  await until(async () => await hub.metric('vinhub_log_suppressed_total') >= 10, 5000, 'lines to be held back')
  await hub.stop()
  const told = (status) => lines('upstream_lost').filter(({ reason }) => reason.includes(String(status)))
  assert.deepEqual([told(503).length, told(502).length], [1, 1], JSON.stringify(lines('upstream_lost')))
})

test('what a stranger tries again and again leaves one line, and no other cause is hidden by it', async (t) => {
  const { hub, lines } = await start(t, { origins: ['good.example'] })
  for (let n = 0; n < 30; n++) {
    assert.equal((await handshake(hub.port, PAGE, { Origin: 'https://bad.example' })).status, 403)
    assert.equal((await handshake(hub.port, `/admin/VIN1?unknown${n % 2}`)).status, 404)
  }
  assert.equal((await handshake(hub.port, '/a/../b?remoteWs')).status, 400)
  assert.equal(await hub.metric('vinhub_refused_total', 'origin'), 30)
  await hub.stop()
  const refused = lines('client_refused')
  const of = (status) => refused.filter((line) => String(line.status) === String(status))
  assert.equal(of(403).length, 1, JSON.stringify(refused))
  assert.ok(of(404).length >= 1 && of(404).length <= 2, JSON.stringify(refused))
  assert.equal(of(400).length, 1, JSON.stringify(refused))
})
