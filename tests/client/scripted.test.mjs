// The library with a scripted server that sends what a hub rarely sends: doubles, lost positions, refusals, nothing at all.
import assert from 'node:assert/strict'
import { WebSocketServer } from 'ws'
import { freePort } from '../lib/ports.mjs'
import { test } from '../lib/runner.mjs'
import { until } from '../lib/until.mjs'
import { openPage, seen, startClient } from './page.mjs'

const SOON_MS = 20_000
const EPOCH = 1_795_000_000_000

class ScriptedHub {
  /** onOpen(hub, socket, number) is called for each connection, onSend(hub, socket, message) for each SEND. */
  static async start(t, { onOpen, onSend = () => {}, protocol = 'vinhub.v1' }) {
    const port = await freePort()
    const hub = new ScriptedHub()
    hub.urls = []
    hub.url = `ws://127.0.0.1:${port}/admin/VIN1?remoteWs`
    const server = new WebSocketServer({ port, host: '127.0.0.1', handleProtocols: () => protocol })
    await new Promise((resolve) => { server.once('listening', resolve) })
    t.defer(() => { for (const socket of server.clients) socket.terminate(); server.close() })
    server.on('connection', (socket, { url }) => {
      hub.urls.push(url)
      socket.on('message', (data) => {
        const message = JSON.parse(data)
        if (message.type === 'SEND') onSend(hub, socket, message)
      })
      onOpen(hub, socket, hub.urls.length)
    })
    return hub
  }

  say(socket, type, payload, more = {}) {
    socket.send(JSON.stringify({ timestamp: Date.now(), version: '1.0', type, ...more, payload }))
  }

  welcome(socket, epoch, offset, resumed = false) {
    this.say(socket, 'WELCOME', { node: 'x', session: 'remoteWs:VIN1', client: 'c0ffee', epoch, offset, resumed, upstream: 'connected' })
  }

  message(socket, epoch, offset, payload) { this.say(socket, 'MESSAGE', payload, { epoch, offset, encoding: 'text' }) }
}

test('a message that was had is not handed out again, an older one neither', async (t) => {
  const hub = await ScriptedHub.start(t, {
    onOpen(it, socket) {
      it.welcome(socket, EPOCH, 4)
      for (const [epoch, offset] of [[EPOCH, 5], [EPOCH, 5], [EPOCH, 4], [EPOCH - 1, 9], [EPOCH, 6], [EPOCH + 1, 1]]) {
        it.message(socket, epoch, offset, `${epoch - EPOCH}.${offset}`)
      }
      it.say(socket, 'LATER', { of: 'another version' })
      socket.send('no JSON')
      it.message(socket, EPOCH + 1, 2, 'last')
    },
  })
  const page = await openPage(t)
  await startClient(page, hub.url)
  await until(async () => (await seen(page)).messages.includes('last'), SOON_MS, 'the last message')
  assert.deepEqual((await seen(page)).messages, ['0.5', '0.6', '1.1', 'last'])
})

test('a position that is no longer valid is reported as a gap; the client keeps its id', async (t) => {
  const hub = await ScriptedHub.start(t, {
    onOpen(it, socket, number) {
      it.welcome(socket, EPOCH + 10 * number, 7)
      if (number === 1) socket.close(1013)
    },
  })
  const page = await openPage(t)
  await startClient(page, hub.url)
  await until(async () => (await seen(page)).gaps.length > 0, SOON_MS, 'the gap')
  assert.deepEqual((await seen(page)).gaps, [{ epoch: EPOCH + 10, from: 8, to: 0 }])
  assert.deepEqual(hub.urls, ['/admin/VIN1?remoteWs', `/admin/VIN1?remoteWs&resume=${EPOCH + 10}.7.c0ffee`])
  const { states } = await seen(page)
  assert.ok(states.find(({ code }) => code === 1013).retryIn >= 3500, '1013 is given time, and by chance, so that not all come together')
})

