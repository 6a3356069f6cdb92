// What the machine allows.
import { readFileSync } from 'node:fs'

function number(path) {
  try { return Number(readFileSync(path, 'utf8').trim().split(/\s+/).pop()) } catch { return NaN }
}

/** Bytes of memory that can be had without swapping. */
export function availableMemory() {
  return Number(/MemAvailable:\s+(\d+)/.exec(readFileSync('/proc/meminfo', 'utf8'))[1]) * 1024
}

export const fileMax = () => number('/proc/sys/fs/file-max')

/** How many more connections the firewall can track; Infinity where it tracks none. When it is full, packets are dropped. */
export function trackedRoom() {
  const room = number('/proc/sys/net/netfilter/nf_conntrack_max') - number('/proc/sys/net/netfilter/nf_conntrack_count')
  return Number.isNaN(room) ? Infinity : room
}
