// Contract sections 3 and 5: a backend that breaks a rule gets a close code before the hub leaves it, even while it is sending.
import assert from 'node:assert/strict'
import { test } from '../lib/runner.mjs'
import { Backend } from '../lib/backend.mjs'
import { Browser, writeAndRead } from '../lib/browser.mjs'
import { service, startHub } from '../lib/hub.mjs'
import { until } from '../lib/until.mjs'

const UPSTREAM = '/base/admin/VIN1'
const PAGE = '/admin/VIN1?remoteWs'
const FAST = { reconnect: { min: '100ms', max: '400ms', timeout: '1s' } }
const MIB = 1 << 20

async function start(t, settings) {
  const backend = await Backend.start(t)
  const hub = await startHub(t, { settings: { services: [service(backend, { ...FAST, ...settings })] } })
  const page = await Browser.open(t, hub.url(PAGE))
  return { backend, page, first: await backend.one(UPSTREAM) }
}

/** The first upstream has read `code`, another one works, one at a time, and the page saw nothing of it. */
async function replaced({ backend, page, first }, code) {
  const second = await until(() => backend.open(UPSTREAM).find((upstream) => upstream !== first), 5000, 'another upstream')
  assert.equal(first.end?.code, code)
  assert.equal(backend.peaks.get(UPSTREAM), 1)
  second.socket.send('after')
  await page.got(1)
  assert.deepEqual(page.texts(), ['after'])
  assert.equal(page.end, null)
}

test('a backend reads 1009 although megabytes of its message are still on their way', async (t) => {
  const all = await start(t, {})
  all.first.socket.send(Buffer.alloc(16 * MIB))
  await replaced(all, 1009)
})

test('a backend reads 1009 in the middle of a message of many frames', async (t) => {
  const all = await start(t, { upstream_max_message: '1MiB' })
  // It reads after each frame: a backend that does not read for a second after the close frame is reset.
  while (await writeAndRead(all.first.socket, Buffer.alloc(MIB), { fin: false }));
  await replaced(all, 1009)
})

test('what comes after an ill-formed frame is thrown away, and the backend reads 1002', async (t) => {
  const all = await start(t, {})
  const text = Buffer.from([0x81, 2, 0x6e, 0x6f])
  all.backend.pushBytes(UPSTREAM, Buffer.concat([Buffer.from([0x83, 0]), Buffer.alloc(16 * MIB, text)]))
  await replaced(all, 1002)
})
