// What hostile peers send, each from a seed: handshakes, requests for event streams, frames of both sides, requests to the admin
// port, and bytes that were right before some of them were changed. The same seed sends the same.
import { deflateRawSync } from 'node:zlib'
import { createHash } from 'node:crypto'
import { handshakeText } from '../lib/net.mjs'

/** A small generator (mulberry32); random() of its own for each peer, so that one can be looked at alone. */
export class Dice {
  constructor(seed) { this.state = seed >>> 0 }

  next() {
    this.state = this.state + 0x6D2B79F5 >>> 0
    let t = this.state
    t = Math.imul(t ^ t >>> 15, t | 1)
    t ^= t + Math.imul(t ^ t >>> 7, t | 61)
    return (t ^ t >>> 14) >>> 0
  }

  below(bound) { return this.next() % bound }
  chance(percent) { return this.below(100) < percent }
  pick(list) { return list[this.below(list.length)] }
  bytes(length) { return Buffer.from(Array.from({ length }, () => this.below(256))) }
}

/** Changes, drops, doubles or inserts some bytes. */
export function spoil(dice, bytes, changes = 1 + dice.below(4)) {
  let out = Buffer.from(bytes)
  for (; changes > 0 && out.length > 0; changes--) {
    const at = dice.below(out.length)
    const length = 1 + dice.below(8)
    const before = out.subarray(0, at)
    switch (dice.below(5)) {
      case 0: out[at] = dice.below(256); break
      case 1: out[at] ^= 1 << dice.below(8); break
      case 2: out = Buffer.concat([before, out.subarray(at + length)]); break
      case 3: out = Buffer.concat([before, dice.bytes(length), out.subarray(at)]); break
      case 4: out = Buffer.concat([before, out.subarray(at, at + length), out.subarray(at)]); break
    }
  }
  return out
}

// --- handshakes ------------------------------------------------------------------------------

const EXTRAS = [
  'Sec-WebSocket-Extensions: permessage-deflate\r\n',
  'Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits; server_max_window_bits=9\r\n',
  'Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits=99, x; y="z\r\n',
  'Sec-WebSocket-Protocol: vinhub.v1\r\n', 'Sec-WebSocket-Protocol: vinhub.v1.msgpack\r\n',
  'Sec-WebSocket-Protocol: bearer, abc.def.ghi\r\n', 'Origin: null\r\n', 'Origin: https://a.example\r\n',
  'Cookie: token=abc; x\r\n', 'X-Forwarded-For: 1.2.3.4, ::1\r\n', 'Content-Length: 5\r\n',
  'Transfer-Encoding: chunked\r\n', 'Sec-WebSocket-Version: 8\r\n', 'Connection: close\r\n', ' folded: x\r\n',
]

/** The bytes of a handshake, which may be right: {bytes, offersDeflate}. */
export function handshakeOf(dice, path, extra = '') {
  while (dice.chance(40)) extra += dice.pick(EXTRAS)
  let target = path
  if (dice.chance(10)) target += dice.pick(['&resume=1.2', '&resume=99999999999999999999.1', '&replay=5', '&vin=x', '%zz', '#', '&&&=&', ';', '/..'])
  const text = handshakeText(target, extra)
  return dice.chance(30) ? spoil(dice, Buffer.from(text, 'latin1')) : Buffer.from(text, 'latin1')
}

// --- event streams ---------------------------------------------------------------------------

const ACCEPTS = ['text/event-stream', 'text/event-stream;q=0.5, */*', '*/*', 'TEXT/EVENT-STREAM', 'text/event-stream;q=0', ',,,', 'text/event-stream; q="1', 'x'.repeat(300)]
const POSITIONS = ['1.2', '0.0', '99999999999999999999.1', '1700000000000.5', '.', '1.2.abc', '-1.-1', '\xff', '']
const ORIGINS = ['https://a.example', 'null', 'file://', 'https://a.example, https://b.example', `https://${'a'.repeat(300)}`, '']

/** A request for an event stream, or the OPTIONS before one, which may be right. */
export function streamOf(dice, path) {
  const fields = []
  const may = (name, values) => { while (dice.chance(60)) fields.push(`${name}: ${dice.pick(values)}\r\n`) }
  may('Accept', ACCEPTS)
  may('Last-Event-ID', POSITIONS)
  may('Origin', ORIGINS)
  may('X-Forwarded-For', ['1.2.3.4', '::1'])
  const target = path + dice.pick(['', '', '&rate=2', '&rate=0', '&replay=5', '&resume=1.2', '&token=a.b.c', '#', '%zz'])
  const text = `${dice.pick(['GET', 'GET', 'GET', 'OPTIONS', 'HEAD', 'POST'])} ${target} HTTP/1.${dice.pick([1, 1, 0, 2])}\r\nHost: 127.0.0.1\r\n` +
    `${dice.chance(70) ? 'Accept: text/event-stream\r\n' : ''}${fields.join('')}\r\n`
  return dice.chance(30) ? spoil(dice, Buffer.from(text, 'latin1')) : Buffer.from(text, 'latin1')
}

