// One connection for all tabs of a browser, in a real Chromium against a real hub.
import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Backend } from '../lib/backend.mjs'
import { scratch, service, startHub } from '../lib/hub.mjs'
import { test } from '../lib/runner.mjs'
import { inSeconds, token } from '../lib/tokens.mjs'
import { until } from '../lib/until.mjs'
import { openPage, seen } from './page.mjs'

const SOON_MS = 20_000
const SECRET = 'a secret of more than thirty-two bytes, for tests'
const UPSTREAM = '/base/admin/VIN1'
const PATH = '/admin/VIN1?remoteWs'

async function start(t, settings = {}) {
  const backend = await Backend.start(t)
  const hub = await startHub(t, { id: 'a', settings: { services: [service(backend, { linger: '0s' })], ...settings } })
  return { backend, hub, first: await openPage(t) }
}

/** A further tab of the same browser, with the same page. */
async function nextTab(t, first) {
  const page = await first.context().newPage()
  page.on('pageerror', (error) => t.fail(error))
  await page.goto(first.url())
  await page.waitForFunction(() => window.ready === true)
  return page
}

/** Makes the tab's client; its token function counts how often it was asked. Returns whether it is shared. */
const share = (page, url, { tokens, ...options } = {}) => page.evaluate(async ([at, values, how]) => {
  window.asked = 0
  if (values) how.token = () => values[Math.min(window.asked++, values.length - 1)]
  const client = await window.sharedClient(at, how)
  window.keep(client)
  return client.shared === true
}, [url, tokens, { reconnect: { min: 50, max: 200 }, ...options }])

const isOpen = (page) => until(() => page.evaluate(() => window.client.state === 'open'), SOON_MS, 'the tab to be open')
const connected = (page) => until(() => page.evaluate(() => window.client.upstream === 'connected'), SOON_MS, 'the upstream to be connected')
const got = (page, text) => until(async () => (await seen(page)).messages.includes(text), SOON_MS, `the message ${text}`)
const clients = (hub, count) => until(async () => await hub.metric('vinhub_clients') === count, SOON_MS, `${count} clients`)

test('three tabs, one connection: each gets all, each sends, and it outlives the tab that came first', { timeout: 120_000 }, async (t) => {
  const { backend, hub, first } = await start(t)
  const pages = [first, await nextTab(t, first), await nextTab(t, first)]
  for (const page of pages) assert.equal(await share(page, hub.url(PATH)), true)
  await Promise.all(pages.map(connected))
  await clients(hub, 1)
  await backend.one(UPSTREAM)
  backend.push(UPSTREAM, 'for all')
  backend.push(UPSTREAM, Buffer.from([1, 255]), { binary: true })
  for (const page of pages) {
    await until(async () => (await seen(page)).messages.length === 2, SOON_MS, 'both')
    assert.deepEqual((await seen(page)).messages, ['for all', [1, 255]])
    assert.equal(await page.evaluate(() => window.client.node), 'a')
  }
  for (const [number, page] of pages.entries()) await page.evaluate((n) => window.client.send(`command of ${n}`), number)
  assert.deepEqual(backend.texts(), ['command of 0', 'command of 1', 'command of 2'])

  await first.close() // without a message to the worker
  await pages[1].evaluate(() => window.client.close())
  await assert.rejects(pages[1].evaluate(() => window.client.send('x')), /closed/)
  backend.push(UPSTREAM, 'for the last')
  await got(pages[2], 'for the last')
  assert.deepEqual(await pages[1].evaluate(() => [window.client.state, window.seen.messages.length]), ['closed', 2])
  await hub.stop()
  await until(async () => (await seen(pages[2])).closes.length > 0, SOON_MS, 'the end to be told')
  await hub.restart()
  await isOpen(pages[2])
  await clients(hub, 1)
  await pages[2].close()
  await clients(hub, 0)
})

