#!/usr/bin/env node
// Hostile peers at every socket of the real daemon, built with sanitizers, while well-behaved browsers on the
// same nodes are watched.
//
// Node A: hostile browsers, backends and admin clients. Its well-behaved browsers get every push, in order, and soon.
// Node B: now and then the answers of its Redis are changed on their way, numbers and payloads included. Its browsers stay
// open, also those of sessions that node A owns, and get pushes again each time the changes stop; at the end every push
// in order.
// In the end both stop cleanly, with every connection gone and no report of a sanitizer.
//
//   FUZZ_SECONDS=30 FUZZ_SEED=5 BUILD_DIR=build/dev tests/fuzz/sockets.mjs
//
// Peer N of a run sends what the seed and N make, whatever else happens: FUZZ_PEER=N sends that of peer N alone.
import assert from 'node:assert/strict'
import net from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { test } from '../lib/runner.mjs'
import { Backend } from '../lib/backend.mjs'
import { Browser } from '../lib/browser.mjs'
import { service, startHub } from '../lib/hub.mjs'
import { freePort } from '../lib/ports.mjs'
import { RedisServer } from '../lib/redis.mjs'
import { each, until } from '../lib/until.mjs'
import { adminOf, answerOf, Dice, framesOf, handshakeOf, spoil, streamOf } from './hostile.mjs'

const SECONDS = Number(process.env.FUZZ_SECONDS ?? 30)
const SEED = Number(process.env.FUZZ_SEED ?? Math.floor(Math.random() * 2 ** 30))
const ONE = process.env.FUZZ_PEER
const AT_ONCE = 24
const PUSH_EVERY_MS = 20
const LATE_MS = 5000 // a push that comes later was starved
const GROWTH = 256 * 1024 * 1024
const SETTLE_MS = 20_000

const diceOf = (kind, number) => new Dice(SEED ^ Math.imul(kind * 1_000_003 + number, 0x9E3779B1))

// --- hostile browsers and admin clients ------------------------------------------------------

/** Sends the parts over one connection, cut anywhere, and ends it in one of several ways. */
function attack(port, dice, parts) {
  return new Promise((resolve) => {
    const socket = net.connect(port, '127.0.0.1')
    const bytes = Buffer.concat(parts)
    // resetAndDestroy waits until all is written, which never happens if the node stopped reading.
    const patience = setTimeout(() => socket.destroy(), 50 + dice.below(1500))
    let at = 0
    const send = () => {
      if (socket.destroyed) return
      if (at >= bytes.length) { end(); return }
      const length = dice.chance(50) ? bytes.length - at : 1 + dice.below(700)
      socket.write(bytes.subarray(at, at + length))
      at += length
      if (dice.chance(80)) send()
      else setTimeout(send, dice.below(30))
    }
    const end = () => {
      const how = dice.below(4)
      if (how === 0) socket.resetAndDestroy()
      else if (how === 1) socket.end()
    }
    if (dice.chance(80)) socket.resume() // the others never read
    socket.on('error', () => {})
    socket.once('connect', send)
    socket.once('close', () => { clearTimeout(patience); resolve() })
  })
}

function peer(number, hub) {
  const dice = diceOf(1, number)
  const kind = dice.below(10)
  if (kind < 2) return attack(hub.adminPort, dice, [adminOf(dice)])
  if (kind === 2) return attack(dice.pick([hub.port, hub.adminPort]), dice, [dice.bytes(dice.below(3000))])
  const name = dice.chance(50) ? 'remoteWs' : 'badWs'
  const vin = dice.chance(20) ? 'GOOD1' : `HOSTILE${dice.below(name === 'badWs' ? 1000 : 20)}`
  const path = `/admin/${vin}?${name}`
  if (kind === 3) return attack(hub.port, dice, [streamOf(dice, path), dice.chance(10) ? dice.bytes(dice.below(3000)) : Buffer.alloc(0)])
  // Every second one sends requests of vinhub.v1.
  const speaks = kind > 6
  const extra = speaks ? `Sec-WebSocket-Protocol: ${dice.pick(['vinhub.v1', 'vinhub.v1.msgpack'])}\r\n` : ''
  return attack(hub.port, dice, [handshakeOf(dice, speaks && dice.chance(50) ? '/admin?subscribe' : path, extra), framesOf(dice, true)])
}

// --- the hostile backend ---------------------------------------------------------------------

