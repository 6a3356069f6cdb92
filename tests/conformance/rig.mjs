// What the cases run against: two hubs (with compression and without), a cluster of two, and two that want tokens, in front of an
// echo backend by npm `ws` and one made of bytes; and the flows that most cases share.
import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { WebSocketServer } from 'ws'
import { scratch, startHub } from '../lib/hub.mjs'
import { freePort } from '../lib/ports.mjs'
import { RedisServer } from '../lib/redis.mjs'
import { until } from '../lib/until.mjs'
import { AUDIENCE, KEY_SET, SECRET } from './keys.mjs'
import { Peer, requestText } from './peer.mjs'
import { RawBackend } from './raw-backend.mjs'
import { TEXT, closeFrame, frame } from './wire.mjs'

export const MAX_MESSAGE = 1024 * 1024
export const UPSTREAM_MAX = 2 * 1024 * 1024
/**
 * What a holder has echoed. Its node gives it to the holder at once and publishes it in the next call, so a client that joins
 * on the other node between the two gets it as well.
 */
const HELD = 'held'

async function startEcho(t) {
  const wss = new WebSocketServer({ port: await freePort(), host: '127.0.0.1', maxPayload: 0, perMessageDeflate: false })
  wss.on('connection', (socket) => {
    socket.on('error', () => {})
    socket.on('message', (data, binary) => socket.send(data, { binary }))
  })
  t.defer(() => {
    for (const socket of wss.clients) socket.terminate()
    wss.close()
  })
  return wss.options.port
}

export class Rig {
  static async start(t) {
    const rig = new Rig()
    rig.raw = new RawBackend()
    await rig.raw.listen(await freePort())
    t.defer(() => rig.raw.stop())
    const shared = { heartbeat: { every: '0s' }, linger: '200ms', upstream_max_message: `${UPSTREAM_MAX}`, slow_client: { queue: '8MiB' },
      to_upstream: { queue: '8MiB' }, reconnect: { min: '20ms', max: '200ms' }, history: { size: 0 } }
    const services = [{ name: 'echo', upstream: `ws://127.0.0.1:${await startEcho(t)}/base`, ...shared },
      { name: 'raw', upstream: `ws://127.0.0.1:${rig.raw.port}/base`, ...shared }]
    const clients = { max_message: `${MAX_MESSAGE}`, rate: { messages: 0 } }
    const redis = await RedisServer.start(t)
    const start = (id, compression, cluster = {}) => startHub(t, { id, ...cluster, settings: { services, clients: { ...clients, compression } } })
    const keysFile = join(scratch(t), 'keys.json')
    writeFileSync(keysFile, JSON.stringify(KEY_SET))
    const guarded = (id, auth, env) => startHub(t, { id, env, settings: { services, clients, auth: { mode: 'jwt', ...auth } } })
    ;[rig.plain, rig.deflating, rig.owner, rig.member, rig.secret, rig.keyed] = await Promise.all(
      [start('plain', false), start('deflating', true), start('owner', true, { redis }), start('member', true, { redis }),
        guarded('secret', { audience: AUDIENCE }, { VINHUB_JWT_SECRET: SECRET }), guarded('keyed', { keys_file: keysFile })])
    return rig
  }

  constructor() {
    this.count = 0
    this.peers = new Set()
    this.cleanups = []
  }

  /** Runs fn after all cases. */
  defer(fn) { this.cleanups.push(fn) }

  /** A session of the case's own. */
  vin() { return `C${++this.count}` }

  /** A connection that sends these bytes first. hub: 'plain', 'deflating', 'owner' or 'member', the last two being a cluster. */
  dial(bytes, hub = 'plain') {
    const peer = new Peer(this[hub].port, bytes, hub === 'member' ? HELD : undefined)
    this.peers.add(peer)
    peer.socket.once('close', () => this.peers.delete(peer))
    return peer
  }

  /** An open client. fields: more of the handshake; first: frames in the same packet as the handshake. */
  async open(path, { hub, fields = [], first = [] } = {}) {
    const peer = this.dial(Buffer.concat([Buffer.from(requestText(path, fields)), ...first]), hub)
    await peer.answered()
    assert.equal(peer.head.status, 101, `the handshake: ${peer.head.text}`)
    return peer
  }

