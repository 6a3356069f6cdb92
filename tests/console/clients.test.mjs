// The console's page of clients in a real browser: who is connected is found, closed and revoked there.
import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Backend } from '../lib/backend.mjs'
import { Browser } from '../lib/browser.mjs'
import { scratch, service, startCluster, startHub } from '../lib/hub.mjs'
import { RedisServer } from '../lib/redis.mjs'
import { test } from '../lib/runner.mjs'
import { inSeconds, token } from '../lib/tokens.mjs'
import { until } from '../lib/until.mjs'
import { openConsole, shot, textOf } from './page.mjs'

const SOON_MS = 10_000
const TOKEN = 'open-sesame'
const SECRET = 'a secret of more than thirty-two bytes'
const HOSTILE = '<img src=x onerror=alert(1)>"\'&\u202e' // the last character reverses the text after it unless the page isolates it

const open = (t, hub, path) => Browser.open(t, hub.url(path))
const pathOf = (user, vin) => `/${encodeURIComponent(user)}/${vin}?remoteWs`

async function startOne(t, options = {}) {
  const backend = await Backend.start(t)
  return startHub(t, { id: 'a', ...options, settings: { services: [service(backend)], ...options.settings } })
}

async function startTwo(t) {
  const [redis, backend] = await Promise.all([RedisServer.start(t), Backend.start(t)])
  return startCluster(t, { redis, nodes: 2, settings: { node: { lease: '10s' }, services: [service(backend)] } })
}

const rows = (page) => page.locator('table.clients tbody tr')
const users = async (page) => (await rows(page).locator('td:first-child').allInnerTexts()).map((text) => text.trim()).sort()
const rowOf = (page, user) => rows(page).filter({ has: page.getByText(user, { exact: true }) })
const showsUsers = (page, expected) => until(async () => (await users(page)).join() === [...expected].sort().join(), SOON_MS, `users ${expected}`)
const dialogIsOpen = (page) => until(async () => await page.locator('dialog').count() === 1, SOON_MS, 'a question')
const toastSays = (page, text) => until(async () => await page.locator('#toast').innerText() === text, SOON_MS, `a toast: ${text}`)

/** How often the audit log says that an operator of this machine did it. */
const audited = (hub, action) => hub.lines.filter((line) => line.includes(` action=${action} address=127.0.0.1`)).length

async function search(page, filters) {
  for (const label of ['User', 'Vin', 'Address', 'Session', 'Service', 'Node']) {
    await page.getByLabel(label, { exact: true }).fill(filters[label.toLowerCase()] ?? '')
  }
  await page.getByRole('button', { name: 'Search' }).click()
}

async function answer(page, reason) {
  await dialogIsOpen(page)
  await page.locator('dialog input').fill(reason)
  await page.locator('dialog button.danger').click()
}

test('clients of all nodes are found by user, vin and address, and a node that does not answer is named', { timeout: 90_000 }, async (t) => {
  const [a, b] = await startTwo(t)
  await Promise.all([open(t, a, pathOf('anna', 'V1')), open(t, b, pathOf('anna', 'V2')), open(t, b, pathOf('bert', 'V1')), open(t, b, '/ws?remoteWs&vin=V3')])
  const page = await openConsole(t, a, { path: '/#/clients', expected: /400/ })
  await showsUsers(page, ['anna', 'anna', 'bert', 'none'])
  assert.ok(await page.getByRole('button', { name: 'Close all that fit' }).isDisabled(), 'all of the cluster cannot be closed at once')
  await shot(page, 'clients')
  for (const [filters, expected] of [[{ user: 'anna' }, ['anna', 'anna']], [{ vin: 'V1' }, ['anna', 'bert']], [{ user: 'anna', vin: ' V1 ' }, ['anna']],
    [{ address: '127.0.0.1', node: 'b' }, ['anna', 'bert', 'none']], [{ user: 'ann' }, []], [{ address: '127.0.0.9' }, []], [{ session: 'remoteWs:V2' }, ['anna']]]) {
    await search(page, filters)
    await showsUsers(page, expected)
  }
  await search(page, { user: 'bert' })
  await showsUsers(page, ['bert'])
  await page.reload()
  await showsUsers(page, ['bert'])
  await search(page, { address: 'nowhere' })
  await until(async () => /address must be an IP address/.test(await textOf(page, '.paging .note')), SOON_MS, 'the mistake in words')
  assert.deepEqual(await users(page), [], 'nothing of the search before')
  await search(page, {})
  await showsUsers(page, ['anna', 'anna', 'bert', 'none'])
  await b.whilePaused(async () => {
    await search(page, { vin: 'V1' })
    await until(async () => await page.locator('[data-notice=missing]').isVisible(), SOON_MS, 'word of the node')
    assert.equal(await textOf(page, '[data-notice=missing]'), 'No answer from b: clients there are not in the list.')
    await page.getByRole('button', { name: 'Close all that fit' }).click()
    await answer(page, 'an incident')
    await until(async () => /^1 client closed\. No answer from b:/.test(await page.locator('[data-notice=result]').textContent()), SOON_MS, 'who is not known')
  })
})

