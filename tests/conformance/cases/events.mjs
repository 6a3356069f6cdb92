// Event streams (contract section 6; RFC 9110 sections 9.3, 12.4 and 12.5.1): which requests ask for one, by method, version and
// Accept, and the answers. Whole, byte by byte, and cut at random.
import assert from 'node:assert/strict'
import { EventReader } from '../../lib/event-stream.mjs'
import { TEXT, frame } from '../wire.mjs'
import { refused } from './handshake.mjs'

const UPGRADE = { upgrade: 'websocket', 'sec-websocket-version': '13' }
const EVENTS = 'text/event-stream'

/** A request as programs write it: fields are [name, value] pairs. */
function ask(path, fields = [['Accept', EVENTS]], { method = 'GET', version = 'HTTP/1.1', host = [['Host', '127.0.0.1']] } = {}) {
  return `${method} ${path} ${version}\r\n${[...host, ...fields].map(([name, value]) => `${name}: ${value}\r\n`).join('')}\r\n`
}

async function opened(rig, text, size) {
  const peer = rig.dial()
  await peer.send(text, size)
  await peer.answered()
  assert.equal(peer.head.status, 200, peer.head.text)
  assert.equal(peer.field('content-type'), EVENTS)
  assert.equal(peer.field('cache-control'), 'no-cache')
  assert.equal(peer.field('connection'), 'close')
  assert.equal(peer.field('content-length'), undefined)
  assert.equal(peer.field('transfer-encoding'), undefined)
  await peer.when(() => /^id: \d+\.\d+\n\n/.test(peer.head.text), 'the position')
  return peer
}

const accepts = [
  EVENTS, 'TEXT/EVENT-STREAM', 'Text/Event-Stream', `${EVENTS};charset=utf-8`, `${EVENTS} ; charset="utf-8"`, `${EVENTS};q=1`, `${EVENTS};q=1.0`, `${EVENTS};q=0.001`,
  `${EVENTS}; Q=0.5`, `${EVENTS};q=0.5, */*;q=0.1`, `*/*, ${EVENTS}`, `*/*;q=0, ${EVENTS}`, `text/html,application/json;q=0.9,${EVENTS};q=0.8`, `,,${EVENTS},,`, `\t${EVENTS}\t`,
  `${EVENTS};level=1;q=0.3`, `application/json, ${EVENTS}`, `${EVENTS}, application/json`, `${EVENTS};q`, `${EVENTS};q=`, `${EVENTS};q=0.0001`,
].map((value) => [`Accept "${value}"`, (path) => ask(path, [['Accept', value]])])

const programs = [
  ['Accept in two fields', (path) => ask(path, [['Accept', 'text/html'], ['Accept', EVENTS]])],
  ['accept in lower case, without a blank', (path) => ask(path).replace('Accept: ', 'accept:')],
  ['HTTP/1.0', (path) => ask(path, undefined, { version: 'HTTP/1.0' })],
  ['HTTP/1.0 without a Host', (path) => ask(path, undefined, { version: 'HTTP/1.0', host: [] })],
  ['HTTP/1.0 with keep-alive', (path) => ask(path, [['Accept', EVENTS], ['Connection', 'keep-alive']], { version: 'HTTP/1.0' })],
  ['another upgrade', (path) => ask(path, [['Accept', EVENTS], ['Connection', 'Upgrade, HTTP2-Settings'], ['Upgrade', 'h2c']])],
  ['a body of none', (path) => ask(path, [['Accept', EVENTS], ['Content-Length', '0']])],
  ['an empty line first', (path) => `\r\n${ask(path)}`],
  ['a whole URI', (path) => ask(`http://127.0.0.1${path}`)],
  ['Last-Event-ID of no stream', (path) => ask(path, [['Accept', EVENTS], ['Last-Event-ID', 'x\xff']])],
  ['another request behind it', (path) => ask(path) + ask('/')],
]

const open = [...accepts, ...programs].flatMap(([name, text]) => [undefined, 1, 'random'].map((size) => ({
  name: `opened: ${name}${size === 1 ? ', byte by byte' : size === 'random' ? ', cut at random' : ''}`,
  async run(rig) {
    const peer = await opened(rig, Buffer.from(text(`/u/${rig.vin()}?echo`), 'latin1'), size)
    peer.socket.destroy()
  },
})))

const PATH = '/u/V?echo'
const no = [
  ...['*/*', 'text/*', '', 'text/html', `${EVENTS};q=0`, `${EVENTS};q=0.0`, `${EVENTS};q=0.000`, `${EVENTS}; q=0.`, `${EVENTS};x=1;q=0`, 'text/event-streams', 'text/event-stream/x',
    'xtext/event-stream', 'text / event-stream', '"text/event-stream"', `${EVENTS} text/html`].map((value) => [`Accept "${value}"`, 426, ask(PATH, [['Accept', value]]), UPGRADE]),
  ['no Accept', 426, ask(PATH, []), UPGRADE],
  ['Accept-Encoding', 426, ask(PATH, [['Accept-Encoding', EVENTS]]), UPGRADE],
  ...['POST', 'PUT', 'DELETE', 'PATCH', 'CONNECT', 'TRACE', 'get', 'QUERY'].map((method) => [`method ${method}`, 405, ask(PATH, undefined, { method }), { allow: 'GET, HEAD, OPTIONS' }]),
  ...['HTTP/0.9', 'HTTP/1.2', 'HTTP/2.0', 'http/1.1', 'HTTP/1.10'].map((version) => [`version "${version}"`, 400, ask(PATH, undefined, { version })]),
  ['no Host', 400, ask(PATH, undefined, { host: [] })],
  ['two Hosts', 400, ask(PATH, [['Accept', EVENTS], ['Host', 'b']])],
  ['two Hosts in HTTP/1.0', 400, ask(PATH, [['Accept', EVENTS], ['Host', 'b']], { version: 'HTTP/1.0' })],
  ['a body', 400, `${ask(PATH, [['Accept', EVENTS], ['Content-Length', '5']])}hello`],
  ['a body of unknown length', 400, ask(PATH, [['Accept', EVENTS], ['Transfer-Encoding', 'chunked']])],
  ['no service', 404, ask('/u/V')],
  ['an unknown service', 404, ask('/u/V?other')],
  ['a malformed URL', 400, ask('/a/b/c?echo')],
  ['a rate of none', 400, ask(`${PATH}&rate=0`)],
].map(([name, status, text, fields]) => ({ name: `refused with ${status}: ${name}`, run: (rig) => refused(rig, text, status, fields) }))

