// Reads the logs of both ends and reports broken promises: doubles, disorder, losses without a GAP, a position with two
// contents, a push of another vin. One call for each session.

/** Position order. */
function compare(a, b) { return a.epoch - b.epoch || a.offset - b.offset }

/**
 * What any client of the session has seen at each position: epoch -> {last, texts: offset -> text,
 * shared: the last offset that was seen on more than one node, nodes: offset -> node}.
 */
function gather(clients, problems) {
  const epochs = new Map()
  for (const { log } of clients) {
    for (const entry of log) {
      if (entry.kind !== 'message') continue
      if (!epochs.has(entry.epoch)) epochs.set(entry.epoch, { last: 0, shared: 0, texts: new Map(), nodes: new Map() })
      const epoch = epochs.get(entry.epoch)
      epoch.last = Math.max(epoch.last, entry.offset)
      const known = epoch.texts.get(entry.offset)
      if (known !== undefined && known !== entry.text) problems.push(`${where(entry)} is both ${known} and ${entry.text}`)
      epoch.texts.set(entry.offset, entry.text)
      if (epoch.nodes.has(entry.offset) && epoch.nodes.get(entry.offset) !== entry.node) epoch.shared = Math.max(epoch.shared, entry.offset)
      epoch.nodes.set(entry.offset, entry.node)
    }
  }
  return epochs
}

const where = ({ epoch, offset }) => `${epoch}.${offset}`

/** The positions after `from` up to `to` that somebody got or that must exist: [{epoch, first, last}]. */
function between(epochs, from, to) {
  const spans = []
  for (const epoch of [...epochs.keys()].sort((a, b) => a - b)) {
    if (epoch < from.epoch || epoch > to.epoch) continue
    const first = epoch === from.epoch ? from.offset + 1 : 1
    const last = epoch === to.epoch ? to.offset : epochs.get(epoch).last
    if (first <= last) spans.push({ epoch, first, last })
  }
  return spans
}

const covers = (gap, epoch, offset) => gap.epoch === epoch && gap.from <= offset && (gap.to === 0 || offset <= gap.to)

/**
 * Positions in between that no gap names. An owner that is killed or cut off takes the end of its
 * epoch with it: publications that only its own clients got are `torn`.
 * If Redis lost its data, too, the epochs after one with a missing end are not known.
 */
function unannounced(epochs, from, to, gaps, { ownerLost, dataLost }) {
  const [missing, torn] = [[], []]
  for (const { epoch, first, last } of between(epochs, from, to)) {
    const { shared } = epochs.get(epoch) ?? { shared: Infinity }
    for (let offset = first; offset <= last; offset++) {
      if (gaps.some((gap) => covers(gap, epoch, offset))) continue
      if (dataLost && epoch < to.epoch && gaps.some((gap) => gap.to === 0 && gap.epoch < epoch)) continue
      const list = ownerLost && epoch < to.epoch && offset > shared ? torn : missing
      list.push(`${epoch}.${offset}`)
    }
  }
  return { missing, torn }
}

/** Walks along one client's log. */
class Walk {
  constructor(name, epochs, result, losses) {
    Object.assign(this, { name, epochs, result, losses, position: null, number: -1, gaps: [] })
  }

  problem(text) { this.result.problems.push(`${this.name}: ${text}`) }

  welcome(entry) {
    const { resumed } = entry
    const asked = entry.asked?.epoch ? entry.asked : null // 0.0 is no position to resume from
    if (asked && !resumed) {
      this.result.unresumed.push(`${this.name} asked for ${where(asked)} at ${entry.node} and was told ${where(entry)}`)
    }
    if (resumed && asked && compare(asked, entry) !== 0) this.problem(`asked for ${where(asked)}, resumed at ${where(entry)}`)
    if (!asked || !resumed) {
      // It starts again at the WELCOME, which may be before what a cut-off owner had sent it.
      if (asked && compare(entry, asked) < 0) this.number = -1
      this.position = entry.epoch ? { epoch: entry.epoch, offset: entry.offset } : null
      this.gaps = []
    }
    if (asked) this.result.resumes++
  }

