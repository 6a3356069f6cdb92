// The package as a project gets it: packed, installed into a fresh one, checked by tsc, built by Vite, and run in Chromium with real Vue and React.
import assert from 'node:assert/strict'
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Backend } from '../lib/backend.mjs'
import { service, startHub } from '../lib/hub.mjs'
import { run } from '../lib/process.mjs'
import { test } from '../lib/runner.mjs'
import { until } from '../lib/until.mjs'
import { openFolder } from './page.mjs'

const SOON_MS = 20_000
const PACKAGE = fileURLToPath(new URL('../../hub/web/client', import.meta.url))
const APP = fileURLToPath(new URL('app', import.meta.url))
const MODULES = fileURLToPath(new URL('../node_modules', import.meta.url))
const LINKED = ['vue', 'react', 'react-dom', '@types']
const PATH = '/admin/VIN1?remoteWs'
const UPSTREAM = '/base/admin/VIN1'
const LIBRARY_MAX_BYTES = 35_000 // minified, all of it with composable, hook and mixin; Vue and React apart

async function succeed(command, args, options) {
  const { code, out, err } = await run(command, args, { timeout: 120_000, ...options })
  assert.equal(code, 0, `${command} ${args.join(' ')}: ${out}${err}`)
  return out
}

/** A fresh project with the packed library in it, which npm takes from no registry: it needs nothing. */
async function makeProject() {
  const folder = mkdtempSync(join(tmpdir(), 'vinhub-project-'))
  process.on('exit', () => rmSync(folder, { recursive: true, force: true }))
  cpSync(APP, folder, { recursive: true })
  writeFileSync(join(folder, 'package.json'), '{"name":"fresh","private":true,"type":"module"}')
  const npm = (...args) => succeed('npm', args, { cwd: folder })
  const [{ filename }] = JSON.parse(await npm('pack', PACKAGE, '--json', '--pack-destination', folder))
  await npm('install', '--offline', '--no-audit', '--no-fund', `./${filename}`)
  const modules = join(folder, 'node_modules')
  assert.deepEqual(readdirSync(modules).filter((name) => !name.startsWith('.')), ['vinhub-client'])
  for (const name of LINKED) symlinkSync(join(MODULES, name), join(modules, name))
  return folder
}

let project, built // one for the file, once
const freshProject = () => (project ??= makeProject())

const vite = (folder, ...args) => succeed(process.execPath, [join(MODULES, 'vite/bin/vite.js'), ...args], { cwd: folder })

/** The app, built, in a page; a backend and a hub beside it. */
async function openApp(t) {
  const folder = await freshProject()
  await (built ??= vite(folder, 'build', '--logLevel', 'warn'))
  const backend = await Backend.start(t)
  const hub = await startHub(t, { id: 'a', settings: { services: [service(backend)] } })
  const page = await openFolder(t, join(folder, 'dist'))
  return { backend, hub, page }
}

test('npm pack, npm install into a fresh project, tsc: types fit the code that a page writes', { timeout: 180_000 }, async (t) => {
  const folder = await freshProject()
  writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify({
    compilerOptions: { strict: true, noEmit: true, module: 'esnext', moduleResolution: 'bundler', target: 'es2022', lib: ['es2022', 'dom'], types: [] },
    files: ['types.ts'],
  }))
  await succeed(process.execPath, [join(MODULES, 'typescript/bin/tsc'), '-p', folder], { cwd: folder })
  for (const [, { types, default: file }] of Object.entries(JSON.parse(readFileSync(join(PACKAGE, 'package.json'))).exports).filter(([, entry]) => entry.default)) {
    const exported = Object.keys(await import(join(PACKAGE, file)).catch(() => ({}))) // the files of Vue and React can't be imported here
    const declared = readFileSync(join(PACKAGE, types), 'utf8')
    for (const name of exported) assert.match(declared, new RegExp(`export (default|(declare )?(class|function|const) ${name}\\b)`), `${types} declares ${name}`)
  }
})

test('the library is small, and a bundler leaves out what a page does not use', { timeout: 180_000 }, async (t) => {
  const folder = await freshProject()
  const sizeOf = async (code) => {
    writeFileSync(join(folder, 'part.js'), code)
    writeFileSync(join(folder, 'part.html'), '<script type="module" src="/part.js"></script>')
    writeFileSync(join(folder, 'part.config.js'), 'export default { build: { target: "es2022", outDir: "out", rollupOptions: { input: "part.html" } } }')
    await vite(folder, 'build', '--logLevel', 'warn', '--config', 'part.config.js')
    const assets = join(folder, 'out/assets')
    return readdirSync(assets).reduce((sum, name) => sum + readFileSync(join(assets, name)).length, 0)
  }
  const core = await sizeOf('import { VinhubClient } from "vinhub-client"; window.c = VinhubClient')
  const mixin = await sizeOf('import mixin from "vinhub-client/vue"; window.m = mixin')
  assert.ok(core < LIBRARY_MAX_BYTES && mixin < LIBRARY_MAX_BYTES, `${core} and ${mixin} bytes`)
  assert.ok(core < mixin)
  console.log(`# ${core} bytes, ${mixin} with the mixin`)
})

