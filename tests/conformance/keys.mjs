// Keys of each kind that tokens are signed with here, and tokens made part by part, so that each part can be wrong.
import { constants, createHmac, generateKeyPairSync, sign } from 'node:crypto'

export const SECRET = 'a secret of the conformance cases, 48 bytes long'
export const AUDIENCE = 'vinhub'

const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 })
const ec = generateKeyPairSync('ec', { namedCurve: 'P-256' })
const ed = generateKeyPairSync('ed25519')
const jwk = (key, more) => ({ ...key.export({ format: 'jwk' }), ...more })
export const PUBLIC_JWK = { rsa: jwk(rsa.publicKey), ec: jwk(ec.publicKey), ed: jwk(ed.publicKey) }
export const PRIVATE_JWK = { rsa: jwk(rsa.privateKey), ec: jwk(ec.privateKey), ed: jwk(ed.privateKey) }

/** As an identity provider publishes them. */
export const KEY_SET = { keys: [
  jwk(rsa.publicKey, { kid: 'rsa', use: 'sig', alg: 'RS256' }),
  jwk(ec.publicKey, { kid: 'ec', use: 'sig' }),
  jwk(ed.publicKey, { kid: 'ed', key_ops: ['verify'] }),
  { kty: 'oct', k: Buffer.from(SECRET).toString('base64url'), alg: 'HS512', kid: 'oct' },
] }

export const b64 = (value) => Buffer.from(typeof value === 'string' || Buffer.isBuffer(value) ? value : JSON.stringify(value)).toString('base64url')
export const soon = () => Math.floor(Date.now() / 1000) + 600
export const claims = (more = {}) => ({ sub: 'u', vins: ['*'], exp: soon(), aud: AUDIENCE, ...more })

export const hmac = (bits, secret = SECRET) => (text) => createHmac(`sha${bits}`, secret).update(text).digest()
export const SIGNERS = {
  HS256: hmac(256), HS384: hmac(384), HS512: hmac(512),
  RS256: (text) => sign('sha256', Buffer.from(text), rsa.privateKey),
  PS256: (text) => sign('sha256', Buffer.from(text), { key: rsa.privateKey, padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: 32 }),
  RS512: (text) => sign('sha512', Buffer.from(text), rsa.privateKey),
  ES256: (text) => sign('sha256', Buffer.from(text), { key: ec.privateKey, dsaEncoding: 'ieee-p1363' }),
  ES256_DER: (text) => sign('sha256', Buffer.from(text), ec.privateKey),
  ES256_SHA512: (text) => sign('sha512', Buffer.from(text), { key: ec.privateKey, dsaEncoding: 'ieee-p1363' }),
  EdDSA: (text) => sign(null, Buffer.from(text), ed.privateKey),
}

/** header and body: objects, or texts as they are; signer: of SIGNERS or a function. */
export function jws(header, body, signer = SIGNERS.HS256) {
  const signed = `${b64(header)}.${b64(body)}`
  return `${signed}.${b64(signer(signed))}`
}