  /** A client that has the session's upstream on that hub. */
  async hold(path, hub) {
    const holder = await this.open(path, { hub })
    await holder.send(frame(TEXT, HELD))
    await holder.got(1)
    return holder
  }

  /** Closes with 1000 and wants the hub to answer in kind and to end the connection. */
  async farewell(peer) {
    await peer.send(closeFrame(1000, 'done'))
    await peer.ended()
    assert.equal(peer.fault, null)
    assert.deepEqual(peer.close, { code: 1000, reason: '' })
    assert.equal(peer.end, 'fin')
    peer.destroy()
  }

  /**
   * These frames are one lawful conversation: the messages come back, the PINGs are answered. across: the upstream is
   * the cluster's other node's, where a client gets the same.
   */
  async echoes({ frames, messages = [], pongs = [], size, service = 'echo', user = 'u', hub, fields, inHandshake = false, across = false, check }) {
    const path = `/${user}/${this.vin()}?${service}`
    const holder = across ? await this.hold(path, 'owner') : null
    const peer = await this.open(path, { hub, fields, first: inHandshake ? frames : [] })
    if (!inHandshake) await peer.send(frames, size)
    await peer.when(() => peer.messages.length >= messages.length && peer.pongs.length >= pongs.length, 'echo')
    await this.farewell(peer)
    assertMessages(peer.messages, messages)
    assert.deepEqual(peer.pongs, pongs.map((payload) => Buffer.from(payload)))
    if (holder !== null) {
      await holder.got(1 + messages.length)
      assertMessages(holder.messages, [[TEXT, HELD], ...messages])
      await this.farewell(holder)
    }
    check?.(peer)
  }

  /**
   * These frames break a rule: their client is closed with the code. Nothing of them reaches the backend or the other client of
   * the session, which stays open. good: correct messages before them.
   */
  async refuses({ frames, code, good = [], size, hub, fields, first = [], inHandshake = false, open = false, across = false }) {
    const path = `/u/${this.vin()}?echo`
    const witness = across ? await this.hold(path, 'owner') : await this.open(path, { hub })
    const peer = await this.open(path, { hub, fields, first: inHandshake ? frames : [] })
    for (const one of first) await peer.send(one)
    await peer.when(() => peer.messages.length >= first.length, 'echo')
    if (!inHandshake) await peer.send(frames, size)
    await peer.when(() => peer.close !== null, 'a close frame')
    assert.equal(peer.close.code, code, peer.close.reason)
    assert.notEqual(peer.close.reason, '', 'a reason')
    // A client should answer the close; the hub cuts off one that does not (open).
    if (!open) await peer.send(closeFrame(code))
    await peer.ended()
    assert.equal(peer.fault, null)
    await witness.send(frame(TEXT, 'the last'))
    await witness.when(() => witness.messages.some(([, payload]) => payload.toString() === 'the last'), 'echo')
    assertMessages(witness.messages, [...across ? [[TEXT, HELD]] : [], ...good, [TEXT, 'the last']])
    await this.farewell(witness)
    peer.destroy()
  }

  async stop() {
    for (const peer of this.peers) peer.destroy()
    for (const fn of this.cleanups) fn()
    for (const hub of [this.plain, this.deflating, this.owner, this.member])
      await until(async () => await hub.metric('vinhub_clients') === 0, 60_000, 'all clients to be gone')
  }
}

export function assertMessages(have, want) {
  assert.equal(have.length, want.length, `${have.length} messages instead of ${want.length}`)
  want.forEach(([opcode, payload], at) => {
    const bytes = Buffer.from(payload)
    assert.equal(have[at][0], opcode, `the opcode of message ${at}`)
    assert.ok(have[at][1].equals(bytes), `message ${at}: ${have[at][1].subarray(0, 60).toString('hex')} (${have[at][1].length}) ` +
      `instead of ${bytes.subarray(0, 60).toString('hex')} (${bytes.length})`)
  })
}
