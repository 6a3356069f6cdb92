// Subscriptions with a scripted server: what the library writes, and the effect of each answer.
import assert from 'node:assert/strict'
import WebSocket, { WebSocketServer } from 'ws'
import { VinhubClient } from '../../hub/web/client/vinhub.js'
import { freePort } from '../lib/ports.mjs'
import { test } from '../lib/runner.mjs'
import { quiet, until } from '../lib/until.mjs'

const SOON_MS = 10_000
const EPOCH = 1_795_000_000_000
const FAST = { min: 20, max: 50 }
const VIN = /\/admin\/([^?]*)/

const sessionOf = (url) => `remoteWs:${VIN.exec(url)[1]}`

/** Welcomes each url at its last position, or at offset 0; `answers` may hold another answer of a url: {code, message} or 'none'. */
class Script {
  static async start(t, { path = '/admin?subscribe', answers = {} } = {}) {
    const port = await freePort()
    const script = Object.assign(new Script(), { url: `ws://127.0.0.1:${port}${path}`, got: [], urls: [], answers, path })
    const server = new WebSocketServer({ port, host: '127.0.0.1', handleProtocols: () => 'vinhub.v1' })
    await new Promise((resolve) => { server.once('listening', resolve) })
    t.defer(() => { for (const socket of server.clients) socket.terminate(); server.close() })
    server.on('connection', (socket, { url }) => {
      script.urls.push(url)
      script.socket = socket
      socket.on('message', (data) => script.on(JSON.parse(data)))
      const own = path.includes('?subscribe') ? '' : sessionOf(path)
      script.say('WELCOME', { node: 'x', session: own, client: 'c0ffee', epoch: own ? EPOCH : 0, offset: 0, resumed: false, upstream: 'connected' })
    })
    return script
  }

  say(type, payload, more = {}) {
    this.socket.send(JSON.stringify({ timestamp: 1, version: '1.0', type, ...more, payload }))
  }

  push(vin, offset, payload, epoch = EPOCH) {
    this.say('MESSAGE', payload, { session: `remoteWs:${vin}`, epoch, offset, encoding: 'text' })
  }

  on(message) {
    this.got.push(message)
    if (message.type === 'SUBSCRIBE') for (const url of message.urls) this.answer(message.id, url)
    if (message.type === 'UNSUBSCRIBE') {
      for (const session of message.sessions) this.say('CLOSED', { id: message.id, session, code: 1000, reason: 'unsubscribed' })
    }
    if (message.type === 'SEND') this.onSend?.(message)
  }

  answer(id, url) {
    const other = this.answers[url]
    if (other === 'none') return
    if (other) this.say('ERROR', { id, url, ...other })
    else this.welcome(id, url)
  }

  welcome(id, url, position) {
    const [, epoch, offset] = /resume=(\d+)\.(\d+)/.exec(url) ?? []
    const at = position ?? { epoch: Number(epoch ?? EPOCH), offset: Number(offset ?? 0), resumed: epoch !== undefined }
    this.say('WELCOME', { node: 'x', session: sessionOf(url), client: 'c0ffee', upstream: 'connected', ...at }, { id, url })
  }

  of(type) { return this.got.filter((message) => message.type === type) }
  asked() { return this.of('SUBSCRIBE').map(({ urls }) => urls) }
  async gotten(type, count) { return until(() => this.of(type).length >= count && this.of(type), SOON_MS, `${count} ${type}`) }
}

function connect(t, script, options = {}) {
  const client = new VinhubClient(script.url, { WebSocket, reconnect: FAST, ...options })
  t.defer(() => client.close())
  return client.connect()
}

function watch(source) {
  const seen = { message: [], status: [], gap: [], presence: [], closed: [], error: [] }
  for (const name of Object.keys(seen)) source.on(name, (...values) => seen[name].push(values.length > 1 ? values : values[0]))
  return seen
}

const texts = (seen) => seen.message.map(([data]) => data)
const isOpen = (seen) => until(() => seen.status.some(({ state }) => state === 'open'), SOON_MS, 'the subscription to be open')
const urlOf = (vin) => `/admin/${vin}?remoteWs`