/** Answers without content: nothing follows the head, and the connection ends. */
const heads = [
  ['OPTIONS with an Origin', 204, ask(PATH, [['Origin', 'https://a.example'], ['Access-Control-Request-Method', 'GET']], { method: 'OPTIONS' }),
    { 'access-control-allow-origin': 'https://a.example', 'access-control-allow-credentials': 'true', 'access-control-allow-headers': 'Authorization, Last-Event-ID', vary: 'Origin' }],
  ['OPTIONS without one', 204, ask(PATH, [], { method: 'OPTIONS' }), { 'access-control-allow-origin': undefined, vary: 'Origin' }],
  ['OPTIONS *', 204, ask('*', [], { method: 'OPTIONS' }), {}],
  ['OPTIONS with two Origins', 403, ask(PATH, [['Origin', 'https://a.example'], ['Origin', 'https://b.example']], { method: 'OPTIONS' }), { 'access-control-allow-origin': undefined }],
  ['HEAD', 200, ask(PATH, undefined, { method: 'HEAD' }), { 'content-type': EVENTS, 'cache-control': 'no-cache' }],
  ['HEAD of no service', 404, ask('/u/V', undefined, { method: 'HEAD' }), { vary: 'Origin' }],
  ['HEAD that asks for no stream', 426, ask(PATH, [], { method: 'HEAD' }), UPGRADE],
].map(([name, status, text, fields]) => ({
  name: `answered with ${status}: ${name}`,
  async run(rig) {
    const peer = rig.dial(text)
    await peer.answered()
    await peer.ended()
    assert.equal(peer.head.status, status)
    assert.equal(peer.end, 'fin')
    if (status !== 403) assert.equal(peer.head.text, '')
    for (const [name, value] of Object.entries(fields)) assert.equal(peer.field(name), value, name)
  },
}))

/** Each origin that a browser may send comes back byte for byte where any is allowed; it never ends its header. */
const origins = ['null', 'file://', 'capacitor://localhost', 'https://a.example:8443', 'http://[::1]:8080', 'https://xn--mnchen-3ya.example', `https://${'a'.repeat(250)}.example`].map((origin) => ({
  name: `Origin ${origin.slice(0, 40)}`,
  async run(rig) {
    const peer = await opened(rig, ask(`/u/${rig.vin()}?echo`, [['Accept', EVENTS], ['Origin', origin]]))
    assert.equal(peer.field('access-control-allow-origin'), origin)
    assert.equal(peer.field('access-control-allow-credentials'), 'true')
    peer.socket.destroy()
  },
}))

const LINES = ['', 'a', '\n', '\r', '\r\n', 'a\n', '\na', 'a\r\nb\rc\nd', '\n\n\n', '\r\r\n\r', ': comment', 'data: x', 'event: gap\n\nid: 1.1', ' blank', '\ttab', 'Türe 车门', '\ufeff', '\u2028',
  `${'x'.repeat(70_000)}\n`, '\n'.repeat(3000)]
const payloads = {
  name: 'what the backend sends comes back line by line, whatever it is',
  async run(rig) {
    const path = `/u/${rig.vin()}?echo`
    const peer = await opened(rig, ask(path))
    const sender = await rig.open(path)
    const reader = new EventReader()
    for (const [n, text] of LINES.entries()) {
      await sender.send(frame(TEXT, text))
      await sender.got(n + 1)
    }
    await peer.when(() => {
      const parsed = new EventReader()
      parsed.add(Buffer.from(peer.head.text, 'latin1').toString())
      return parsed.events.filter(({ type }) => type === 'message').length === LINES.length
    }, 'all of them')
    reader.add(Buffer.from(peer.head.text, 'latin1').toString())
    const messages = reader.events.filter(({ type }) => type === 'message')
    assert.deepEqual(messages.map(({ data }) => data), LINES.map((text) => text.replace(/\r\n|\r/g, '\n')))
    const offsets = messages.map(({ id }) => Number(id.split('.')[1]))
    assert.deepEqual(offsets, offsets.map((_, n) => offsets[0] + n))
    peer.socket.destroy()
    await rig.farewell(sender)
  },
}

const ignored = {
  name: 'what a stream sends goes nowhere: no frame, no second request',
  async run(rig) {
    const path = `/u/${rig.vin()}?echo`
    const witness = await rig.open(path)
    const peer = await opened(rig, Buffer.concat([Buffer.from(ask(path)), frame(TEXT, 'never')]))
    await peer.send(frame(TEXT, 'never'))
    await peer.send(ask(path))
    await witness.send(frame(TEXT, 'the last'))
    await witness.got(1)
    assert.equal(String(witness.messages[0][1]), 'the last')
    assert.equal(peer.end, null)
    peer.socket.destroy()
    await rig.farewell(witness)
  },
}

export const cases = [...open, ...no, ...heads, ...origins, payloads, ignored]
