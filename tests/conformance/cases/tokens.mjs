// Tokens: RFC 7515 (JWS), RFC 7518 (algorithms), RFC 7519 (claims), RFC 7797 (b64), RFC 8037 (EdDSA), RFC 8725 (best practices).
// Each row: a name, the section, the token, and the answer of the hub: IN, or the reason of the close with 4001.
// The hub 'secret' has one secret for HS256 and an audience, 'keyed' a JWK Set with a key of each kind.
import assert from 'node:assert/strict'
import { requestText } from '../peer.mjs'
import { AUDIENCE, SECRET, SIGNERS, b64, claims, hmac, jws, soon } from '../keys.mjs'
import { TEXT, frame } from '../wire.mjs'

const IN = null
const HS = { alg: 'HS256' }
const NO_JWS = /not a signed JSON Web Token/
const UNFIT = /the signature does not fit/
const OTHER_ALG = /its alg is not/
const TYP = /typ is neither JWT nor at\+jwt/
const CRIT = /crit is not supported/
const OVER = /token expired/
const EARLY = /token not valid yet/
const NO_EXP = /token without exp/
const AUD = /another audience/
const USER = /another user/
const VIN = /does not cover this vin/
const good = (header = HS, body = claims()) => jws(header, body)
const parts = () => good().split('.')
const P256_ORDER = Buffer.from('ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551', 'hex')

const ALPHABET = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_'
/** The last letter of 32 bytes has two bits to spare, which are zero: here they are not. */
const spareBits = (text) => text.slice(0, -1) + ALPHABET[ALPHABET.indexOf(text.at(-1)) + 1]