test('one url: WELCOME, then messages, status, gaps and presence of its session alone', async (t) => {
  const script = await Script.start(t)
  const client = connect(t, script)
  const own = watch(client)
  const [one, other] = [client.subscribe(urlOf('V1')), client.subscribe(urlOf('V2'))]
  const [seen, seenOther] = [watch(one), watch(other)]
  await isOpen(seenOther)
  script.push('V1', 1, 'one')
  script.push('V2', 1, 'of V2')
  script.say('STATUS', { upstream: 'down', reason: 'refused' }, { session: 'remoteWs:V1' })
  script.say('GAP', { epoch: EPOCH, from: 2, to: 4 }, { session: 'remoteWs:V1' })
  script.push('V1', 4, 'had already')
  script.push('V1', 5, 'five')
  script.push('V3', 5, 'of nobody here')
  script.say('PRESENCE', { users: [{ user: 'admin', clients: 2 }], more: 0 }, { session: 'remoteWs:V1' })
  await until(() => seen.presence.length > 0, SOON_MS, 'the presence')
  const name = { url: urlOf('V1'), session: 'remoteWs:V1' }
  assert.deepEqual(seen.message, [['one', { epoch: EPOCH, offset: 1, timestamp: 1, ...name }], ['five', { epoch: EPOCH, offset: 5, timestamp: 1, ...name }]])
  assert.deepEqual(seen.gap, [{ epoch: EPOCH, from: 2, to: 4, ...name }])
  assert.deepEqual(seen.presence, [{ users: [{ user: 'admin', clients: 2 }], more: 0, ...name }])
  assert.deepEqual(seen.status.slice(-2), [
    { state: 'open', upstream: 'connected', resumed: false, ...name }, { state: 'open', upstream: 'down', reason: 'refused', ...name }])
  assert.deepEqual(texts(seenOther), ['of V2'])
  assert.equal(one.position, `${EPOCH}.5`)
  assert.deepEqual([one.session, one.upstream, other.upstream], ['remoteWs:V1', 'down', 'connected'])
  assert.deepEqual(script.asked(), [[urlOf('V1'), urlOf('V2')]], 'what is asked for in one turn leaves in one message')
  assert.deepEqual(own.message, [])
})

test('options are parameters; an absolute url is named by its path; mistakes are reported at once', async (t) => {
  const script = await Script.start(t)
  const client = connect(t, script)
  client.subscribe('/admin/V1?remoteWs', { rate: 0.5, replay: 3 })
  client.subscribe('wss://elsewhere.example:99/admin/V2?remoteWs#x', { rate: 2, resume: '5.7', replay: 9 })
  client.subscribe('/admin/V3', { rate: 1 })
  await script.gotten('SUBSCRIBE', 1)
  assert.deepEqual(script.asked(), [['/admin/V1?remoteWs&replay=3&rate=0.5', '/admin/V2?remoteWs&resume=5.7&rate=2', '/admin/V3?rate=1']])
  for (const url of ['', 'admin/V1', null, 7]) assert.throws(() => client.subscribe(url), TypeError)
  for (const rate of [0, 0.09, 101, 'fast', NaN]) assert.throws(() => client.subscribe(urlOf('V'), { rate }), RangeError)
  for (const replay of [-1, 1.5, '2']) assert.throws(() => client.subscribe(urlOf('V'), { replay }), RangeError)
  assert.throws(() => new VinhubClient(script.url, { WebSocket, mode: 'raw' }).subscribe(urlOf('V')), TypeError)
})

test('a list leaves in few messages of bounded size, and is one object', async (t) => {
  const script = await Script.start(t)
  const client = connect(t, script)
  const urls = Array.from({ length: 3000 }, (_, n) => `/admin/V${n}${'x'.repeat(20)}?remoteWs`)
  const fleet = client.subscribe(urls, { rate: 1, resume: { [urls[1]]: '7.9' } })
  const seen = watch(fleet)
  await until(() => seen.status.filter(({ state }) => state === 'open').length === urls.length, SOON_MS, 'all to be open')
  const requests = script.of('SUBSCRIBE')
  assert.ok(requests.length <= 15, `${requests.length} messages`)
  for (const request of requests) assert.ok(JSON.stringify(request).length < 40_000)
  assert.deepEqual(script.asked().flat().length, urls.length)
  assert.equal(script.asked()[0][1], `${urls[1]}&resume=7.9&rate=1`)
  assert.equal(fleet.size, urls.length)
  assert.equal([...fleet][2].session, `remoteWs:V2${'x'.repeat(20)}`)

  script.say('MESSAGE', 'moved', { session: fleet.get(urls[5]).session, epoch: EPOCH, offset: 3, encoding: 'text' })
  await until(() => seen.message.length === 1, SOON_MS, 'the message')
  assert.deepEqual([seen.message[0][0], seen.message[0][1].url], ['moved', urls[5]])
  assert.deepEqual([fleet.position[urls[1]], fleet.position[urls[5]]], ['7.9', `${EPOCH}.3`])
  await assert.rejects(fleet.send('x', { to: '/nowhere' }), /a url of this group/)
  fleet.unsubscribe(urls.slice(0, 2))
  fleet.unsubscribe()
  await script.gotten('UNSUBSCRIBE', 1)
  assert.equal(script.of('UNSUBSCRIBE').flatMap(({ sessions }) => sessions).length, urls.length)
  assert.equal(fleet.size, 0)
})

