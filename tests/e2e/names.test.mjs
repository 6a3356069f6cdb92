// Contract section 5: host names as getaddrinfo finds them, whatever name servers do.
import { NameServer, ownNames, RCODE, zone } from '../lib/name-server.mjs'
const names = ownNames()

const { default: assert } = await import('node:assert/strict')
const { test } = await import('../lib/runner.mjs')
const { Backend } = await import('../lib/backend.mjs')
const { Browser } = await import('../lib/browser.mjs')
const { countedMs, mark } = await import('../lib/busy.mjs')
const { startHub, SLACK_MS } = await import('../lib/hub.mjs')
const { until } = await import('../lib/until.mjs')

const FAST = { min: '50ms', max: '200ms', timeout: '10s' }
const HERE = ['127.0.0.1']

/** A hub with one service at that host name, and a page that waits for it. */
async function reach(t, host, { settings = {}, ms = 3000 + SLACK_MS } = {}) {
  const backend = await Backend.start(t)
  const hub = await startHub(t, { settings: { services: [{ name: 'remoteWs', upstream: `ws://${host}:${backend.port}/b`, reconnect: FAST }], ...settings } })
  const began = mark()
  const page = await Browser.open(t, hub.url('/admin/V1?remoteWs'))
  await backend.one('/b/admin/V1', ms)
  return { hub, backend, page, took: countedMs(began) }
}

/** A hub that can't connect; returns the reason in its log. */
async function reason(t, host, ms = 8000) {
  const hub = await startHub(t, { settings: { services: [{ name: 'remoteWs', upstream: `ws://${host}:9/b`, reconnect: FAST }] } })
  await Browser.open(t, hub.url('/admin/V1?remoteWs'))
  let line
  await until(() => { line = hub.lines.find((text) => text.includes('could not resolve')); return line }, ms, 'the reason in the log')
  return line
}

test('a name is found, asked for in the case in which it is written', async (t) => {
  const server = await NameServer.start(t, ({ name }) => (name === 'backend.lan' ? { addresses: HERE } : { rcode: RCODE.NXDOMAIN }))
  names(server.line)
  await reach(t, 'backend.lan')
  assert.deepEqual([...new Set(server.asked.map(({ name }) => name))], ['backend.lan'])
  assert.deepEqual(server.asked.map(({ type }) => type).sort(), ['A', 'AAAA'])
})

test('of two name servers the first is dead', async (t) => {
  const server = await NameServer.start(t, zone({ 'backend.lan': HERE }))
  const dead = await NameServer.start(t, () => null)
  names(dead.line + server.line)
  await reach(t, 'backend.lan')
})

test('of three name servers one has no listener, one refuses, and the last knows', async (t) => {
  const closed = await NameServer.start(t, () => null)
  const refuses = await NameServer.start(t, () => ({ rcode: RCODE.REFUSED }))
  const server = await NameServer.start(t, zone({ 'backend.lan': HERE }))
  closed.stop()
  names(closed.line + refuses.line + server.line)
  await reach(t, 'backend.lan')
})

for (const [what, count] of [['40', 40], ['200', 200]]) {
  test(`an answer that is truncated at ${what} addresses is asked for over TCP`, async (t) => {
    const many = Array.from({ length: count }, (_, index) => `127.0.${1 + (index >> 7)}.${1 + (index & 127)}`)
    const server = await NameServer.start(t, () => ({ addresses: [...many, ...HERE], truncated: true }))
    names(server.line)
    const { hub } = await reach(t, 'backend.lan', { ms: 9000 }).catch(() => ({}))
    assert.ok(server.asked.some(({ tcp }) => tcp), 'TCP')
    if (count < 60) assert.ok(hub, 'one of the first 64 addresses answers')
  })
}

test('a server that knows no EDNS, and says so', async (t) => {
  const server = await NameServer.start(t, ({ edns }) => (edns ? { rcode: RCODE.FORMERR } : { addresses: HERE }))
  names(server.line)
  await reach(t, 'backend.lan')
})

test('a network that drops EDNS is got over', async (t) => {
  const server = await NameServer.start(t, ({ edns }) => (edns ? null : { addresses: HERE }))
  names(server.line)
  await reach(t, 'backend.lan', { ms: 15_000 })
})

