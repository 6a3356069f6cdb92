// Contract section 3, tls_ca of a service: which certificates are anchors, which name a certificate must have, and that the
// reason names the expected and the actual one.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import https from 'node:https'
import { join } from 'node:path'
import { WebSocketServer } from 'ws'
import { test } from '../lib/runner.mjs'
import { Browser } from '../lib/browser.mjs'
import { Authority } from '../lib/certificates.mjs'
import { startHub } from '../lib/hub.mjs'
import { freePort } from '../lib/ports.mjs'
import { until } from '../lib/until.mjs'

const RECONNECT = { min: '100ms', max: '500ms' }

/** A wss server that repeats what it gets; heard: how many connections sent it anything. */
async function serve(t, pair, chain = []) {
  const cert = [pair.cert, ...chain].map((file) => readFileSync(file, 'utf8')).join('\n')
  const server = https.createServer({ cert, key: readFileSync(pair.key) }).on('tlsClientError', () => {})
  const backend = { port: await freePort(), heard: 0, hosts: [], names: [] }
  server.on('secureConnection', (socket) => {
    backend.names.push(socket.servername)
    socket.once('data', () => { backend.heard++ })
  })
  new WebSocketServer({ server }).on('connection', (socket, { headers }) => {
    backend.hosts.push(headers.host)
    socket.on('message', (data, binary) => socket.send(data, { binary }))
  })
  await new Promise((resolve) => { server.listen(backend.port, '127.0.0.1', resolve) })
  t.defer(() => { server.closeAllConnections(); server.close() })
  return backend
}

/** An intermediate authority below `root`: what it issues, and its own certificate. */
function intermediate(t, root) {
  const below = new Authority(t)
  const openssl = (...args) => execFileSync('openssl', args, { cwd: below.folder, stdio: ['ignore', 'ignore', 'pipe'] })
  writeFileSync(join(below.folder, 'v3'), 'basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign\n')
  openssl('req', '-new', '-key', 'ca.key', '-out', 'ca.csr', '-subj', '/CN=intermediate')
  openssl('x509', '-req', '-in', 'ca.csr', '-CA', root.file, '-CAkey', join(root.folder, 'ca.key'), '-CAcreateserial', '-days', '2',
    '-extfile', 'v3', '-out', 'ca.pem')
  return below
}

async function startFor(t, upstream, ca) {
  return startHub(t, { settings: { services: [{ name: 'tls', upstream, tls_ca: ca, reconnect: RECONNECT }] } })
}

/** Opens a page; true where what it sends comes back, else the reason of the session. */
async function outcome(t, hub) {
  const page = await Browser.open(t, hub.url('/u/V?tls'))
  page.send('through TLS')
  let reason
  await until(async () => {
    reason = (await hub.json('/api/sessions/tls:V')).reason
    return page.received.length > 0 || reason
  }, 5000, 'an echo or a reason')
  return page.received.length > 0 || reason
}

test('each certificate in tls_ca is an anchor: root, issuing intermediate, or the server\'s own', async (t) => {
  const root = new Authority(t)
  const issuing = intermediate(t, root)
  const pair = issuing.issue('server')
  const bare = await serve(t, pair) // as many servers are set up: without the intermediate
  const full = await serve(t, pair, [issuing.file])
  const both = join(root.folder, 'both.pem')
  writeFileSync(both, readFileSync(new Authority(t).file, 'utf8') + readFileSync(issuing.file, 'utf8'))
  for (const [backend, ca, what] of [[bare, issuing.file, 'the intermediate'], [full, issuing.file, 'the intermediate, which is sent as well'],
    [full, root.file, 'the root'], [bare, pair.cert, 'the server\'s own'], [bare, both, 'an unrelated one and the intermediate']]) {
    assert.equal(await outcome(t, await startFor(t, `wss://localhost:${backend.port}/x`, ca)), true, what)
  }
})

test('what is no anchor: the root where the server leaves the intermediate out, a sibling, another server', async (t) => {
  const root = new Authority(t)
  const issuing = intermediate(t, root)
  const backend = await serve(t, issuing.issue('server'))
  for (const ca of [root.file, intermediate(t, root).file, issuing.issue('sibling').cert]) {
    assert.match(await outcome(t, await startFor(t, `wss://localhost:${backend.port}/x`, ca)), /certificate/)
  }
  assert.equal(backend.heard, 0)
})

test('a dot at the end of the host is for the resolver only', async (t) => {
  const authority = new Authority(t)
  const backend = await serve(t, authority.issue('server', { names: 'DNS:localhost' }))
  assert.equal(await outcome(t, await startFor(t, `wss://localhost.:${backend.port}/x`, authority.file)), true)
  assert.deepEqual([backend.names, backend.hosts], [['localhost'], [`localhost:${backend.port}`]])
})

test('an address is looked for among the addresses of a certificate, and is no server name', async (t) => {
  const authority = new Authority(t)
  const named = await serve(t, authority.issue('named', { names: 'DNS:127.0.0.1,DNS:localhost' }))
  const addressed = await serve(t, authority.issue('addressed', { names: 'IP:127.0.0.1' }))
  assert.equal(await outcome(t, await startFor(t, `wss://127.0.0.1:${addressed.port}/x`, authority.file)), true)
  assert.deepEqual(addressed.names, [false])
  assert.match(await outcome(t, await startFor(t, `wss://127.0.0.1:${named.port}/x`, authority.file)), /expected a certificate for 127\.0\.0\.1/)
  assert.match(await outcome(t, await startFor(t, `wss://localhost:${addressed.port}/x`, authority.file)), /expected a certificate for localhost, got one for 127\.0\.0\.1/)
})

test('a certificate for others is refused by a reason that names both', async (t) => {
  const authority = new Authority(t)
  for (const names of ['DNS:other.example,DNS:*.shop.example', 'DNS:*.localhost', 'DNS:xlocalhost']) {
    const backend = await serve(t, authority.issue('server', { names }))
    const hub = await startFor(t, `wss://localhost:${backend.port}/x`, authority.file)
    const first = names.split(',')[0].slice(4)
    const page = await Browser.open(t, hub.url('/u/V?tls'), { protocols: ['vinhub.v1'] })
    await until(() => page.texts().some((text) => JSON.parse(text).type === 'STATUS' && JSON.parse(text).payload.reason?.includes(first)), 5000, 'the reason in a STATUS')
    const reason = await outcome(t, hub)
    assert.ok(reason.includes('expected a certificate for localhost, got one for') && reason.includes(first), reason)
    assert.equal(backend.heard, 0)
  }
})