test('after a lost connection each goes on where it was; what it missed for good is a gap', async (t) => {
  const script = await Script.start(t)
  const client = connect(t, script)
  const own = watch(client)
  const seens = ['V1', 'V2', 'V3'].map((vin) => watch(client.subscribe(urlOf(vin))))
  await isOpen(seens[2])
  script.push('V1', 8, 'eight')
  script.push('V2', 4, 'four')
  await until(() => seens[1].message.length > 0, SOON_MS, 'the messages')
  const welcome = script.welcome
  script.welcome = (id, url, at) => welcome.call(script, id, url, url.includes('V2') ? { epoch: EPOCH + 9, offset: 1, resumed: false } : at)
  script.socket.close(1012)
  await script.gotten('SUBSCRIBE', 2)
  await until(() => script.urls.length === 2 && seens[2].status.at(-1).state === 'open', SOON_MS, 'it to be open again')
  assert.deepEqual(script.asked()[1], [`${urlOf('V1')}&resume=${EPOCH}.8`, `${urlOf('V2')}&resume=${EPOCH}.4`, `${urlOf('V3')}&resume=${EPOCH}.0`])
  assert.equal(script.urls[1], '/admin?subscribe&resume=0.0.c0ffee', 'the id of the client comes with the URL of the connection')
  script.push('V1', 8, 'a double')
  script.push('V1', 9, 'nine')
  await until(() => texts(seens[0]).includes('nine'), SOON_MS, 'the message')
  assert.deepEqual(texts(seens[0]), ['eight', 'nine'])
  assert.deepEqual(seens.map(({ gap }) => gap.map(({ epoch, from, to }) => ({ epoch, from, to }))), [[], [{ epoch: EPOCH, from: 5, to: 0 }], []])
  assert.deepEqual(seens[0].status.map(({ state }) => state), ['connecting', 'open', 'waiting', 'connecting', 'open'])
  assert.deepEqual(own.gap, [], 'a connection without a session of its own misses nothing')
})

test('what the hub refuses reaches the one that asked for it', async (t) => {
  const answers = {
    [urlOf('V1')]: { code: 'full', message: '1000 already' }, [urlOf('V2')]: { code: 'unauthorized', message: 'not covered' },
    [urlOf('V3')]: { code: 'subscribed', message: 'it is already' },
  }
  const script = await Script.start(t, { answers })
  const client = connect(t, script)
  const seens = ['V1', 'V2', 'V3', 'V4'].map((vin) => watch(client.subscribe(urlOf(vin))))
  await isOpen(seens[3])
  const told = seens.map(({ closed }) => closed.map(({ code, reason }) => `${code}: ${reason}`))
  assert.deepEqual(told, [['full: 1000 already'], ['unauthorized: not covered'], ['subscribed: it is already'], []])
  assert.deepEqual(seens.map(({ status }) => status.at(-1).state), ['closed', 'closed', 'closed', 'open'])
  script.socket.close(1012)
  await script.gotten('SUBSCRIBE', 2)
  assert.deepEqual(script.asked()[1], [`${urlOf('V4')}&resume=${EPOCH}.0`], 'what was refused is not asked for again')

  delete answers[urlOf('V1')]
  await isOpen(watch(client.subscribe(urlOf('V1'))))
})

test('if a hub does not know SUBSCRIBE, or refuses one whole, each of its urls gets the error', async (t) => {
  const script = await Script.start(t)
  script.answer = () => {}
  const client = connect(t, script)
  const seens = ['V1', 'V2'].map((vin) => watch(client.subscribe(urlOf(vin))))
  const [{ id }] = await script.gotten('SUBSCRIBE', 1)
  script.say('ERROR', { id, code: 'unknown_type', message: 'type is SEND or PING' })
  await until(() => seens.every(({ closed }) => closed.length > 0), SOON_MS, 'both to be told')
  assert.deepEqual(seens.map(({ closed }) => closed[0].code), ['unknown_type', 'unknown_type'])
})

