// Where memory and processor time go in a run: what processes hold (shared pages once), and what the kernel
// took for sockets since the run began.
import { readFileSync } from 'node:fs'

const PAGE = 4096
const SOCKET_ENTRY = 1024 // sock_inode_cache and dentry in /proc/slabinfo
const KERNEL = ['Slab', 'PageTables', 'KernelStack', 'Percpu']

function meminfo() {
  const fields = readFileSync('/proc/meminfo', 'utf8').matchAll(/^(\w+):\s+(\d+)/gm)
  return Object.fromEntries([...fields].map(([, name, kib]) => [name, Number(kib) * 1024]))
}

/** Pages with bytes under way, of all sockets. */
const buffered = () => Number(/TCP:.* mem (\d+)/.exec(readFileSync('/proc/net/sockstat', 'utf8'))[1]) * PAGE

/** Bytes the kernel holds for itself, on the whole machine. */
export function kernelMemory() {
  const all = meminfo()
  return KERNEL.reduce((sum, name) => sum + (all[name] ?? 0), 0) + buffered()
}

/** Bytes that can be had. The kernel counts an open socket's inode and directory entry as memory it could give back, which
 * it can't. */
export function availableMemory() {
  const sockets = Number(/sockets: used (\d+)/.exec(readFileSync('/proc/net/sockstat', 'utf8'))[1])
  return meminfo().MemAvailable - sockets * SOCKET_ENTRY
}

/** Bytes of a process; pages that several share count in parts. 0 where it has ended. */
export function memoryOf(pid) {
  try { return Number(/^Pss:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8'))[1]) * 1024 } catch { return 0 }
}

/** Time on a processor in ns, of a process with one thread. */
export function cpuOf(pid) {
  try { return Number(readFileSync(`/proc/${pid}/schedstat`, 'utf8').split(' ')[0]) } catch { return 0 }
}

export const sum = (list, of) => list.reduce((total, each) => total + of(each), 0)