test('lies: another id, another question; then the truth', async (t) => {
  let lies = 0
  const server = await NameServer.start(t, () => {
    const lie = [{ id: 1 }, { question: 'evil.lan' }][lies++ % 3]
    return { addresses: lie ? ['127.0.0.66'] : HERE, ...lie }
  })
  names(server.line)
  const { hub } = await reach(t, 'backend.lan', { ms: 8000 })
  assert.equal(hub.lines.find((line) => line.includes('127.0.0.66')), undefined)
})

for (const [what, aaaa] of [['are not answered', () => null], ['get SERVFAIL', () => ({ rcode: RCODE.SERVFAIL })],
  ['get NXDOMAIN', () => ({ rcode: RCODE.NXDOMAIN })], ['come after 3 s', () => ({ addresses: ['::1'], after: 3000 })]]) {
  test(`questions for IPv6 ${what}: IPv4 is used after a moment`, async (t) => {
    const server = await NameServer.start(t, (question) => (question.type === 'AAAA' ? aaaa() : { addresses: HERE }))
    names(server.line)
    const { took } = await reach(t, 'backend.lan')
    assert.ok(took < 900 + SLACK_MS, `${took} ms`)
  })
}

for (const type of ['A', 'AAAA']) {
  test(`the first question for ${type} is lost, as behind a kernel that translates addresses: a second's delay at most`, async (t) => {
    let lost = false
    const server = await NameServer.start(t, (question) => {
      if (question.type !== type || lost) return { addresses: [...HERE, '::1'] }
      lost = true
      return null
    })
    names(server.line)
    const { took } = await reach(t, 'backend.lan')
    assert.ok(took < 1600 + SLACK_MS, `${took} ms`)
  })
}

const FOREIGN = ['127.0.0.66', '::66']
const SEARCH = 'search right.test wrong.test\noptions ndots:2\n'

/** The name is in the first domain for sure; the second one has every name. */
async function neverForeign(t, right) {
  const server = await NameServer.start(t, (question) => {
    const { name } = question
    if (name.endsWith('.wrong.test')) return { addresses: FOREIGN }
    return name.endsWith('.right.test') ? right(question) : { rcode: RCODE.NXDOMAIN }
  })
  names(SEARCH + server.line)
  return { server, line: await reason(t, 'redis') }
}

for (const [what, right] of Object.entries({
  'does not answer for IPv4': ({ type }) => (type === 'A' ? null : {}),
  'does not answer for IPv4 and has no such name for IPv6': ({ type }) => (type === 'A' ? null : { rcode: RCODE.NXDOMAIN }),
  'fails for IPv4': ({ type }) => (type === 'A' ? { rcode: RCODE.SERVFAIL } : {}),
  'fails for both': () => ({ rcode: RCODE.SERVFAIL }),
  'does not answer at all': () => null,
})) {
  test(`a later search domain has every name, and the server of the first ${what}: nothing foreign is used`, async (t) => {
    const { server } = await neverForeign(t, right)
    assert.deepEqual(server.asked.filter(({ name }) => name.endsWith('.wrong.test')), [])
  })
}

test('with a search list both families come from the first domain that has the name', async (t) => {
  const server = await NameServer.start(t, zone({ 'backend.two.test': HERE, 'backend.three.test': ['127.0.0.66', '::66'] }))
  names(`search one.test two.test three.test\n${server.line}`)
  await reach(t, 'backend')
  assert.deepEqual([...new Set(server.asked.map(({ name }) => name))].sort(), ['backend.one.test', 'backend.two.test'])
})

for (const [host, ndots, first] of [['a.b', 1, 'a.b'], ['a.b', 2, 'a.b.one.test'], ['a.b.', 5, 'a.b'], ['a', 1, 'a.one.test']]) {
  test(`with ndots ${ndots} the name ${host} is asked for as ${first} first`, async (t) => {
    const server = await NameServer.start(t, ({ name }) => (name === 'a.b' || name === 'a' ? { addresses: HERE } : { rcode: RCODE.NXDOMAIN }))
    names(`search one.test\noptions ndots:${ndots}\n${server.line}`)
    await reach(t, host)
    assert.equal(server.asked[0].name, first)
  })
}

test('"search ." is no domain', async (t) => {
  const server = await NameServer.start(t, zone({ backend: HERE }))
  names(`search .\n${server.line}`)
  await reach(t, 'backend')
})

test('the hosts file serves with and without a dot at the end; addresses are never asked for', async (t) => {
  const server = await NameServer.start(t, () => ({ addresses: FOREIGN }))
  names(server.line, '127.0.0.1 localhost\n127.0.0.1 Backend.Lan alias.lan\n')
  for (const host of ['backend.lan', 'BACKEND.lan.', 'alias.lan', 'localhost', '127.0.0.1']) await reach(t, host)
  assert.deepEqual(server.asked, [])
})