const secret = [
  // --- the compact serialisation
  ['a token', '7515 7.1', () => good(), IN],
  ['no signature part', '7515 7.1', () => parts().slice(0, 2).join('.'), NO_JWS],
  ['an empty signature', '7515 7.1', () => `${parts().slice(0, 2).join('.')}.`, NO_JWS],
  ['four parts', '7515 7.1', () => `${good()}.x`, NO_JWS],
  ['five parts, as of a JWE', '7516 3.1', () => `${parts().join('.')}.eA.eA`, NO_JWS],
  ['an empty header', '7515 5.2', () => `.${parts().slice(1).join('.')}`, NO_JWS],
  ['empty claims', '7519 7.2', () => `${parts()[0]}..${parts()[2]}`, NO_JWS],
  ['the JSON serialisation', '7515 7.2', () => JSON.stringify({ protected: parts()[0], payload: parts()[1], signature: parts()[2] }), NO_JWS],
  ['padding', '7515 2', () => { const [h, c, s] = parts(); return `${h}.${c}.${s}=` }, NO_JWS],
  ['padding that is signed', '7515 2', () => { const signed = `${b64(HS)}==.${b64(claims())}`; return `${signed}.${b64(hmac(256)(signed))}` }, NO_JWS],
  ['the other alphabet of base64', '7515 2', () => { const [h, c] = parts(); return `${h}.${c}.${hmac(256)(`${h}.${c}`).toString('base64').replace(/=+$/, '').replace(/^./, '+')}` }, NO_JWS],
  ['a blank in the signature', '7515 2', () => `${good().slice(0, -3)} ${good().slice(-3)}`, NO_JWS],
  ['a line end behind it', '7515 2', () => `${good()}\n`, NO_JWS],
  ['bits to spare that are not zero', '4648 3.5', () => spareBits(good()), NO_JWS],
  ['a length that no bytes have', '7515 2', () => `${good()}AA`, NO_JWS],
  ['a signature that is too short', '7515 5.2', () => { const [h, c] = parts(); return `${h}.${c}.${b64(hmac(256)(`${h}.${c}`).subarray(0, 16))}` }, UNFIT],
  ['a signature with more behind it', '7515 5.2', () => { const [h, c] = parts(); return `${h}.${c}.${b64(Buffer.concat([hmac(256)(`${h}.${c}`), Buffer.alloc(32)]))}` }, UNFIT],
  ['other claims than were signed', '7515 5.2', () => { const [h, , s] = parts(); return `${h}.${b64(claims({ jti: 'x' }))}.${s}` }, UNFIT],
  ['another header than was signed', '7515 5.2', () => { const [, c, s] = parts(); return `${b64({ alg: 'HS256', x: 1 })}.${c}.${s}` }, UNFIT],
  ['another secret', '7515 5.2', () => jws(HS, claims(), hmac(256, `${SECRET}.`)), UNFIT],
  // --- the header
  ['a header with blanks', '7515 3.3', () => good(' {\r\n\t"alg" : "HS256"} '), IN],
  ['a header that is no JSON', '7515 5.2', () => good('{alg:HS256}'), NO_JWS],
  ['a header that is a list', '7515 4', () => good('["HS256"]'), NO_JWS],
  ['more behind the header', '7515 5.2', () => good('{"alg":"HS256"}{}'), NO_JWS],
  ['a header that is not UTF-8', '7515 3', () => good(Buffer.from('{"alg":"HS256","x":"\xff"}', 'latin1')), NO_JWS],
  ['a byte order mark before the header', '8259 8.1', () => good('\ufeff{"alg":"HS256"}'), NO_JWS],
  ['a name twice in the header', '7515 4', () => good('{"alg":"HS256","alg":"HS256"}'), NO_JWS],
  ['a name twice, once in other letters of JSON', '7515 4', () => good('{"alg":"HS256","\\u0061lg":"none"}'), NO_JWS],
  ['an unknown name', '7515 4', () => good({ ...HS, 'https://x.example': true }), IN],
  ['no alg', '7515 4.1.1', () => good({}), OTHER_ALG],
  ['alg none', '8725 3.1', () => jws({ alg: 'none' }, claims(), () => Buffer.alloc(0)), NO_JWS],
  ['alg none with a signature', '8725 3.1', () => good({ alg: 'none' }), OTHER_ALG],
  ['alg None', '8725 3.1', () => good({ alg: 'None' }), OTHER_ALG],
  ['alg in small letters', '7515 4.1.1', () => good({ alg: 'hs256' }), OTHER_ALG],
  ['alg that is a list', '7515 4.1.1', () => good({ alg: ['HS256'] }), OTHER_ALG],
  ['alg HS512, signed so', '8725 3.1', () => jws({ alg: 'HS512' }, claims(), SIGNERS.HS512), OTHER_ALG],
  ['alg RS256', '8725 2.1', () => good({ alg: 'RS256' }), OTHER_ALG],
  ...['JWT', 'jwt', 'Jwt', 'at+jwt', 'AT+JWT', 'application/jwt', 'APPLICATION/JWT', 'application/at+jwt'].map((typ) => [`typ ${typ}`, '7519 5.1, 9068 2.1', () => good({ ...HS, typ }), IN]),
  ...['JOSE', 'JWE', '', ' JWT', 'JWT ', 'dpop+jwt', 'text/jwt', 'application/', 'application/application/jwt', 5, null, ['JWT']].map((typ) => [`typ ${JSON.stringify(typ)}`, '8725 3.11', () => good({ ...HS, typ }), TYP]),
  ['cty', '7519 5.2', () => good({ ...HS, cty: 'JWT' }), IN],
  ['crit of what is known', '7515 4.1.11', () => good({ ...HS, crit: ['exp'], exp: soon() }), CRIT],
  ['crit that is empty', '7515 4.1.11', () => good({ ...HS, crit: [] }), CRIT],
  ['crit null', '7515 4.1.11', () => good({ ...HS, crit: null }), CRIT],
  ['b64 false, called critical', '7797 6', () => good({ ...HS, b64: false, crit: ['b64'] }), CRIT],
  ['claims that are not encoded, b64 false', '7797 3', () => { const [h, c] = [b64({ ...HS, b64: false }), '{"sub":"u"}']; return `${h}.${c}.${b64(hmac(256)(`${h}.${c}`))}` }, NO_JWS],
  ['a key that it brings along', '8725 3.10', () => jws({ alg: 'HS256', jwk: { kty: 'oct', k: 'AAAA' } }, claims(), hmac(256, Buffer.alloc(3))), UNFIT],
  ['places where its key is said to be', '8725 3.10', () => good({ ...HS, jku: 'https://evil.example/keys', x5u: 'https://evil.example/x', x5c: ['AAAA'] }), IN],
  ['any kid, where there is one key', '7515 4.1.4', () => good({ ...HS, kid: '../../etc/passwd' }), IN],
  // --- the claims
  ['claims that are a list', '7519 7.2', () => good(HS, '[]'), NO_JWS],
  ['claims that are a text', '7519 7.2', () => good(HS, '"x"'), NO_JWS],
  ['a claim twice', '7519 4', () => good(HS, `{"sub":"u","sub":"u","vins":["*"],"aud":"${AUDIENCE}","exp":${soon()}}`), NO_JWS],
  ['claims that are not UTF-8', '7519 7.1', () => good(HS, Buffer.from(`{"sub":"u","vins":["*"],"x":"\xe4","exp":${soon()}}`, 'latin1')), NO_JWS],
  ['no exp', '7519 4.1.4', () => good(HS, claims({ exp: undefined })), NO_EXP],
  ...['1e10', '4102444800.5', '4.1024448e9', '1e300', '9007199254740993', '9223372036854775807'].map((exp) => [`exp ${exp}`, '7519 2', () => good(HS, JSON.stringify(claims({ exp: 0 })).replace('"exp":0', `"exp":${exp}`)), IN]),
  ...['0', '-1', '-1e300', '-0.5', '1', '1e-300'].map((exp) => [`exp ${exp}`, '7519 4.1.4', () => good(HS, JSON.stringify(claims({ exp: 0 })).replace('"exp":0', `"exp":${exp}`)), OVER]),
  ...['9223372036854775808', '1e400', '-1e400', '1E', '+1', '01', '0x7fffffff', 'Infinity', 'NaN'].map((exp) => [`exp ${exp}`, '8259 6', () => good(HS, JSON.stringify(claims({ exp: 0 })).replace('"exp":0', `"exp":${exp}`)), NO_JWS]),
  ...[String(4102444800), '', true, null, [4102444800], { $date: 4102444800 }].map((exp) => [`exp ${JSON.stringify(exp)}`, '7519 2', () => good(HS, claims({ exp })), NO_EXP]),
  ['exp a second ago: within the leeway', '7519 4.1.4', () => good(HS, claims({ exp: Math.floor(Date.now() / 1000) - 1 })), IN],
  ['exp a minute ago', '7519 4.1.4', () => good(HS, claims({ exp: soon() - 660 })), OVER],
  ...[0, -1, -1e300, 1.5].map((nbf) => [`nbf ${nbf}`, '7519 4.1.5', () => good(HS, claims({ nbf })), IN]),
  ['nbf in 2 s: within the leeway', '7519 4.1.5', () => good(HS, claims({ nbf: Math.floor(Date.now() / 1000) + 2 })), IN],
  ...[4102444800, 1e300, '0', null, [0]].map((nbf) => [`nbf ${JSON.stringify(nbf)}`, '7519 4.1.5', () => good(HS, claims({ nbf })), EARLY]),
  ...[0, -5, 4102444800.5, 1e300].map((iat) => [`iat ${iat}`, '7519 4.1.6', () => good(HS, claims({ iat })), IN]),
  ['aud in a list', '7519 4.1.3', () => good(HS, claims({ aud: ['x', AUDIENCE] })), IN],
  ...[undefined, '', 'VINHUB', `${AUDIENCE} `, [], [[AUDIENCE]], ['x'], 5, null, { [AUDIENCE]: 1 }, `${AUDIENCE}\0`].map((aud) => [`aud ${JSON.stringify(aud)}`, '7519 4.1.3', () => good(HS, claims({ aud })), typeof aud === 'string' && aud.includes('\0') ? NO_JWS : AUD]),
  ...[undefined, '', 'U', 'u ', 5, ['u'], null].map((sub) => [`sub ${JSON.stringify(sub)}`, '7519 4.1.2', () => good(HS, claims({ sub })), USER]),
  ...[undefined, '*', [], [5], { '*': 1 }, ['x*'], ['**']].map((vins) => [`vins ${JSON.stringify(vins)}`, 'contract', () => good(HS, claims({ vins })), VIN]),
].map((row) => ['secret', ...row])

