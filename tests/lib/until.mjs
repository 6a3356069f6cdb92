// Waiting: for a condition by polling, for a promise by a deadline. Nothing in the tests sleeps to
// give something time to happen; `quiet` watches that something does not happen. Time in which the processes of
// the case waited for a processor does not count (busy.mjs).
import { setTimeout as delay } from 'node:timers/promises'
import { countedMs, mark } from './busy.mjs'

const POLL_MS = 10

/**
 * Polls condition() until it returns something truthy and returns that. A condition that throws is
 * not yet met. After `ms` it fails with `what` and what was seen last; `what` may be a function.
 */
export async function until(condition, ms, what) {
  const began = mark()
  let last
  for (;;) {
    try {
      last = await condition()
      if (last) return last
    } catch (error) { last = error.message }
    if (countedMs(began) > ms) break
    await delay(POLL_MS)
  }
  const name = typeof what === 'function' ? what() : what
  throw new Error(`not within ${ms} ms: ${name} (last seen: ${String(last)})`)
}

/** Fails when condition() becomes truthy within `ms`. */
export async function quiet(condition, ms, what) {
  const endsAt = performance.now() + ms
  while (performance.now() < endsAt) {
    if (await condition()) throw new Error(`must not happen: ${what}`)
    await delay(POLL_MS)
  }
}

/** The promise's value, or a failure after `ms`. */
export async function deadline(promise, ms, what) {
  const began = mark()
  let timer
  const late = new Promise((_, reject) => {
    const look = () => {
      const left = ms - countedMs(began)
      if (left > 0) timer = setTimeout(look, Math.max(left, POLL_MS))
      else reject(new Error(`not within ${ms} ms: ${what}`))
    }
    timer = setTimeout(look, ms)
  })
  try { return await Promise.race([promise, late]) } finally { clearTimeout(timer) }
}

/** Runs fn(item) for all items, at most `width` at a time. */
export async function each(items, width, fn) {
  const queue = [...items]
  const lane = async () => { while (queue.length > 0) await fn(queue.shift()) }
  await Promise.all(Array.from({ length: Math.min(width, queue.length) }, lane))
}