test('a CNAME is followed', async (t) => {
  const server = await NameServer.start(t, () => ({ cname: 'real.elsewhere', addresses: HERE }))
  names(server.line)
  await reach(t, 'backend.lan')
})

test('a server that answers in another case', async (t) => {
  const server = await NameServer.start(t, ({ name }) => ({ addresses: HERE, owner: name.toUpperCase(), question: name.toUpperCase() }))
  names(server.line)
  await reach(t, 'backend.lan')
})

test('a changed resolv.conf counts at once, also for what is being asked for', async (t) => {
  const dead = await NameServer.start(t, () => null)
  const server = await NameServer.start(t, zone({ 'backend.lan': HERE }))
  names(dead.line)
  const opened = reach(t, 'backend.lan', { ms: 5000 })
  await until(() => dead.asked.length > 0, 5000, 'the first question')
  names(server.line)
  await opened
})

/** A hub with its backend up, by a server that then does something else. */
async function reachedBy(t, then) {
  let broken = false
  const server = await NameServer.start(t, (question) => (broken ? then(question) : { addresses: HERE }))
  names(server.line)
  const world = await reach(t, 'backend.lan')
  broken = true
  return { ...world, server }
}

for (const [what, then] of [['is silent', () => null], ['fails', () => ({ rcode: RCODE.SERVFAIL })], ['answers after 4 s', () => ({ addresses: HERE, after: 4000 })]]) {
  test(`a known address is used while the name server ${what}`, async (t) => {
    const { backend } = await reachedBy(t, then)
    for (let round = 0; round < 3; round++) {
      const [link] = backend.open('/b/admin/V1')
      link.socket.terminate()
      const began = mark()
      await until(() => backend.open('/b/admin/V1').some((other) => other !== link), 3000, 'the next upstream')
      assert.ok(countedMs(began) < 1500 + SLACK_MS)
    }
  })
}

test('a name that is gone is gone: its old address is not used', async (t) => {
  const { hub, backend, server } = await reachedBy(t, () => ({ rcode: RCODE.NXDOMAIN }))
  await until(() => {
    for (const { socket } of backend.open('/b/admin/V1')) socket.terminate()
    return hub.lines.some((line) => /could not resolve backend\.lan: .*knows no such name/.test(line))
  }, 5000, 'the reason')
  const [tries, asked] = [backend.upgrades.length, server.asked.length]
  await until(() => server.asked.length > asked + 6, 5000, 'more tries')
  assert.equal(backend.upgrades.length, tries)
})

test('reasons name the host, the name server and the cause', async (t) => {
  const server = await NameServer.start(t, ({ name }) => (name.startsWith('empty') ? {} : { rcode: RCODE.NXDOMAIN }))
  names(server.line)
  assert.match(await reason(t, 'gone.lan'), /could not resolve gone\.lan: the name server \(127\.0\.53\.[^)]*\) knows no such name/)
  assert.match(await reason(t, 'empty.lan'), /could not resolve empty\.lan: the name server .* knows no address of this name/)
  server.behave = () => null
  assert.match(await reason(t, 'silent.lan'), /could not resolve silent\.lan: no answer from the name server \(127\.0\.53\./)
  server.behave = () => ({ rcode: RCODE.SERVFAIL })
  assert.match(await reason(t, 'failing.lan'), /could not resolve failing\.lan: the name server .*can't be reached, or has answered SERVFAIL or REFUSED/)
})

test('many sessions that reconnect to one name are a few questions', async (t) => {
  const server = await NameServer.start(t, () => ({ addresses: HERE, after: 20 }))
  names(server.line)
  const backend = await Backend.start(t)
  const hub = await startHub(t, { settings: { services: [{ name: 'remoteWs', upstream: `ws://backend.lan:${backend.port}/b`, reconnect: FAST }] } })
  const began = performance.now()
  for (let i = 0; i < 400; i++) await Browser.open(t, hub.url(`/admin/V${i}?remoteWs`))
  await until(() => backend.upstreams.size === 400, 15_000, 'all upstreams')
  const most = 2 * (2 + (performance.now() - began) / 250)
  assert.ok(server.asked.length <= most, `${server.asked.length} questions, at most ${most}`)
})
