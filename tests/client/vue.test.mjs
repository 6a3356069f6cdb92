// The mixin in a page of today's shape. mount() stands in for Vue: it merges a mixin as Vue does, and keeps data
// behind a proxy as Vue 3 does, through which a class with private fields could not be used.
import assert from 'node:assert/strict'
import { Backend } from '../lib/backend.mjs'
import { service, startHub } from '../lib/hub.mjs'
import { test } from '../lib/runner.mjs'
import { quiet, until } from '../lib/until.mjs'
import { openPage } from './page.mjs'

const UPSTREAM = '/base/admin/VIN1'
const PATH = '/admin/VIN1?remoteWs'
const SOON_MS = 20_000

/** Runs in the page. */
function defineMount() {
  const isPlain = (value) => typeof value === 'object' && value !== null && Object.isExtensible(value)
  const reactive = (object) => new Proxy(object, {
    get(target, key) { const value = Reflect.get(target, key); return isPlain(value) ? reactive(value) : value },
  })
  window.mount = (component, version) => {
    const parts = [...component.mixins, component]
    const vm = reactive(Object.assign({}, ...parts.map(({ data }) => data?.() ?? {})))
    for (const { methods } of parts) for (const [name, fn] of Object.entries(methods ?? {})) vm[name] = fn.bind(vm)
    const hook = (name) => { for (const part of parts) part[name]?.call(vm) }
    vm.leave = () => (version === 2 ? ['beforeDestroy', 'destroyed'] : ['beforeUnmount', 'unmounted']).forEach(hook)
    hook('created')
    return vm
  }
}

for (const version of [2, 3]) {
  test(`Vue ${version}: a page of today's shape with the mixin: pushes, commands, reconnect, clean-up`, { timeout: 120_000 }, async (t) => {
    const backend = await Backend.start(t)
    const hub = await startHub(t, { id: 'a', settings: { services: [service(backend)] } })
    const page = await openPage(t)
    await page.evaluate(defineMount)
    await page.evaluate(([url, number]) => {
      window.log = { texts: [], opened: 0, closed: [], errors: 0 }
      window.vm = window.mount({
        mixins: [number === 2 ? window.mixin : window.vinhubMixin({ mode: 'v1', reconnect: { min: 100, max: 500 } })],
        data: () => ({ websocket: null, lockReconnect: false }),
        created() { this.initWebsocket(url) },
        methods: {
          handleMessageArrived(text) { window.log.texts.push(text) },
          websocketonopen() { window.log.opened++; this.start() },
          websocketonclose({ code }) { window.log.closed.push(code); this.reconnect() },
          websocketOnerror() { window.log.errors++; this.reconnect() },
          sendCommand(command) { this.websocket.send(JSON.stringify(command)) },
        },
      }, number)
    }, [hub.url(PATH), version])
    const log = () => page.evaluate(() => window.log)
    await until(async () => (await log()).opened === 1, SOON_MS, 'the page to be open')
    await backend.one(UPSTREAM)
    backend.push(UPSTREAM, '{"text":"Türe offen"}')
    await until(async () => (await log()).texts.length === 1, SOON_MS, 'the push')
    await page.evaluate(() => window.vm.sendCommand({ command: '10' }))
    await until(() => backend.texts().includes('{"command":"10"}'), SOON_MS, 'the command')
    assert.equal(await page.evaluate(() => window.vm.websocketStatus.state), 'open')

    await page.evaluate((url) => { window.vm.initWebsocket(url); window.vm.initWebsocket() }, hub.url(PATH))
    assert.equal(await page.evaluate(() => window.vm.websocket.readyState === window.vm.websocket.OPEN), true)
    await hub.stop()
    await until(async () => (await log()).closed.length > 0, SOON_MS, 'the page to see the end')
    assert.equal((await log()).closed[0], 1012)
    await hub.restart()
    await until(async () => (await log()).opened === 2, SOON_MS, 'the page to be back')
    assert.equal(await page.evaluate(() => window.vm.websocket.readyState), 1)
    assert.equal(await hub.metric('vinhub_clients'), 1, 'one connection, however often it was asked for')
    await backend.one(UPSTREAM)
    backend.push(UPSTREAM, 'after the restart')
    await until(async () => (await log()).texts.includes('after the restart'), SOON_MS, 'the push')

    await page.evaluate(() => window.vm.leave())
    await until(async () => await hub.metric('vinhub_clients') === 0, SOON_MS, 'the connection to be closed')
    const before = await log()
    await page.evaluate((url) => { window.vm.reconnect(); window.vm.initWebsocket(url) }, hub.url(PATH)) // a timer the page forgot
    await quiet(async () => await hub.metric('vinhub_clients') !== 0, 1500, 'a page that is gone comes back')
    assert.deepEqual(await log(), before, 'nothing is called in a page that is gone')
  })
}

test('initWebsocket() without a URL says so, and takes the component\'s where there is one', { timeout: 120_000 }, async (t) => {
  const page = await openPage(t)
  await page.evaluate(defineMount)
  const told = await page.evaluate(() => {
    const told = []
    const without = window.mount({ mixins: [window.mixin], created() {} }, 3)
    try { without.initWebsocket({ type: 'click' }) } catch (error) { told.push(error.message) }
    const vm = window.mount({ mixins: [window.mixin], data: () => ({ websocketUrl: 'ws://127.0.0.1:1/a' }) }, 3)
    vm.initWebsocket()
    told.push(vm.websocketStatus.state)
    vm.leave()
    return told
  })
  assert.deepEqual(told, ['initWebsocket: expected a URL, got none', 'connecting'])
})

test('a client can be kept in the data of a component', { timeout: 120_000 }, async (t) => {
  const page = await openPage(t)
  await page.evaluate(defineMount)
  const states = await page.evaluate(() => {
    const vm = window.mount({ mixins: [], data: () => ({ client: new window.VinhubClient('ws://127.0.0.1:1/a') }) }, 3)
    const before = vm.client.state
    vm.client.connect()
    vm.client.close()
    return [before, vm.client.state]
  })
  assert.deepEqual(states, ['idle', 'closed'])
})
