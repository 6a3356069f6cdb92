// Contract section 4: the URL forms, the part of them that reaches the upstream, and which are refused.
import assert from 'node:assert/strict'
import { test } from '../lib/runner.mjs'
import { Backend } from '../lib/backend.mjs'
import { Browser } from '../lib/browser.mjs'
import { service, startHub } from '../lib/hub.mjs'
import { handshake, request } from '../lib/net.mjs'
import { quiet, until } from '../lib/until.mjs'

const VIN256 = 'V'.repeat(256)

async function start(t, settings = {}) {
  const backend = await Backend.start(t)
  const hub = await startHub(t, { settings: {
    services: [service(backend), service(backend, { name: 'otherWs', upstream: backend.url('/other') })],
    default_service: 'remoteWs',
    ...settings,
  } })
  return { backend, hub }
}

/** Accepted URL -> upstream URL, session id. Each has a session of its own. */
const ACCEPTED = [
  ['/admin/VIN1?remoteWs', '/base/admin/VIN1', 'remoteWs:VIN1'],
  ['/admin?remoteWs', '/base/admin', 'remoteWs:/admin'],
  ['/ws?remoteWs&vin=VIN2&k=v', '/base/ws?vin=VIN2&k=v', 'remoteWs:VIN2'],
  ['/tenant;user', '/base/tenant;user', 'remoteWs:/tenant;user'],
  ['/admin/VIN3?otherWs', '/other/admin/VIN3', 'otherWs:VIN3'],
  ['/admin/VIN4', '/base/admin/VIN4', 'remoteWs:VIN4'],
  ['/ad%6Din/VIN%205?remoteWs', '/base/ad%6Din/VIN%205', 'remoteWs:VIN%205'],
  ['/%E7%94%A8/%E8%BD%A6?remoteWs', '/base/%E7%94%A8/%E8%BD%A6', 'remoteWs:%E8%BD%A6'],
  ['/admin/VIN6?a=1&remoteWs&b=%26%3D', '/base/admin/VIN6?a=1&b=%26%3D', 'remoteWs:VIN6'],
  ['/admin/VIN7?flag&remoteWs&otherWs', '/base/admin/VIN7?flag&otherWs', 'remoteWs:VIN7'],
  ['/admin/VIN8?remoteWs=1&otherWs', '/other/admin/VIN8?remoteWs=1', 'otherWs:VIN8'],
  ['/admin/VIN9?remoteWs&replay=0&x=y', '/base/admin/VIN9?x=y', 'remoteWs:VIN9'],
  ['/ws?remoteWs&vin=VIN%2010', '/base/ws?vin=VIN%2010', 'remoteWs:VIN%2010'],
  ['/admin/VIN11?otherWs=', '/other/admin/VIN11', 'otherWs:VIN11'],
  ['/ws?remoteWs=&vin=VIN+12', '/base/ws?vin=VIN%2012', 'remoteWs:VIN%2012'],
  ['/ws?remoteWs&vin=VIN%2B12', '/base/ws?vin=VIN%2B12', 'remoteWs:VIN%2B12'],
  ['/ws?remoteWs&%76in=VIN;12&k=a+b', '/base/ws?vin=VIN%3B12&k=a+b', 'remoteWs:VIN;12'],
  [`/u/${VIN256}?remoteWs`, `/base/u/${VIN256}`, `remoteWs:${VIN256}`],
]

test('each URL form leads to its upstream URL and session', async (t) => {
  const { backend, hub } = await start(t)
  for (const [url, upstream, session] of ACCEPTED) {
    await Browser.open(t, hub.url(url))
    await backend.one(upstream)
    const { sessions } = await hub.json('/api/sessions?limit=1000')
    assert.ok(sessions.some(({ id }) => id === session), `${url}: no ${session} among ${sessions.map(({ id }) => id)}`)
  }
  assert.deepEqual(backend.upgrades.map(({ url }) => url), ACCEPTED.map(([, upstream]) => upstream))
})

test('clients of one vin share the upstream of the first, whatever their user and parameters', async (t) => {
  const { backend, hub } = await start(t)
  await Browser.open(t, hub.url('/ann/VIN1?remoteWs&x=1'))
  await backend.one('/base/ann/VIN1?x=1')
  const [second, third] = [await Browser.open(t, hub.url('/bob/V%49N1?remoteWs')), await Browser.open(t, hub.url('/ws?remoteWs&vin=VIN1'))]
  backend.push('/base/ann/VIN1?x=1', 'for all')
  await Promise.all([second.got(1), third.got(1)])
  assert.equal(backend.upgrades.length, 1)
})

test('session and upstream templates', async (t) => {
  const { backend, hub } = await start(t)
  const templates = [
    { name: 'perUser', upstream: backend.url('/t/{service}/{key}'), session: '{user}:{vin}' },
    { name: 'perPath', upstream: backend.url('/p{path}{query}'), session: '{path}' },
    { name: 'parts', upstream: backend.url('/q/{vin}/of/{user}') },
  ]
  const templated = await startHub(t, { settings: { services: templates } })
  await hub.stop()
  await Browser.open(t, templated.url('/ann/VIN1?perUser'))
  await Browser.open(t, templated.url('/bob/VIN1?perUser'))
  await until(() => backend.upstreams.size === 2, 3000, 'one upstream for each user')
  await Browser.open(t, templated.url('/ann/VIN1?perPath&a=b'))
  await Browser.open(t, templated.url('/ann/VIN1?parts'))
  await backend.one('/p/ann/VIN1?a=b')
  await backend.one('/q/VIN1/of/ann')
  const ids = (await templated.json('/api/sessions?limit=100')).sessions.map(({ id }) => id)
  assert.deepEqual(ids.sort(), ['parts:VIN1', 'perPath:/ann/VIN1', 'perUser:ann%3AVIN1', 'perUser:bob%3AVIN1'])
})

