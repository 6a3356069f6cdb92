// The opening handshake (RFC 6455 section 4): what is accepted, what is refused, and with which status.
import assert from 'node:assert/strict'
import { PING, TEXT, frame } from '../wire.mjs'
import { KEY, acceptOf, requestText } from '../peer.mjs'

const without = (...names) => ({ without: names })

async function accepted(rig, text, { key = KEY, protocol, size } = {}) {
  const peer = rig.dial()
  await peer.send(text, size)
  await peer.answered()
  assert.equal(peer.head.status, 101, peer.head.text)
  assert.equal(peer.field('upgrade').toLowerCase(), 'websocket')
  assert.equal(peer.field('connection').toLowerCase(), 'upgrade')
  assert.equal(peer.field('sec-websocket-accept'), acceptOf(key))
  assert.equal(peer.field('sec-websocket-extensions'), undefined)
  assert.equal(peer.field('sec-websocket-protocol'), protocol)
  const kept = peer.messages.length
  await peer.send(frame(PING, 'open?'))
  await peer.when(() => peer.pongs.length === 1, 'an answer')
  assert.ok(kept === 0)
  await rig.farewell(peer)
}

export async function refused(rig, text, status, fields = {}, { size } = {}) {
  const peer = rig.dial()
  await peer.send(text, size)
  await peer.answered()
  assert.equal(peer.head.status, status, peer.head.text)
  await peer.ended()
  assert.equal(peer.end, 'fin')
  assert.equal(peer.field('connection'), 'close')
  assert.match(peer.head.text, /^[^\n]{5,}\n$/, 'one line that says why')
  assert.equal(Number(peer.field('content-length')), peer.head.text.length)
  for (const [name, value] of Object.entries(fields)) assert.equal(peer.field(name), value)
}

const PATH = '/u/V?echo'
const ask = (fields, options, path = PATH) => requestText(path, fields, options)
const UPGRADE = { upgrade: 'websocket', 'sec-websocket-version': '13' }

const accept = [
  ['as browsers do', ask([['Pragma', 'no-cache'], ['Cache-Control', 'no-cache'], ['User-Agent', 'Mozilla/5.0 (X11)'], ['Origin', 'http://localhost'],
    ['Accept-Encoding', 'gzip, deflate, br'], ['Accept-Language', 'de-DE,de;q=0.9'], ['Cookie', 'a=b; c="d"']])],
  ['byte by byte', ask([]), { size: 1 }],
  ['cut at random', ask([['X-Padding', 'x'.repeat(4000)]]), { size: 'random' }],
  ['Upgrade in capitals', ask([['Upgrade', 'WEBSOCKET']], without('Upgrade'))],
  ['Upgrade as WebSocket', ask([['Upgrade', 'WebSocket']], without('Upgrade'))],
  ['Upgrade in a list', ask([['Upgrade', 'h2c, websocket']], without('Upgrade'))],
  ['Upgrade in two fields', ask([['Upgrade', 'h2c'], ['Upgrade', 'websocket']], without('Upgrade'))],
  ['Connection in lower case', ask([['Connection', 'upgrade']], without('Connection'))],
  ['Connection in a list', ask([['Connection', 'keep-alive, Upgrade']], without('Connection'))],
  ['Connection in a list without blanks', ask([['Connection', 'keep-alive,UPGRADE']], without('Connection'))],
  ['Connection in a list with empty items', ask([['Connection', ', ,Upgrade,,']], without('Connection'))],
  ['Connection in two fields', ask([['Connection', 'keep-alive'], ['Connection', 'Upgrade']], without('Connection'))],
  ['names in capitals', ask([]).replace(/^[A-Z][\w-]*(?=:)/gm, (name) => name.toUpperCase())],
  ['names in lower case', ask([]).replace(/^[A-Z][\w-]*(?=:)/gm, (name) => name.toLowerCase())],
  ['no blanks after the colons', ask([]).replace(/: /g, ':')],
  ['blanks and tabs around values', ask([]).replace(/: ([^\r]*)/g, ': \t $1 \t ')],
  ['fields in another order', ask([['Host', '127.0.0.1']], without('Host'))],
  ['an empty Host', ask([['Host', '']], without('Host'))],
  ['a field without a value', ask([['X-Empty', '']])],
  ['bytes above 127 in a value', Buffer.from(ask([['X-Latin', 'gr\xfc\xdfe']]), 'latin1')],
  ['a key of other bytes', ask([['Sec-WebSocket-Key', 'AAAAAAAAAAAAAAAAAAAAAA==']], without('Sec-WebSocket-Key')), { key: 'AAAAAAAAAAAAAAAAAAAAAA==' }],
  ['a key with + and /', ask([['Sec-WebSocket-Key', '+/+/+/+/+/+/+/+/+/+/+w==']], without('Sec-WebSocket-Key')), { key: '+/+/+/+/+/+/+/+/+/+/+w==' }],
  ['122 more fields', ask(Array.from({ length: 122 }, (_, at) => [`X-${at}`, 'x']))],
  ['a head of 16,000 bytes', ask(Array.from({ length: 15 }, (_, at) => [`X-${at}`, 'x'.repeat(1000)]))],
  ['a path of 8,000 bytes', ask([], {}, `/u/V?echo&x=${'x'.repeat(8000)}`)],
  ['an empty line first', `\r\n${ask([])}`],
  ['an empty line first, byte by byte', `\r\n${ask([])}`, { size: 1 }],
  ['a bare line feed first', `\n${ask([])}`],
  ['an empty line first, and a line feed as its end', `\n${ask([])}`, { size: 1 }],
  ['an empty body', ask([['Content-Length', '0']])],
  ['an empty body, its length in three digits', ask([['Content-Length', '000']])],
  ['an http URI as the target', ask([], {}, 'http://127.0.0.1/u/V?echo')],
  ['an https URI as the target', ask([], {}, 'HTTPS://car.example:8443/u/V?echo')],
  ['a ws URI as the target', ask([], {}, 'ws://127.0.0.1/u/V?echo')],
  ['a wss URI as the target', ask([], {}, 'wss://car.example/u/V?echo')],
  ['an extension that nobody offers here', ask([['Sec-WebSocket-Extensions', 'x-unknown; a=b']])],
  ['permessage-deflate where it is switched off', ask([['Sec-WebSocket-Extensions', 'permessage-deflate; client_max_window_bits']])],
].map(([name, text, options]) => ({ name: `accepted: ${name}`, run: (rig) => accepted(rig, text, options) }))