test('CLOSED ends the subscription it names; after a code that says later it is opened again', async (t) => {
  const script = await Script.start(t)
  const client = connect(t, script)
  const codes = [4006, 1001, 4001, 1013]
  const subscriptions = codes.map((code) => client.subscribe(urlOf(`V${code}`)))
  const seens = subscriptions.map(watch)
  await isOpen(seens[3])
  for (const code of codes) script.say('CLOSED', { session: `remoteWs:V${code}`, code, reason: 'because' })
  await script.gotten('SUBSCRIBE', 2)
  assert.deepEqual(script.asked()[1], [`${urlOf('V1013')}&resume=${EPOCH}.0`])
  assert.deepEqual(seens.map(({ closed }) => closed.map(({ code, reason }) => [code, reason])), [[[4006, 'because']], [[1001, 'because']], [[4001, 'because']], []])
  assert.equal(seens[3].status.find(({ code }) => code === 1013).state, 'waiting')
  await assert.rejects(subscriptions[0].send('x'), ({ code, sent }) => code === 'closed' && !sent)
  assert.equal(script.urls.length, 1, 'the connection stays')
})

test('unsubscribe() is sent to the hub once, also before the answer to SUBSCRIBE', async (t) => {
  const script = await Script.start(t, { answers: { [urlOf('V2')]: 'none' } })
  const client = connect(t, script)
  const [one, two, three] = ['V1', 'V2', 'V3'].map((vin) => client.subscribe(urlOf(vin)))
  const seen = watch(one)
  three.unsubscribe() // never asked for
  await isOpen(seen)
  script.push('V1', 1, 'on its way')
  one.unsubscribe()
  one.unsubscribe()
  two.unsubscribe()
  const [{ id }] = await script.gotten('SUBSCRIBE', 1)
  assert.deepEqual(script.asked(), [[urlOf('V1'), urlOf('V2')]])
  script.welcome(id, urlOf('V2'))
  await script.gotten('UNSUBSCRIBE', 2)
  assert.deepEqual(script.of('UNSUBSCRIBE').map(({ sessions }) => sessions), [['remoteWs:V1'], ['remoteWs:V2']])
  assert.deepEqual([seen.message, seen.closed], [[], []], 'nothing is called afterwards')
  script.socket.close(1012)
  await until(() => script.urls.length === 2, SOON_MS, 'it to come back')
  await quiet(() => script.of('SUBSCRIBE').length > 1, 300, 'what was left is asked for again')
})

test('several on a page read one url: asked for once at the highest rate, handed to each at its own', { timeout: 60_000 }, async (t) => {
  const script = await Script.start(t)
  const client = connect(t, script)
  const board = client.subscribe(urlOf('V1'), { rate: 4 })
  const seen = watch(board)
  await isOpen(seen)
  script.push('V1', 1, 'one')
  await until(() => seen.message.length === 1, SOON_MS, 'the first')

  const picked = client.subscribe(urlOf('V1'), { replay: 1 })
  const seenAll = watch(picked)
  await script.gotten('SUBSCRIBE', 2)
  assert.deepEqual(script.got.map(({ type }) => type).filter((type) => type !== 'PING'), ['SUBSCRIBE', 'UNSUBSCRIBE', 'SUBSCRIBE'])
  assert.deepEqual(script.asked().flat(), [`${urlOf('V1')}&rate=4`, `${urlOf('V1')}&resume=${EPOCH}.1`])
  await until(() => seen.status.length >= 3, SOON_MS, 'the second WELCOME')
  for (let offset = 2; offset <= 31; offset++) script.push('V1', offset, `${offset}`)
  await until(() => texts(seen).includes('31'), SOON_MS, 'the newest')
  assert.deepEqual(texts(seenAll), Array.from({ length: 31 }, (_, n) => (n === 0 ? 'one' : `${n + 1}`)), 'also the last from before it came')
  assert.deepEqual(texts(seen), ['one', '2', '31'], 'the newest in each quarter of a second')
  assert.deepEqual([seen.gap, seenAll.gap], [[], []])

  picked.unsubscribe()
  await script.gotten('SUBSCRIBE', 3)
  assert.deepEqual(script.asked()[2], [`${urlOf('V1')}&resume=${EPOCH}.31&rate=4`])
  board.unsubscribe()
  await script.gotten('UNSUBSCRIBE', 3)
})

