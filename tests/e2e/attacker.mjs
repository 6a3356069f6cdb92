// A process that does one kind of harm to a hub until it is killed: attacker.mjs '{"kind", "port", "path", "count", "from", "texts"}'.
// It keeps `count` connections busy and, but for the idle kind, opens another for each that ends. Each 100 ms it prints a line of JSON: how
// many are open, were opened, were ended by the hub, and the statuses and close codes of the answers.
import net from 'node:net'
import zlib from 'node:zlib'
import { randomBytes } from 'node:crypto'
import { clientFrame, handshakeText } from '../lib/net.mjs'

const { kind, port, path, count, from, texts } = JSON.parse(process.argv[2])
const seen = { open: 0, opened: 0, ended: 0, sent: 0, answers: {} }
const TICK_MS = 100
const CHUNK = 64 * 1024
const EXTENSION = 'Sec-WebSocket-Extensions: permessage-deflate\r\n'
const MASK_KEY = 4

const repeated = (frame) => Buffer.alloc(Math.max(1, Math.floor(CHUNK / frame.length)) * frame.length, frame)
const V1 = 'Sec-WebSocket-Protocol: vinhub.v1\r\n'

function deflated(opcode, payload) {
  const packed = zlib.deflateRawSync(payload, { finishFlush: zlib.constants.Z_SYNC_FLUSH })
  return clientFrame(opcode, packed.subarray(0, packed.length - MASK_KEY), { rsv: 4 })
}

/** first: what is sent on connect; tick: each TICK_MS; flood: as fast as the hub takes it, once it has answered. */
const KINDS = {
  idle: {},
  'slow-handshake': { tick: (socket, age) => handshakeText(path).slice(age, age + 1) },
  'header-bomb': { first: `GET ${path} HTTP/1.1\r\n`, flood: Buffer.from(`X-${'a'.repeat(100)}: ${'b'.repeat(900)}\r\n`.repeat(60)), unasked: true },
  'slow-frame': { first: handshakeText(path), tick: (socket, age) => (age === 0 ? clientFrame(1, 'x', { length: 1_000_000 }) : 'x') },
  'large-frame': { first: handshakeText(path), once: clientFrame(2, Buffer.alloc(1_000_000), { length: 1_000_001 }) },
  fragments: { first: handshakeText(path), once: clientFrame(2, 'x', { fin: false }), flood: repeated(clientFrame(0, 'x', { fin: false })) },
  'empty-fragments': { first: handshakeText(path), once: clientFrame(2, 'x', { fin: false }), flood: repeated(clientFrame(0, '', { fin: false })) },
  pings: { first: handshakeText(path), flood: repeated(clientFrame(9, 'flood')) },
  'deaf-pings': { first: handshakeText(path), flood: repeated(clientFrame(9, Buffer.alloc(125))), deaf: true },
  'deaf-heartbeats': { first: handshakeText(path), flood: repeated(clientFrame(1, 'ping')), deaf: true },
  deaf: { first: handshakeText(path), deaf: true },
  bomb: { first: handshakeText(path, EXTENSION), flood: deflated(2, Buffer.alloc(256 * 1024 * 1024)) },
  'deflated-pings': { first: handshakeText(path, `${EXTENSION}${V1}`), flood: repeated(deflated(1, JSON.stringify({ type: 'PING', more: 'x'.repeat(250_000) }))) },
  messages: { first: handshakeText(path), flood: repeated(clientFrame(1, 'a message that is forwarded')) },
  'never-close': { first: handshakeText(path), once: clientFrame(3, 'ill-formed'), flood: Buffer.alloc(CHUNK), keep: true },
  garbage: { flood: () => randomBytes(CHUNK), unasked: true },
  'garbage-frames': { first: handshakeText(path), flood: () => randomBytes(CHUNK) },
  'half-closed': { first: handshakeText(path), once: clientFrame(1, 'half', { length: 100 }), end: true, keep: true },
  upgrades: { first: handshakeText(path) },
  // What is said in `texts`, again and again: by clients of vinhub.v1, and as requests of HTTP.
  requests: { first: handshakeText(path, V1), flood: () => (said ??= repeated(Buffer.concat(texts.map((text) => clientFrame(1, text))))) },
  'large-request': { first: handshakeText(path, V1), flood: () => (said ??= clientFrame(1, JSON.stringify({ type: 'SUBSCRIBE', id: 1, urls: LARGE_URLS }))) },
  http: { flood: () => (said ??= repeated(Buffer.from(texts.join('')))), unasked: true },
  'deaf-streams': { first: `GET ${path} HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\n\r\n`, deaf: true },
}
const plan = KINDS[kind]
const LARGE_URLS = Array.from({ length: 125 }, (_, n) => `/evil/V${n}?none&${'x'.repeat(8000)}`)
let said = null

function noteAnswer(name) { seen.answers[name] = (seen.answers[name] ?? 0) + 1 }

/** The status of the handshake, and the code of a close frame that comes first after it. */
function readAnswers(peer, part) {
  if (peer.text.length > 4096) return
  peer.text = Buffer.concat([peer.text, part.subarray(0, 4096)])
  const end = peer.text.indexOf('\r\n\r\n')
  if (end < 0) return
  if (!peer.status) noteAnswer(peer.status = peer.text.subarray(9, 12).toString())
  for (let at = end + 4; at + 4 <= peer.text.length && !peer.code; at += 2 + (peer.text[at + 1] & 0x7f)) {
    if ((peer.text[at] & 15) === 8) noteAnswer(peer.code = peer.text.readUInt16BE(at + 2))
  }
}

function pour(peer) {
  const bytes = typeof plan.flood === 'function' ? plan.flood() : plan.flood
  while (!peer.socket.destroyed && peer.socket.writable) {
    seen.sent += bytes.length
    if (!peer.socket.write(bytes)) return
  }
}

function onAnswer(peer) {
  peer.answered = true
  if (plan.deaf) peer.socket.pause()
  if (plan.once) peer.socket.write(plan.once)
  if (plan.end) peer.socket.end()
  if (plan.flood && !plan.unasked) pour(peer)
}

function open() {
  const socket = net.connect({ port, host: '127.0.0.1', localAddress: from, allowHalfOpen: Boolean(plan.keep) })
  const peer = { socket, text: Buffer.alloc(0), age: 0, answered: false }
  socket.on('connect', () => {
    seen.open++
    seen.opened++
    peer.connected = true
    if (plan.first) socket.write(plan.first)
    if (plan.flood && plan.unasked) pour(peer)
  })
  socket.on('data', (part) => {
    readAnswers(peer, part)
    if (!peer.answered && peer.text.includes('\r\n\r\n')) onAnswer(peer)
  })
  socket.on('drain', () => { if (plan.flood && (plan.unasked || peer.answered)) pour(peer) })
  socket.on('error', () => {})
  socket.on('close', () => {
    peers.delete(peer)
    if (peer.connected) { seen.open--; seen.ended++ }
    if (kind !== 'idle') setTimeout(open, kind === 'upgrades' ? 0 : 10)
  })
  peers.add(peer)
}

const peers = new Set()
const BATCH = 500
let started = 0
function start() {
  for (let n = 0; n < BATCH && started < count; n++, started++) open()
  if (started < count) setTimeout(start, 5)
}
start()

setInterval(() => {
  for (const peer of peers) {
    if (plan.tick && (peer.answered || kind === 'slow-handshake') && peer.connected) peer.socket.write(plan.tick(peer.socket, peer.age++))
  }
  process.stdout.write(`${JSON.stringify(seen)}\n`)
}, TICK_MS)