const PROTOCOLS = [
  ['none', [], undefined],
  ['one', ['chat'], 'chat'],
  ['the first of two', ['chat, superchat'], 'chat'],
  ['the first of two fields', ['chat', 'superchat'], 'chat'],
  ['without blanks', ['a,b,c'], 'a'],
  ['with empty items', [', ,a,,b,'], 'a'],
  ['of odd characters', ["!#$%&'*+-.^_`|~09azAZ"], "!#$%&'*+-.^_`|~09azAZ"],
  ['bearer, and a token that is not echoed', ['bearer, aaa.bbb.ccc'], 'bearer'],
  ['the hub\'s own behind another', ['chat, vinhub.v1'], 'vinhub.v1'],
  ['the hub\'s own in a field of its own', ['chat', 'vinhub.v1.msgpack'], 'vinhub.v1.msgpack'],
  ['the first of the hub\'s own', ['vinhub.v1.msgpack, vinhub.v1'], 'vinhub.v1.msgpack'],
  ['the hub\'s own before bearer', ['bearer, token, vinhub.v1'], 'vinhub.v1'],
  ['in another case: another name', ['VINHUB.V1'], 'VINHUB.V1'],
  ['an empty field', [''], undefined],
  ...[64, 65, 300, 2000, 15_000].map((len) => [`a token alone of ${len} bytes`, ['x'.repeat(len)], 'x'.repeat(len)]),
  ['the first of two long ones', [`${'y'.repeat(500)}, ${'z'.repeat(500)}`], 'y'.repeat(500)],
  ['a long one and one in a field of its own', ['y'.repeat(500), 'z'], 'y'.repeat(500)],
  ['bearer behind its token', [`${'x'.repeat(300)}, bearer`], 'bearer'],
  ['bearer, and a long token that is not echoed', ['bearer', 'x'.repeat(3000)], 'bearer'],
].map(([name, values, protocol]) => ({
  name: `subprotocol: ${name}`,
  async run(rig) {
    const text = ask(values.map((value) => ['Sec-WebSocket-Protocol', value]))
    if (!protocol?.startsWith('vinhub')) return accepted(rig, text, { protocol })
    const peer = rig.dial(text)
    await peer.answered()
    assert.equal(peer.field('sec-websocket-protocol'), protocol)
    peer.destroy()
  },
}))