test('headers of the service go into the upstream handshake, with values of the environment', async (t) => {
  const backend = await Backend.start(t)
  const hub = await startHub(t, {
    settings: { services: [service(backend, { headers: { Authorization: 'Bearer ${CAR_TOKEN}', 'X-Fleet': 'north' } })] },
    env: { CAR_TOKEN: 's3cret' },
  })
  await Browser.open(t, hub.url('/admin/VIN1?remoteWs'))
  await backend.one('/base/admin/VIN1')
  const { headers } = backend.upgrades[0]
  assert.equal(headers.authorization, 'Bearer s3cret')
  assert.equal(headers['x-fleet'], 'north')
  assert.equal(headers.host, `127.0.0.1:${backend.port}`)
  assert.equal(headers.upgrade.toLowerCase(), 'websocket')
})

const MALFORMED = [
  '/?remoteWs', '//VIN1?remoteWs', '/admin/?remoteWs', '/admin//VIN1?remoteWs', '/admin/VIN1/?remoteWs',
  '/a/b/c?remoteWs', '/./VIN1?remoteWs', '/../VIN1?remoteWs', '/admin/..?remoteWs', '/admin/%2e%2E?remoteWs', '/%2e/VIN1?remoteWs',
  '/admin/a%2Fb?remoteWs', '/admin/a%5cb?remoteWs', '/admin/a\\b?remoteWs',
  '/admin/a%00b?remoteWs', '/admin/a%0Ab?remoteWs', '/admin/a%1fb?remoteWs', '/admin/a%7Fb?remoteWs',
  '/admin/a%zzb?remoteWs', '/admin/a%4?remoteWs', '/admin/a%?remoteWs',
  '/admin/%FF?remoteWs', '/admin/%C0%AF?remoteWs', '/admin/%ED%A0%80?remoteWs', '/admin/%F4%90%80%80?remoteWs', '/admin/%E8%BD?remoteWs',
  '/ws?remoteWs&vin=A&vin=B', '/admin/VIN1?remoteWs&vin=VIN1', '/ws?remoteWs&vin=%FF', '/ws?remoteWs&vin=a%00',
  `/admin/${VIN256}V?remoteWs`, `/ws?remoteWs&vin=${VIN256}V`,
]

function assertOneLine(answer, url) {
  const text = answer.body.trimEnd()
  assert.ok(text.length > 0 && text.length < 300 && !text.includes('\n'), `${url}: one line that says why, not ${JSON.stringify(answer.body)}`)
  assert.ok(!/<html|<body/i.test(text), `${url}: a line of text, not a page`)
}

test('malformed URLs are refused with 400 and a line that says why', async (t) => {
  const { backend, hub } = await start(t)
  const wrong = []
  for (const url of MALFORMED) {
    const answer = await handshake(hub.port, url)
    if (answer.status !== 400) wrong.push(`${url}: ${answer.status}`)
    else assertOneLine(answer, url)
  }
  assert.deepEqual(wrong, [], 'all answer 400')
  await quiet(() => backend.upgrades.length > 0, 200, 'an upstream for a malformed URL')
})

test('an unknown service is refused with 404, a plain GET with 426', async (t) => {
  const { backend, hub } = await start(t, { default_service: '' })
  for (const url of ['/admin/VIN1?nope', '/admin/VIN1', '/admin/VIN1?remoteWs=1', '/tenant;user', '/admin/VIN1?remotews']) {
    const answer = await handshake(hub.port, url)
    assert.equal(answer.status, 404, url)
    assertOneLine(answer, url)
  }
  for (const url of ['/admin/VIN1?remoteWs', '/']) {
    const answer = await request(hub.port, url)
    assert.equal(answer.status, 426, url)
    assertOneLine(answer, url)
    assert.equal(answer.headers.upgrade?.toLowerCase(), 'websocket', 'RFC 9110 15.5.22: 426 names what to upgrade to')
  }
  const head = await request(hub.port, '/', { method: 'HEAD' })
  assert.deepEqual([head.status, head.body], [426, ''])
  assert.equal(backend.upgrades.length, 0)
  assert.ok(await hub.metric('vinhub_refused_total') >= 5, 'refusals are counted')
})

test('a subprotocol is answered as ws answers it', async (t) => {
  const { hub } = await start(t)
  const chosen = async (...protocols) => (await Browser.open(t, hub.url('/admin/VIN1?remoteWs'), { protocols })).socket.protocol
  assert.equal(await chosen(), '')
  assert.equal(await chosen('chat', 'superchat'), 'chat')
  assert.equal(await chosen('secret-token', 'bearer'), 'bearer')
})