test('the reason of a close says when to reconnect, by retry=MS at its end', async (t) => {
  const reasons = [[1012, 'node restarts retry=700'], [1013, 'retry=250'], [1012, 'retry=9 times'], [4005, 'slow client retry=77777']]
  const hub = await ScriptedHub.start(t, {
    onOpen(it, socket, number) {
      it.welcome(socket, EPOCH, 7)
      if (reasons[number - 1]) setTimeout(() => socket.close(...reasons[number - 1]), 50)
    },
  })
  const page = await openPage(t)
  const began = performance.now()
  await startClient(page, hub.url, { reconnect: { min: 100, max: 200 } })
  await until(() => hub.urls.length === 5, SOON_MS, 'it to come back four times')
  const waits = (await seen(page)).states.filter(({ state }) => state === 'waiting').map(({ retryIn }) => retryIn)
  assert.equal(waits[0], 700)
  assert.ok(waits[1] >= 250 && waits[1] <= 250 + 300, `and its own pause where it is not the first time: ${waits}`)
  assert.ok(waits[2] <= 300 && waits[3] <= 300, `neither says when: ${waits}`)
  assert.ok(performance.now() - began >= 950)
})

test('a send the hub refuses is rejected with the hub\'s code, and not repeated', async (t) => {
  const ids = []
  const hub = await ScriptedHub.start(t, {
    onOpen: (it, socket) => it.welcome(socket, EPOCH, 0),
    onSend(it, socket, { id }) {
      ids.push(id)
      if (id === 1) it.say(socket, 'ERROR', { id, code: 'invalid_payload', message: 'not this one' })
      else if (ids.length === 2) socket.close(1012)
      else it.say(socket, 'ACK', { id })
    },
  })
  const page = await openPage(t)
  await startClient(page, hub.url)
  await page.evaluate(() => { window.send('bad'); window.send('good') })
  await until(async () => (await seen(page)).acks.length === 1, SOON_MS, 'the acknowledgement')
  const { refused, errors } = await seen(page)
  assert.deepEqual(refused, [{ code: 'invalid_payload', sent: true }])
  assert.deepEqual(errors, [{ id: 1, code: 'invalid_payload', message: 'not this one' }])
  assert.deepEqual(ids, [1, 2, 2])
})

test('the client leaves a server that does not speak vinhub.v1, or sends nothing', async (t) => {
  const other = await ScriptedHub.start(t, { onOpen() {}, protocol: false })
  const mute = await ScriptedHub.start(t, { onOpen() {} })
  const good = await ScriptedHub.start(t, { onOpen: (it, socket) => it.welcome(socket, EPOCH, 0) })
  const page = await openPage(t)
  await startClient(page, [other.url, mute.url, good.url], { connectTimeout: 4000, reconnect: { min: 20, max: 50 } })
  await until(async () => page.evaluate(() => window.client.state === 'open'), SOON_MS, 'the client to be open')
  const reasons = (await seen(page)).closes.map(({ reason }) => reason)
  assert.ok(reasons.every((reason) => ['', 'the server does not speak vinhub.v1', 'no connection in time'].includes(reason)), reasons.join())
  assert.ok(other.urls.length >= 1 && mute.urls.length >= 1 && good.urls.length === 1)
})

/** Connects with what the functions give, one for each try, and tells all until the client is open or has failed. */
const tryTokens = (page, url, tokens) => page.evaluate(([at, sources]) => new Promise((resolve) => {
  const told = []
  const functions = sources.map((source) => eval(source))
  const client = new window.VinhubClient(at, {
    token: (context) => { told.push(`asked, ${context.refusals} refused`); return functions.shift()() },
    connectTimeout: 3000, reconnect: { min: 10, max: 20 },
  })
  client.on('error', ({ code, message }) => told.push(`${code}: ${message}`))
  client.on('status', ({ state }) => { if (state === 'open' || state === 'failed') { client.close(); resolve([...told, state]) } })
  client.connect()
}), [url, tokens.map(String)])