test('pages of clients, with the keyboard alone', async (t) => {
  const hub = await startOne(t)
  await Promise.all(Array.from({ length: 60 }, (_, n) => open(t, hub, pathOf(`u${n}`, 'V1'))))
  const page = await openConsole(t, hub)
  await page.keyboard.press('c')
  await until(async () => await rows(page).count() === 50, SOON_MS, 'the first page')
  const first = await users(page)
  await page.getByRole('button', { name: 'Next' }).press('Enter')
  await until(async () => await rows(page).count() === 10, SOON_MS, 'the second page')
  assert.equal(new Set([...first, ...await users(page)]).size, 60, 'each once')
  await page.getByRole('button', { name: 'Back' }).press('Enter')
  await until(async () => await rows(page).count() === 50, SOON_MS, 'the first page again')
  await page.keyboard.press('/')
  await page.keyboard.type('u7')
  await page.keyboard.press('Enter')
  await showsUsers(page, ['u7'])
  await page.keyboard.press('Escape')
  await page.keyboard.press('j')
  await page.keyboard.press('Tab')
  await page.keyboard.press('Enter')
  await dialogIsOpen(page)
  await page.keyboard.press('Enter')
  assert.equal(await page.locator('dialog').count(), 1, 'without a reason a second Enter does nothing')
  await page.keyboard.type('a lost laptop')
  await page.keyboard.press('Enter')
  await toastSays(page, '1 client closed')
  await showsUsers(page, [])
})

test('one client is closed with its reason and nobody else; names from outside stay text', async (t) => {
  const hub = await startOne(t)
  const [bad, good, one, other] = await Promise.all([HOSTILE, 'good', 'twin', 'twin'].map((user) => open(t, hub, pathOf(user, 'V1'))))
  const page = await openConsole(t, hub, { path: '/#/clients' })
  await showsUsers(page, [HOSTILE, 'good', 'twin', 'twin'])
  assert.equal(await page.locator('main img').count(), 0)
  await rowOf(page, HOSTILE).getByRole('button').click()
  await dialogIsOpen(page)
  assert.equal(await page.locator('dialog dd bdi').first().textContent(), HOSTILE)
  assert.equal(await page.locator('dialog img').count(), 0)
  await shot(page, 'close-client')
  await page.locator('dialog button', { hasText: 'Cancel' }).click()
  await rowOf(page, HOSTILE).getByRole('button').click()
  await dialogIsOpen(page)
  await page.locator('dialog input').fill('ü'.repeat(62))
  await page.locator('dialog button.danger').click()
  assert.equal(await page.locator('dialog').count(), 1, '124 bytes are too many for a close frame')
  assert.equal(bad.end, null, 'nothing was closed by now')
  await answer(page, 'grüße & <b>bye</b>')
  assert.deepEqual(await bad.ended(), { code: 4006, reason: 'grüße & <b>bye</b>' })
  await showsUsers(page, ['good', 'twin', 'twin'])
  await until(() => audited(hub, 'close_clients') > 0, SOON_MS, 'the line of the audit log')
  assert.equal(audited(hub, 'close_clients'), 1, 'neither the cancelled question nor the long reason got there')

  await rowOf(page, 'twin').first().getByRole('button').click()
  await dialogIsOpen(page)
  assert.match(await textOf(page, 'dialog'), /2 clients cannot be told apart/, 'that both are meant is said before')
  await answer(page, 'twins')
  for (const browser of [one, other]) assert.equal((await browser.ended()).reason, 'twins')
  await showsUsers(page, ['good'])
  assert.equal(good.end, null)
})

