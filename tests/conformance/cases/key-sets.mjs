// JWK Sets: RFC 7517 (keys), RFC 7518 section 6 (their kinds), RFC 8037 (Ed25519). Each row: a name, the section, the only key of a set, and the
// result of `vinhub --check`: the key is taken (with or without a warning), or the reason why no key can be used, which is a mistake.
import assert from 'node:assert/strict'
import { generateKeyPairSync } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { runVinhub, scratch } from '../../lib/hub.mjs'
import { PRIVATE_JWK, PUBLIC_JWK, SECRET } from '../keys.mjs'

const { rsa: RSA, ec: EC, ed: ED } = PUBLIC_JWK
const OCT = { kty: 'oct', k: Buffer.from(SECRET).toString('base64url'), alg: 'HS256' }
const curve = (namedCurve) => generateKeyPairSync('ec', { namedCurve }).publicKey.export({ format: 'jwk' })
const okp = (kind) => generateKeyPairSync(kind).publicKey.export({ format: 'jwk' })
const without = (key, name) => { const { [name]: gone, ...rest } = key; return rest }
/** The same number with another byte in front. */
const longer = (text) => Buffer.concat([Buffer.alloc(1), Buffer.from(text, 'base64url')]).toString('base64url')
/** One bit less or more in the last byte. */
const flipped = (text) => { const bytes = Buffer.from(text, 'base64url'); bytes[bytes.length - 1] ^= 1; return bytes.toString('base64url') }
const zero = (bytes) => Buffer.alloc(bytes).toString('base64url')

const GOOD = null
const WARNED = /it is a private key, which no node needs/
const KIND = /its kind is not one of RSA, EC on P-256, OKP with Ed25519, oct/
const POINT = /x and y are not a point on P-256/
const ALG = /its alg is not one that is supported for its kind/
const USE = /its use is not sig/
const OPS = /its key_ops do not hold verify/
const NO_RSA = /n and e are not an RSA key/
const BITS = /RSA key of 2048 to 8192 bits/
const SECRET_FLAW = /k is not a secret/
const NOT_ED = /x is not an Ed25519 key/
const NO_OBJECT = /expected an object with kty/

