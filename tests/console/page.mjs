// The console in a headless Chromium. An error in the page, or a request to another host, fails the case.
import { mkdirSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { chromium } from 'playwright-core'
import { scratch, VINHUB } from '../lib/hub.mjs'

const FLAGS = ['--no-sandbox', '--disable-gpu', '--disable-background-networking', '--disable-component-update', '--disable-sync']
const SHOTS = process.env.SHOTS ?? join(dirname(VINHUB), 'console-shots')

/** Opens a page of the hub's console. expected: a pattern of what the browser's log may hold. */
export async function openConsole(t, hub, { path = '/', expected, ...options } = {}) {
  const context = await chromium.launchPersistentContext(scratch(t), {
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', headless: true, args: FLAGS,
    viewport: { width: 1280, height: 800 }, ...options,
  })
  t.defer(() => context.close())
  const page = await context.newPage()
  const origin = `http://127.0.0.1:${hub.adminPort}`
  page.setDefaultTimeout(10_000)
  page.on('pageerror', (error) => t.fail(error))
  page.on('console', (message) => {
    const text = `${message.type()}: ${message.text()}`
    if (['error', 'warning'].includes(message.type()) && !expected?.test(text)) t.fail(new Error(`the page says ${text}`))
  })
  page.on('request', (request) => {
    const url = request.url()
    if (!url.startsWith(`${origin}/`) && !url.startsWith('data:')) t.fail(new Error(`the page asks ${url}`))
  })
  await page.goto(`${origin}${path}`)
  return page
}

export async function shot(page, name) {
  mkdirSync(SHOTS, { recursive: true })
  await page.screenshot({ path: join(SHOTS, `${name}.png`) })
}

/** The text of the first element, once it is there. */
export const textOf = (page, selector) => page.locator(selector).first().innerText()