test('subscriptions of tabs share the connection, too, and end with their tab', { timeout: 120_000 }, async (t) => {
  const { backend, hub, first } = await start(t)
  const second = await nextTab(t, first)
  for (const page of [first, second]) {
    assert.equal(await share(page, hub.url('/admin?subscribe')), true)
    await page.evaluate(() => {
      window.got = []
      window.group = window.client.subscribe(['/admin/VIN1?remoteWs', '/admin/VIN2?remoteWs'])
      window.group.on('message', (text, { session }) => window.got.push(`${session} ${text}`))
    })
  }
  for (const page of [first, second]) {
    await until(() => page.evaluate(() => [...window.group].every(({ upstream }) => upstream === 'connected')), SOON_MS, 'both to be connected')
  }
  backend.push(UPSTREAM, 'one')
  backend.push('/base/admin/VIN2', 'two')
  for (const page of [first, second]) {
    await until(() => page.evaluate(() => window.got.length === 2), SOON_MS, 'both pushes')
    assert.deepEqual((await page.evaluate(() => window.got)).sort(), ['remoteWs:VIN1 one', 'remoteWs:VIN2 two'])
    assert.match(await page.evaluate(() => window.group.position['/admin/VIN1?remoteWs']), /^\d+\.1$/)
  }
  await second.evaluate(() => window.group.send('a command', { to: '/admin/VIN2?remoteWs' }))
  await until(() => backend.texts().includes('a command'), SOON_MS, 'the command')
  await assert.rejects(second.evaluate(() => window.client.subscribe('/admin/VIN1?remoteWs', { rate: 0 })), /rate: expected/)
  assert.equal(await hub.metric('vinhub_clients'), 1)

  await first.close()
  await second.evaluate(() => window.group.unsubscribe(['/admin/VIN1?remoteWs']))
  backend.push('/base/admin/VIN2', 'three')
  await until(() => second.evaluate(() => window.got.includes('remoteWs:VIN2 three')), SOON_MS, 'the push')
  await until(async () => await hub.metric('vinhub_sessions') === 1, SOON_MS, 'the other session to be left')
})

test('a worker asks a tab for the token, another one where that has gone', { timeout: 120_000 }, async (t) => {
  const file = join(scratch(t), 'secret')
  writeFileSync(file, SECRET)
  const { hub, first } = await start(t, { auth: { mode: 'jwt', secret_file: file } })
  const second = await nextTab(t, first)
  const tokens = [token({ sub: 'admin', vins: ['VIN1'], exp: inSeconds(600) }, { key: SECRET })]
  await share(first, hub.url(PATH), { tokens })
  await isOpen(first)
  await share(second, hub.url(PATH), { tokens })
  await isOpen(second)
  assert.deepEqual([await first.evaluate(() => window.asked), await second.evaluate(() => window.asked)], [1, 0])
  await first.close()
  await second.evaluate(() => window.client.reconnect())
  await until(() => second.evaluate(() => window.asked > 0), SOON_MS, 'the other to be asked')
  await isOpen(second)
})

test('one that failed is tried again when a tab asks for it', { timeout: 120_000 }, async (t) => {
  const file = join(scratch(t), 'secret')
  writeFileSync(file, SECRET)
  const { hub, first } = await start(t, { auth: { mode: 'jwt', secret_file: file } })
  const make = (seconds) => token({ sub: 'admin', vins: ['VIN1'], exp: inSeconds(seconds) }, { key: SECRET })
  await share(first, hub.url(PATH), { tokens: [make(-60), make(-60), make(600)], maxRefusals: 2 })
  await until(() => first.evaluate(() => window.client.state === 'failed'), SOON_MS, 'it to give up')
  await first.evaluate(() => window.client.connect())
  await isOpen(first)
})

for (const [why, spoil] of [
  ['there is no SharedWorker', () => { delete window.SharedWorker }],
  ['there are no locks', () => { Object.defineProperty(navigator, 'locks', { value: undefined }) }],
  ['the worker does not start', () => { const Real = window.SharedWorker; window.SharedWorker = function (url, options) { return new Real(`${url}.missing`, options) } }],
]) {
  test(`a connection for each tab where ${why}`, { timeout: 120_000 }, async (t) => {
    const { backend, hub, first } = await start(t)
    const second = await nextTab(t, first)
    for (const page of [first, second]) {
      await page.evaluate(spoil)
      assert.equal(await share(page, hub.url(PATH)), false)
      await connected(page)
    }
    await clients(hub, 2)
    await backend.one(UPSTREAM)
    backend.push(UPSTREAM, 'for both')
    await Promise.all([got(first, 'for both'), got(second, 'for both')])
  })
}