const keys = [
  ['an RSA key', '7518 6.3', RSA, GOOD], ['a key of P-256', '7518 6.2', EC, GOOD], ['an Ed25519 key', '8037 2', ED, GOOD], ['a secret', '7518 6.4', OCT, GOOD],
  ['an unknown member', '7517 4', { ...RSA, x: 1, x5c: ['AAAA'], x5t: 'x' }, GOOD],
  // --- kinds and curves
  ...['P-384', 'P-521', 'secp256k1'].map((name) => [`a key of ${name}`, '7518 6.2.1.1', curve(name), KIND]),
  ...['x25519', 'ed448'].map((name) => [`a key of ${name}`, '8037 2', okp(name), KIND]),
  ['kty in small letters', '7517 4.1', { ...RSA, kty: 'rsa' }, KIND], ['an unknown kty', '7517 4.1', { kty: 'AKP', alg: 'ML-DSA-44', pub: 'AA' }, KIND],
  ['crv in small letters', '7518 6.2.1.1', { ...EC, crv: 'p-256' }, KIND], ['no crv', '7518 6.2.1.1', without(EC, 'crv'), KIND],
  ['no kty', '7517 4.1', without(RSA, 'kty'), NO_OBJECT], ['kty that is a number', '7517 4.1', { ...RSA, kty: 1 }, NO_OBJECT],
  ...[[], 'x', 5, null, true].map((key) => [`a key that is ${JSON.stringify(key)}`, '7517 5.1', key, NO_OBJECT]),
  // --- points
  ['x and y of each other', '7518 6.2.1.2', { ...EC, x: EC.y, y: EC.x }, POINT], ['y of another point', '7518 6.2.1.3', { ...EC, y: flipped(EC.y) }, POINT],
  ['no y', '7518 6.2.1.3', without(EC, 'y'), POINT], ['an empty x', '7518 6.2.1.2', { ...EC, x: '' }, POINT], ['x of 33 bytes', '7518 6.2.1.2', { ...EC, x: longer(EC.x) }, POINT],
  ['x of 31 bytes', '7518 6.2.1.2', { ...EC, x: Buffer.from(EC.x, 'base64url').subarray(1).toString('base64url') }, POINT],
  ['the point at zero', '7518 6.2.1', { ...EC, x: zero(32), y: zero(32) }, POINT], ['x that is a number', '7518 6.2.1.2', { ...EC, x: 5 }, POINT],
  ['x with padding', '7515 2', { ...EC, x: `${EC.x}=` }, POINT], ['the coordinates of P-384 on P-256', '7518 6.2.1', { ...curve('P-384'), crv: 'P-256' }, POINT],
  // --- RSA
  ['an RSA key of 1024 bits', '7518 3.3', generateKeyPairSync('rsa', { modulusLength: 1024 }).publicKey.export({ format: 'jwk' }), BITS],
  ['no e', '7518 6.3.1.2', without(RSA, 'e'), NO_RSA], ['no n', '7518 6.3.1.1', without(RSA, 'n'), NO_RSA], ['e 1', '8017 3.1', { ...RSA, e: 'AQ' }, NO_RSA], ['an even e', '8017 3.1', { ...RSA, e: 'AQAC' }, NO_RSA],
  ['e 0', '8017 3.1', { ...RSA, e: 'AA' }, NO_RSA], ['e that is a number', '7518 6.3.1.2', { ...RSA, e: 65537 }, NO_RSA],
  ['n in the other alphabet', '7515 2', { ...RSA, n: `+${RSA.n.slice(1)}` }, NO_RSA],
  // --- Ed25519 and secrets
  ['x of 31 bytes', '8037 2', { ...ED, x: zero(31) }, NOT_ED], ['x of 33 bytes', '8037 2', { ...ED, x: longer(ED.x) }, NOT_ED], ['no x', '8037 2', without(ED, 'x'), NOT_ED],
  ['a secret without alg', 'contract', without(OCT, 'alg'), /needs its alg/], ['an empty secret', '7518 6.4.1', { ...OCT, k: '' }, SECRET_FLAW], ['a secret with padding', '7515 2', { ...OCT, k: 'YWE=' }, SECRET_FLAW],
  ['a secret with bits to spare', '4648 3.5', { ...OCT, k: 'YWF' }, SECRET_FLAW], ['a secret that is a list', '7518 6.4.1', { ...OCT, k: [1] }, SECRET_FLAW],
  ...['HS384', 'HS512'].map((alg) => [`a secret for ${alg}`, '7518 3.2', { ...OCT, alg, k: Buffer.alloc(64, 7).toString('base64url') }, GOOD]),
  // --- what it is for
  ['use sig', '7517 4.2', { ...RSA, use: 'sig' }, GOOD], ...['enc', 'SIG', ''].map((use) => [`use ${JSON.stringify(use)}`, '7517 4.2', { ...RSA, use }, USE]),
  ['use that is a list', '7517 4.2', { ...RSA, use: ['sig'] }, /use is not a string/],
  ['key_ops verify', '7517 4.3', { ...RSA, key_ops: ['verify'] }, GOOD], ['key_ops verify and others', '7517 4.3', { ...RSA, key_ops: ['x', 'verify'] }, GOOD],
  ...[[], ['sign'], ['encrypt'], ['VERIFY'], [5]].map((ops) => [`key_ops ${JSON.stringify(ops)}`, '7517 4.3', { ...RSA, key_ops: ops }, OPS]),
  ['key_ops that is a text', '7517 4.3', { ...RSA, key_ops: 'verify' }, /key_ops is not a list/],
  ['use and key_ops that differ', '7517 4.3', { ...RSA, use: 'enc', key_ops: ['verify'] }, USE],
  ...['PS256', 'RS512', 'ES256', 'HS256', 'none', 'rs256', 'RSA-OAEP'].map((alg) => [`an RSA key for ${alg}`, '7517 4.4', { ...RSA, alg }, ALG]),
  ...['ECDH-ES', 'ES384', 'ES256K'].map((alg) => [`a key of P-256 for ${alg}`, '7517 4.4', { ...EC, alg }, ALG]),
  ['an Ed25519 key for ES256', '7517 4.4', { ...ED, alg: 'ES256' }, ALG], ['a secret for RS256', '8725 3.1', { ...OCT, alg: 'RS256' }, ALG], ['a secret for A128KW', '7517 4.4', { ...OCT, alg: 'A128KW' }, ALG],
  ['alg that is a list', '7517 4.4', { ...RSA, alg: ['RS256'] }, /alg is not a string/],
  ...Object.entries(PRIVATE_JWK).map(([name, key]) => [`the private half of ${name}`, '7517 9.2', key, WARNED]),
  ['a private key that signs', '7517 4.3', { ...PRIVATE_JWK.ec, key_ops: ['sign'] }, WARNED],
  ['kid that is a number', '7517 4.5', { ...RSA, kid: 5 }, /kid is not a string/],
].map(([name, section, key, wanted]) => [name, section, JSON.stringify({ keys: [key] }), wanted, true])

