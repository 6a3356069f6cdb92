// JSON Web Tokens, made by hand so that wrong ones can be made too.
import { createHmac, sign } from 'node:crypto'

const part = (value) => Buffer.from(JSON.stringify(value)).toString('base64url')

/** A token with these claims; alg 'none' has no signature, HS* takes a secret, the others a private key. */
export function token(claims, { alg = 'HS256', key, head = {} } = {}) {
  const signed = `${part({ alg, typ: 'JWT', ...head })}.${part(claims)}`
  if (alg === 'none') return `${signed}.`
  const signature = alg.startsWith('HS')
    ? createHmac(`sha${alg.slice(2)}`, key).update(signed).digest()
    : sign(alg === 'EdDSA' ? null : 'sha256', Buffer.from(signed), { key, dsaEncoding: 'ieee-p1363' })
  return `${signed}.${signature.toString('base64url')}`
}

/** The Unix time in seconds, `seconds` from now. */
export const inSeconds = (seconds) => Math.floor(Date.now() / 1000) + seconds
