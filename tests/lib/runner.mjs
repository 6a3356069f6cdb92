// A small test runner. A file calls test() for each case; the cases run one after another once the
// file is loaded. A case gets a context `t`: t.defer() registers clean-up (run in reverse order,
// whatever happened), t.fail() fails the case from a callback. Every line of the report is
// `ok - NAME` or `not ok - NAME` with the reason below it as comment lines.
//
// `node FILE [FILTER]` runs the cases whose name contains FILTER.
import { setTimeout as delay } from 'node:timers/promises'
import { deadline } from './until.mjs'
import { killChildren } from './process.mjs'

const cases = []
const DEFAULT_TIMEOUT_MS = 60_000
const CLEANUP_TIMEOUT_MS = 30_000

/** Registers a case. options: {timeout: ms}. */
export function test(name, options, body) {
  if (cases.length === 0) setImmediate(runAll)
  cases.push({ name, timeout: options.timeout ?? DEFAULT_TIMEOUT_MS, body: body ?? options })
}

class Context {
  constructor(name) {
    this.name = name
    this.cleanups = []
    this.onFailure = []
    this.failed = new Promise((_, reject) => { this.fail = reject })
    this.failed.catch(() => {})
  }

  /** Runs fn after the case; the one registered last runs first. */
  defer(fn) { this.cleanups.push(fn) }

  /** Registers fn() -> lines that explain a failure, e.g. the end of a log. */
  explain(fn) { this.onFailure.push(fn) }

  async cleanUp() {
    const errors = []
    for (const fn of this.cleanups.reverse()) {
      try { await deadline(fn(), CLEANUP_TIMEOUT_MS, 'clean-up') } catch (error) { errors.push(error) }
    }
    return errors
  }
}

async function runCase({ name, timeout, body }) {
  const t = new Context(name)
  current = t
  const errors = []
  try {
    await deadline(Promise.race([body(t), t.failed]), timeout, 'the case')
  } catch (error) { errors.push(error) }
  const explanation = errors.length > 0 ? t.onFailure.map((fn) => fn()) : []
  errors.push(...await t.cleanUp())
  // A failure that was raised during clean-up, e.g. a hub that did not stop, counts as well.
  await Promise.race([t.failed, delay(0)]).catch((error) => { if (!errors.includes(error)) errors.push(error) })
  if (errors.length > 0 && explanation.length === 0) explanation.push(...t.onFailure.map((fn) => fn()))
  current = null
  return { errors, explanation: explanation.flat() }
}

let current = null

async function runAll() {
  const filter = process.argv[2] ?? ''
  let failures = 0
  for (const entry of cases.filter(({ name }) => name.includes(filter))) {
    const began = Date.now()
    const { errors, explanation } = await runCase(entry)
    const seconds = ((Date.now() - began) / 1000).toFixed(1)
    if (errors.length === 0) {
      console.log(`ok - ${entry.name} (${seconds} s)`)
      continue
    }
    failures++
    console.log(`not ok - ${entry.name} (${seconds} s)`)
    for (const error of errors) comment(reasonOf(error))
    for (const line of explanation) comment(line)
  }
  killChildren()
  process.exit(failures === 0 ? 0 : 1)
}

/** The error with the frames of the tests' own files. */
function reasonOf(error) {
  const lines = (error.stack ?? String(error)).split('\n')
  return lines.filter((line) => !/^ +at .*(node:|node_modules|lib\/(runner|until))/.test(line)).join('\n')
}

function comment(text) {
  for (const line of String(text).split('\n')) console.log(`#   ${line}`)
}

for (const event of ['uncaughtException', 'unhandledRejection']) {
  process.on(event, (error) => {
    if (current) return current.fail(error)
    comment(error?.stack ?? error)
    process.exit(1)
  })
}
