// Plain HTTP, handshakes that are expected to be refused, and raw TCP. Paths go out as they are
// written: no client library normalises them on the way.
import http from 'node:http'
import net from 'node:net'
import { deadline } from './until.mjs'

const ANSWER_MS = 15_000

/** One HTTP request: {status, headers, body, json()}. With an upgrade answered, {status: 101, socket}. */
export function request(port, path, { method = 'GET', headers = {}, body, address = '127.0.0.1' } = {}) {
  const answer = new Promise((resolve, reject) => {
    const req = http.request({ host: address, port, path, method, headers, agent: false })
    req.once('error', reject)
    req.once('upgrade', (res, socket) => resolve({ status: 101, headers: res.headers, socket }))
    req.once('response', (res) => {
      const parts = []
      res.on('data', (part) => parts.push(part))
      res.once('error', reject)
      res.once('end', () => {
        const text = Buffer.concat(parts).toString()
        resolve({ status: res.statusCode, headers: res.headers, body: text, json: () => JSON.parse(text) })
      })
    })
    req.end(body)
  })
  return deadline(answer, ANSWER_MS, `an answer to ${method} ${path.slice(0, 80)}`)
}

export const HANDSHAKE = {
  Connection: 'Upgrade', Upgrade: 'websocket', 'Sec-WebSocket-Version': '13',
  'Sec-WebSocket-Key': 'dGhlIHNhbXBsZSBub25jZQ==',
}

/** A WebSocket handshake by hand; an accepted one is ended at once. */
export async function handshake(port, path, headers = {}) {
  const answer = await request(port, path, { headers: { ...HANDSHAKE, ...headers } })
  answer.socket?.destroy()
  return answer
}

/** The bytes of a handshake, for raw sockets. */
export function handshakeText(path, extra = '') {
  const lines = Object.entries({ Host: '127.0.0.1', ...HANDSHAKE }).map(([key, value]) => `${key}: ${value}\r\n`)
  return `GET ${path} HTTP/1.1\r\n${lines.join('')}${extra}\r\n`
}

/** A TCP connection that keeps what it got: {socket, text(), closed}. */
export function rawSocket(t, port, bytes = '') {
  const socket = net.connect(port, '127.0.0.1')
  const peer = { socket, data: Buffer.alloc(0), closed: false, text: () => peer.data.toString('latin1') }
  socket.on('data', (part) => { peer.data = Buffer.concat([peer.data, part]) })
  socket.on('error', () => {})
  socket.once('close', () => { peer.closed = true })
  socket.once('connect', () => socket.write(bytes))
  t.defer(() => socket.destroy())
  return peer
}

/** One WebSocket frame of a client, masked with zeros so that the payload stays readable. */
export function clientFrame(opcode, payload, { fin = true, rsv = 0, length } = {}) {
  const data = Buffer.from(payload)
  const size = length ?? data.length
  const head = [(fin ? 0x80 : 0) | rsv << 4 | opcode]
  if (size < 126) head.push(0x80 | size)
  else if (size < 65536) head.push(0x80 | 126, size >> 8, size & 255)
  else head.push(0x80 | 127, ...bigEndian64(size))
  return Buffer.concat([Buffer.from([...head, 0, 0, 0, 0]), data])
}

function bigEndian64(size) {
  const bytes = Buffer.alloc(8)
  bytes.writeBigUInt64BE(BigInt(size))
  return bytes
}

/** The close code in the first close frame of a server's bytes after the handshake, or null. */
export function closeCodeOf(peer) {
  let rest = peer.data.subarray(peer.data.indexOf('\r\n\r\n') + 4)
  while (rest.length >= 2) {
    const short = rest[1] & 0x7f
    const head = short === 126 ? 4 : short === 127 ? 10 : 2
    if (rest.length < head) return null
    const size = short === 126 ? rest.readUInt16BE(2) : short === 127 ? Number(rest.readBigUInt64BE(2)) : short
    if ((rest[0] & 15) === 8 && rest.length >= head + 2) return rest.readUInt16BE(head)
    rest = rest.subarray(head + size)
  }
  return null
}
