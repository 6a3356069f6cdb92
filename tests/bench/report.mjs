// Tables for people, and the one in README.md of this folder.
import { readFileSync, writeFileSync } from 'node:fs'

const BEGIN = '<!-- bench:begin -->'
const END = '<!-- bench:end -->'

/** A Markdown table that is also legible as text. */
function markdown(columns, rows) {
  const lines = [columns, ...rows].map((row) => row.map((cell) => String(cell ?? '')))
  const widths = columns.map((_, i) => Math.max(3, ...lines.map((line) => line[i].length)))
  const print = (cells) => `| ${cells.map((cell, i) => (i === 0 ? cell.padEnd(widths[i]) : cell.padStart(widths[i]))).join(' | ')} |`
  const rule = `| ${widths.map((width, i) => (i === 0 ? '-'.repeat(width) : `${'-'.repeat(width - 1)}:`)).join(' | ')} |`
  return [print(lines[0]), rule, ...lines.slice(1).map(print)].join('\n')
}

export const table = ({ title, columns, rows }) => `${title}\n\n${markdown(columns, rows)}`

const amount = (value, unit) => (Number.isFinite(value) ? `${value.toFixed(Math.abs(value) < 10 ? 2 : Math.abs(value) < 100 ? 1 : 0)}${unit ? ` ${unit}` : ''}` : 'not measured')

/** Every figure with its goal. A figure whose run had faults has not reached it. */
export function figureTable(record) {
  const figures = Object.values(record.shapes).flatMap(({ figures, faults }) => figures.map((figure) => ({ ...figure, faults: faults.length })))
  return markdown(['figure', 'measured', 'goal', 'reached', 'best peer'], figures.map(({ figure, value, goal, unit, peer, faults }) =>
    [figure, amount(value, unit), goal === undefined ? '' : `<= ${goal}${unit ? ` ${unit}` : ''}`,
      goal === undefined || !Number.isFinite(value) ? '' : faults ? `no: ${faults} faults` : value <= goal ? 'yes' : 'no',
      Number.isFinite(peer) ? amount(peer, unit) : '']))
}

export function writeReadme(path, record) {
  const text = readFileSync(path, 'utf8')
  const from = text.indexOf(BEGIN)
  const to = text.indexOf(END)
  if (from < 0 || to < from) throw new Error(`${path} has no lines ${BEGIN} and ${END}`)
  const { cores, model, memory } = record.machine
  const intro = `Measured on ${record.date.slice(0, 10)} by \`scripts/bench\` on ${cores} cores (${model}, ${Math.round(memory / 2 ** 30)} GiB): brokers on one core, backend and clients\n`
    + `on the other, loopback; medians of ${record.runs} interleaved runs. The floor is a relay in C that does one \`send()\` of the ready frame a delivery.`
  writeFileSync(path, `${text.slice(0, from + BEGIN.length)}\n${intro}\n\n${figureTable(record)}\n${text.slice(to)}`)
}