  gap(entry) {
    this.result.gaps++
    this.result.announced.push(entry)
    this.gaps.push(entry)
  }

  message(entry) {
    if (this.position && compare(entry, this.position) <= 0) {
      this.problem(`${where(entry)} (#${entry.number}) came after ${where(this.position)}: double or disorder`)
      return
    }
    if (entry.number <= this.number) this.problem(`#${entry.number} came after #${this.number}`)
    if (this.position) this.missed({ epoch: entry.epoch, offset: entry.offset - 1 }, 'before')
    this.position = { epoch: entry.epoch, offset: entry.offset }
    this.number = entry.number
    this.result.messages++
  }

  missed(to, when) {
    const { missing, torn } = unannounced(this.epochs, this.position, to, this.gaps, this.losses)
    for (const position of torn) this.result.torn.add(position)
    if (missing.length > 0) this.problem(`${missing.length} not announced ${when} ${where(to)}: ${missing.slice(0, 5).join(' ')}`)
    this.result.unannounced += missing.length
    this.gaps = []
  }

  end() {
    const last = [...this.epochs].sort(([a], [b]) => a - b).at(-1)
    if (this.position && last) this.missed({ epoch: last[0], offset: last[1].last }, 'up to the end,')
  }
}

function emptyResult() {
  return { problems: [], lost: [], torn: new Set(), messages: 0, gaps: 0, announced: [], resumes: 0, unresumed: [], unannounced: 0 }
}

/**
 * clients: [{log}] of one session; url: the upstream's; sent: what the backend pushed on it.
 * Result: problems (each breaks the contract), lost (numbers that a client never got although it was
 * there before), unresumed (tokens that no node could resume), and counts. losses: {ownerLost: owners were
 * killed or cut off, dataLost: Redis restarted empty meanwhile}.
 */
export function checkSession(clients, { url, sent, losses = {} }) {
  const result = emptyResult()
  const epochs = gather(clients, result.problems)
  clients.forEach(({ log }, index) => {
    const walk = new Walk(`${url} client ${index}`, epochs, result, losses)
    const got = new Set()
    for (const entry of log) {
      if (entry.kind === 'welcome' || entry.kind === 'gap' || entry.kind === 'message') walk[entry.kind](entry)
      if (entry.kind !== 'message') continue
      got.add(entry.number)
      if (!entry.text.startsWith(`${url}#`)) result.problems.push(`${url} client ${index} got ${entry.text}`)
    }
    walk.end()
    for (const { number, at } of sent) if (!got.has(number) && at > log[0]?.at) result.lost.push({ client: index, number, at })
  })
  return result
}

/** All sessions: the sums, and the first problems of each. */
export function checkAll(sessions, backend, losses) {
  const total = emptyResult()
  for (const { url, clients } of sessions) {
    const result = checkSession(clients, { url, sent: backend.of(url).sent, losses })
    for (const [name, value] of Object.entries(result)) {
      if (value instanceof Set) for (const position of value) total[name].add(`${url} ${position}`)
      else if (Array.isArray(value)) for (const item of value) total[name].push(typeof item === 'object' ? { url, ...item } : item)
      else total[name] += value
    }
  }
  return total
}

/** The most connections of one URL that were open at the same moment, from the backend's log: {url, most}. */
export function mostAtOnce(backend) {
  return [...backend.peaks].reduce((worst, [url, most]) => (most > worst.most ? { url, most } : worst), { url: '', most: 0 })
}

/** Percentiles of a list of times in ms, as one line. */
export function distribution(times) {
  const sorted = [...times].sort((a, b) => a - b)
  const at = (share) => Math.round(sorted[Math.min(sorted.length - 1, Math.ceil(share * sorted.length) - 1)] ?? NaN)
  return { n: sorted.length, p50: at(0.5), p90: at(0.9), p99: at(0.99), max: at(1),
    toString() { return `n ${this.n}, p50 ${this.p50} ms, p90 ${this.p90} ms, p99 ${this.p99} ms, max ${this.max} ms` } }
}
