// Pages with the library in a real Chromium, served from an origin of the tests' own.
import http from 'node:http'
import { readFileSync } from 'node:fs'
import { extname, join } from 'node:path'
import { chromium } from 'playwright-core'
import { freePort } from '../lib/ports.mjs'

const CLIENT = new URL('../../hub/web/client/', import.meta.url)
const FLAGS = ['--no-sandbox', '--disable-gpu', '--disable-background-networking', '--disable-component-update', '--disable-sync']
const MIME = { '.js': 'text/javascript', '.html': 'text/html', '.css': 'text/css' }
const HTML = '<!doctype html><meta charset="utf-8"><title>client</title><link rel="icon" href="data:,"><script type="module" src="probe.js"></script>'
export const CHROMIUM = process.env.CHROMIUM ?? '/usr/bin/chromium'

function fileFor(path) {
  if (path === '/') return HTML
  if (path === '/probe.js') return readFileSync(new URL('probe.js', import.meta.url))
  return readFileSync(new URL(path.slice('/client/'.length), CLIENT))
}

/** Serves what read(path) gives, by default the page and the library; returns the page's address. */
export async function servePage(t, read = fileFor) {
  const server = http.createServer((req, res) => {
    try {
      const body = read(req.url)
      res.writeHead(200, { 'Content-Type': MIME[extname(req.url)] ?? 'text/html' }).end(body)
    } catch { res.writeHead(404).end() }
  })
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

async function openAddress(t, address) {
  browser ??= chromium.launch({ executablePath: CHROMIUM, headless: true, args: FLAGS })
  const context = await (await browser).newContext()
  t.defer(() => context.close())
  const page = await context.newPage()
  page.setDefaultTimeout(30_000)
  page.on('pageerror', (error) => t.fail(error))
  await page.goto(address)
  await page.waitForFunction(() => window.ready === true)
  return page
}

/** What the page's client has told so far. */
export const seen = (page) => page.evaluate(() => window.seen)

/** Starts a client in the page; options are JSON. */
export const startClient = (page, url, options = {}) => page.evaluate(([at, how]) => window.startClient(at, how), [url, options])