test('a token function that throws, rejects, hangs, or gives what can\'t be sent is asked again', async (t) => {
  const hub = await ScriptedHub.start(t, { onOpen: (it, socket) => it.welcome(socket, EPOCH, 0) })
  const page = await openPage(t)
  const outcome = await tryTokens(page, hub.url, [
    () => { throw new Error('signed out') }, () => Promise.reject(new Error('no network')), () => new Promise(() => {}),
    () => '<html>please sign in</html>', () => ({ access_token: 'x' }), () => 'good',
  ])
  assert.deepEqual(outcome, ['asked, 0 refused', 'provider: signed out', 'asked, 0 refused', 'provider: no network', 'asked, 0 refused',
    'asked, 0 refused', 'asked, 1 refused', 'asked, 2 refused', 'open'])
  assert.equal(hub.urls.length, 1)
  const bad = () => 'two words'
  assert.deepEqual(await tryTokens(page, hub.url, [bad, bad, bad]), ['asked, 0 refused', 'asked, 1 refused', 'asked, 2 refused', 'failed'])
  assert.equal(hub.urls.length, 1, 'what is no token is not sent')
})

test('a URL that can\'t be read, or none, is the end of it', async (t) => {
  const page = await openPage(t)
  for (const url of ['http://[', '', [], null]) {
    await startClient(page, url)
    await until(() => page.evaluate(() => window.client.state === 'failed'), SOON_MS, `the client to fail with ${url}`)
  }
})

test('a listener that throws holds up nobody', async (t) => {
  const hub = await ScriptedHub.start(t, {
    onOpen(it, socket) {
      it.welcome(socket, EPOCH, 0)
      it.message(socket, EPOCH, 1, 'one')
      it.message(socket, EPOCH, 2, 'two')
    },
  })
  const page = await openPage(t)
  const [reported, texts] = await page.evaluate((url) => new Promise((resolve) => {
    const found = []
    window.addEventListener('error', (event) => { found.push(event.error.message); event.preventDefault() })
    const client = new window.VinhubClient(url)
    const texts = []
    client.on('message', (text) => { throw new Error(`in a listener: ${text}`) })
    client.on('message', (text) => { texts.push(text); if (texts.length === 2) resolve([found, texts]) })
    client.connect()
  }), hub.url)
  assert.deepEqual(texts, ['one', 'two'])
  assert.deepEqual(reported, ['in a listener: one', 'in a listener: two'])
})

test('what was missed before any position was known is reported as a gap, too', async (t) => {
  const hub = await ScriptedHub.start(t, {
    onOpen(it, socket, number) {
      it.welcome(socket, number === 1 ? 0 : EPOCH, number === 1 ? 0 : 7)
      if (number === 1) socket.close(1012)
    },
  })
  const page = await openPage(t)
  await startClient(page, hub.url)
  await until(async () => (await seen(page)).gaps.length > 0, SOON_MS, 'the gap')
  assert.deepEqual((await seen(page)).gaps, [{ epoch: 0, from: 1, to: 0 }])
})

test('the back-off doubles to its bound, by chance half to one and a half of it', async (t) => {
  const page = await openPage(t)
  await startClient(page, 'ws://127.0.0.1:1/admin/VIN1?remoteWs', { reconnect: { min: 8, max: 60 } })
  const waits = await until(async () => {
    const found = (await seen(page)).states.filter(({ state }) => state === 'waiting')
    return found.length >= 12 && found.slice(0, 12).map(({ retryIn }) => retryIn)
  }, SOON_MS, 'a dozen tries')
  waits.forEach((wait, tries) => {
    const middle = Math.min(60, 8 * 2 ** tries)
    assert.ok(wait >= Math.floor(middle / 2) && wait <= Math.ceil(middle * 1.5), `${wait} ms after ${tries} tries`)
  })
  assert.ok(new Set(waits.slice(3)).size > 1, 'not all alike')
})

/** How many sockets a page still holds. */
async function socketsOf(devtools) {
  await devtools.send('HeapProfiler.collectGarbage')
  const { result: { objectId: prototypeObjectId } } = await devtools.send('Runtime.evaluate', { expression: 'WebSocket.prototype' })
  const { objects: { objectId } } = await devtools.send('Runtime.queryObjects', { prototypeObjectId, objectGroup: 'sockets' })
  const { result } = await devtools.send('Runtime.callFunctionOn', {
    objectId, returnByValue: true,
    functionDeclaration: 'function () { return this.filter((it) => !Object.hasOwn(it, "constructor")).length }', // a prototype is no socket
  })
  await devtools.send('Runtime.releaseObjectGroup', { objectGroup: 'sockets' })
  return result.value
}

