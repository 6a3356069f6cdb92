// How long the processes of a case waited for a processor on a busy machine, as the kernel counts it (/proc/PID/schedstat).
// Bounds on times leave it out, since the product is not the cause. On a quiet machine it is close to 0.
import { readFileSync } from 'node:fs'

const READ_AGAIN_MS = 5 // read at most this often, however many waits there are
// At least a tenth of the time counts, however busy the machine is: otherwise a wait might never end.
const LEAST_SHARE = 0.1

const waited = new Map([['self', 0]]) // pid -> ns in the run queue when it was read last
let [total, readAt] = [0, -Infinity]

function runQueueNs(pid) {
  try { return Number(readFileSync(`/proc/${pid}/schedstat`, 'latin1').split(' ')[1]) } catch { return null }
}

/** Counts the waits of that process, from now until it ends. */
export function countWaitsOf(pid) { waited.set(pid, runQueueNs(pid) ?? 0) }
export function stopCounting(pid) { waited.delete(pid) }

/**
 * The sum over the processes of the case, in ms, since this one began. Processes wait for each other in turn, so a chain from a
 * cause to its effect is delayed by at most this sum.
 */
export function heldUpMs() {
  if (performance.now() - readAt < READ_AGAIN_MS) return total
  readAt = performance.now()
  for (const [pid, before] of waited) {
    const now = runQueueNs(pid)
    if (now === null) continue
    total += (now - before) / 1e6
    waited.set(pid, now)
  }
  return total
}

/** A point in time: {at, held}, both in ms. */
export function mark() {
  const held = heldUpMs()
  return { at: performance.now(), held }
}

/** The ms between two marks without the waits for a processor, to be compared with an upper bound. */
export function countedMs(from, to = mark()) {
  const passed = to.at - from.at
  return Math.max(passed - (to.held - from.held), passed * LEAST_SHARE)
}
