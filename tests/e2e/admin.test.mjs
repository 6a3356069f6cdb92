// Contract section 10: the admin port's documents, errors and who may ask.
import assert from 'node:assert/strict'
import { test } from '../lib/runner.mjs'
import { Backend } from '../lib/backend.mjs'
import { Browser } from '../lib/browser.mjs'
import { service, startCluster, startHub } from '../lib/hub.mjs'
import { RedisServer } from '../lib/redis.mjs'
import { quiet, until } from '../lib/until.mjs'

const UPSTREAM = '/base/admin/VIN1'
const PAGE = '/admin/VIN1?remoteWs'
const JSON_TYPE = { 'Content-Type': 'application/json' }

async function start(t, settings = {}, options = {}) {
  const backend = await Backend.start(t)
  const hub = await startHub(t, { settings: { services: [service(backend)], ...settings }, ...options })
  return { backend, hub }
}

/** The answer must be this status with a JSON body {"error": text}. */
async function assertError(hub, status, path, options) {
  const answer = await hub.admin(path, options)
  assert.equal(answer.status, status, `${options?.method ?? 'GET'} ${path}: ${answer.status} ${answer.body}`)
  assert.match(answer.headers['content-type'], /application\/json/)
  assert.equal(typeof answer.json().error, 'string', answer.body)
}

test('healthz and readyz', async (t) => {
  const { hub } = await start(t)
  for (const path of ['/healthz', '/readyz']) assert.equal((await hub.admin(path)).status, 200, path)
})