const KEYS = [['empty', ''], ['of 15 bytes', 'AAAAAAAAAAAAAAAAAAAA'], ['of 17 bytes', 'AAAAAAAAAAAAAAAAAAAAAAA='], ['of 18 bytes', 'AAAAAAAAAAAAAAAAAAAAAAAA'],
  ['without padding', 'dGhlIHNhbXBsZSBub25jZQ'], ['of one character less', 'GhlIHNhbXBsZSBub25jZQ=='], ['with a blank inside', 'dGhlIHNhbXBs ZSBub25jZQ=='.slice(0, 24)],
  ['with characters of base64url', 'dGhlIHNhbXBsZSBub2-_ZQ=='], ['with other characters', 'dGhlIHNhbXBsZSBub2!?ZQ=='], ['of 1,000 characters', 'A'.repeat(1000)],
  ['in quotes', `"${KEY}"`]]

const refuse = [
  ['a plain GET', 426, `GET ${PATH} HTTP/1.1\r\nHost: a\r\n\r\n`, UPGRADE],
  ['no Upgrade', 426, ask([], without('Upgrade')), UPGRADE],
  ['no Connection', 426, ask([], without('Connection')), UPGRADE],
  ['another Upgrade', 426, ask([['Upgrade', 'h2c']], without('Upgrade')), UPGRADE],
  ['an Upgrade of which websocket is a part', 426, ask([['Upgrade', 'websockets']], without('Upgrade')), UPGRADE],
  ['an empty Upgrade', 426, ask([['Upgrade', '']], without('Upgrade')), UPGRADE],
  ['another Connection', 426, ask([['Connection', 'keep-alive']], without('Connection')), UPGRADE],
  ['a Connection of which upgrade is a part', 426, ask([['Connection', 'no-upgrade']], without('Connection')), UPGRADE],
  ['no version', 426, ask([], without('Sec-WebSocket-Version')), UPGRADE],
  ...['0', '1', '7', '8', '12', '14', '25', '99', '255', '-13', '013', '13.0', '13, 8', 'thirteen', '', '13 13', '1 3', '１３'].map((version) =>
    [`version "${version}"`, 426, Buffer.from(ask([['Sec-WebSocket-Version', version]], without('Sec-WebSocket-Version'))), UPGRADE]),
  ['two versions', 426, ask([['Sec-WebSocket-Version', '13']]), UPGRADE],
  ['no key', 400, ask([], without('Sec-WebSocket-Key'))],
  ...KEYS.map(([name, key]) => [`a key ${name}`, 400, ask([['Sec-WebSocket-Key', key]], without('Sec-WebSocket-Key'))]),
  ['two keys', 400, ask([['Sec-WebSocket-Key', KEY]])],
  ['no Host', 400, ask([], without('Host'))],
  ['two Hosts', 400, ask([['Host', 'b']])],
  ...['POST', 'PUT', 'DELETE', 'CONNECT', 'TRACE', 'PATCH', 'get', 'GETT', 'G'].map((method) => [`method ${method}`, 405, ask([], { method }), { allow: 'GET, HEAD, OPTIONS' }]),
  ...['HTTP/1.0', 'HTTP/0.9', 'HTTP/2.0', 'HTTP/1.1 ', 'HTTP/1.10', 'http/1.1', 'HTTP', 'HTTP/1.1 extra', ''].map((version) => [`version of HTTP "${version}"`, 400, ask([], { version })]),
  ['an unknown service', 404, ask([], {}, '/u/V?other')],
  ['no service', 404, ask([], {}, '/u/V')],
  ['a malformed URL', 400, ask([], {}, '/a/b/c?echo')],
  ['a target without a slash', 400, ask([], {}, 'u/V?echo')],
  ['a target of another scheme', 400, ask([], {}, 'ftp://a/u/V?echo')],
  ['an URI without a path', 400, ask([], {}, 'http://127.0.0.1')],
  ['a field without a colon', 400, ask([]).replace('Host: 127.0.0.1', 'Host 127.0.0.1')],
  ['a blank before a colon', 400, ask([['X-A ', 'b']])],
  ['a field without a name', 400, ask([['', 'b']])],
  ['a blank at the start of a line', 400, ask([[' X-A', 'b']])],
  ['a folded field', 400, ask([['X-A', 'b\r\n c']])],
  ['a zero byte in a value', 400, ask([['X-A', 'b\0c']])],
  ['a control byte in a value', 400, ask([['X-A', 'b\x01c']])],
  ['DEL in a value', 400, ask([['X-A', 'b\x7fc']])],
  ['a line feed in a value', 400, ask([['X-A', 'b\nc']])],
  ['a carriage return in a value', 400, ask([['X-A', 'b\rc']])],
  ['a control byte in the URL', 400, ask([], {}, '/u/V\x01?echo')],
  ['a name of two words', 400, ask([['X A', 'b']])],
  ['a name with a separator', 400, ask([['X(A)', 'b']])],
  ['two empty lines first', 400, `\r\n\r\n${ask([])}`],
  ['two line feeds first', 400, `\n\n${ask([])}`],
  ['a carriage return first', 400, `\r${ask([])}`],
  ['a body of 5 bytes', 400, ask([['Content-Length', '5']])],
  ['a body of unknown length', 400, ask([['Transfer-Encoding', 'chunked']])],
  ['a body of unknown coding', 400, ask([['Transfer-Encoding', 'identity']])],
  ['a body of 10 bytes', 400, ask([['Content-Length', '010']])],
  ['an unreadable length', 400, ask([['Content-Length', '']])],
  ['two lengths', 400, ask([['Content-Length', '0'], ['Content-Length', '7']])],
  ['a PROXY line', 400, `PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n${ask([])}`],
  ['a blank first', 400, ` ${ask([])}`],
  ['bytes that are no text', 400, Buffer.from('00010203', 'hex')],
  ['one word', 400, 'GET\r\n\r\n'],
  ['a subprotocol of two words', 400, ask([['Sec-WebSocket-Protocol', 'a b']])],
  ['a subprotocol with a separator', 400, ask([['Sec-WebSocket-Protocol', 'a, b;c']])],
  ['a subprotocol that is not ASCII', 400, Buffer.from(ask([['Sec-WebSocket-Protocol', 'a\xff']]), 'latin1')],
  ['129 fields', 431, ask(Array.from({ length: 124 }, (_, at) => [`X-${at}`, 'x']))],
  ['a head of 17,000 bytes', 431, ask(Array.from({ length: 17 }, (_, at) => [`X-${at}`, 'x'.repeat(1000)]))],
  ['a head without an end', 431, `GET ${PATH} HTTP/1.1\r\nX-Long: ${'x'.repeat(40_000)}`],
  ['a path of 9,000 bytes', 414, ask([], {}, `/u/V?echo&x=${'x'.repeat(9000)}`)],
  ['a path without an end', 414, `GET /${'x'.repeat(20_000)}`],
].flatMap(([name, status, text, fields]) => [
  { name: `refused with ${status}: ${name}`, run: (rig) => refused(rig, text, status, fields) },
  ...(text.length < 400 ? [{ name: `refused with ${status}: ${name}, byte by byte`, run: (rig) => refused(rig, text, status, fields, { size: 1 }) }] : []),
])

