// What a busy machine takes from a case: how long the processes of the case were ready to run and got no processor, by the
// kernel's own account (/proc/PID/schedstat). Such time is not the product's, and no bound on a time counts it; on a quiet
// machine it is next to nothing, and the bounds are the plain ones.
import { readFileSync } from 'node:fs'

const READ_AGAIN_MS = 5 // many waits at once read it no more often than this
// However busy the machine is, a tenth of the time counts: what never comes is found out.
const LEAST_SHARE = 0.1

const waited = new Map([['self', 0]]) // pid -> ns in the run queue when it was read last
let [total, readAt] = [0, -Infinity]

function runQueueNs(pid) {
  try { return Number(readFileSync(`/proc/${pid}/schedstat`, 'latin1').split(' ')[1]) } catch { return null }
}

/** Counts what that process waits for, from now until it is gone. */
export function countWaitsOf(pid) { waited.set(pid, runQueueNs(pid) ?? 0) }
export function stopCounting(pid) { waited.delete(pid) }

/**
 * The sum over the processes of the case, in ms, since this one began. They wait for each other in turn, so that the longest way
 * from a cause to what is seen of it is held up by no more than this sum.
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

/** The ms between two marks of which the product had the use: what a bound from above is compared with. */
export function countedMs(from, to = mark()) {
  const passed = to.at - from.at
  return Math.max(passed - (to.held - from.held), passed * LEAST_SHARE)
}