// --- frames ----------------------------------------------------------------------------------

const TEXTS = ['ping', 'heartbeat', '{"type":"PING"}', '{"type":"SEND","id":1,"payload":"x"}',
  '{"type":"SEND","id":2,"payload":"eA==","encoding":"base64"}', '{"type":"SEND","id":', 'hello', '', 'ä中😀',
  '{"type":"SUBSCRIBE","id":3,"urls":["/admin/HOSTILE1?remoteWs","/admin/HOSTILE2?remoteWs&rate=2","/admin/HOSTILE3?badWs&replay=3"]}',
  '{"type":"SUBSCRIBE","id":4,"urls":["/admin/HOSTILE4?remoteWs&resume=1.1","/admin/HOSTILE5?none","x","/admin?subscribe"]}',
  JSON.stringify({ type: 'SUBSCRIBE', id: 5, urls: Array.from({ length: 200 }, (_, n) => `/admin/HOSTILE${n % 20}?remoteWs`) }),
  '{"type":"UNSUBSCRIBE","id":6,"sessions":["remoteWs:HOSTILE1","remoteWs:HOSTILE2","remoteWs:NONE"]}',
  '{"type":"SEND","id":7,"session":"remoteWs:HOSTILE1","payload":"x","ttl":20}', '{"type":"SEND","id":8,"payload":"x","ttl":1}',
  '{"type":"REFRESH","id":9,"token":"eyJhbGciOiJIUzI1NiJ9.e30.AAAA"}', '{"type":"REFRESH","id":10,"token":""}']
const CODES = [1000, 1001, 1002, 1005, 1006, 1007, 1011, 1015, 2999, 3000, 4999, 5000, 0, 65535]

function payloadOf(dice) {
  switch (dice.below(8)) {
    case 0: return dice.bytes(dice.below(200))
    case 1: return Buffer.alloc(dice.below(20_000), dice.below(256))
    case 2: return Buffer.from([0xed, 0xa0, 0x80, 0xff].slice(dice.below(4)))
    case 3: return spoil(dice, Buffer.from(dice.pick(TEXTS)))
    case 4: return spoil(dice, Buffer.from([0x83, 0xa4, 0x74, 0x79, 0x70, 0x65, 0xa4, 0x53, 0x45, 0x4e, 0x44, 0xa2, 0x69, 0x64, 1, 0xa7, 0x70, 0x61, 0x79, 0x6c, 0x6f, 0x61, 0x64, 0xa1, 0x78]))
    default: return Buffer.from(dice.pick(TEXTS))
  }
}

function deflated(dice) {
  const plain = dice.chance(10) ? Buffer.alloc(dice.below(4_000_000)) : payloadOf(dice)
  const bytes = deflateRawSync(plain, { finishFlush: 2 /* Z_SYNC_FLUSH */ }).subarray(0, -4)
  return dice.chance(50) ? bytes : spoil(dice, bytes)
}

function head(dice, first, size, masked) {
  const bit = masked ? 0x80 : 0
  const form = dice.chance(8) ? dice.below(3) : size < 126 ? 0 : size < 65536 ? 1 : 2
  if (form === 0) return Buffer.from([first, bit | size & 127])
  if (form === 1) return Buffer.from([first, bit | 126, size >> 8 & 255, size & 255])
  const bytes = Buffer.alloc(10)
  bytes[0] = first
  bytes[1] = bit | 127
  bytes.writeBigUInt64BE(BigInt(size), 2)
  if (dice.chance(10)) bytes[2] ^= 0x80
  return bytes
}

/** A frame that is right, or nearly. masked: as a client's is. */
export function frameOf(dice, masked) {
  let opcode = dice.pick([1, 1, 1, 2, 2, 0, 8, 9, 10, dice.below(16)])
  let payload = payloadOf(dice)
  let rsv = 0
  if (dice.chance(20)) {
    payload = deflated(dice)
    rsv = 4
    opcode = dice.pick([1, 2])
  }
  if (opcode === 8 && dice.chance(80)) payload = Buffer.concat([Buffer.from([0, 0]), payload.subarray(0, 100)])
  if (opcode === 8 && payload.length >= 2) payload.writeUInt16BE(dice.pick(CODES), 0)
  if (opcode > 8 && dice.chance(90)) payload = payload.subarray(0, 125)
  if (dice.chance(3)) rsv = dice.below(8)
  const fin = dice.chance(80) ? 0x80 : 0
  if (dice.chance(3)) masked = !masked
  const length = dice.chance(3) ? dice.pick([0, 1, 125, 126, 65535, 65536, 2 ** 31, 2 ** 40]) : payload.length
  const key = masked ? dice.bytes(4) : Buffer.alloc(0)
  const body = Buffer.from(payload)
  if (masked) for (let i = 0; i < body.length; i++) body[i] ^= key[i & 3]
  return Buffer.concat([head(dice, fin | rsv << 4 | opcode, length, masked), key, body])
}

