// Makes hub/docs/console.png, the picture of the console in README.md: three nodes, some vehicles, traffic, one page of the
// real console in Chromium. Run it when the console looks different: BUILD_DIR=build node tests/docs/screenshot.mjs
import { renameSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { Backend } from '../lib/backend.mjs'
import { Browser } from '../lib/browser.mjs'
import { service, startCluster } from '../lib/hub.mjs'
import { RedisServer } from '../lib/redis.mjs'
import { test } from '../lib/runner.mjs'
import { until } from '../lib/until.mjs'
import { openConsole, textOf } from '../console/page.mjs'

const VEHICLES = 24
const PAGES_A_VEHICLE = 5
const PICTURE = fileURLToPath(new URL('../../hub/docs/console.png', import.meta.url))

test('the picture of the console', { timeout: 180_000 }, async (t) => {
  const [redis, backend] = await Promise.all([RedisServer.start(t), Backend.start(t)])
  const hubs = await startCluster(t, { redis, nodes: 3, settings: { services: [service(backend)] } })
  const vins = Array.from({ length: VEHICLES }, (_, i) => `LSVAA4182E20${String(10001 + i)}`)
  // the first page of each vehicle decides which node owns it: each node comes to own some
  for (let n = 0; n < PAGES_A_VEHICLE; n++) {
    if (n === 1) await until(() => backend.upstreams.size === VEHICLES, 20_000, 'an upstream of each vehicle')
    await Promise.all(vins.map((vin, i) => Browser.open(t, hubs[(i + n) % hubs.length].url(`/admin/${vin}?remoteWs`))))
  }
  const flow = setInterval(() => {
    for (const vin of vins) backend.push(`/base/admin/${vin}`, JSON.stringify({ type: 'STATE', vin, speed: 42.5, soc: 71 }))
  }, 100)
  t.defer(() => clearInterval(flow))
  const page = await openConsole(t, hubs[0], { viewport: { width: 1240, height: 416 } })
  await until(async () => (await textOf(page, '[data-tile=upstreams] strong')).trim() === String(VEHICLES), 20_000, 'all upstreams in the tile')
  // the plots need some seconds of traffic: a line of at least forty points
  await until(async () => ((await page.locator('[data-tile=in] path.line').getAttribute('d')) ?? '').split('L').length > 40, 90_000, 'a plot')
  await page.screenshot({ path: `${PICTURE}.new`, type: 'png' })
  renameSync(`${PICTURE}.new`, PICTURE)
})
