// Pages with the library in a real Chromium, served from an origin of the tests' own.
import http from 'node:http'
import net from 'node:net'
import { readFileSync } from 'node:fs'
import { extname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { chromium } from 'playwright-core'
import { freePort } from '../lib/ports.mjs'

const CLIENT = new URL('../../hub/web/client/', import.meta.url)
const DEMO = fileURLToPath(new URL('../../docker/demo', import.meta.url))
const FLAGS = ['--no-sandbox', '--disable-gpu', '--disable-background-networking', '--disable-component-update', '--disable-sync']
const MIME = { '.js': 'text/javascript', '.html': 'text/html', '.css': 'text/css' }
const HTML = '<!doctype html><meta charset="utf-8"><title>client</title><link rel="icon" href="data:,"><script type="module" src="probe.js"></script>'
export const CHROMIUM = process.env.CHROMIUM ?? '/usr/bin/chromium'

function fileFor(path) {
  if (path === '/') return HTML
  if (path === '/probe.js') return readFileSync(new URL('probe.js', import.meta.url))
  return readFileSync(new URL(path.slice('/client/'.length), CLIENT))
}

/** Passes handshakes on to the hub, as a load balancer does. */
function passUpgrades(server, hub) {
  server.on('upgrade', (req, socket, head) => {
    const onward = net.connect(hub.port, '127.0.0.1')
    const lines = req.rawHeaders.flatMap((name, at, all) => (at % 2 === 0 ? [`${name}: ${all[at + 1]}`] : []))
    onward.write(`GET ${req.url} HTTP/1.1\r\n${lines.join('\r\n')}\r\n\r\n`)
    onward.write(head)
    for (const [from, to] of [[socket, onward], [onward, socket]]) from.on('error', () => to.destroy()).pipe(to)
  })
}

/** Serves what read(path) gives, by default the page and the library; returns the page's address. hub: WebSockets go there. */
export async function servePage(t, read = fileFor, hub = null) {
  const server = http.createServer((req, res) => {
    try {
      const body = read(req.url)
      res.writeHead(200, { 'Content-Type': MIME[extname(req.url.split('?')[0])] ?? 'text/html' }).end(body)
    } catch { res.writeHead(404).end() }
  })
  if (hub) passUpgrades(server, hub)
  const port = await freePort()
  await new Promise((resolve) => { server.listen(port, '127.0.0.1', resolve) })
  t.defer(() => { server.closeAllConnections(); server.close() })
  return `http://127.0.0.1:${port}/`
}

let browser // one for the file: starting it is what takes long

/** A page with probe.js in a context of its own. An error that nobody catches in it fails the case. */
export const openPage = async (t) => openAddress(t, await servePage(t))

/** The index.html of a folder, which says when it is ready by window.ready. */
export const openFolder = async (t, folder) =>
  openAddress(t, await servePage(t, (path) => readFileSync(join(folder, path === '/' ? 'index.html' : path))))

/** A page of the demo, with the hub behind it; query is that of its URL. */
export async function openDemo(t, name, hub, query = '') {
  const read = (url) => readFileSync(join(DEMO, url.split('?')[0]))
  return openAddress(t, `${await servePage(t, read, hub)}${name}${query}`, () => document.readyState === 'complete')
}

async function openAddress(t, address, ready = () => window.ready === true) {
  browser ??= chromium.launch({ executablePath: CHROMIUM, headless: true, args: FLAGS })
  const context = await (await browser).newContext()
  t.defer(() => context.close())
  const page = await context.newPage()
  page.setDefaultTimeout(30_000)
  page.on('pageerror', (error) => t.fail(error))
  await page.goto(address)
  await page.waitForFunction(ready)
  return page
}

/** The events of the page's client so far. */
export const seen = (page) => page.evaluate(() => window.seen)

/** Starts a client in the page; options are JSON. */
export const startClient = (page, url, options = {}) => page.evaluate(([at, how]) => window.startClient(at, how), [url, options])