test('Vue 3: a component kept alive leaves while it is not shown, and goes on where it was', { timeout: 180_000 }, async (t) => {
  const { backend, hub, page } = await openApp(t)
  const clients = async (count) => until(async () => await hub.metric('vinhub_clients') === count, SOON_MS, `${count} clients`)
  let last
  const texts = (name) => page.evaluate((of) => window.vue[of].texts, name)
  const shows = (text) => until(async () => { last = await page.evaluate(() => window.vue.text); return last === text }, SOON_MS, () => `the page to show ${text}, not ${last}`)
  await page.evaluate((url) => window.mountVue(url), hub.url(PATH))
  await shows('open connected null')
  await backend.one(UPSTREAM)
  backend.push(UPSTREAM, 'one')
  await shows('open connected one')

  await page.evaluate(() => window.vue.show('mixin'))
  await until(async () => (await page.evaluate(() => window.vue.text)) === 'open', SOON_MS, 'the mixin to be open')
  await clients(1)
  backend.push(UPSTREAM, 'two')
  await until(async () => (await texts('mixin')).includes('two'), SOON_MS, 'the push')
  await page.evaluate(() => window.vue.show(''))
  await clients(0)
  await page.evaluate((url) => window.vue.mixin.vm.initWebsocket(url), hub.url(PATH)) // a timer that the page forgot
  await page.evaluate(() => window.vue.composable.send('nobody').catch(({ code }) => { window.code = code }))
  assert.equal(await page.evaluate(() => window.code), 'closed')
  backend.push(UPSTREAM, 'three')

  await page.evaluate(() => window.vue.show('composable'))
  await until(async () => (await texts('composable')).includes('three'), SOON_MS, 'what came meanwhile')
  await clients(1)
  await page.evaluate(() => window.vue.show('mixin'))
  await until(async () => (await texts('mixin')).includes('three'), SOON_MS, 'what came meanwhile')
  await clients(1)
  assert.deepEqual([await texts('composable'), await texts('mixin')], [['one', 'two', 'three'], ['two', 'three']])

  await page.evaluate((url) => { window.vue.show('composable'); window.vue.move(url) }, hub.url('/admin/VIN2?remoteWs'))
  await backend.one('/base/admin/VIN2')
  backend.push('/base/admin/VIN2', 'of the second')
  await shows('open connected of the second')
  await page.evaluate(() => window.vue.composable.send('a command'))
  assert.deepEqual(backend.texts(), ['a command'])
  assert.deepEqual(await page.evaluate(() => [window.vue.composable.gaps, window.vue.mixin.gaps]), [[], []])
  await page.evaluate(() => window.vue.unmount())
  await clients(0)
})

test('React: the hook connects once in strict mode, follows its url, and ends with the component', { timeout: 180_000 }, async (t) => {
  const { backend, hub, page } = await openApp(t)
  const clients = async (count) => until(async () => await hub.metric('vinhub_clients') === count, SOON_MS, `${count} clients`)
  const shows = (text) => until(async () => (await page.evaluate(() => window.react.text)) === text, SOON_MS, `the page to show ${text}`)
  await page.evaluate((url) => window.mountReact(url), hub.url(PATH))
  await shows('open connected null')
  await clients(1)
  await backend.one(UPSTREAM)
  backend.push(UPSTREAM, 'one')
  await shows('open connected one')
  await page.evaluate((url) => window.react.show(url, 'newer: '), hub.url(PATH))
  backend.push(UPSTREAM, 'two')
  await shows('open connected two')
  assert.deepEqual(await page.evaluate(() => window.react.texts), ['one', 'newer: two'], 'the functions of the last render')
  await page.evaluate((url) => window.react.show(url), hub.url('/admin/VIN2?remoteWs'))
  await shows('open connected null')
  await clients(1)
  await page.evaluate(() => window.react.send('a command'))
  assert.deepEqual(backend.texts(), ['a command'])
  await page.evaluate(() => window.react.show(''))
  await shows('idle null null')
  await clients(0)
  await page.evaluate((url) => { window.react.show(url); window.react.unmount() }, hub.url(PATH))
  await clients(0)
  await assert.rejects(page.evaluate(() => window.react.send('x')), /nothing is watched/)
})

test('the shared connection is built, too: a worker of its own file', { timeout: 180_000 }, async (t) => {
  const { backend, hub, page } = await openApp(t)
  await page.evaluate(async (url) => {
    window.client = await window.sharedClient(url)
    window.client.on('message', (text) => { window.text = text })
  }, hub.url(PATH))
  assert.equal(await page.evaluate(() => window.client.shared), true)
  await until(() => page.evaluate(() => window.client.upstream === 'connected'), SOON_MS, 'it to be open')
  await backend.one(UPSTREAM)
  backend.push(UPSTREAM, 'one')
  await until(() => page.evaluate(() => window.text === 'one'), SOON_MS, 'the push')
})
