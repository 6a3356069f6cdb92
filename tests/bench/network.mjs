// A network namespace for a run with very many connections: the firewall tracks connections for each namespace, and in a
// new one without rules it tracks none.
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import net from 'node:net'
import { readFileSync } from 'node:fs'

const INSIDE = 'BENCH_OWN_NETWORK'
const TRACKED = '/proc/sys/net/netfilter/nf_conntrack_count'
const TRACKED_MAX = '/proc/sys/net/netfilter/nf_conntrack_max'
const PROBES = 5

/** Runs this very command again in a network namespace, which goes with its last process, and ends with its
 * status. Returns if it already runs inside, or if namespaces are not permitted: then the reason, as a text. */
export async function inOwnNetwork() {
  if (process.env[INSIDE]) return null
  const words = process.getuid() === 0 ? ['--net'] : ['--map-root-user', '--net']
  const tried = spawnSync('unshare', [...words, 'ip', 'link', 'set', 'lo', 'up'], { encoding: 'utf8' })
  if (tried.status !== 0) return (tried.error?.message ?? tried.stderr.trim().split('\n').pop()) || 'unshare fails'
  const child = spawn('unshare', [...words, 'sh', '-c', 'ip link set lo up && exec "$@"', 'sh', process.execPath, ...process.argv.slice(1)],
    { stdio: 'inherit', env: { ...process.env, [INSIDE]: '1' } })
  for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
    process.removeAllListeners(name)
    process.on(name, () => child.kill(name))
  }
  const [code] = await once(child, 'exit')
  process.exit(code ?? 1)
}

const number = (path) => { try { return Number(readFileSync(path, 'utf8')) } catch { return NaN } }

/** Opens some connections and looks whether they are counted. */
async function isTracked() {
  const server = net.createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const before = number(TRACKED)
  const sockets = Array.from({ length: PROBES }, () => net.connect(server.address().port, '127.0.0.1'))
  await Promise.all(sockets.map((socket) => once(socket, 'connect')))
  const counted = number(TRACKED) - before
  for (const socket of sockets) socket.destroy()
  server.close()
  return counted > 0
}

/** How many more connections the firewall can track here; Infinity where it tracks none. When it is full, packets are dropped. */
export async function trackedRoom() {
  const room = number(TRACKED_MAX) - number(TRACKED)
  return Number.isNaN(room) || !await isTracked() ? Infinity : room
}
