// An event stream whose other end vanished: only the peer's kernel would acknowledge a comment, so the hub's kernel has to
// notice (TCP_USER_TIMEOUT). Runs in a network namespace, whose addresses can be removed.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import net from 'node:net'
import { inOwnNetwork } from '../lib/namespace.mjs'
import { test } from '../lib/runner.mjs'
import { Backend } from '../lib/backend.mjs'
import { service, SLACK_MS, startHub } from '../lib/hub.mjs'
import { until } from '../lib/until.mjs'

inOwnNetwork()

const PAGE = '/admin/VIN1?remoteWs'
const [STAYS, VANISHES] = ['10.99.0.1', '10.99.0.2']
const ip = (...args) => execFileSync('ip', args)

function openFrom(t, address, hub) {
  const socket = net.connect({ port: hub.port, host: '127.0.0.1', localAddress: address })
  const peer = { text: '', ended: false }
  socket.on('data', (part) => { peer.text += part }).on('error', () => {}).once('close', () => { peer.ended = true })
  socket.write(`GET ${PAGE} HTTP/1.1\r\nHost: h\r\nAccept: text/event-stream\r\n\r\n`)
  t.defer(() => socket.destroy())
  return peer
}

test('a stream whose other end vanished is ended within clients.ping.every and timeout, others stay', async (t) => {
  const [every, timeout] = [300, 1000]
  for (const address of [STAYS, VANISHES]) ip('addr', 'add', `${address}/32`, 'dev', 'lo')
  const backend = await Backend.start(t)
  const hub = await startHub(t, { settings: { services: [service(backend)], clients: { ping: { every: `${every}ms`, timeout: `${timeout}ms` } } } })
  const [stays, vanishes] = [STAYS, VANISHES].map((address) => openFrom(t, address, hub))
  await until(() => [stays, vanishes].every(({ text }) => text.includes('id: ')), 5000, 'both streams')
  await until(() => vanishes.text.includes('\n:\n'), 5000, 'a comment')
  ip('addr', 'del', `${VANISHES}/32`, 'dev', 'lo')
  // The kernel looks when it sends again what was not acknowledged: after 0.2, 0.6, 1.4 s.
  await until(async () => await hub.metric('vinhub_clients') === 1, every + 2 * timeout + SLACK_MS, 'the one that vanished to be given up')
  await until(() => stays.text.split('\n:\n').length > 10, 5000, 'comments to the other')
  assert.ok(!stays.ended)
  assert.equal(await hub.metric('vinhub_clients'), 1)
})
