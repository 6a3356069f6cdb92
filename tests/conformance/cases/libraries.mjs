// Compression between the hub and common libraries: npm `ws` in all its settings, and Chromium.
import assert from 'node:assert/strict'
import http from 'node:http'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { chromium } from 'playwright-core'
import WebSocket from 'ws'
import { freePort } from '../../lib/ports.mjs'
import { until } from '../../lib/until.mjs'
import { randomBytes, textBytes } from '../wire.mjs'

const WAIT_MS = 60_000
const MESSAGES = [0, 1, 100, 1000, 5000, 70_000].flatMap((size) => [textBytes(size).toString(), Buffer.alloc(size, 'abc'), randomBytes(size)])

const SETTINGS = [
  ['the defaults', true], ['no threshold', { threshold: 0 }], ['a threshold of 1,024 bytes', { threshold: 1024 }],
  ['level 9', { threshold: 0, zlibDeflateOptions: { level: 9 } }], ['level 0', { threshold: 0, zlibDeflateOptions: { level: 0 } }],
  ['both without context takeover', { threshold: 0, serverNoContextTakeover: true, clientNoContextTakeover: true }],
  ['the server without context takeover', { threshold: 0, serverNoContextTakeover: true }], ['the client without context takeover', { threshold: 0, clientNoContextTakeover: true }],
  ...[8, 9, 10, 11, 12, 13, 14, 15].flatMap((bits) => [[`a window of ${bits} bits from the hub`, { threshold: 0, serverMaxWindowBits: bits }],
    [`a window of ${bits} bits to the hub`, { threshold: 0, clientMaxWindowBits: bits }]]),
  ['none', false],
]

async function dial(url, perMessageDeflate) {
  const socket = new WebSocket(url, { perMessageDeflate, maxPayload: 0 })
  const received = []
  socket.on('message', (data, binary) => received.push(binary ? data : data.toString()))
  await new Promise((resolve, reject) => socket.once('open', resolve).once('error', reject))
  return { socket, received }
}

const libraries = SETTINGS.map(([name, settings]) => ({
  name: `npm ws with ${name}`,
  async run(rig) {
    const { socket, received } = await dial(`ws://127.0.0.1:${rig.deflating.port}/u/${rig.vin()}?echo`, settings)
    rig.defer(() => socket.terminate())
    assert.equal(socket.extensions.includes('permessage-deflate'), settings !== false)
    for (const message of MESSAGES) socket.send(message)
    socket.send('in three ', { fin: false })
    socket.send('', { fin: false })
    socket.send('parts', { fin: true })
    const want = [...MESSAGES, 'in three parts']
    await until(() => received.length >= want.length, WAIT_MS, () => `${want.length} echoes (have ${received.length})`)
    assert.deepEqual(received, want)
    const closed = new Promise((resolve) => { socket.once('close', resolve) })
    socket.close(1000)
    assert.equal(await closed, 1000)
  },
}))

/** The page does it all by itself and leaves what it has seen in `result`. */
const PAGE = `<!doctype html><script>
  const url = new URLSearchParams(location.search).get('url')
  const texts = ['', 'ping?', 'Grüße ★ 𝄞 '.repeat(10), '车门 '.repeat(20000), JSON.stringify(Array.from({ length: 3000 }, (_, speed) => ({ speed })))]
  const socket = new WebSocket(url)
  socket.binaryType = 'arraybuffer'
  const seen = []
  socket.onopen = () => {
    for (const text of texts) { socket.send(text); socket.send(new TextEncoder().encode(text)) }
  }
  socket.onmessage = ({ data }) => {
    seen.push(typeof data === 'string' ? data : new TextDecoder().decode(data))
    if (seen.length === 2 * texts.length) socket.close(1000, 'done')
  }
  socket.onclose = ({ code, wasClean }) => {
    window.result = { same: JSON.stringify(seen) === JSON.stringify(texts.flatMap((text) => [text, text])), count: seen.length,
      extensions: socket.extensions, code, wasClean }
  }
</script>`

const browser = {
  name: 'Chromium sends and receives deflated messages',
  async run(rig) {
    const server = http.createServer((req, res) => res.writeHead(200, { 'Content-Type': 'text/html; charset=utf-8' }).end(PAGE))
    const port = await freePort()
    await new Promise((resolve) => { server.listen(port, '127.0.0.1', resolve) })
    const profile = mkdtempSync(join(tmpdir(), 'vinhub-conformance-'))
    const context = await chromium.launchPersistentContext(profile, { executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', headless: true,
      args: ['--no-sandbox', '--disable-gpu', '--disable-background-networking', '--disable-component-update', '--disable-sync'] })
    try {
      const page = await context.newPage()
      const url = `ws://127.0.0.1:${rig.deflating.port}/u/${rig.vin()}?echo`
      await page.goto(`http://127.0.0.1:${port}/?url=${encodeURIComponent(url)}`)
      const result = await until(() => page.evaluate(() => window.result), WAIT_MS, 'the page to be done')
      const extensions = 'permessage-deflate; server_no_context_takeover; client_no_context_takeover'
      assert.deepEqual(result, { same: true, count: 10, extensions, code: 1000, wasClean: true })
    } finally {
      await context.close()
      server.closeAllConnections()
      server.close()
      rmSync(profile, { recursive: true, force: true })
    }
  },
}

export const cases = [...libraries, browser]
