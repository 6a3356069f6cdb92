// Messages in fragments: lawful ones come back whole, unlawful ones close their client.
import { BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, closePayload, fragments, frame, randomBytes } from '../wire.mjs'

const KINDS = [['text', TEXT], ['binary', BINARY]]
const WAYS = [['in one packet', undefined], ['byte by byte', 1], ['cut at random', 'random']]
const F = { fin: false }

/** [name, frames as (opcode) => [...], message, PONGs] */
const LAWFUL = [
  ['two fragments', (op) => fragments(op, ['one ', 'message']), 'one message'],
  ['ten fragments', (op) => fragments(op, [...'0123456789']), '0123456789'],
  ['a first fragment that is empty', (op) => fragments(op, ['', 'message']), 'message'],
  ['a last fragment that is empty', (op) => fragments(op, ['message', '']), 'message'],
  ['empty fragments alone', (op) => fragments(op, ['', '', '', '']), ''],
  ['empty fragments in between', (op) => fragments(op, ['a', '', '', 'b', '']), 'ab'],
  ['PINGs in between', (op) => [frame(op, 'one ', F), frame(PING, 'p1'), frame(CONTINUATION, 'mess', F), frame(PING, 'p2'), frame(CONTINUATION, 'age')], 'one message', ['p1', 'p2']],
  ['an empty PING in between', (op) => [frame(op, 'one ', F), frame(PING), frame(CONTINUATION, 'message')], 'one message', ['']],
  ['a PING of 125 bytes in between', (op) => [frame(op, 'one ', F), frame(PING, 'p'.repeat(125)), frame(CONTINUATION, 'message')], 'one message', ['p'.repeat(125)]],
  ['PONGs in between', (op) => [frame(op, 'one ', F), frame(PONG), frame(CONTINUATION, 'message', F), frame(PONG, 'x'), frame(CONTINUATION)], 'one message'],
  ['PINGs in between all of 20 fragments', (op) => fragments(op, [...'abcdefghijklmnopqrst']).flatMap((part, at) => [frame(PING, `${at}`), part]),
    'abcdefghijklmnopqrst', Array.from({ length: 20 }, (_, at) => `${at}`)],
  ['fragments of 125, 126, 127 and 65536 bytes', (op) => fragments(op, [125, 126, 127, 65536].map((n) => 'x'.repeat(n))), 'x'.repeat(125 + 126 + 127 + 65536), undefined],
]

const lawful = LAWFUL.flatMap(([name, frames, message, pongs = []]) => KINDS.flatMap(([kind, opcode]) => WAYS
  .filter(([, size]) => size !== 1 || message.length < 300)
  .map(([way, size]) => ({
    name: `a ${kind} with ${name}, ${way}`,
    run: (rig) => rig.echoes({ frames: frames(opcode), messages: [[opcode, message]], pongs, size }),
  }))))

/** 64 KiB in fragments of each size. */
const sizes = [64, 125, 126, 256, 1000, 4096, 16384, 65535].flatMap((n) => KINDS.map(([kind, opcode]) => ({
  name: `a ${kind} of 64 KiB in fragments of ${n} bytes`,
  run(rig) {
    const payload = opcode === TEXT ? Buffer.alloc(65536, 'fragment ') : randomBytes(65536)
    const parts = []
    for (let at = 0; at < payload.length; at += n) parts.push(payload.subarray(at, at + n))
    return rig.echoes({ frames: fragments(opcode, parts), messages: [[opcode, payload]], size: n % 2 ? 'random' : undefined })
  },
})))

const sequences = [
  ['two fragmented messages in a row', [...fragments(TEXT, ['a', 'b']), ...fragments(BINARY, ['c', 'd'])], [[TEXT, 'ab'], [BINARY, 'cd']]],
  ['a fragmented message between whole ones', [frame(TEXT, '1'), ...fragments(TEXT, ['2', '3']), frame(BINARY, '4')], [[TEXT, '1'], [TEXT, '23'], [BINARY, '4']]],
  ['1,000 fragments of one byte', fragments(TEXT, Array.from({ length: 1000 }, () => 'x')), [[TEXT, 'x'.repeat(1000)]]],
  ['10,000 empty fragments', fragments(TEXT, Array.from({ length: 10_000 }, () => '')), [[TEXT, '']]],
].map(([name, frames, messages]) => ({ name, run: (rig) => rig.echoes({ frames, messages }) }))

const UNLAWFUL = [
  ['a continuation of nothing', [frame(CONTINUATION, 'x')]],
  ['a continuation of nothing that is not final', [frame(CONTINUATION, 'x', F)]],
  ['an empty continuation of nothing', [frame(CONTINUATION)]],
  ['a continuation of nothing, then a text', [frame(CONTINUATION, 'x', F), frame(TEXT, 'y')]],
  ['a continuation after a whole message', [frame(TEXT, 'good'), frame(CONTINUATION, 'x')], [[TEXT, 'good']]],
  ['a continuation after a whole fragmented message', [...fragments(TEXT, ['go', 'od']), frame(CONTINUATION, 'x')], [[TEXT, 'good']]],
  ['a continuation after a PING', [frame(PING, ''), frame(CONTINUATION, 'x')]],
  ['a text within a text', [frame(TEXT, 'a', F), frame(TEXT, 'b')]],
  ['a text within a text, not final', [frame(TEXT, 'a', F), frame(TEXT, 'b', F)]],
  ['a binary within a text', [frame(TEXT, 'a', F), frame(BINARY, 'b')]],
  ['a text within a binary', [frame(BINARY, 'a', F), frame(TEXT, 'b')]],
  ['a binary within a binary', [frame(BINARY, 'a', F), frame(BINARY, 'b')]],
  ['a text after a continuation', [frame(TEXT, 'a', F), frame(CONTINUATION, 'b', F), frame(TEXT, 'c')]],
  ['a text after a PING within a text', [frame(TEXT, 'a', F), frame(PING, 'p'), frame(TEXT, 'c')]],
  ['an empty text within an empty text', [frame(TEXT, '', F), frame(TEXT)]],
]

const unlawful = UNLAWFUL.flatMap(([name, frames, good = []]) => WAYS.slice(0, 2).map(([way, size]) => ({
  name: `${name}, ${way}`,
  // A message that was right has gone upstream; whether the closed client still sees its echo is up to time.
  run: (rig) => rig.refuses({ code: 1002, frames, good, size }),
})))

const closeWithin = {
  name: 'a close frame within a fragmented message ends it',
  async run(rig) {
    const path = `/u/${rig.vin()}?echo`
    const witness = await rig.open(path)
    const peer = await rig.open(path)
    await peer.send([frame(TEXT, 'never ', F), frame(CLOSE, closePayload(1000)), frame(CONTINUATION, 'seen')])
    await peer.ended()
    if (peer.close?.code !== 1000) throw new Error(`${peer}`)
    await witness.send(frame(TEXT, 'the last'))
    await witness.got(1)
    if (witness.messages[0][1].toString() !== 'the last') throw new Error(`${witness}`)
    await rig.farewell(witness)
  },
}

export const cases = [...lawful, ...sizes, ...sequences, ...unlawful, closeWithin]