/** Some frames in a row. */
export function framesOf(dice, masked) {
  const frames = Array.from({ length: 1 + dice.below(12) }, () => frameOf(dice, masked))
  const bytes = Buffer.concat(frames)
  return dice.chance(10) ? spoil(dice, bytes) : bytes
}

// --- the backend's answer -------------------------------------------------------------------

/** What a backend answers to this request. */
export function answerOf(dice, request) {
  const key = /sec-websocket-key: *(\S+)/i.exec(request)?.[1] ?? ''
  const accept = createHash('sha1').update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest('base64')
  const extra = dice.pick(['', '', '', 'Sec-WebSocket-Extensions: permessage-deflate\r\n', 'Sec-WebSocket-Protocol: x\r\n',
    'Content-Length: 7\r\n', 'Transfer-Encoding: chunked\r\n'])
  const good = `HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\n${extra}\r\n`
  const others = ['HTTP/1.1 200 OK\r\n\r\n', 'HTTP/1.0 101 x\r\n\r\n', 'HTTP/1.1 301 Moved\r\nLocation: /x\r\n\r\n', 'HTTP/1.1 99999\r\n\r\n', '\r\n\r\n']
  const text = dice.chance(5) ? dice.pick(others) : good
  return dice.chance(15) ? spoil(dice, Buffer.from(text)) : Buffer.from(text)
}

// --- the admin port --------------------------------------------------------------------------

const ADMIN = [
  ['GET', '/healthz'], ['GET', '/readyz'], ['GET', '/metrics'], ['GET', '/websocket-stats'], ['GET', '/api/nodes'],
  ['GET', '/api/sessions?limit=5'], ['GET', '/api/sessions?limit=-1&after=%00'], ['GET', '/api/sessions?after=remoteWs:HOSTILE1&limit=99999999999'],
  ['GET', '/api/sessions/remoteWs:HOSTILE1'], ['GET', '/api/sessions/%2e%2e/%2e%2e'], ['GET', '/api/sessions/remoteWs%3AHOSTILE%252'],
  ['GET', '/api/events'], ['GET', '/api/events?session=remoteWs:HOSTILE1&history=5'], ['GET', '/'], ['GET', '/client/../../etc/passwd'],
  ['HEAD', '/metrics'], ['OPTIONS', '*'], ['DELETE', '/api/nodes'],
  ['POST', '/api/publish', '{"session":"remoteWs:HOSTILE1","data":"x"}'], ['POST', '/api/publish', '{"session":"remoteWs:HOSTILE2","data_base64":"eA=="}'],
  ['POST', '/api/publish', '{"session":5,"data":[]}'], ['POST', '/api/publish', '[[[[[[[[[[[[[[[['],
  ['GET', '/api/clients'], ['GET', '/api/clients?limit=1&user=admin'], ['GET', '/api/clients?vin=HOSTILE1&service=remoteWs&session=remoteWs%3AHOSTILE1&limit=1000'],
  ['GET', '/api/clients?address=127.0.0.1&node=a&after=x'], ['GET', '/api/clients?user=a%00b'], ['GET', `/api/clients?user=${'x'.repeat(2000)}`], ['GET', '/api/clients?user=a&user=b'],
  ['POST', '/api/clients/close', '{"vin":"HOSTILE1","reason":"hostile"}'], ['POST', '/api/clients/close', '{}'], ['POST', '/api/clients/close', '{"vin":"HOSTILE2","usr":5}'],
  ['POST', '/api/revoke', '{"jti":"a token"}'], ['POST', '/api/revoke', '{"sub":"nobody","before":1700000000}'], ['POST', '/api/revoke', '{"sub":"x","jti":"y"}'],
  ['POST', '/api/sessions/remoteWs:HOSTILE3/close', '{}'], ['GET', '/api/drain'], ['POST', '/api/drain?', '{"node":5}'],
]

/** One or more requests on one connection. */
export function adminOf(dice) {
  const requests = []
  do {
    const [method, path, body = ''] = dice.pick(ADMIN)
    const exact = /drain|close/.test(path) // an empty or changed id may name the node itself, or the sessions of others
    const length = exact || dice.chance(90) ? Buffer.byteLength(body) : dice.pick([0, 1, 2 ** 31, 5_000_000, -1, 'x'])
    const type = dice.chance(90) ? 'Content-Type: application/json\r\n' : ''
    const host = dice.chance(90) ? 'Host: 127.0.0.1\r\n' : dice.pick(['', 'Host: evil.example\r\n', 'Host: [::1\r\n', 'Host: \r\n'])
    const chunks = !exact && dice.chance(10) ? 'Transfer-Encoding: chunked\r\n' : method === 'POST' ? `Content-Length: ${length}\r\n` : ''
    const text = `${method} ${path} HTTP/1.1\r\n${host}${type}${chunks}\r\n${body}`
    requests.push(!exact && dice.chance(30) ? spoil(dice, Buffer.from(text)) : Buffer.from(text))
  } while (dice.chance(30))
  return Buffer.concat(requests)
}
