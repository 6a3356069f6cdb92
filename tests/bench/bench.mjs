// The bench: see --help. Runs shapes one after the other, prints a table for each and one of all
// figures against their goals, and writes everything to a JSON file.
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { cpus, totalmem } from 'node:os'
import { dirname, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { million } from './million.mjs'
import { inOwnNetwork } from './network.mjs'
import { useRealtime } from './processes.mjs'
import { figureTable, table, writeReadme } from './report.mjs'
import { paths } from './servers.mjs'
import { shapes } from './shapes.mjs'

const ROOT = resolve(dirname(fileURLToPath(import.meta.url)), '../..')
const HELP = `scripts/bench [SHAPE...] [option...]     all shapes (under 10 minutes) where none is named
scripts/bench million [--clients N]      one Redis and as many nodes as N (1,000,000) clients need, under 30 minutes;
                                         --per-vin (10), --per-node (16500), --hold (60 s idle before the
                                         pushes), --rate (800 pushes a second)
scripts/bench --readme                   puts the figures of the last full run into tests/bench/README.md

shapes: ${Object.keys(shapes).join(', ')}
--json FILE   where results go (build/bench/results.json; of some shapes only: build/bench/SHAPES.json)
--runs N      turns of each contender (5)
--realtime    goes before whatever else this machine does; for machines that are not idle
--build DIR   the build folder (build)
--other FILE  vinhub of another build, in turns with this one (fanout, full-speed, sessions, bursts, memory)
--scale X     of dashboards: this part of the pushes a second (1)
`

const options = {
  help: { type: 'boolean' }, readme: { type: 'boolean' }, realtime: { type: 'boolean' }, json: { type: 'string' }, build: { type: 'string' },
  other: { type: 'string' }, scale: { type: 'string', default: '1' },
  runs: { type: 'string', default: '5' }, clients: { type: 'string', default: '1000000' }, 'per-vin': { type: 'string', default: '10' },
  'per-node': { type: 'string', default: '16500' }, hold: { type: 'string', default: '60' },
  rate: { type: 'string', default: '800' },
}

function fail(text) {
  console.error(`bench: ${text}`)
  process.exit(2)
}

function parse() {
  try { return parseArgs({ options, allowPositionals: true }) } catch (error) { return fail(error.message) }
}

/** A shape that throws counts as a fault, and the other shapes of the run go on. */
async function runShape(name, bench) {
  try { return await shapes[name](bench) } catch (error) {
    bench.fault(`${name}: ${error.stack}`)
    return { title: `${name}: failed`, columns: [''], rows: [], figures: [] }
  }
}

/** What a shape may say while it runs. */
function reporter(runs, scale, record) {
  return {
    runs, scale,
    say: (text) => console.error(text),
    missing: (text) => { record.missing.push(text); console.error(`  missing: ${text}`) },
    fault: (text) => { record.faults.push(text); console.error(`  FAULT: ${text}`) },
  }
}

async function runShapes(names, values, file) {
  const record = { date: new Date().toISOString(), machine: { cores: cpus().length, model: cpus()[0].model, memory: totalmem() }, runs: Number(values.runs), shapes: {} }
  const began = performance.now()
  let faults = 0
  for (const name of names) {
    const from = performance.now()
    const notes = { missing: [], faults: [] }
    console.error(`${name} ...`)
    const { results, ...shape } = await runShape(name, reporter(record.runs, Number(values.scale), notes))
    record.shapes[name] = { ...shape, ...notes, seconds: (performance.now() - from) / 1000, results }
    faults += notes.faults.length
    console.log(`\n${table(shape)}`)
    writeFileSync(`${file}.part`, `${JSON.stringify(record, null, 1)}\n`)
  }
  renameSync(`${file}.part`, file) // an unfinished run leaves the last finished file as it is
  console.log(`\n${figureTable(record)}`)
  console.log(`\n${names.length} shapes in ${Math.round((performance.now() - began) / 1000)} s; ${file}${faults ? `; ${faults} FAULTS` : ''}`)
  return faults === 0 ? 0 : 1
}

const { values, positionals } = parse()
if (values.help) {
  console.log(HELP)
  process.exit(0)
}
if (values.other) paths.other = resolve(values.other)
if (values.build) paths.build = resolve(values.build)
// A run of some shapes does not replace the last full one.
const some = positionals.length > 0 && !values.readme
const file = resolve(values.json ?? resolve(paths.build, some ? `bench/${positionals.join('-')}.json` : 'bench/results.json'))
if (values.readme) {
  if (!existsSync(file)) fail(`no results in ${file}: run scripts/bench first`)
  const record = JSON.parse(readFileSync(file, 'utf8'))
  const lacking = Object.keys(shapes).filter((name) => !record.shapes[name])
  if (lacking.length > 0) fail(`${file} is of a run that did not end; it lacks ${lacking.join(', ')}`)
  writeReadme(resolve(ROOT, 'tests/bench/README.md'), record)
  process.exit(0)
}
if (!(Number(values.runs) >= 1)) fail('--runs: a number from 1')
if (!(Number(values.scale) > 0)) fail('--scale: a number over 0')
if (paths.other && !existsSync(paths.other)) fail(`--other: ${paths.other} is missing`)
for (const path of [paths.hub(), paths.floor(), paths.load()]) if (!existsSync(path)) fail(`${path} is missing: build first (cmake --preset release && cmake --build build)`)
if (values.realtime) useRealtime()
mkdirSync(dirname(file), { recursive: true })
if (positionals[0] === 'million') {
  const [clients, perVin, perNode, hold, rate] = ['clients', 'per-vin', 'per-node', 'hold', 'rate'].map((name) => Number(values[name]))
  process.exit(await million({ clients, perVin, perNode, holdMs: hold * 1000, rate, file }))
}
for (const name of positionals) if (!shapes[name]) fail(`no shape "${name}"; there are ${Object.keys(shapes).join(', ')}, million`)
const noNetwork = await inOwnNetwork()
if (noNetwork) console.error(`in the machine's own network, whose firewall may track connections: ${noNetwork}`)
process.exit(await runShapes(positionals.length ? positionals : Object.keys(shapes), values, file))