const two = (a, b) => JSON.stringify({ keys: [{ ...RSA, ...a }, { ...EC, ...b }] })
const sets = [
  ['a kid twice', '7517 4.5', two({ kid: 'a' }, { kid: 'a' }), /expected each kid once/],
  ['a kid twice, once of a key that is passed over', '7517 4.5', two({ kid: 'a' }, { kid: 'a', use: 'enc' }), /expected each kid once/],
  ['kids that differ by their letters', '7517 4.5', two({ kid: 'a' }, { kid: 'A' }), GOOD],
  ['two keys without kid', '7517 4.5', two(), GOOD],
  ['a member twice', '7517 4', `{"keys":[${JSON.stringify(RSA).replace('{', '{"kty":"RSA",')}]}`, /not JSON/],
  ['no keys', '7517 5.1', '{"keys":[]}', /got 0 keys/], ['a key in place of a set', '7517 5', JSON.stringify(RSA), /expected a JWK Set/],
  ['a list in place of a set', '7517 5', JSON.stringify([RSA]), /expected a JWK Set/], ['other members of a set', '7517 5', JSON.stringify({ keys: [RSA], x: 1 }), GOOD],
  ['a byte order mark', '8259 8.1', `\ufeff${JSON.stringify({ keys: [RSA] })}`, /not JSON/], ['nothing', '7517 5', '', /not JSON/],
].map((row) => [...row, false])

async function check(rig, text, wanted, alone) {
  const folder = scratch(rig)
  const [file, set] = [join(folder, 'vinhub.yaml'), join(folder, 'keys.json')]
  writeFileSync(set, text)
  writeFileSync(file, `services:\n  - {name: echo, upstream: 'ws://127.0.0.1:1/x'}\nauth: {mode: jwt, keys_file: ${set}}\n`)
  const { code, out, err } = await runVinhub(['-c', file, '--check'])
  const said = `${out}${err}`
  const taken = wanted === GOOD || wanted === WARNED
  assert.equal(code, taken ? 0 : 2, said)
  if (wanted === GOOD) assert.doesNotMatch(said, /passed over|private key/)
  else assert.match(said, wanted)
  if (!taken && alone) assert.match(said, /expected a key that can verify tokens/)
  for (const { d } of Object.values(PRIVATE_JWK)) assert.ok(!said.includes(d), 'no key is shown')
}

export const cases = [...keys, ...sets].map(([name, section, text, wanted, alone]) => {
  const whole = `${wanted === GOOD ? 'taken' : wanted === WARNED ? 'taken with a warning' : 'refused'}: ${name} (${section === 'contract' ? 'contract 8' : `RFC ${section}`})`
  return { name: whole, run: (rig) => check(rig, text, wanted, alone) }
})