async function hostileBackend(t) {
  const port = await freePort()
  let number = 0
  const sockets = new Set()
  const server = net.createServer((socket) => {
    const dice = diceOf(2, number++)
    let request = ''
    sockets.add(socket)
    socket.on('error', () => {})
    socket.once('close', () => sockets.delete(socket))
    socket.on('data', (part) => {
      if (request.includes('\r\n\r\n')) return
      request += part.toString('latin1')
      if (!request.includes('\r\n\r\n')) return
      socket.write(answerOf(dice, request))
      talk(socket, dice)
    })
  })
  await new Promise((resolve) => { server.listen(port, '127.0.0.1', resolve) })
  t.defer(() => {
    for (const socket of sockets) socket.destroy()
    return new Promise((resolve) => { server.close(resolve) })
  })
  return { url: (path) => `ws://127.0.0.1:${port}${path}` }
}

function talk(socket, dice) {
  if (socket.destroyed) return
  if (dice.chance(85)) socket.write(framesOf(dice, false))
  else if (dice.chance(50)) socket.end()
  else socket.resetAndDestroy()
  setTimeout(talk, dice.below(300), socket, dice)
}

// --- a Redis whose answers are changed --------------------------------------------------------

/**
 * A proxy between the node and Redis: while spoiling, it changes some answers. The node itself has to notice what that leaves
 * on a connection (answers out of step, a length that is never reached).
 */
async function spoiler(t, redis) {
  const port = await freePort()
  const proxy = { url: `redis://127.0.0.1:${port}/0`, spoiling: false, changed: 0 }
  let number = 0
  const server = net.createServer((inner) => {
    const dice = diceOf(3, number++)
    const percent = dice.pick([5, 10, 40])
    const outer = net.connect(redis.port, '127.0.0.1')
    for (const [from, to] of [[inner, outer], [outer, inner]]) {
      from.on('error', () => {})
      from.once('close', () => to.destroy())
      from.on('data', (part) => {
        const changes = from === outer && proxy.spoiling && dice.chance(percent)
        proxy.changed += changes
        to.write(changes ? spoil(dice, part) : part)
      })
    }
    t.defer(() => inner.destroy())
  })
  await new Promise((resolve) => { server.listen(port, '127.0.0.1', resolve) })
  t.defer(() => { server.close() })
  return proxy
}

// --- well-behaved browsers -------------------------------------------------------------------

/** Watches a vin. trusts: messages come as the backend sent them. */
class Watcher {
  static async open(t, hub, vin, trusts) {
    const watcher = new Watcher()
    watcher.trusts = trusts
    watcher.browser = await Browser.open(t, hub.url(`/watcher/${vin}?remoteWs`))
    watcher.node = hub
    watcher.vin = vin
    watcher.last = 0
    watcher.lost = 0
    watcher.latest_ms = 0
    watcher.browser.socket.on('message', (data) => watcher.take(data.toString()))
    return watcher
  }

  take(text) {
    this.browser.received.length = 0
    const [, number, at] = /^push (\d+) (\S+)$/.exec(text) ?? []
    if (number === undefined) return
    if (this.trusts) {
      assert.ok(Number(number) > this.last, `${this.vin}: push ${number} after ${this.last}`)
      this.lost += Number(number) - this.last - 1
    }
    this.last = Number(number)
    this.latest_ms = Math.max(this.latest_ms, performance.now() - Number(at))
  }

  get end() { return this.browser.end }
}

class Pusher {
  constructor(backend, path) {
    this.backend = backend
    this.path = path
    this.sent = 0
    this.timer = setInterval(() => this.push(), PUSH_EVERY_MS)
  }

  push() {
    if (this.backend.open(this.path).length > 0) this.backend.push(this.path, `push ${++this.sent} ${performance.now()}`)
  }

  stop() { clearInterval(this.timer) }
}

// --- the run ---------------------------------------------------------------------------------

async function attackFor(hub, ms) {
  const ends = performance.now() + ms
  let number = 0
  const lane = async () => {
    while (performance.now() < ends) await peer(number++, hub)
  }
  await Promise.all(Array.from({ length: AT_ONCE }, lane))
  return number
}

async function spoilFor(proxy, ms, recovered) {
  const ends = performance.now() + ms
  const dice = diceOf(4, 0)
  while (performance.now() < ends) {
    proxy.spoiling = true
    await delay(300 + dice.below(2500))
    proxy.spoiling = false
    await recovered()
  }
}

/** Nothing of the hostile peers is left. */
async function isClean(hub, clients) {
  const stats = await hub.json('/websocket-stats')
  return stats.connections === clients
}

