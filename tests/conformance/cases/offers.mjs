// permessage-deflate, the negotiation (RFC 7692 sections 5 and 7.1): each offer and its answer.
import assert from 'node:assert/strict'
import { TEXT, frame } from '../wire.mjs'
import { requestText } from '../peer.mjs'

const D = 'permessage-deflate'
const ANSWER = `${D}; server_no_context_takeover; client_no_context_takeover`
const bits = (n) => `${ANSWER}; server_max_window_bits=${n}`
const COMPRESSIBLE = 'compressible '.repeat(12) // 156 bytes: within each window

/** The offers, the answer (null: none), and the handshake is complete either way. */
async function answers(rig, fields, answer) {
  const peer = await rig.open(`/u/${rig.vin()}?echo`, { hub: 'deflating', fields: fields.map((value) => ['Sec-WebSocket-Extensions', value]) })
  assert.equal(peer.field('sec-websocket-extensions') ?? null, answer)
  await peer.send(frame(TEXT, COMPRESSIBLE))
  await peer.got(1)
  assert.equal(String(peer.messages[0][1]), COMPRESSIBLE)
  assert.equal(peer.deflated, answer === null ? 0 : 1, 'what was agreed is done')
  await rig.farewell(peer)
}

const one = (offer, answer) => [offer, [offer], answer]
const SWITCHES = ['server_no_context_takeover', 'client_no_context_takeover', 'client_max_window_bits', 'client_max_window_bits=12', 'server_max_window_bits=12']

/** All subsets of the parameters that may stand together, in two orders. */
function combinations() {
  const rows = []
  for (let set = 1; set < 1 << SWITCHES.length; set++) {
    const chosen = SWITCHES.filter((_, at) => set & 1 << at)
    const doubled = chosen.filter((name) => name.startsWith('client_max')).length > 1
    const answer = doubled ? null : chosen.includes('server_max_window_bits=12') ? bits(12) : ANSWER
    for (const order of new Set([chosen.join('; '), [...chosen].reverse().join('; ')])) rows.push(one(`${D}; ${order}`, answer))
  }
  return rows
}

const windows = [8, 9, 10, 11, 12, 13, 14, 15].flatMap((n) => [
  one(`${D}; server_max_window_bits=${n}`, bits(n)),
  one(`${D}; server_max_window_bits="${n}"`, bits(n)),
  one(`${D}; client_max_window_bits=${n}`, ANSWER),
  one(`${D}; client_max_window_bits="${n}"`, ANSWER),
  one(`${D}; client_max_window_bits=${n}; server_max_window_bits=${n}`, bits(n)),
])

const declined = [
  ...['7', '16', '0', '1', '99', '100', '-8', '+8', '08', '015', '8.0', '0x8', 'eight', 'a', '8a', '1e1'].flatMap((value) =>
    [one(`${D}; server_max_window_bits=${value}`, null), one(`${D}; client_max_window_bits=${value}`, null)]),
  one(`${D}; server_max_window_bits`, null),
  one(`${D}; server_no_context_takeover=1`, null), one(`${D}; client_no_context_takeover=true`, null),
  one(`${D}; server_no_context_takeover="x"`, null),
  one(`${D}; server_no_context_takeover; server_no_context_takeover`, null),
  one(`${D}; client_no_context_takeover; client_no_context_takeover`, null),
  one(`${D}; client_max_window_bits; client_max_window_bits`, null),
  one(`${D}; client_max_window_bits=10; client_max_window_bits=11`, null),
  one(`${D}; server_max_window_bits=10; server_max_window_bits=10`, null),
  one(`${D}; unknown`, null), one(`${D}; unknown=5`, null), one(`${D}; server_no_context_takeover; unknown`, null),
  one(`${D}; server_max_window_bit=10`, null), one(`${D}; method=deflate`, null),
  one('x-webkit-deflate-frame', null), one('deflate-frame', null), one('permessage-bzip2', null), one('permessage-deflate2', null),
  one('x-permessage-deflate', null), one('perframe-deflate; c2s_max_window_bits', null),
]

const several = [
  one(`${D}, ${D}`, ANSWER),
  one(`x-unknown, ${D}`, ANSWER), one(`${D}, x-unknown; a=b`, ANSWER), one(`x-one; a, x-two; b="c", ${D}`, ANSWER),
  one(`${D}; server_max_window_bits=10, ${D}`, bits(10)),
  one(`${D}; server_max_window_bits=7, ${D}; server_max_window_bits=9`, bits(9)),
  one(`${D}; server_max_window_bits=16, ${D}; unknown, ${D}`, ANSWER),
  one(`${D}; unknown, ${D}; client_max_window_bits=7`, null),
  one(`, ,${D},,`, ANSWER),
  ['two fields', [`${D}; server_max_window_bits=99`, `${D}; server_max_window_bits=11`], bits(11)],
  ['two fields of which the first is unknown', ['x-unknown', `${D}; client_max_window_bits`], ANSWER],
  ['three fields', ['x-unknown', D, `${D}; server_max_window_bits=8`], ANSWER],
]

const spelling = [
  one('Permessage-Deflate', ANSWER), one('PERMESSAGE-DEFLATE; SERVER_MAX_WINDOW_BITS=10', bits(10)),
  one(`${D};client_max_window_bits`, ANSWER), one(`${D} ;\tclient_max_window_bits`, ANSWER), one(`\t${D}  `, ANSWER),
  one(`${D}; server_max_window_bits = 10`, bits(10)), one(`${D};server_max_window_bits="10" ;client_no_context_takeover`, bits(10)),
  ['an empty field', [''], null], ['no field', [], null],
]

/** A malformed list of extensions fails the handshake (RFC 6455 section 9.1). */
const MALFORMED = [`${D};`, `;${D}`, `${D};;client_max_window_bits`, `${D}; client_max_window_bits=`, `${D}; =10`, `${D}; client_max_window_bits="10`,
  `${D}; client_max_window_bits=10"`, `${D}; client_max_window_bits=""`, `${D}; client_max_window_bits="1 0"`, `${D}; client max`, 'permessage deflate',
  `${D}; a=b=c`, `${D}; a="b;c"`, `${D}; a="b,c"`, `${D}; a=(b)`, '=', '"', `"${D}"`, `${D}, @`, `x/y, ${D}`, `${D}; a=ü`]

const refused = MALFORMED.map((offer) => ({
  name: `malformed: ${offer}`,
  async run(rig) {
    const text = Buffer.from(requestText('/u/V?echo', [['Sec-WebSocket-Extensions', offer]]))
    const peer = rig.dial(text, 'deflating')
    await peer.answered()
    assert.equal(peer.head.status, 400)
    await peer.ended()
  },
}))

/** Some are in two of the tables. */
const rows = new Map([one(D, ANSWER), ...combinations(), ...windows, ...several, ...spelling, ...declined].map((row) => [row[0], row]))

export const cases = [
  ...[...rows.values()].map(([name, fields, answer]) => ({ name: `${name} -> ${answer === null ? 'declined' : 'agreed'}`, run: (rig) => answers(rig, fields, answer) })),
  ...refused,
]