const head = {
  name: 'refused with 426: HEAD, which gets no content',
  async run(rig) {
    const peer = rig.dial(ask([], { method: 'HEAD' }))
    await peer.ended()
    assert.equal(peer.head.status, 426)
    assert.equal(peer.field('sec-websocket-version'), '13')
    assert.equal(peer.head.text, '')
  },
}

const notRead = {
  name: 'frames behind a refused handshake go nowhere',
  async run(rig) {
    const path = `/u/${rig.vin()}?echo`
    const witness = await rig.open(path)
    const peer = rig.dial(Buffer.concat([Buffer.from(requestText(path, [['Host', 'second']])), frame(TEXT, 'never')]))
    await peer.answered()
    assert.equal(peer.head.status, 400)
    await witness.send(frame(TEXT, 'the last'))
    await witness.got(1)
    assert.equal(String(witness.messages[0][1]), 'the last')
    await rig.farewell(witness)
  },
}

/** In one packet with the head, or in the next one. */
const bodies = ['one packet', 'two packets'].flatMap((how) => [['Content-Length', '11'], ['Transfer-Encoding', 'chunked']].map(([name, value]) => ({
  name: `a body in ${how} (${name}) is never taken for frames`,
  async run(rig) {
    const path = `/u/${rig.vin()}?echo`
    const witness = await rig.open(path)
    const peer = rig.dial()
    const head = Buffer.from(requestText(path, [[name, value]]))
    const body = frame(TEXT, 'never')
    if (how === 'one packet') await peer.send(Buffer.concat([head, body]))
    else {
      await peer.send(head)
      await peer.answered()
      await peer.send(body)
    }
    await peer.answered()
    assert.equal(peer.head.status, 400)
    await witness.send(frame(TEXT, 'the last'))
    await witness.got(1)
    assert.equal(String(witness.messages[0][1]), 'the last')
    await rig.farewell(witness)
  },
})))

export const cases = [...accept, ...PROTOCOLS, ...refuse, head, notRead, ...bodies]