const COMMANDS = { includeCommandLineAPI: true, returnByValue: true }

test('after close() no listener, timer or socket of the client is left, however often it reconnected', { timeout: 120_000 }, async (t) => {
  const hub = await ScriptedHub.start(t, { onOpen: (it, socket) => it.welcome(socket, EPOCH, 0) })
  const page = await openPage(t)
  const devtools = await page.context().newCDPSession(page)
  const ask = async (expression) => (await devtools.send('Runtime.evaluate', { expression, ...COMMANDS })).result.value
  const listeners = () => ask('[window, document].flatMap((target) => Object.values(getEventListeners(target))).flat().length')
  const before = await listeners()
  await page.evaluate((url) => {
    const [set, clear] = [window.setTimeout, window.clearTimeout]
    window.timers = new Set()
    window.setTimeout = (fn, ms) => {
      const id = set(() => { window.timers.delete(id); fn() }, ms)
      window.timers.add(id)
      return id
    }
    window.clearTimeout = (id) => { window.timers.delete(id); clear(id) }
    window.startClient(url, { WebSocket: window.WebSocket })
  }, hub.url)
  await page.evaluate(() => new Promise((resolve) => {
    let opened = 0
    window.client.on('status', ({ state }) => { if (state === 'open') { if (++opened === 200) resolve(); else window.client.reconnect() } })
    window.client.reconnect()
  }))
  assert.ok(await listeners() > before, 'it listens while it is connected')
  assert.ok(await socketsOf(devtools) > 0)
  await page.evaluate(() => { window.client.send('never acknowledged').catch(() => {}); window.client.close() })
  assert.equal(await page.evaluate(() => window.timers.size), 0)
  assert.equal(await listeners(), before)
  await until(async () => await socketsOf(devtools) === 0, SOON_MS, 'all sockets to be collected')
})

test('connect() twice is one connection; close() while it connects is heeded, also from a listener; connect() after it too', async (t) => {
  const hub = await ScriptedHub.start(t, { onOpen: (it, socket) => it.welcome(socket, EPOCH, 0), onSend: (it, socket, { id }) => it.say(socket, 'ACK', { id }) })
  const page = await openPage(t)
  await page.evaluate((url) => {
    window.startClient(url)
    window.send('early')
    window.client.connect()
    window.client.close()
    window.client.close()
    window.client.connect()
    window.client.connect()
    window.send('before it is open')
  }, hub.url)
  await until(async () => (await seen(page)).acks.length > 0, SOON_MS, 'the acknowledgement')
  const { acks, refused } = await seen(page)
  assert.deepEqual([acks, refused], [['before it is open'], [{ code: 'closed', sent: false }]])
  assert.equal(hub.urls.length, 1)

  const states = await page.evaluate((url) => new Promise((resolve) => {
    const states = []
    const client = new window.VinhubClient(url)
    client.on('status', ({ state }) => { states.push(state); if (state === 'connecting') client.close() })
    client.connect()
    setTimeout(() => resolve(states), 500) // if it comes at all, then within half a second
  }), hub.url)
  assert.deepEqual(states, ['connecting', 'closed'])
  assert.equal(hub.urls.length, 1)
})

test('a look at the connection buys one try at once, not more', async (t) => {
  const hub = await ScriptedHub.start(t, {
    onOpen(it, socket, number) {
      if (number === 1) it.welcome(socket, EPOCH, 0)
      else socket.terminate()
      socket.on('message', () => socket.terminate()) // the PING of the look
    },
  })
  const page = await openPage(t)
  await startClient(page, hub.url, { heartbeat: { every: 60_000 }, reconnect: { min: 600_000, max: 600_000 } })
  await until(() => page.evaluate(() => window.client.state === 'open'), SOON_MS, 'the client to be open')
  await page.evaluate(() => window.dispatchEvent(new Event('offline')))
  const waits = async () => (await seen(page)).states.filter(({ state }) => state === 'waiting').map(({ retryIn }) => retryIn)
  await until(async () => (await waits()).at(-1) > 0, SOON_MS, 'it to wait')
  assert.equal((await waits())[0], 0)
  assert.equal(hub.urls.length, 2)
})
