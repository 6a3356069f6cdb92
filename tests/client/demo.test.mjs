// The demo's pages in Chromium with a real hub: the board of a fleet, and one vehicle.
import assert from 'node:assert/strict'
import { Backend } from '../lib/backend.mjs'
import { service, startHub } from '../lib/hub.mjs'
import { test } from '../lib/runner.mjs'
import { until } from '../lib/until.mjs'
import { openDemo } from './page.mjs'

const SOON_MS = 30_000
const COUNT = 30
const PUSHES_PER_S = 5

const upstreams = Array.from({ length: COUNT }, (_, n) => `/base/admin/LSVAA4182E${2_000_001 + n}`)
const signals = (speed, km) => JSON.stringify({
  type: 'signals', data: [{ name: 'VehicleSpeed', value: speed, unit: 'km/h' }, { name: 'Odometer', value: km, unit: 'km' }],
})

test('the board has its vehicles on one socket, a picked one in full, and measures a socket for each', { timeout: 120_000 }, async (t) => {
  const backend = await Backend.start(t)
  const hub = await startHub(t, { id: 'a', settings: { services: [service(backend)] } })
  const page = await openDemo(t, 'fleet.html', hub, `?count=${COUNT}&measure=2000`)
  const text = (selector) => page.evaluate((at) => document.querySelector(at).textContent, selector)
  const row = (id) => page.evaluate((at) => [...document.querySelector(at).cells].slice(1).map(({ textContent }) => Number(textContent)), id)
  await until(async () => await text('#live') === String(COUNT), SOON_MS, 'all vehicles to be connected')
  assert.equal(await hub.metric('vinhub_clients'), 1)
  let km = 100
  const timer = setInterval(() => { km += 0.1; for (const upstream of upstreams) backend.push(upstream, signals(50, km)) }, 1000 / PUSHES_PER_S)
  t.defer(() => clearInterval(timer))
  await until(async () => (await row('#one'))[1] > COUNT / 2, SOON_MS, 'messages at the pace of the board')
  const [sockets, messages] = await row('#one')
  assert.ok(sockets === 1 && messages < COUNT * 2, `${messages} a second of ${COUNT * PUSHES_PER_S}`)

  await page.click('#board', { position: { x: 40, y: 40 } })
  await until(async () => (await text('#signals')).includes('50 km/h'), SOON_MS, 'the signals of the picked one')
  assert.match(await text('#picked'), /^LSVAA4182E20000\d\d$/)
  await page.click('#read')
  await until(() => backend.texts().some((command) => command.includes('22F190')), SOON_MS, 'the command')

  await page.click('#measure')
  await until(async () => (await row('#many'))[0] === COUNT, SOON_MS, 'a socket for each to be measured')
  assert.ok((await row('#many'))[1] > messages, 'more messages than at one a second')
  await until(async () => await hub.metric('vinhub_clients') === 1, SOON_MS, 'those to be closed')
})

test('the page of one vehicle shows a lamp, and who else watches', { timeout: 120_000 }, async (t) => {
  const backend = await Backend.start(t)
  const hub = await startHub(t, { id: 'a', settings: { services: [service(backend, { presence: true })] } })
  const open = async (user) => {
    const page = await openDemo(t, 'index.html', hub, '?protocol=vinhub.v1')
    await page.fill('#user', user)
    await page.click('#watch button')
    return page
  }
  const shows = (page, lamp, watchers) => until(() => page.evaluate(([is, names]) => !document.querySelector('#presence').hidden
    && document.querySelector('#lamp').dataset.is === is && document.querySelector('#watchers').textContent === names, [lamp, watchers]),
  SOON_MS, `the lamp ${lamp} for ${watchers}`)
  const first = await open('chen')
  await shows(first, 'alone', 'chen')
  const second = await open('li')
  await shows(first, 'others', 'chen, li')
  await shows(second, 'others', 'chen, li')
  await second.close()
  await shows(first, 'alone', 'chen')
})