const ALGORITHMS = [['rsa', 'RS256'], ['ec', 'ES256'], ['ed', 'EdDSA'], ['oct', 'HS512']]
const of = (kid, alg, signer = SIGNERS[alg]) => () => jws({ alg, kid }, claims(), signer)
const signature = (bytes) => () => Buffer.from(bytes)
const keyed = [
  ...ALGORITHMS.map(([kid, alg]) => [`${alg} by its key`, '7518 3.1', of(kid, alg), IN]),
  ...ALGORITHMS.flatMap(([kid]) => ALGORITHMS.filter(([other]) => other !== kid).map(([, alg]) => [`${alg} by the kid ${kid}`, '8725 3.1', of(kid, alg), OTHER_ALG])),
  ['no kid, and several keys', '7515 4.1.4', () => jws({ alg: 'HS512' }, claims(), SIGNERS.HS512), /it has no kid/],
  ...['', 'RSA', 'rsa ', 'none'].map((kid) => [`kid ${JSON.stringify(kid)}`, '7515 4.1.4', of(kid, 'RS256'), /its kid names no key/]),
  ...[5, null, ['rsa'], {}].map((kid) => [`kid ${JSON.stringify(kid)}`, '7515 4.1.4', of(kid, 'RS256'), /kid is not a string/]),
  ['HS256 with the secret of HS512', '8725 3.1', of('oct', 'HS256'), OTHER_ALG],
  ['PS256', '8725 3.1', of('rsa', 'PS256'), OTHER_ALG],
  ['PS256 that is called RS256', '7518 3.3', of('rsa', 'RS256', SIGNERS.PS256), UNFIT],
  ['RS512 that is called RS256', '7518 3.3', of('rsa', 'RS256', SIGNERS.RS512), UNFIT],
  ['RS256 with a zero byte before it', '8017 8.2.2', of('rsa', 'RS256', (text) => Buffer.concat([Buffer.alloc(1), SIGNERS.RS256(text)])), UNFIT],
  ['RS256 by the secret that the public key would be', '8725 2.1', () => jws({ alg: 'HS256', kid: 'rsa' }, claims(), hmac(256, 'n')), OTHER_ALG],
  ['ES256 in DER', '7518 3.4', of('ec', 'ES256', SIGNERS.ES256_DER), UNFIT],
  ['ES256 over SHA-512', '7518 3.4', of('ec', 'ES256', SIGNERS.ES256_SHA512), UNFIT],
  ['ES256 with r and s 0', '8725 3.4', of('ec', 'ES256', signature(Buffer.alloc(64))), UNFIT],
  ['ES256 with r and s the order of the curve', '8725 3.4', of('ec', 'ES256', signature(Buffer.concat([P256_ORDER, P256_ORDER]))), UNFIT],
  ['ES256 with r the order and s 1', '8725 3.4', of('ec', 'ES256', signature(Buffer.concat([P256_ORDER, Buffer.alloc(31), Buffer.from([1])]))), UNFIT],
  ['ES256 of 63 bytes', '7518 3.4', of('ec', 'ES256', (text) => SIGNERS.ES256(text).subarray(1)), UNFIT],
  ['ES256 of 65 bytes', '7518 3.4', of('ec', 'ES256', (text) => Buffer.concat([SIGNERS.ES256(text), Buffer.alloc(1)])), UNFIT],
  ['ES256K', '8812 3.2', of('ec', 'ES256K', SIGNERS.ES256), OTHER_ALG],
  ['EdDSA of another text', '8037 3.1', of('ed', 'EdDSA', () => SIGNERS.EdDSA('x')), UNFIT],
  ['EdDSA of zeros', '8032 5.1.7', of('ed', 'EdDSA', signature(Buffer.alloc(64))), UNFIT],
  ['EdDSA of 32 bytes', '8032 5.1.7', of('ed', 'EdDSA', signature(Buffer.alloc(32))), UNFIT],
  ['alg Ed25519', '8037 3.1', of('ed', 'Ed25519', SIGNERS.EdDSA), OTHER_ALG],
].map((row) => ['keyed', ...row])

