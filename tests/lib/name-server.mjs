// A name server for tests, on UDP and TCP, which gives the answers that the test wants, wrong ones included. And files
// resolv.conf, hosts and nsswitch.conf for the test: in a mount and network namespace if that is permitted; otherwise the
// machine's own files are changed and restored at the end.
import { spawnSync } from 'node:child_process'
import dgram from 'node:dgram'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import net from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const PORT = 53
const FILES = ['/etc/resolv.conf', '/etc/hosts', '/etc/nsswitch.conf']
const UNSHARE = process.getuid() === 0 ? ['--mount', '--net'] : ['--map-root-user', '--mount', '--net']
let started = 0
const TYPES = { 1: 'A', 28: 'AAAA', 41: 'OPT' }
const NUMBERS = { A: 1, AAAA: 28, CNAME: 5 }
export const RCODE = { NOERROR: 0, FORMERR: 1, SERVFAIL: 2, NXDOMAIN: 3, REFUSED: 5 }

/** Runs this test file with name files of its own; call it before anything else. Returns write(resolvConf, hosts). */
export function ownNames() {
  const before = FILES.map((file) => readFileSync(file, 'utf8'))
  if (!process.env.VINHUB_TEST_NAMES) {
    const folder = mkdtempSync(join(tmpdir(), 'vinhub-names-'))
    FILES.forEach((file, index) => writeFileSync(join(folder, String(index)), before[index]))
    const mounts = FILES.map((file, index) => `mount --bind "$0/${index}" ${file}`).join(' && ')
    const unshare = (command, options) => spawnSync('unshare', [...UNSHARE, 'sh', '-c', `ip link set lo up && ${mounts} && exec "$@"`, folder, ...command], options).status
    if (unshare(['true'], {}) === 0) {
      const status = unshare([process.execPath, ...process.argv.slice(1)], { stdio: 'inherit', env: { ...process.env, VINHUB_TEST_NAMES: '1' } })
      rmSync(folder, { recursive: true, force: true })
      process.exit(status ?? 1)
    }
    rmSync(folder, { recursive: true, force: true })
    process.on('exit', () => FILES.forEach((file, index) => writeFileSync(file, before[index])))
  }
  writeFileSync(FILES[2], 'hosts: files dns\n')
  return (resolvConf, hosts = '127.0.0.1 localhost\n') => {
    writeFileSync(FILES[1], hosts)
    writeFileSync(FILES[0], resolvConf)
  }
}

/* --- the wire (RFC 1035 section 4) --- */

function readName(packet, at) {
  const labels = []
  while (packet[at] !== 0) {
    labels.push(packet.toString('latin1', at + 1, at + 1 + packet[at]))
    at += 1 + packet[at]
  }
  return { name: labels.join('.'), end: at + 1 }
}

function nameBytes(name) {
  return Buffer.concat([...name.split('.').filter((label) => label).map((label) => Buffer.from([label.length, ...Buffer.from(label, 'latin1')])), Buffer.from([0])])
}

function addressBytes(address) {
  if (!address.includes(':')) return Buffer.from(address.split('.').map(Number))
  const [head, tail] = address.split('::')
  const groups = (text) => (text ? text.split(':') : [])
  const middle = tail === undefined ? [] : Array(8 - groups(head).length - groups(tail).length).fill('0')
  return Buffer.from([...groups(head), ...middle, ...groups(tail)].flatMap((group) => [parseInt(group, 16) >> 8, parseInt(group, 16) & 255]))
}

function record(owner, type, data) {
  const head = Buffer.alloc(10)
  head.writeUInt16BE(NUMBERS[type], 0)
  head.writeUInt16BE(1, 2)
  head.writeUInt32BE(60, 4)
  head.writeUInt16BE(data.length, 8)
  return Buffer.concat([nameBytes(owner), head, data])
}

/**
 * A server that answers with what `behave` returns for {name, type, tcp, edns}: null or false: nothing; {addresses, cname, rcode,
 * truncated, after (ms), id (added to the right one), question and owner (another name there)}. `asked` has the questions, names as they came.
 */
export class NameServer {
  static async start(t, behave) {
    const server = new NameServer()
    Object.assign(server, { behave, asked: [], sockets: new Set(), address: `127.0.53.${++started}` })
    await server.listen()
    t.defer(() => server.stop())
    return server
  }

  async listen() {
    this.udp = dgram.createSocket('udp4')
    await new Promise((resolve, reject) => { this.udp.once('error', reject).bind(PORT, this.address, resolve) })
    this.udp.on('message', (packet, from) => this.take(packet, false, (reply) => this.udp.send(reply, from.port, from.address)))
    this.tcp = net.createServer((socket) => this.serve(socket))
    await new Promise((resolve, reject) => { this.tcp.once('error', reject).listen(PORT, this.address, resolve) })
  }

  /** The line of resolv.conf. */
  get line() { return `nameserver ${this.address}\n` }

  serve(socket) {
    this.sockets.add(socket)
    let bytes = Buffer.alloc(0)
    socket.on('error', () => {}).on('close', () => this.sockets.delete(socket)).on('data', (part) => {
      bytes = Buffer.concat([bytes, part])
      while (bytes.length >= 2 && bytes.length >= 2 + bytes.readUInt16BE(0)) {
        const packet = bytes.subarray(2, 2 + bytes.readUInt16BE(0))
        bytes = bytes.subarray(2 + packet.length)
        this.take(packet, true, (reply) => {
          const head = Buffer.alloc(2)
          head.writeUInt16BE(reply.length)
          socket.write(Buffer.concat([head, reply]))
        })
      }
    })
  }

  take(packet, tcp, send) {
    const { name, end } = readName(packet, 12)
    const question = { name, type: TYPES[packet.readUInt16BE(end)] ?? 'other', tcp, edns: packet.readUInt16BE(10) > 0, at: performance.now() }
    this.asked.push(question)
    const answer = this.behave(question)
    if (!answer) return
    const reply = this.reply(packet, end, question, answer)
    if (answer.after) setTimeout(() => this.stopped || send(reply), answer.after)
    else send(reply)
  }

  reply(packet, end, { name, type, tcp }, { addresses = [], cname, owner, rcode = 0, truncated, id = 0, question }) {
    const fit = type === 'A' || type === 'AAAA' ? addresses.filter((address) => address.includes(':') === (type === 'AAAA')) : []
    let records = fit.map((address) => record(cname ?? owner ?? name, type, addressBytes(address)))
    if (cname) records.unshift(record(name, 'CNAME', nameBytes(cname)))
    const cut = truncated && !tcp
    if (cut) records = records.slice(0, 10)
    const head = Buffer.alloc(12)
    head.writeUInt16BE((packet.readUInt16BE(0) + id) & 0xffff, 0)
    head.writeUInt16BE(0x8180 | (cut ? 0x0200 : 0) | rcode, 2)
    head.writeUInt16BE(1, 4)
    head.writeUInt16BE(records.length, 6)
    const asked = question ? Buffer.concat([nameBytes(question), packet.subarray(end, end + 4)]) : packet.subarray(12, end + 4)
    return Buffer.concat([head, asked, ...records])
  }

  stop() {
    if (this.stopped) return
    this.stopped = true
    this.udp.close()
    this.tcp.close()
    for (const socket of this.sockets) socket.destroy()
  }
}

/** The usual server: names to addresses, in lower case; what it does not have is NXDOMAIN. */
export const zone = (names) => ({ name }) => {
  const addresses = names[name.toLowerCase()]
  return addresses ? { addresses } : { rcode: RCODE.NXDOMAIN }
}