test(`sockets: hostile peers for ${SECONDS} s, seed ${SEED}`, { timeout: SECONDS * 1000 + 60_000 }, async (t) => {
  const redis = await RedisServer.start(t)
  const proxy = await spoiler(t, redis)
  const backend = await Backend.start(t)
  const bad = await hostileBackend(t)
  const settings = {
    node: { lease: '1s' },
    redis: { on_loss: 'serve' },
    clients: { compression: true, max_message: '64KiB', rate: { messages: 1000, per: '1s', burst: 5000 } },
    services: [service(backend, { linger: '200ms' }),
      service(bad, { name: 'badWs', linger: '0s', reconnect: { min: '20ms', max: '100ms', timeout: '2s' } })],
  }
  const hub = await startHub(t, { id: 'a', redis, settings })
  const other = await startHub(t, { id: 'b', redis: proxy, settings })
  const good = await Promise.all(['GOOD1', 'GOOD1', 'GOOD2'].map((vin) => Watcher.open(t, hub, vin, true)))
  // Those of OTHER have node B for their owner, those of SHARED either, or in turns.
  const patient = []
  for (const [node, vin] of [[other, 'OTHER1'], [other, 'OTHER2'], [hub, 'SHARED1'], [other, 'SHARED1'],
    [other, 'SHARED2'], [hub, 'SHARED2'], [hub, 'SHARED3'], [other, 'SHARED3']]) {
    patient.push(await Watcher.open(t, node, vin, false))
  }
  // These watch what hostile backends send: whatever that is, what arrives is well-formed.
  const brave = await Promise.all([1, 2, 3].map((n) => Browser.open(t, hub.url(`/brave/BRAVE${n}?badWs`), { perMessageDeflate: n === 1 })))
  const paths = [...new Set([...good, ...patient].map(({ vin }) => `/base/watcher/${vin}`))]
  await each(paths, 5, (path) => backend.one(path))
  const pushers = paths.map((path) => new Pusher(backend, path))
  t.defer(() => pushers.forEach((pusher) => pusher.stop()))
  const before = hub.rss()

  let stage = 'hostile peers'
  t.explain(() => [`in the stage: ${stage}; pushes: ${[...good, ...patient].map(({ vin, last }) => `${vin} ${last}`)}`])
  const sentTo = ({ vin }) => pushers[paths.indexOf(`/base/watcher/${vin}`)].sent
  // One that goes on gets a push of now.
  const goesOn = async (watcher) => {
    const now = sentTo(watcher)
    const listing = await other.json('/api/sessions')
    await until(() => watcher.last > now && watcher.last <= sentTo(watcher), SETTLE_MS,
      () => `${watcher.vin}: a push after ${now} (have ${watcher.last}; ended: ${JSON.stringify(watcher.end)}; was ${JSON.stringify(listing)})`)
  }
  if (ONE !== undefined) await peer(Number(ONE), hub)
  const [peers] = await Promise.all([ONE === undefined ? attackFor(hub, SECONDS * 1000) : 1,
    spoilFor(proxy, SECONDS * 1000, () => each(patient, patient.length, goesOn))])

  const watchers = [...good, ...patient]
  stage = 'all hostile clients go'
  const patientHere = patient.filter(({ node }) => node === hub).length
  await until(() => isClean(hub, good.length + brave.length + patientHere), SETTLE_MS, 'all hostile clients to be gone')
  assert.ok(hub.rss() - before < GROWTH, `memory grew by ${hub.rss() - before}`)
  stage = 'node b recovers'
  // Node b has recovered when a push of now arrives; from there on nothing may be missing.
  await each(patient, patient.length, async (watcher) => {
    await goesOn(watcher)
    watcher.trusts = true
  })
  stage = 'the last pushes'
  const enough = patient.map((watcher) => watcher.last + 50)
  await until(() => patient.every(({ last }, i) => last >= enough[i]), LATE_MS, 'some more pushes')
  for (const pusher of pushers) pusher.stop()
  for (const watcher of watchers) {
    const sent = sentTo(watcher)
    await until(() => watcher.last === sent, LATE_MS, () => `${watcher.vin}: push ${sent} (have ${watcher.last})`)
    assert.equal(watcher.end, null, `${watcher.vin}: closed with ${JSON.stringify(watcher.end)}`)
    assert.equal(watcher.lost, 0, `${watcher.vin}: ${watcher.lost} pushes lost`)
  }
  for (const watcher of good) {
    assert.ok(watcher.latest_ms < LATE_MS, `${watcher.vin}: a push came after ${watcher.latest_ms} ms`)
    assert.equal(backend.upgrades.filter(({ url }) => url.endsWith(`/${watcher.vin}`)).length, 1, 'one upstream all along')
  }
  for (const [n, browser] of brave.entries()) assert.equal(browser.end, null, `BRAVE${n + 1}: ${JSON.stringify(browser.end)}`)
  console.log(`# ${peers} hostile peers, ${proxy.changed} answers of Redis changed; ${pushers[0].sent} pushes a vin, the latest after ` +
    `${Math.max(...good.map(({ latest_ms }) => latest_ms)).toFixed(0)} ms`)
})
