// Key sets: rotation under load, files that are exchanged or broken; and tokens that are replaced on an open connection.
import assert from 'node:assert/strict'
import { createSecretKey, generateKeyPairSync } from 'node:crypto'
import { mkdirSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { decode, encode } from '@msgpack/msgpack'
import { test } from '../lib/runner.mjs'
import { Backend } from '../lib/backend.mjs'
import { Browser } from '../lib/browser.mjs'
import { runVinhub, scratch, service, startHub, yaml } from '../lib/hub.mjs'
import { inSeconds, token } from '../lib/tokens.mjs'
import { until } from '../lib/until.mjs'

const PATH = '/u/V1?remoteWs'
const FRESH_MS = 5000 + 1000 // the promise, and a slow machine
const KINDS = {
  RS256: () => generateKeyPairSync('rsa', { modulusLength: 2048 }),
  ES256: () => generateKeyPairSync('ec', { namedCurve: 'P-256' }),
  EdDSA: () => generateKeyPairSync('ed25519'),
}

/** A key by that kid: {jwk, secret (the JWK with its private half), sign(claims)}. */
function makeKey(kid, alg = 'ES256') {
  if (alg.startsWith('HS')) {
    const key = createSecretKey(Buffer.alloc(64, kid))
    return { jwk: { ...key.export({ format: 'jwk' }), kid, alg }, sign: (claims) => token(claims, { alg, key, head: { kid } }) }
  }
  const { publicKey, privateKey } = KINDS[alg]()
  return {
    jwk: { ...publicKey.export({ format: 'jwk' }), kid },
    secret: { ...privateKey.export({ format: 'jwk' }), kid },
    privateKey,
    sign: (claims, head = {}) => token(claims, { alg, key: privateKey, head: { kid, ...head } }),
  }
}

const claims = (over = {}) => ({ sub: 'u', vins: ['V*'], exp: inSeconds(60), ...over })
const setOf = (...keys) => JSON.stringify({ keys: keys.map(({ jwk }) => jwk) })

/** Replaces the whole file at once, as careful tools do. */
function replace(file, text) {
  writeFileSync(`${file}.new`, text)
  renameSync(`${file}.new`, file)
}

async function start(t, file, more = {}) {
  const backend = await Backend.start(t)
  const settings = { services: [service(backend, { session: '{user}:{vin}' })], auth: { mode: 'jwt', keys_file: file, ...more } }
  return { backend, settings, hub: await startHub(t, { settings }) }
}

/** 'open', or '4001 reason'. */
async function verdict(t, hub, value, options = {}) {
  const browser = await Browser.open(t, hub.url(`${PATH}&token=${value}`), options)
  browser.send('ping')
  await until(() => browser.end || browser.received.length > 0, 5000, 'an end or an answer')
  browser.socket.terminate()
  return browser.end ? `${browser.end.code} ${browser.end.reason}` : 'open'
}

const said = (hub, pattern) => hub.lines.filter((line) => pattern.test(line))

test('a key set has keys of all kinds, and kid chooses', async (t) => {
  const file = join(scratch(t), 'keys.json')
  const keys = Object.fromEntries(['RS256', 'ES256', 'EdDSA', 'HS256', 'HS384', 'HS512'].map((alg) => [alg, makeKey(alg, alg)]))
  const other = { jwk: { kty: 'AKP', alg: 'ML-DSA-44', kid: 'later', pub: 'AA' } }
  writeFileSync(file, setOf(...Object.values(keys), other))
  const { hub } = await start(t, file)
  for (const key of Object.values(keys)) assert.equal(await verdict(t, hub, key.sign(claims())), 'open')
  const { ES256, EdDSA } = keys
  assert.match(await verdict(t, hub, ES256.sign(claims(), { kid: 'EdDSA' })), /^4001 .*alg is not that of the key/)
  assert.match(await verdict(t, hub, EdDSA.sign(claims(), { kid: 'gone' })), /^4001 .*its kid names no key/)
  assert.match(await verdict(t, hub, EdDSA.sign(claims(), { kid: undefined })), /^4001 .*it has no kid/)
  assert.match(await verdict(t, hub, token(claims(), { alg: 'none', head: { kid: 'ES256' } })), /^4001/)
  assert.match(await verdict(t, hub, token(claims(), { key: JSON.stringify(ES256.jwk), head: { kid: 'ES256' } })), /^4001/)
  assert.match(await verdict(t, hub, token(claims(), { key: ES256.jwk.x, head: { kid: 'HS256' } })), /^4001 .*signature/)
})

test('keys are rotated under load: open clients stay, new ones are checked with the new keys', async (t) => {
  const file = join(scratch(t), 'keys.json')
  const [old, fresh] = [makeKey('old'), makeKey('fresh', 'EdDSA')]
  writeFileSync(file, setOf(old))
  const { hub, backend } = await start(t, file)
  const open = (key, exp = 120) => Browser.open(t, hub.url(`${PATH}&token=${key.sign(claims({ exp: inSeconds(exp) }))}`))
  const early = await Promise.all(Array.from({ length: 50 }, () => open(old)))
  const brief = await open(old, 12)
  const { url } = await until(() => [...backend.upstreams][0], 5000, 'the upstream')
  let sent = 0
  const timer = setInterval(() => backend.push(url, `p${sent++}`), 10)
  t.defer(() => clearInterval(timer))

  replace(file, setOf(old, fresh)) // both keys for a while
  await until(async () => await verdict(t, hub, fresh.sign(claims())) === 'open', FRESH_MS, 'the new key')
  assert.equal(await verdict(t, hub, old.sign(claims())), 'open')
  const late = await open(fresh)
  replace(file, setOf(fresh))
  await until(async () => /^4001/.test(await verdict(t, hub, old.sign(claims()))), FRESH_MS, 'the old key to be gone')
  assert.equal(await verdict(t, hub, fresh.sign(claims(), { kid: undefined })), 'open', 'one key needs no kid')

  const before = early.map(({ received }) => received.length)
  await until(() => early.every(({ received }, i) => received.length > before[i] + 20), 10_000, 'pushes to who came before')
  clearInterval(timer)
  assert.ok(early.every(({ end }) => end === null), 'nobody is closed')
  assert.equal(late.end, null)
  assert.deepEqual(await brief.ended(15_000), { code: 4001, reason: 'token expired' })
  assert.equal(said(hub, /token_keys_changed .*keys=1/).length, 1)
})

test('a set behind a symbolic link that is swapped is read again', async (t) => {
  const folder = scratch(t)
  const [one, two] = [makeKey('one'), makeKey('two')]
  for (const [name, key] of [['..1', one], ['..2', two]]) {
    mkdirSync(join(folder, name))
    writeFileSync(join(folder, name, 'keys.json'), setOf(key))
  }
  symlinkSync('..1', join(folder, '..data'))
  symlinkSync('..data/keys.json', join(folder, 'keys.json'))
  const { hub } = await start(t, join(folder, 'keys.json'))
  assert.equal(await verdict(t, hub, one.sign(claims())), 'open')
  symlinkSync('..2', join(folder, '..tmp'))
  renameSync(join(folder, '..tmp'), join(folder, '..data'))
  rmSync(join(folder, '..1'), { recursive: true })
  await until(async () => await verdict(t, hub, two.sign(claims())) === 'open', FRESH_MS, 'the key behind the link')
  assert.match(await verdict(t, hub, one.sign(claims())), /^4001/)
})

test('a bad set changes nothing and is logged once; SIGHUP and --check refuse it', async (t) => {
  const file = join(scratch(t), 'keys.json')
  const key = makeKey('k')
  writeFileSync(file, setOf(key))
  const { hub, settings } = await start(t, file)
  const refused = () => said(hub, /token_keys_refused/)
  const cases = [
    [`{"keys":[${JSON.stringify(key.jwk)}`, /expected a JWK Set in JSON/],
    [setOf(key, key), /expected each kid once/],
    [JSON.stringify({ keys: [{ ...key.jwk, use: 'enc' }] }), /expected a key that can verify tokens/],
    [null, /No such file/],
  ]
  for (const [index, [text, pattern]] of cases.entries()) {
    if (text === null) rmSync(file)
    else replace(file, text)
    await until(() => refused().length === index + 1, FRESH_MS, 'a word about the file')
    assert.match(refused()[index], pattern)
    assert.equal(await verdict(t, hub, key.sign(claims())), 'open')
  }
  const other = join(scratch(t), 'vinhub.yaml')
  replace(file, setOf(key, key))
  writeFileSync(other, yaml(settings))
  const checked = await runVinhub(['-c', other, '--check'])
  assert.equal(checked.code, 2)
  assert.match(checked.err, /auth\.keys_file: ".*keys\.json": expected each kid once, got one twice: key 2/)
  hub.child.signal('SIGHUP')
  await until(() => said(hub, /reload_refused .*auth\.keys_file/).length === 1, 5000, 'the refusal')
  assert.equal(await verdict(t, hub, key.sign(claims())), 'open')
  assert.ok(!hub.lines.some((line) => line.includes(key.jwk.x)), 'no key in the log')

  const next = makeKey('next')
  replace(file, setOf(next))
  hub.child.signal('SIGHUP')
  await until(() => said(hub, /reload_change .*auth\.keys_file: the keys changed/).length === 1, 5000, 'the change')
  assert.equal(await verdict(t, hub, next.sign(claims())), 'open')
})

test('of a private key the public half serves, with a warning', async (t) => {
  const file = join(scratch(t), 'keys.json')
  const key = makeKey('mine')
  writeFileSync(file, JSON.stringify({ keys: [key.secret] }))
  const { hub } = await start(t, file)
  assert.equal(await verdict(t, hub, key.sign(claims())), 'open')
  assert.ok(hub.lines.some((line) => /auth\.keys_file: warning: .*key 1 \(kid "mine"\): it is a private key/.test(line)))
  assert.ok(!hub.lines.some((line) => line.includes(key.secret.d)))
})

// --- REFRESH ---

const FORMS = {
  'vinhub.v1': { write: (message) => JSON.stringify(message), read: ({ data }) => JSON.parse(data) },
  'vinhub.v1.msgpack': { write: (message) => encode(message), read: ({ data }) => decode(data) },
}

/** A protocol client: ask(message) resolves with the answer to its id. */
async function speak(t, hub, path, protocol = 'vinhub.v1') {
  const { write, read } = FORMS[protocol]
  const browser = await Browser.open(t, hub.url(path), { protocols: [protocol] })
  const answers = () => browser.received.map(read).filter(({ type }) => type === 'ACK' || type === 'ERROR')
  browser.ask = async (message) => {
    browser.send(write(message))
    const mine = () => answers().filter(({ payload }) => payload.id === message.id)[0]
    await until(() => mine() || browser.end, 5000, 'an answer')
    return mine() && { type: mine().type, ...mine().payload }
  }
  let id = 0
  browser.refresh = (value) => browser.ask({ type: 'REFRESH', id: ++id, token: value })
  return browser
}

test('a new token keeps a connection beyond the end of the old one', async (t) => {
  const file = join(scratch(t), 'keys.json')
  const [old, fresh] = [makeKey('old'), makeKey('fresh', 'RS256')]
  writeFileSync(file, setOf(old, fresh))
  const { hub } = await start(t, file)
  for (const protocol of Object.keys(FORMS)) {
    const opened = performance.now()
    const path = `${PATH}&token=${old.sign(claims({ exp: inSeconds(4) }))}`
    const kept = await speak(t, hub, path, protocol)
    const left = await speak(t, hub, path, protocol)
    assert.deepEqual(await kept.refresh(fresh.sign(claims({ exp: inSeconds(60) }))), { type: 'ACK', id: 1 })
    assert.equal((await left.refresh('a.b.c')).code, 'unauthorized')
    assert.equal((await left.ended(8000)).reason, 'token expired', 'the old one goes on')
    assert.equal(kept.end, null)
    // a token that ends earlier shortens the connection
    assert.equal((await kept.refresh(fresh.sign(claims({ exp: inSeconds(2) })))).type, 'ACK')
    assert.deepEqual(await kept.ended(6000), { code: 4001, reason: 'token expired' })
    assert.ok(performance.now() - opened > 3000)
  }
})

test('what a new token must be is what the first one had to be, and of the same sub', async (t) => {
  const file = join(scratch(t), 'keys.json')
  const key = makeKey('k')
  writeFileSync(file, setOf(key))
  const { hub } = await start(t, file, { audience: 'hub' })
  const sign = (over, head) => key.sign(claims({ aud: 'hub', ...over }), head)
  const refused = [
    sign({ sub: 'other' }), sign({ sub: undefined }), sign({ exp: inSeconds(-30) }), sign({ exp: undefined }),
    sign({ nbf: inSeconds(30) }), sign({ aud: 'else' }), sign({}, { crit: ['exp'] }), sign({}, { kid: 'x' }),
    token(claims(), { alg: 'none' }), '', 'x', 7, undefined, 'x'.repeat(20_000),
  ]
  for (const value of refused) {
    const client = await speak(t, hub, `${PATH}&token=${sign({})}`)
    const { type, code, message } = await client.refresh(value)
    assert.deepEqual([type, code], ['ERROR', 'unauthorized'], String(value).slice(0, 40))
    assert.ok(message.length > 5)
    assert.equal((await client.refresh(sign({}))).type, 'ACK')
    client.socket.terminate()
  }
  for (const over of [{ vins: ['W*'] }, { vins: undefined }, { services: ['another'] }]) {
    const client = await speak(t, hub, `${PATH}&token=${sign({})}`)
    await client.refresh(sign(over))
    assert.equal((await client.ended()).code, 4001)
  }
  // Where the URL names no user it is the sub of the first token that counts.
  const nameless = await speak(t, hub, `/ws?remoteWs&vin=V1&token=${sign({})}`)
  assert.equal((await nameless.refresh(sign({ sub: 'other' }))).code, 'unauthorized')
  assert.equal((await nameless.refresh(sign({}))).type, 'ACK')
  assert.ok(!hub.lines.some((line) => /eyJ[\w-]+\.eyJ/.test(line)), 'no token in the log')
})

test('checks of new tokens are bounded, also where they are good', async (t) => {
  const file = join(scratch(t), 'keys.json')
  const key = makeKey('k')
  writeFileSync(file, setOf(key))
  const { hub } = await start(t, file)
  const client = await speak(t, hub, `${PATH}&token=${key.sign(claims())}`)
  const answers = await Promise.all(Array.from({ length: 50 }, () => client.refresh(key.sign(claims()))))
  const taken = answers.filter(({ type }) => type === 'ACK').length
  assert.ok(taken >= 20 && taken <= 35, `${taken} taken`)
  assert.match(answers.at(-1).message, /too many REFRESH/)
  assert.equal(client.end, null)
})

test('without auth a token is not looked at', async (t) => {
  const backend = await Backend.start(t)
  const hub = await startHub(t, { settings: { services: [service(backend)] } })
  const client = await speak(t, hub, PATH)
  assert.deepEqual(await client.refresh('whatever'), { type: 'ACK', id: 1 })
})
