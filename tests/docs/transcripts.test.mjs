// The transcripts of the documents, exchanged with a real hub and a real backend (README.md in this folder).
import assert from 'node:assert/strict'
import { Backend } from '../lib/backend.mjs'
import { Browser } from '../lib/browser.mjs'
import { service, startHub } from '../lib/hub.mjs'
import { test } from '../lib/runner.mjs'
import { until } from '../lib/until.mjs'
import { at, blocksIn } from './blocks.mjs'
import { textMismatch } from '../lib/match.mjs'

const BASE = '/base'
const LATE_MS = 10_000
const blocks = blocksIn('transcript')

/** {remoteWs: …, all else} of words like service.replay=2. */
function settingsOf(words) {
  const settings = {}
  for (const word of words) {
    const [, path, value] = /^([a-z_.]+)=(.+)$/.exec(word) ?? assert.fail(`expected KEY=VALUE behind "transcript", got ${word}`)
    const keys = path.split('.')
    const last = keys.pop()
    const place = keys.reduce((at, key) => (at[key] ??= {}), settings)
    place[last] = /^\d+$/.test(value) ? Number(value) : value === 'true' ? true : value === 'false' ? false : value
  }
  return settings
}

class Stage {
  constructor(t, hub, backend) {
    Object.assign(this, { t, hub, backend, page: null, seen: 0, taken: 0, position: {} })
  }

  /** What `hub` lines are compared with; also where {epoch}, {offset} and {client} come from. */
  async hubSays(shown) {
    await this.page.got(this.seen + 1, LATE_MS)
    const { text } = this.page.received[this.seen++]
    const why = textMismatch(shown, text)
    if (why !== null) assert.fail(`${why}\n  shown: ${shown}\n  got:   ${text}`)
    let frame = null
    try { frame = JSON.parse(text) } catch { /* raw */ }
    if (frame?.type === 'WELCOME') Object.assign(this.position, frame.payload)
    if (frame?.type === 'MESSAGE') Object.assign(this.position, { epoch: frame.epoch, offset: frame.offset })
  }

  async connect(line) {
    const [shown, ...protocols] = line.split(/\s+/)
    const path = shown.replace(/\{(epoch|offset|client)\}/g, (_, name) => this.position[name])
    this.page = await Browser.open(this.t, this.hub.url(path), { protocols })
    this.seen = 0
  }

  /** The backend's one upstream, or that of a path. */
  async upstream(path) {
    return until(() => {
      const open = [...this.backend.upstreams].filter(({ url }) => path === undefined || url === BASE + path)
      return open.length === 1 && open[0]
    }, LATE_MS, `one upstream${path ? ` of ${path}` : ''}`)
  }

  async backendPushes(line) {
    const [, path, text] = /^(?:(\/\S+) )?(.*)$/.exec(line)
    const { socket } = await this.upstream(path)
    // in the epoch of the upstream's socket; a client that is lost meanwhile misses it
    await new Promise((resolve) => { socket.send(text, resolve) })
    if (this.page.socket.readyState !== 1) await this.counted()
  }

  /** Pushes that no client reads must be in the hub before the next client comes. */
  async counted() {
    this.lost = (this.lost ?? 0) + 1
    const want = this.before + this.lost
    await until(async () => (await this.messagesIn()) >= want, LATE_MS, 'the push in the hub')
  }

  async messagesIn() {
    const { body } = await this.hub.admin('/metrics')
    return Number(/^vinhub_messages_in_total (\d+)/m.exec(body)[1])
  }

  async upstreamGets(shown) {
    await until(() => this.backend.messages.length > this.taken, LATE_MS, `the backend to get ${shown}`)
    const why = textMismatch(shown, this.backend.messages[this.taken++].text)
    if (why !== null) assert.fail(why)
  }

  async lose() {
    this.before = await this.messagesIn()
    this.lost = 0
    this.page.socket.terminate()
    await this.page.ended()
  }

  async isClosed(line) {
    const [, code, reason] = /^(\d+)\s*(.*)$/.exec(line)
    const end = await this.page.ended(LATE_MS)
    assert.equal(end.code, Number(code))
    if (reason !== '') assert.equal(textMismatch(reason, end.reason), null, `the reason is ${end.reason}`)
  }

  async step(line) {
    const [, verb, rest] = /^(\S+)\s*(.*)$/.exec(line)
    switch (verb) {
      case 'connect': return this.connect(rest)
      case 'hub': return this.hubSays(rest)
      case 'client': return this.page.send(rest)
      case 'backend': return this.backendPushes(rest)
      case 'upstream': return this.upstreamGets(rest)
      case 'lost': return this.lose()
      case 'closed': return this.isClosed(rest)
      default: return assert.fail(`unknown: ${line}`)
    }
  }
}

for (const block of blocks) {
  test(`the transcript at ${at(block)} is what happens`, async (t) => {
    const { service: ofService = {}, ...settings } = settingsOf(block.words)
    const backend = await Backend.start(t)
    const hub = await startHub(t, { id: 'hub1', settings: { ...settings, services: [{ ...service(backend), ...ofService }] } })
    const stage = new Stage(t, hub, backend)
    const lines = block.text.trimEnd().split('\n')
    for (const [index, line] of lines.entries()) {
      try { await stage.step(line) } catch (error) {
        throw new Error(`${block.file}:${block.line + 1 + index}: ${error.message}`, { cause: error })
      }
    }
  })
}

test('there are transcripts', async () => { assert.ok(blocks.length > 0) })