/** in: it gets WELCOME. Else it is closed with 4001, and told why. */
async function judge(rig, hub, token, wanted) {
  const path = `/u/${rig.vin()}?echo&token=${encodeURIComponent(token)}`
  const peer = rig.dial(requestText(path, [['Sec-WebSocket-Protocol', 'vinhub.v1']]), hub)
  await peer.answered()
  assert.equal(peer.head.status, 101, peer.head.text)
  await peer.when(() => peer.close !== null || peer.messages.length > 0, 'WELCOME or a close frame')
  if (wanted === IN) {
    assert.equal(peer.close, null, JSON.stringify(peer.close))
    assert.match(peer.messages[0][1].toString(), /"WELCOME"/)
    await rig.farewell(peer)
  } else {
    assert.equal(peer.close?.code, 4001, 'it was let in')
    assert.match(peer.close.reason, wanted)
    await peer.send(frame(TEXT, 'never'))
    await peer.ended()
    peer.destroy()
  }
}

export const cases = [...secret, ...keyed].map(([hub, name, section, token, wanted]) => ({
  name: `${wanted === IN ? 'in' : 'refused'}: ${hub === 'keyed' ? 'of a key set, ' : ''}${name} (${section === 'contract' ? 'contract 8' : `RFC ${section}`})`,
  run: (rig) => judge(rig, hub, token(), wanted),
}))
