// The library against a server that says what a hub says seldom: doubles, lost positions, refusals, nothing at all.
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

test('a position that is of no use any more is told as a gap; the client keeps its id', async (t) => {
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
  assert.ok(states.find(({ code }) => code === 1013).retryIn >= 3000, '1013 is given time')
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

test('a server that does not speak vinhub.v1, or says nothing, is left', async (t) => {
  const other = await ScriptedHub.start(t, { onOpen() {}, protocol: false })
  const mute = await ScriptedHub.start(t, { onOpen() {} })
  const good = await ScriptedHub.start(t, { onOpen: (it, socket) => it.welcome(socket, EPOCH, 0) })
  const page = await openPage(t)
  await startClient(page, [other.url, mute.url, good.url], { connectTimeout: 1500, reconnect: { min: 20, max: 50 } })
  await until(async () => page.evaluate(() => window.client.state === 'open'), SOON_MS, 'the client to be open')
  const reasons = (await seen(page)).closes.map(({ reason }) => reason)
  assert.ok(reasons.every((reason) => ['', 'the server does not speak vinhub.v1', 'no connection in time'].includes(reason)), reasons.join())
  assert.ok(other.urls.length >= 1 && mute.urls.length >= 1 && good.urls.length === 1)
})

test('a token function that throws, and one whose token can\'t be sent', async (t) => {
  const hub = await ScriptedHub.start(t, { onOpen: (it, socket) => it.welcome(socket, EPOCH, 0) })
  const page = await openPage(t)
  const outcome = await page.evaluate((url) => new Promise((resolve) => {
    const told = []
    let asked = 0
    const token = () => {
      if (asked++ === 0) throw new Error('signed out')
      return 'no token at all'
    }
    const client = new window.VinhubClient(url, { token, reconnect: { min: 10, max: 20 } })
    client.on('error', ({ code, message }) => told.push(`${code}: ${message}`))
    client.on('status', ({ state }) => { told.push(state); if (state === 'failed') resolve(told) })
    client.connect()
  }), hub.url)
  assert.deepEqual(outcome, ['connecting', 'provider: signed out', 'waiting', 'connecting', 'failed'])
  assert.equal(hub.urls.length, 0)
})
