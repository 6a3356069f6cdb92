// The first minute with vinhub: the README's one command, with the addresses written there. Runs in its
// own network so that ports 8080, 9600 and 28088 are really the ones used.
import assert from 'node:assert/strict'
import { inOwnNetwork } from '../lib/namespace.mjs'
import { test } from '../lib/runner.mjs'
import { Backend } from '../lib/backend.mjs'
import { Browser } from '../lib/browser.mjs'
import { startHubByFlags } from '../lib/hub.mjs'
import { quiet, until } from '../lib/until.mjs'

inOwnNetwork()

const PAGE = 'ws://127.0.0.1:8080/admin/VIN123?remoteWs'
const UPSTREAM = '/carmonitor/remotews/admin/VIN123'
const ARGS = ['--service', 'remoteWs=127.0.0.1:28088/carmonitor/remotews']
const PUSH = '{"vin":"VIN123","faults":[{"code":"P0420","text":"Katalysator – Wirkungsgrad"}],  "speed": 42.50}'
const COMMAND = '{"functionID":"123","command":"10"}'

async function start(t, args = ARGS, env = {}) {
  const backend = await Backend.start(t, { port: 28088 })
  const hub = await startHubByFlags(t, args, { port: 8080, adminPort: 9600, env })
  return { backend, hub }
}

test('one command and one page: pushes, heartbeats and commands pass as the relay passed them', async (t) => {
  const { backend } = await start(t)
  const page = await Browser.open(t, PAGE)
  await backend.one(UPSTREAM)
  assert.deepEqual(backend.upgrades.map(({ url }) => url), [UPSTREAM])

  backend.push(UPSTREAM, PUSH)
  await page.got(1)
  assert.deepEqual(page.received[0], { data: Buffer.from(PUSH), binary: false, text: PUSH })

  page.send('ping')
  await page.got(2)
  assert.equal(page.received[1].text, 'pong')
  page.send(COMMAND)
  await until(() => backend.messages.length > 0, 3000, 'the command at the backend')
  assert.deepEqual(backend.messages[0].data, Buffer.from(COMMAND))
  assert.deepEqual(backend.texts(), [COMMAND], 'the ping of the page is not forwarded')
})

test('the backend gets the text ping every 5 s and its pong reaches nobody', async (t) => {
  const { backend } = await start(t)
  const page = await Browser.open(t, PAGE)
  const { openedAt } = await backend.one(UPSTREAM)
  await until(() => backend.pings.length >= 2, 12_000, 'two heartbeats')
  const [first, second] = backend.pings.map(({ at }) => at)
  assert.ok(first - openedAt > 3000 && first - openedAt < 6500, `first heartbeat after ${first - openedAt} ms`)
  assert.ok(second - first > 4000 && second - first < 6500, `second heartbeat ${second - first} ms later`)
  await quiet(() => page.received.length > 0, 500, 'a pong of the backend at the page')
  assert.equal(backend.upgrades.length, 1)
})

test('a ws:// address and the environment name the service as well', async (t) => {
  const { backend } = await start(t, [], { VINHUB_SERVICES: 'remoteWs=ws://127.0.0.1:28088/carmonitor/remotews' })
  await Browser.open(t, PAGE)
  await backend.one(UPSTREAM)
})

test('several services by flags', async (t) => {
  const { backend } = await start(t, [...ARGS, '--service', 'diagWs=ws://127.0.0.1:28088/diag'])
  await Browser.open(t, PAGE)
  await Browser.open(t, 'ws://127.0.0.1:8080/admin/VIN123?diagWs')
  await backend.one(UPSTREAM)
  await backend.one('/diag/admin/VIN123')
})