test('all that fit the search are closed, not what was typed since', async (t) => {
  const hub = await startOne(t)
  const [one, two, other] = await Promise.all([['anna', 'V1'], ['anna', 'V2'], ['bert', 'V1']].map(([user, vin]) => open(t, hub, pathOf(user, vin))))
  const page = await openConsole(t, hub, { path: '/#/clients?user=anna' })
  await showsUsers(page, ['anna', 'anna'])
  await page.getByLabel('User', { exact: true }).fill('bert')
  await page.getByRole('button', { name: 'Close all that fit' }).click()
  await dialogIsOpen(page)
  assert.match(await textOf(page, 'dialog'), /user\s+anna[^]*2 clients now/)
  await page.keyboard.press('Escape')
  await until(async () => await page.locator('dialog').count() === 0, SOON_MS, 'the question to go')
  await page.getByRole('button', { name: 'Close all that fit' }).click()
  await answer(page, 'left the company')
  for (const browser of [one, two]) assert.deepEqual(await browser.ended(), { code: 4006, reason: 'left the company' })
  await showsUsers(page, [])
  assert.equal(other.end, null)
})

test('a session\'s page lists its clients, those that follow it beside their own as well', async (t) => {
  const hub = await startOne(t)
  const [own, follower] = await Promise.all([open(t, hub, pathOf('own', 'V1')), Browser.open(t, hub.url(pathOf('follower', 'V2')), { protocols: ['vinhub.v1'] }),
    open(t, hub, pathOf('stranger', 'V3'))])
  follower.send(JSON.stringify({ type: 'SUBSCRIBE', id: 1, urls: [pathOf('follower', 'V1')] }))
  const page = await openConsole(t, hub, { path: '/#/session/remoteWs%3AV1' })
  await showsUsers(page, ['follower', 'own'])
  await rowOf(page, 'own').getByRole('button').click()
  await answer(page, 'enough')
  assert.deepEqual(await own.ended(), { code: 4006, reason: 'enough' })
  await showsUsers(page, ['follower'])
  await page.getByRole('link', { name: 'Search them' }).click()
  await showsUsers(page, ['follower'])
  assert.equal(await page.getByLabel('Session', { exact: true }).inputValue(), 'remoteWs:V1')
  assert.equal(follower.end, null)
})

test('with the admin token: a token by its id and all of a user are revoked, each after a confirmation', async (t) => {
  const secret = join(scratch(t), 'secret')
  writeFileSync(secret, SECRET)
  const hub = await startOne(t, { env: { VINHUB_ADMIN_TOKEN: TOKEN }, settings: { auth: { mode: 'jwt', secret_file: secret } } })
  hub.admin = ((ask) => (path, options = {}) => ask.call(hub, path, { headers: { Authorization: `Bearer ${TOKEN}` }, ...options }))(hub.admin)
  const make = (sub, jti) => token({ sub, jti, iat: inSeconds(0), exp: inSeconds(3600), vins: ['*'] }, { key: SECRET })
  const enter = (sub, jti) => open(t, hub, `${pathOf(sub, 'V1')}&token=${make(sub, jti)}`)
  const [first, second, third] = await Promise.all([enter('anna', 'j1'), enter('anna', 'j2'), enter('bert', 'j3')])
  const page = await openConsole(t, hub, { path: '/#/clients', expected: /401/ })
  await page.locator('dialog input').fill(TOKEN)
  await page.keyboard.press('Enter')
  await showsUsers(page, ['anna', 'anna', 'bert'])
  const revoke = async (kind, value) => {
    await page.getByLabel('What to revoke').selectOption(kind)
    await page.getByLabel('User or token id').fill(value)
    await page.getByRole('button', { name: 'Revoke' }).click()
    await dialogIsOpen(page)
  }
  await revoke('jti', 'j1')
  await page.locator('dialog button', { hasText: 'Cancel' }).click()
  await revoke('jti', 'j1')
  await page.locator('dialog button.danger').click()
  assert.deepEqual(await first.ended(), { code: 4001, reason: 'token revoked' })
  await toastSays(page, 'Revoked. 1 client closed')
  await showsUsers(page, ['anna', 'bert'])
  assert.equal(second.end, null)
  await until(() => audited(hub, 'revoke') > 0, SOON_MS, 'the line of the audit log')
  assert.equal(audited(hub, 'revoke'), 1, 'not for the cancelled one')
  await revoke('sub', 'anna')
  await shot(page, 'revoke')
  await page.locator('dialog button.danger').click()
  assert.deepEqual(await second.ended(), { code: 4001, reason: 'token revoked' })
  await showsUsers(page, ['bert'])
  assert.equal((await (await enter('anna', 'j1')).ended()).code, 4001, 'refused from now on')
  assert.equal(third.end, null)
})