test('sends go to their sessions with ids of the whole connection, and are repeated once their session is there', async (t) => {
  const script = await Script.start(t, { path: '/admin/V0?remoteWs' })
  const client = connect(t, script)
  const one = client.subscribe(urlOf('V1'))
  const all = [client.send('own'), one.send('before it is open', { ttl: 5000 }), client.send('own, in time', { ttl: 1000 })]
  await script.gotten('SEND', 3)
  const [own, timely, further] = script.of('SEND')
  assert.deepEqual(own, { type: 'SEND', id: 1, encoding: 'text', payload: 'own' }, 'as without subscriptions')
  assert.deepEqual([timely.id, timely.session], [3, undefined])
  assert.ok(timely.ttl <= 1000 && timely.ttl > 0)
  assert.deepEqual([further.id, further.session, further.payload], [2, 'remoteWs:V1', 'before it is open'])
  assert.ok(further.ttl > 0 && further.ttl <= 5000)
  script.say('ACK', { id: 3 })
  await all[2]
  script.socket.close(1012)
  script.onSend = ({ id }) => script.say('ACK', { id })
  await Promise.all(all)
  const order = script.got.slice(4).filter(({ type }) => type !== 'PING').map(({ type, id }) => [type, id])
  assert.deepEqual(order, [['SEND', 1], ['SUBSCRIBE', order[1][1]], ['SEND', 2]])
  assert.ok(order[1][1] > 3)

  script.onSend = ({ id }) => script.say('ERROR', { id, code: 'not_subscribed', message: 'no such session' })
  await assert.rejects(one.send('x'), ({ code, sent }) => code === 'not_subscribed' && sent)
  for (const ttl of [0, -1, 1.5, '9']) await assert.rejects(one.send('x', { ttl }), RangeError)
})

test('what waited longer than its ttl is never written', async (t) => {
  const script = await Script.start(t, { path: '/admin/V0?remoteWs', answers: { [urlOf('V1')]: 'none' } })
  const client = connect(t, script)
  const one = client.subscribe(urlOf('V1'))
  const refused = await Promise.allSettled([one.send('too late', { ttl: 50 }), one.send('later', { ttl: 60 })])
  assert.deepEqual(refused.map(({ reason: { code, sent } }) => [code, sent]), [['expired', false], ['expired', false]])

  const written = client.send('written in time', { ttl: 200 })
  const [{ id }] = await script.gotten('SEND', 1)
  await quiet(() => client.pending === 0, 300, 'the end of one that the hub has is the hub\'s to tell')
  script.say('ERROR', { id, code: 'expired', message: 'ttl' })
  await assert.rejects(written, ({ code, sent }) => code === 'expired' && sent)
})

test('a hub that takes smaller messages gets smaller requests', async (t) => {
  const script = await Script.start(t)
  const answer = script.answer
  const LIMIT = 9000
  script.answer = function (id, url) {
    if (JSON.stringify(this.got.at(-1)).length > LIMIT) this.socket.close(4003, 'message too large')
    else answer.call(this, id, url)
  }
  const client = connect(t, script)
  const urls = Array.from({ length: 500 }, (_, n) => urlOf(`V${n}`))
  const seen = watch(client.subscribe(urls))
  const lost = client.send('small').catch(({ code }) => code)
  await until(() => seen.status.filter(({ state }) => state === 'open').length >= urls.length, SOON_MS, 'all to be open')
  assert.ok(script.urls.length >= 2)
  script.say('ACK', { id: 1 })
  assert.equal(await lost, undefined, 'a message of the page is not blamed for it')
})

test('subscriptions are kept over close() and connect(), and get events of both', async (t) => {
  const script = await Script.start(t)
  const client = new VinhubClient(script.url, { WebSocket, reconnect: FAST })
  t.defer(() => client.close())
  const one = client.subscribe(urlOf('V1'))
  const seen = watch(one)
  const early = one.send('early').catch(({ code }) => code)
  client.connect()
  await isOpen(seen)
  client.close()
  assert.equal(await early, 'closed')
  assert.equal(seen.status.at(-1).state, 'closed')
  client.connect()
  await until(() => seen.status.at(-1).state === 'open', SOON_MS, 'it to be open again')
  assert.deepEqual(script.asked()[1], [`${urlOf('V1')}&resume=${EPOCH}.0`])
})
