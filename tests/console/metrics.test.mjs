// /metrics: each event is counted once, services are bounded in number, and docker/README.md explains every metric.
import assert from 'node:assert/strict'
import { readFileSync, writeFileSync } from 'node:fs'
import { Backend } from '../lib/backend.mjs'
import { Browser } from '../lib/browser.mjs'
import { service, startHub, yaml } from '../lib/hub.mjs'
import { test } from '../lib/runner.mjs'
import { until } from '../lib/until.mjs'

const UPSTREAM = '/base/admin/VIN1'
const SOON_MS = 10_000
const SLOTS = 64

const namesOf = (text) => [...text.matchAll(/^# TYPE (\S+) /gm)].map(([, name]) => name)

test('clients, upstreams and messages are counted once, and for their service', async (t) => {
  const backend = await Backend.start(t)
  const hub = await startHub(t, { settings: { services: [service(backend, { linger: '0s' }), { ...service(backend), name: 'idle' }] } })
  const browsers = [await Browser.open(t, hub.url('/admin/VIN1?remoteWs')), await Browser.open(t, hub.url('/admin/VIN1?remoteWs'))]
  const upstream = await backend.one(UPSTREAM)
  for (let i = 0; i < 3; i++) backend.push(UPSTREAM, `push ${i}`)
  for (const browser of browsers) await browser.got(3)
  for (let i = 0; i < 4; i++) browsers[0].send(`command ${i}`)
  await until(() => backend.messages.length === 4, SOON_MS, 'the commands')
  const expected = {
    vinhub_clients: 2, vinhub_sessions: 1, vinhub_upstreams: 1, vinhub_accepted_total: 2, vinhub_upstream_connects_total: 1,
    vinhub_upstream_failures_total: 0, vinhub_messages_in_total: 3, vinhub_messages_out_total: 6, vinhub_client_messages_in_total: 4,
    vinhub_upstream_messages_out_total: 4, vinhub_push_latency_seconds_count: 3, vinhub_fanout_clients_count: 3, vinhub_fanout_clients_sum: 6,
  }
  for (const [name, value] of Object.entries(expected)) assert.equal(await hub.metric(name), value, name)
  const counted = { clients: 2, sessions: 1, upstreams: 1, messages_in_total: 3, messages_out_total: 6, client_messages_in_total: 4,
    upstream_failures_total: 0 }
  for (const [name, value] of Object.entries(counted)) {
    assert.equal(await hub.metric(`vinhub_service_${name}`, 'service="remoteWs"'), value, name)
    assert.equal(await hub.metric(`vinhub_service_${name}`, 'service="idle"'), 0, `${name} of a service without clients`)
  }
  backend.handshake = 503
  upstream.socket.terminate()
  await until(async () => await hub.metric('vinhub_service_upstreams', 'remoteWs') === 0, SOON_MS, 'the upstream to be gone')
  const tries = () => backend.upgrades.length - 1
  await until(async () => tries() >= 2 && await hub.metric('vinhub_upstream_failures_total') === tries() + 1, SOON_MS,
    'one failure for the loss and one for each try')
  for (const browser of browsers) await browser.close()
  await until(async () => await hub.metric('vinhub_service_sessions', 'remoteWs') === 0, SOON_MS, 'the session to end')
  assert.equal(await hub.metric('vinhub_service_clients', 'remoteWs'), 0)
})

test('a message of a protocol client is counted, and one that waits for its upstream is seen in the queue', async (t) => {
  const backend = await Backend.start(t)
  backend.handshake = 'mute'
  const hub = await startHub(t, { settings: { services: [service(backend)] } })
  const browser = await Browser.open(t, hub.url('/admin/VIN1?remoteWs'), { protocols: ['vinhub.v1'] })
  browser.send(JSON.stringify({ type: 'SEND', id: 1, payload: 'x'.repeat(2000) }))
  await until(async () => await hub.metric('vinhub_client_messages_in_total') === 1, SOON_MS, 'the message to be counted')
  assert.equal(await hub.metric('vinhub_upstream_queue_bytes_count'), 1)
  const bytes = await hub.metric('vinhub_upstream_queue_bytes_sum')
  assert.ok(bytes >= 2000 && bytes < 2000 + 512, `the payload and what it costs to keep it: ${bytes}`)
})

test('services that come by SIGHUP do not make metrics without end', async (t) => {
  const backend = await Backend.start(t)
  const hub = await startHub(t, { settings: { services: [service(backend)] } })
  const text = readFileSync(hub.file, 'utf8')
  const head = text.slice(0, text.indexOf('services:'))
  const rows = async () => (await hub.admin('/metrics')).body.match(/^vinhub_service_clients\{.*$/gm)
  for (let round = 0; round < 3; round++) {
    const services = [service(backend), ...Array.from({ length: 40 }, (_, n) => ({ ...service(backend), name: `round${round}-${n}` }))]
    const reloads = hub.lines.filter((line) => line.includes(' reloaded ')).length
    writeFileSync(hub.file, `${head}${yaml({ services })}`)
    hub.child.signal('SIGHUP')
    await until(() => hub.lines.filter((line) => line.includes(' reloaded ')).length > reloads, SOON_MS, 'the reload')
  }
  assert.equal((await rows()).length, SLOTS + 1)
  await Browser.open(t, hub.url('/admin/VIN1?round2-39'))
  assert.ok((await rows()).includes('vinhub_service_clients{service="other"} 1'), 'the latest are counted together')
  await Browser.open(t, hub.url('/admin/VIN1?remoteWs'))
  assert.ok((await rows()).includes('vinhub_service_clients{service="remoteWs"} 1'), 'the first keep their own row')
})

test('every metric and every reason is explained in docker/README.md, and none that is not there', async (t) => {
  const backend = await Backend.start(t)
  const hub = await startHub(t, { settings: { services: [service(backend)] } })
  const { body } = await hub.admin('/metrics')
  const manual = readFileSync(new URL('../../docker/README.md', import.meta.url), 'utf8')
  const explained = new Set([...manual.matchAll(/`(vinhub_[a-z_]+)/g)].map(([, name]) => name))
  assert.deepEqual(namesOf(body).filter((name) => !explained.has(name)), [], 'not explained')
  assert.deepEqual([...explained].filter((name) => !namesOf(body).includes(name)), [], 'explained, but not there')
  const words = new Set(manual.match(/[a-z_]+/g))
  const reasons = [...body.matchAll(/reason="([a-z_]+)"/g)].map(([, reason]) => reason)
  assert.deepEqual(reasons.filter((reason) => !words.has(reason)), [], 'reasons that are not explained')
})

test('alerts and dashboard ask for metrics that exist', async (t) => {
  const backend = await Backend.start(t)
  const hub = await startHub(t, { settings: { services: [service(backend)] } })
  const names = new Set(namesOf((await hub.admin('/metrics')).body))
  for (const file of ['monitoring/alerts.yml', 'monitoring/grafana/dashboards/vinhub.json']) {
    const text = readFileSync(new URL(`../../docker/${file}`, import.meta.url), 'utf8')
    const asked = new Set([...text.matchAll(/vinhub_[a-z_]+/g)].map(([name]) => name.replace(/_(bucket|sum|count)$/, '')))
    assert.deepEqual([...asked].filter((name) => !names.has(name)), [], file)
  }
})