test('metrics are Prometheus text and count what happens', async (t) => {
  const { backend, hub } = await start(t)
  const { headers, body } = await hub.admin('/metrics')
  assert.match(headers['content-type'], /text\/plain/)
  for (const name of ['vinhub_clients', 'vinhub_sessions', 'vinhub_upstreams', 'vinhub_messages_in_total', 'vinhub_messages_out_total',
    'vinhub_dropped_total', 'vinhub_refused_total']) assert.match(body, new RegExp(`^# TYPE ${name} (gauge|counter)$`, 'm'))
  for (const line of body.trimEnd().split('\n')) {
    assert.match(line, /^(# (HELP|TYPE) vinhub_\w+ .+|vinhub_\w+(\{(\w+="[^"]*",?)*\})? -?[\d.e+-]+|# EOF)$/, `a line of the format: ${line}`)
  }
  const pages = await Promise.all([1, 2, 3].map(() => Browser.open(t, hub.url(PAGE))))
  await backend.one(UPSTREAM)
  for (const [name, value] of [['vinhub_clients', 3], ['vinhub_sessions', 1], ['vinhub_upstreams', 1]]) {
    await until(async () => await hub.metric(name) === value, 2000, `${name} to be ${value}`)
  }
  const before = [await hub.metric('vinhub_messages_in_total'), await hub.metric('vinhub_messages_out_total')]
  backend.push(UPSTREAM, 'to three')
  await Promise.all(pages.map((page) => page.got(1)))
  await until(async () => await hub.metric('vinhub_messages_in_total') > before[0]
    && await hub.metric('vinhub_messages_out_total') >= before[1] + 3, 2000, 'the push to be counted')
  await Promise.all(pages.map((page) => page.close()))
  await until(async () => await hub.metric('vinhub_clients') === 0, 2000, 'no client to be left')
})

test('websocket-stats has the fields of the relay', async (t) => {
  const { backend, hub } = await start(t, { node: { id: 'n1' } })
  await Browser.open(t, hub.url(PAGE))
  await backend.one(UPSTREAM)
  const stats = await hub.json('/websocket-stats')
  assert.equal(stats.node, 'n1')
  assert.deepEqual([stats.connections, stats.sessions, stats.upstreams], [1, 1, 1])
  for (const field of ['messages', 'errors', 'memoryUsage', 'uptime']) assert.ok(stats[field] !== undefined, `field ${field}`)
})

test('api/nodes and api/sessions show the whole cluster on any node', async (t) => {
  const [redis, backend] = await Promise.all([RedisServer.start(t), Backend.start(t)])
  const hubs = await startCluster(t, { redis, nodes: 2, settings: { node: { lease: '1s' }, services: [service(backend)] } })
  const [a, b] = hubs
  await Promise.all([Browser.open(t, a.url(PAGE)), Browser.open(t, b.url('/admin/VIN2?remoteWs'))])
  for (const hub of hubs) {
    await until(async () => (await hub.json('/api/nodes')).nodes.every(({ clients }) => Number(clients) === 1), 5000, 'both nodes with a client')
    const { nodes } = await hub.json('/api/nodes')
    assert.deepEqual(nodes.map(({ id }) => id).sort(), ['a', 'b'])
    for (const field of ['host', 'pid', 'version', 'started', 'lease', 'listen', 'admin', 'state', 'clients', 'sessions',
      'upstreams', 'msgs_in', 'msgs_out', 'rss', 'loop_lag_ms']) assert.ok(nodes[0][field] !== undefined, `field ${field}`)
    await until(async () => (await hub.json('/api/sessions')).sessions.length === 2, 5000, 'both sessions')
    const { sessions } = await hub.json('/api/sessions')
    assert.deepEqual(sessions.map(({ id }) => id).sort(), ['remoteWs:VIN1', 'remoteWs:VIN2'])
    for (const field of ['owner', 'epoch', 'state', 'upstream', 'since', 'clients', 'members', 'offset']) assert.ok(sessions[0][field] !== undefined, `field ${field}`)
    await until(async () => {
      const { id, owner, state } = await hub.json('/api/sessions/remoteWs:VIN1')
      return id === 'remoteWs:VIN1' && owner === 'a' && state === 'connected'
    }, 5000, `the session of the other node on ${hub.id}`)
  }
})

test('api/sessions comes in pages', async (t) => {
  const { backend, hub } = await start(t)
  const vins = Array.from({ length: 25 }, (_, n) => `V${String(n).padStart(2, '0')}`)
  await Promise.all(vins.map((vin) => Browser.open(t, hub.url(`/admin/${vin}?remoteWs`))))
  await until(() => backend.upstreams.size === vins.length, 5000, 'all upstreams')
  const ids = []
  let after = ''
  for (let page = 0; page < 10; page++) {
    const { sessions, next } = await hub.json(`/api/sessions?limit=10${after ? `&after=${encodeURIComponent(after)}` : ''}`)
    assert.ok(sessions.length <= 10)
    ids.push(...sessions.map(({ id }) => id))
    if (!next) break
    after = next
  }
  assert.deepEqual(ids.sort(), vins.map((vin) => `remoteWs:${vin}`))
  assert.ok(after, 'there was more than one page')
})

test('errors are JSON: unknown path and session, method, content type, size', async (t) => {
  const { hub } = await start(t)
  await assertError(hub, 404, '/nowhere')
  await assertError(hub, 404, '/api/sessions/remoteWs:NONE')
  for (const path of ['/healthz', '/metrics', '/api/nodes', '/api/sessions']) await assertError(hub, 405, path, { method: 'DELETE' })
  await assertError(hub, 405, '/api/nodes', { method: 'POST', headers: JSON_TYPE, body: '{}' })
  await assertError(hub, 405, '/api/publish')
  await assertError(hub, 415, '/api/publish', { method: 'POST', headers: { 'Content-Type': 'text/plain' }, body: '{}' })
  await assertError(hub, 413, '/api/publish', { method: 'POST', headers: JSON_TYPE, body: `{"data":"${'x'.repeat(4 * 1024 * 1024)}"}` })
  await assertError(hub, 404, '/api/publish', { method: 'POST', headers: JSON_TYPE, body: '{"session":"remoteWs:NONE","data":"x"}' })
})

test('a large body is read for what it brings: its texts, or that it has too many values', async (t) => {
  const { backend, hub } = await start(t)
  const page = await Browser.open(t, hub.url(PAGE))
  await backend.one(UPSTREAM)
  const publish = (body) => hub.admin('/api/publish', { method: 'POST', headers: JSON_TYPE, body })
  const session = 'remoteWs:VIN1'
  const text = '{"a": "\u00e4\\n\n"}'.repeat(10_000)
  assert.equal((await publish(JSON.stringify({ more: { any: [1, null] }, data: text, session }))).status, 200)
  await page.got(1)
  assert.equal(page.received[0].text, text)
  const bytes = Buffer.alloc(100_000, 7)
  assert.equal((await publish(JSON.stringify({ session, data_base64: bytes.toString('base64') }))).status, 200)
  await page.got(2)
  assert.deepEqual(Buffer.from(page.received[1].data), bytes)
  for (const wrong of [
    `{"session":"${session}","data":5,"more":"${text.replaceAll(/[^a]/g, '')}"}`,
    `{"session":"${session}","data":"x","data":"${'x'.repeat(70_000)}"}`,
    `{"session":"${session}","data":"${'x'.repeat(70_000)}"`,
    JSON.stringify({ session, data: 'x', more: Array(100_000).fill(1) }),
    JSON.stringify(Object.fromEntries(Array.from({ length: 100_000 }, (_, k) => [`k${k}`, 1]))),
  ]) await assertError(hub, 400, '/api/publish', { method: 'POST', headers: JSON_TYPE, body: wrong })
})

test('a foreign Host or Origin is refused with 403 where there is no token', async (t) => {
  const { hub } = await start(t)
  for (const headers of [{ Host: 'evil.example' }, { Host: `evil.example:${hub.adminPort}` }, { Origin: 'http://evil.example' }]) {
    await assertError(hub, 403, '/api/nodes', { headers })
    await assertError(hub, 403, '/metrics', { headers })
  }
  for (const host of ['localhost', `localhost:${hub.adminPort}`, '127.0.0.1', `127.0.0.1:${hub.adminPort}`, `[::1]:${hub.adminPort}`]) {
    assert.equal((await hub.admin('/api/nodes', { headers: { Host: host } })).status, 200, host)
  }
})

test('with a token all but healthz and readyz require it, and any Host is accepted', async (t) => {
  const { hub } = await start(t, {}, { env: { VINHUB_ADMIN_TOKEN: 'open-sesame' } })
  for (const path of ['/metrics', '/websocket-stats', '/api/nodes', '/api/sessions']) {
    for (const authorization of [undefined, 'Bearer wrong', 'Bearer open-sesam', 'Bearer open-sesame2', 'open-sesame', 'Basic open-sesame']) {
      await assertError(hub, 401, path, { headers: authorization ? { Authorization: authorization } : {} })
    }
    const { status } = await hub.admin(path, { headers: { Authorization: 'Bearer open-sesame', Host: 'admin.example' } })
    assert.equal(status, 200, path)
  }
  for (const path of ['/healthz', '/readyz']) assert.equal((await hub.admin(path, { headers: { Host: 'probe.example' } })).status, 200, path)
})

test('the log says what happened, one line an event, and an idle hub is silent', async (t) => {
  const { backend, hub } = await start(t, { node: { id: 'n1' }, log: { format: 'json' } })
  await until(() => hub.lines.some((line) => /"state":"up"/.test(line)), 3000, 'the last line of the start')
  const lines = hub.lines.length
  await quiet(() => hub.lines.length > lines, 1500, 'a log line of an idle hub')
  const page = await Browser.open(t, hub.url('/admin/VIN1?remoteWs&token=very-secret'))
  await backend.one(`${UPSTREAM}?token=very-secret`)
  page.send('confidential')
  await until(() => backend.texts().includes('confidential'), 2000, 'the message')
  await page.close()
  const ends = () => hub.lines.map((line) => JSON.parse(line)).filter(({ event }) => /client/.test(event))
  await until(() => ends().length > 0, 2000, 'a line for the end of the client')
  for (const line of hub.lines.map((text) => JSON.parse(text))) {
    assert.ok(line.timestamp && line.level && line.event, JSON.stringify(line))
    assert.equal(line.node, 'n1')
  }
  assert.ok(!hub.child.err.includes('very-secret'), 'tokens are never logged')
  assert.ok(!hub.child.err.includes('confidential'), 'payloads are never logged')
})
