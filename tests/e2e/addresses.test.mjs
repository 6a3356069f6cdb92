// Contract section 5: all addresses of a name are tried, whatever is wrong with one of them.
import net from 'node:net'
import { withHosts } from '../lib/hosts.mjs'

const ELSEWHERE = '127.0.0.81'
withHosts([`${ELSEWHERE} good-last.test`, '127.0.0.1 good-last.test', '127.0.0.1 good-first.test', `${ELSEWHERE} good-first.test`])

const { default: assert } = await import('node:assert/strict')
const { test } = await import('../lib/runner.mjs')
const { Backend } = await import('../lib/backend.mjs')
const { Browser } = await import('../lib/browser.mjs')
const { startHub } = await import('../lib/hub.mjs')

const PAGE = '/admin/VIN1?remoteWs'
const FAST = { reconnect: { min: '50ms', max: '200ms', timeout: '500ms' } }

/** A server on the backend's port at the other address. */
async function strange(t, port, behave) {
  const sockets = new Set()
  const server = net.createServer((socket) => {
    sockets.add(socket)
    socket.on('error', () => {}).on('end', () => socket.end()).resume()
    behave(socket)
  })
  await new Promise((resolve, reject) => { server.once('error', reject).listen({ host: ELSEWHERE, port }, resolve) })
  t.defer(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
}

const faults = {
  'where nobody listens': null,
  'that never answers': () => {},
  'that refuses with 404': (socket) => socket.write('HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n'),
  'that talks something else': (socket) => socket.write('220 mail\r\n\r\n'),
  'that hangs up': (socket) => socket.end(),
}

for (const [name, behave] of Object.entries(faults)) {
  test(`of a name with an address ${name} the other one is reached`, async (t) => {
    const backend = await Backend.start(t)
    if (behave) await strange(t, backend.port, behave)
    const services = ['good-first', 'good-last'].map((host) => ({ name: host, upstream: `ws://${host}.test:${backend.port}/${host}`, ...FAST }))
    const hub = await startHub(t, { settings: { services } })
    for (const { name: host } of services) {
      const page = await Browser.open(t, hub.url(PAGE.replace('remoteWs', host)))
      await backend.one(`/${host}/admin/VIN1`, 5000)
      backend.push(`/${host}/admin/VIN1`, 'reached')
      await page.got(1)
      assert.equal(page.end, null)
    }
  })
}
