// A page that can be hidden and frozen. Playwright keeps its pages visible whatever happens, so this one is
// driven over the DevTools protocol alone, in a Chromium of its own.
import WebSocket from 'ws'
import { scratch } from '../lib/hub.mjs'
import { Child } from '../lib/process.mjs'
import { until } from '../lib/until.mjs'
import { CHROMIUM, servePage } from './page.mjs'

const START_MS = 60_000
const FLAGS = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-background-networking', '--disable-component-update',
  '--disable-sync', '--no-first-run', '--remote-debugging-port=0']

class DevTools {
  constructor(socket) {
    this.socket = socket
    this.lastId = 0
    this.calls = new Map()
    socket.on('message', (text) => {
      const { id, result, error } = JSON.parse(text)
      const call = this.calls.get(id)
      if (!call) return
      this.calls.delete(id)
      if (error) call.reject(new Error(error.message))
      else call.resolve(result)
    })
  }

  send(method, params = {}, sessionId = undefined) {
    const id = ++this.lastId
    this.socket.send(JSON.stringify({ id, method, params, sessionId }))
    return new Promise((resolve, reject) => { this.calls.set(id, { resolve, reject }) })
  }
}

export class HideablePage {
  static async open(t, { flags = [] } = {}) {
    const address = await servePage(t)
    const child = new Child(CHROMIUM, [...FLAGS, ...flags, `--user-data-dir=${scratch(t)}`, 'about:blank'])
    t.defer(() => child.stop('SIGTERM'))
    const [, url] = await until(() => /DevTools listening on (ws:\S+)/.exec(child.err), START_MS, 'Chromium to start')
    const socket = new WebSocket(url)
    t.defer(() => socket.terminate())
    await new Promise((resolve, reject) => { socket.once('open', resolve).once('error', reject) })
    const page = new HideablePage(new DevTools(socket))
    await page.load(address)
    return page
  }

  constructor(devtools) { this.devtools = devtools }

  async load(address) {
    const { targetId } = await this.devtools.send('Target.createTarget', { url: address })
    const { sessionId } = await this.devtools.send('Target.attachToTarget', { targetId, flatten: true })
    Object.assign(this, { targetId, sessionId })
    await until(() => this.evaluate(() => window.ready === true), START_MS, 'the page')
  }

  /** As Playwright's, with JSON arguments. */
  async evaluate(fn, argument) {
    const expression = `(${fn})(${JSON.stringify(argument) ?? ''})`
    const { result, exceptionDetails } = await this.devtools.send('Runtime.evaluate',
      { expression, awaitPromise: true, returnByValue: true }, this.sessionId)
    if (exceptionDetails) throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text)
    return result.value
  }

  isState(state) {
    return until(() => this.evaluate((wanted) => document.visibilityState === wanted, state), START_MS, `the page to be ${state}`)
  }

  /** Another tab comes before it: timers run once a second. */
  async hide() {
    const { targetId } = await this.devtools.send('Target.createTarget', { url: 'about:blank' })
    await this.devtools.send('Target.activateTarget', { targetId })
    await this.isState('hidden')
  }

  async show() {
    await this.devtools.send('Target.activateTarget', { targetId: this.targetId })
    await this.isState('visible')
  }

  /** Goes to another page and back; away() runs in between. The browser keeps this one as it is, but not its connections. */
  async leaveAndReturn(away) {
    await this.devtools.send('Page.navigate', { url: 'about:blank' }, this.sessionId)
    await until(() => this.evaluate(() => document.readyState === 'complete' && location.href === 'about:blank'), START_MS, 'the other page')
    await away()
    await this.evaluate(() => { setTimeout(() => history.back()) })
    await until(() => this.evaluate(() => window.client !== undefined), START_MS, 'the page as it was left')
  }

  /** Its timers and events stop. */
  freeze() { return this.devtools.send('Page.setWebLifecycleState', { state: 'frozen' }, this.sessionId) }
  thaw() { return this.devtools.send('Page.setWebLifecycleState', { state: 'active' }, this.sessionId) }
}
